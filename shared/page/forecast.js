/**
 * What a dry run answers, in words: what would happen, what would be lost, what it costs.
 *
 * @module
 */
import { html, nothing } from "lit";
import { doing, usual } from "page/words.js";
import { duration } from "page/times.js";

const LOST = {
  memory: "What is in memory",
  home: "The home, with every file in it",
  snapshots: "The snapshots of the home",
  boot_disk: "What is installed outside the home",
  name: "The name",
};
/**
 * What makes a request a dry run: send both. An older Hub ignores the query and would do what is
 * asked, but it refuses a field that it does not know, and it may have taken this one's place
 * since the page was loaded.
 */
export const DRY_RUN = { query: "?dry_run=true", fields: { dry_run: true } };

/**
 * Say whether a dry run was refused because the Hub has none. Then nothing was done.
 *
 * @param {Error} error
 * @returns {boolean}
 */
export function hasNoDryRuns({ code, errors = [] }) {
  return code === "NOT_FOUND" || errors.some(({ field }) => field === "dry_run");
}

// Steps that are of no interest to a person.
const UNTOLD = new Set(["checking the machine", "forgetting it"]);
// What a person has made themselves: nobody brings it back.
const WORK = new Set(["memory", "home", "snapshots"]);

/**
 * Say whether a change loses somebody's work, so that they type the name to confirm it.
 *
 * @param {object} answer of a dry run.
 * @returns {boolean}
 */
export function losesWork(answer) {
  return answer.loses.some(({ what }) => WORK.has(what));
}

/**
 * Show what would be lost. What can be taken back is not.
 *
 * @param {object} answer of a dry run.
 * @returns {unknown} a template; nothing if nothing is.
 */
export function lossesView({ loses: all, workspace }) {
  const loses = all.filter(({ what }) => what !== "home" || !workspace?.undelete_until);
  if (!loses.length) return nothing;
  return html`<div class="losses">
    <h3>What is lost</h3>
    <ul>
      ${loses.map(
        ({ what, why }) =>
          html`<li>
            <b>${LOST[what] ?? what}</b>. ${why ? html`<span class="soft">${why}</span>` : nothing}
          </li>`,
      )}
    </ul>
  </div>`;
}

/**
 * Show what would happen, the quota after it, and what it costs.
 *
 * @param {object} answer of a dry run.
 * @param {object[]} events that tell what is usual.
 * @returns {unknown} a template.
 */
export function factsView(answer, events) {
  const { steps, kind, quota, cost } = answer;
  const words = [...new Set(steps.map(doing))].filter((each) => !UNTOLD.has(each));
  const seconds = kind && usual(events, kind);
  return html`<dl class="facts">
    ${
      words.length
        ? html`<dt>Steps</dt>
            <dd>${words.join(", ")}${seconds ? `; usually ${duration(seconds)}` : nothing}</dd>`
        : nothing
    }
    ${
      quota
        ? html`<dt>Then in use</dt>
            <dd>${ofMost(quota.workspaces)} workspaces, ${ofMost(quota.running)} running</dd>`
        : nothing
    }
    ${
      cost
        ? html`<dt>Machine</dt>
            <dd>${sizeOf(cost)}${priceOf(cost)}</dd>`
        : nothing
    }
  </dl>`;
}

function ofMost({ used, most }) {
  return `${used} of ${most}`;
}

function sizeOf(cost) {
  return [cost.machine_type, ...sizes(cost)].join(", ");
}

/**
 * Return what a machine type has, in words.
 *
 * @param {{cpus: number|null, memory_gb: number|null}} type
 * @returns {string[]} what is known of it.
 */
export function sizes({ cpus, memory_gb: memory }) {
  return [cpus && (cpus === 1 ? "1 CPU" : `${cpus} CPUs`), memory && `${memory} GB`].filter(
    Boolean,
  );
}

function priceOf({ price_per_hour: price, runs }) {
  if (!price) return nothing;
  return runs ? `; ${money(price)} an hour while it runs` : `; no longer ${money(price)} an hour`;
}

/**
 * Return an amount with its currency: `$0.134`.
 *
 * @param {{amount: string, currency: string}} price
 * @returns {string}
 */
export function money({ amount, currency }) {
  try {
    const style = { style: "currency", currency, maximumFractionDigits: 4 };
    return new Intl.NumberFormat("en", style).format(Number(amount));
  } catch {
    // No currency that the browser knows.
    return `${amount} ${currency}`;
  }
}
