/**
 * What happens next to a workspace, when, why, and how to put it off.
 *
 * @module
 */
import { html, nothing } from "lit";
import { openConfirm } from "page/confirm.js";
import { fieldProblem, problemView, send } from "page/problem.js";
import { ahead, clock, duration, moment, now, secondsBetween, time } from "page/times.js";
import { capital, isSettled } from "page/words.js";

const HOURS = [1, 2, 4, 8];
const MINUTE_MS = 60_000;
const DAY_SECONDS = 86_400;

/**
 * Show the outlook with what changes it.
 *
 * @param {import("page/app.js").app} app
 * @param {object} workspace as the API has it.
 * @param {{open: boolean, until: string, problem: Error|null}} form of keeping it awake: plain
 *   state of the panel, which this changes.
 * @returns {unknown} a template.
 */
export function outlookView(app, workspace, form) {
  const outlook = workspace.outlook ?? older(workspace);
  const kept = keptAwakeUntil(workspace);
  return html`
    ${
      outlook.length
        ? html`<ol class="outlook">
            ${outlook.map(
              (entry) =>
                html`<li class=${isNear(entry) ? "is-near" : nothing}>
                  <p>${whenOf(entry)} ${entry.what}.</p>
                  <p class="soft">${reasonOf(entry)}</p>
                </li>`,
            )}
          </ol>`
        : html`<p class="soft">Nothing, until somebody asks for something.</p>`
    }
    ${canBeKeptAwake(app, workspace) ? keepAwake(app, workspace, form, kept) : nothing}
    ${canBeArchived(app, workspace) ? archiveView(app, workspace) : nothing}
  `;
}

/** After an archive that failed, the way out of that is the button. */
function canBeArchived({ session }, { status, operation, archived_at: archived, error }) {
  if (!session?.features.has("archive") || error?.operation_kind === "ARCHIVE") return false;
  return status === "SUSPENDED" && !archived && isSettled({ operation });
}

function archiveView(app, workspace) {
  return html`<button
    type="button"
    class="small"
    ?disabled=${workspace.operation || app.state.asking.has(workspace.id)}
    @click=${() => openConfirm(app, "archive", workspace)}
  >
    Archive …
  </button>`;
}

function isNear({ at }) {
  const date = time(at);
  return date !== null && Math.abs(secondsBetween(now(), date)) < DAY_SECONDS;
}

function whenOf(entry) {
  const date = time(entry.at);
  if (!date) return html`<b>At any time</b>:`;
  return html`<b>${moment(date, clock)}</b
    >${isNear(entry) ? html`<span class="soft">, <span class="count">${ahead(date)}</span></span>` : nothing}:`;
}

/** The reason goes on with its `since`: nobody has been connected since 9:41. */
function reasonOf({ why, since, unless }) {
  const from = time(since);
  return html`${capital(why)}${from ? html` since ${moment(from, clock)}` : nothing}${
    unless ? `, unless ${unless}` : nothing
  }.`;
}

/** Return until when a person has asked that it runs; null if that is over, or if nobody has. */
function keptAwakeUntil(workspace) {
  const until = time(workspace.kept_awake_until);
  return until && until > now() ? until : null;
}

/** Whether a machine runs, or is about to, which may be one of a workspace in ERROR. */
function canBeKeptAwake(app, { status, operation, stops_at: stopsAt }) {
  if (!app.session?.features.has("keep_awake")) return false;
  if (!isSettled({ operation })) {
    const { kind, automatic } = operation;
    return kind === "STOP" ? automatic : /START|CREATE|RESTORE/.test(kind);
  }
  return status === "READY" || Boolean(stopsAt);
}

