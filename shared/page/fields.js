/**
 * Labelled fields of forms, with what is wrong beside each.
 *
 * @module
 */
import { html, nothing } from "lit";
import { money, sizes } from "page/forecast.js";

/**
 * Return a field of one line.
 *
 * @param {{id: string, label: string, value: string, change: (value: string) => void, hint?: unknown,
 *   wrong?: string, required?: boolean, options?: string[], code?: boolean, first?: boolean,
 *   numeric?: boolean}} field `wrong` goes on from the label, as the API's messages do; `options` are offered, and others can be typed.
 * @returns {unknown} a template.
 */
export function textField({
  id,
  label,
  value,
  change,
  hint,
  wrong,
  required,
  options,
  code,
  first,
  numeric,
}) {
  const told = [hint && `${id}-hint`, wrong && `${id}-problem`].filter(Boolean).join(" ");
  return html`<div class="field">
    <label for=${id}
      >${label}${required ? nothing : html` <span class="soft">(optional)</span>`}</label
    >
    <input
      id=${id}
      class=${code ? "code" : nothing}
      type="text"
      .value=${value}
      ?required=${required}
      inputmode=${numeric ? "numeric" : nothing}
      ?data-first=${first}
      autocomplete="off"
      autocapitalize="off"
      spellcheck="false"
      list=${options?.length ? `${id}-options` : nothing}
      aria-invalid=${wrong ? "true" : nothing}
      aria-describedby=${told || nothing}
      @input=${(event) => change(event.target.value)}
    />
    ${
      options?.length
        ? html`<datalist id="${id}-options">
            ${options.map((each) => html`<option value=${each}></option>`)}
          </datalist>`
        : nothing
    }
    ${hint ? html`<p id="${id}-hint" class="hint">${hint}</p>` : nothing}
    ${problemOf(id, label, wrong)}
  </div>`;
}

/**
 * Return a choice of a few.
 *
 * @param {{id: string, label: string, value: string, options: string[],
 *   change: (value: string) => void, hint?: unknown, wrong?: string}} field
 * @returns {unknown} a template.
 */
export function selectField({ id, label, value, options, change, hint, wrong }) {
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <select
      id=${id}
      aria-invalid=${wrong ? "true" : nothing}
      aria-describedby=${wrong ? `${id}-problem` : nothing}
      @change=${(event) => change(event.target.value)}
    >
      ${options.map((each) => html`<option value=${each} ?selected=${each === value}>${each}</option>`)}
    </select>
    ${hint ? html`<p class="hint">${hint}</p>` : nothing} ${problemOf(id, label, wrong)}
  </div>`;
}

/**
 * Return a choice of machine types, with what each is and costs.
 *
 * @param {{id: string, value: string, types: object[], change: (name: string) => void,
 *   wrong?: string}} field `types` are those of `GET /me`.
 * @returns {unknown} a template.
 */
export function machineField({ id, value, types, change, wrong }) {
  const choice = (type) =>
    html`<label class="machine-type">
      <input
        type="radio"
        name=${id}
        value=${type.name}
        .checked=${type.name === value}
        @change=${() => change(type.name)}
      />
      <b>${type.name}</b>
      <span class="soft size">${sizes(type).join(", ")}</span>
      <span class="soft price"
        >${type.price_per_hour ? `${money(type.price_per_hour)} an hour` : nothing}</span
      >
      ${
        type.suspendable === false
          ? html`<span class="hint">Cannot be suspended: a stop loses what is in memory.</span>`
          : nothing
      }
    </label>`;
  return html`<fieldset
    class="field"
    id=${id}
    aria-describedby=${wrong ? `${id}-problem` : nothing}
  >
    <legend>Machine type</legend>
    <div class="machine-types">${types.map(choice)}</div>
    ${problemOf(id, "Machine type", wrong)}
  </fieldset>`;
}

function problemOf(id, label, wrong) {
  return wrong ? html`<p id="${id}-problem" class="wrong">${label} ${wrong}.</p>` : nothing;
}

/**
 * Return those of the allowed image tags that are no patterns: what a person can be offered.
 *
 * @param {string[]|undefined} patterns
 * @param {string[]} others that are offered as well.
 * @returns {string[]}
 */
export function offeredTags(patterns, others) {
  const plain = (patterns ?? []).filter((each) => !/[*?[]/.test(each));
  return [...new Set([...others, ...plain])];
}