function keepAwake(app, workspace, form, kept) {
  const toggle = () => app.update(() => Object.assign(form, { open: !form.open, problem: null }));
  const asking = app.state.asking.has(workspace.id);
  return html`
    ${
      kept
        ? html`<p class="kept">
            You keep it awake until <b>${moment(kept, clock)}</b>.
            <button
              type="button"
              class="small"
              ?disabled=${asking}
              @click=${() => keep(app, workspace, form, null)}
            >
              Take back
            </button>
          </p>`
        : nothing
    }
    <button
      type="button"
      class="small"
      aria-expanded=${form.open}
      aria-controls="keep-awake"
      @click=${toggle}
    >
      ${kept ? "Another time …" : "Keep awake until …"}
    </button>
    <div id="keep-awake" ?hidden=${!form.open}>
      ${form.open ? formView(app, workspace, form, asking) : nothing}
    </div>
    ${form.open ? nothing : problemView(form.problem)}
  `;
}

function formView(app, workspace, form, asking) {
  const most = app.state.me?.limits?.keep_awake_most_seconds ?? null;
  const latest = most === null ? null : floored(new Date(now().getTime() + most * 1000));
  const hours = HOURS.filter((each) => most === null || each * 3600 < most);
  const typed = (event) =>
    app.update(() => Object.assign(form, { until: event.target.value, problem: null }));
  const wrong = form.until ? fieldProblem(form.problem, "until") : "is required";
  const submit = (event) => {
    event.preventDefault();
    if (form.until) keep(app, workspace, form, new Date(form.until));
  };
  return html`<form class="keep" novalidate @submit=${submit}>
    <div class="spans" role="group" aria-label="Keep awake for">
      ${hours.map(
        (each) =>
          html`<button
            type="button"
            class="small"
            ?disabled=${asking}
            @click=${() => keep(app, workspace, form, after(each * 3600))}
          >
            ${each} h
          </button>`,
      )}
      ${
        latest
          ? html`<button
              type="button"
              class="small"
              ?disabled=${asking}
              @click=${() => keep(app, workspace, form, latest)}
            >
              ${duration(most)}, the most
            </button>`
          : nothing
      }
    </div>
    <div class="field">
      <label for="until">or until</label>
      <input
        id="until"
        type="datetime-local"
        required
        .value=${form.until}
        @input=${typed}
        min=${local(now())}
        max=${latest ? local(latest) : nothing}
        aria-invalid=${wrong ? "true" : nothing}
        aria-describedby=${wrong ? "until-problem" : nothing}
      />
      <button class="small" ?disabled=${asking}>Keep awake</button>
    </div>
    ${wrong ? html`<p id="until-problem" class="wrong" role="alert">The time ${wrong}.</p>` : nothing}
    ${problemView(form.problem, ["until"])}
  </form>`;
}

async function keep(app, workspace, form, until) {
  const body = { until: until ? until.toISOString() : null };
  const { problem } = await send(app, workspace.id, () =>
    app.api.post(`/workspaces/${workspace.id}/keep-awake`, body),
  );
  app.update(() => Object.assign(form, { problem, open: problem !== null && until !== null }));
  if (!problem) document.getElementById("next-title")?.focus();
}

/**
 * Return the state of a form that nobody has opened.
 *
 * @returns {{open: boolean, until: string, problem: null}}
 */
export function newKeepAwake() {
  return { open: false, until: local(after(2 * 3600)), problem: null };
}

function after(seconds) {
  return floored(new Date(now().getTime() + seconds * 1000));
}

function floored(date) {
  return new Date(Math.floor(date.getTime() / MINUTE_MS) * MINUTE_MS);
}

/** Return a time as a field of the type `datetime-local` has it. */
function local(date) {
  return new Date(date.getTime() - date.getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, 16);
}

/** What happens next, of a Hub without outlook. */
function older({ stops_at: stopsAt, deletes_at: deletesAt, last_connected_at: since }) {
  const unless = "somebody connects";
  return [
    stopsAt && {
      kind: "suspend",
      at: stopsAt,
      since,
      what: "it is suspended",
      why: "nobody has been connected",
      unless,
    },
    deletesAt && {
      kind: "delete",
      at: deletesAt,
      what: "it is deleted",
      why: "nobody has started it",
      unless: "somebody starts it",
    },
  ].filter(Boolean);
}
