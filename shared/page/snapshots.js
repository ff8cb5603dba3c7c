/**
 * The snapshots of one workspace's home: what there is, taking one, deleting one, restoring one,
 * and a new workspace from one.
 *
 * @module
 */
import { html, nothing, repeat } from "lit";
import { openConfirm } from "page/confirm.js";
import { beginFrom } from "page/create.js";
import { textField } from "page/fields.js";
import { icon, shape } from "page/icons.js";
import { Modal } from "page/modal.js";
import { expected, fieldProblem, pressed, problemView, secondsLeft, send } from "page/problem.js";
import { nameProblem } from "page/rules.js";
import { ahead, clock, moment, now, size, time } from "page/times.js";
import { isSettled, snapshotCalled, status } from "page/words.js";

// Read again so long after the last time, if nothing says that something has changed.
const QUIET_MS = 15_000;
// While something of it goes on: a tenth of the time for which nothing has changed, within these.
const SHORTEST_MS = 2000;
const LONGEST_MS = 20_000;
const LONGEST_PAUSE_SECONDS = 60;

// Each state's word, and its shape.
const STATES = {
  TAKING: ["being taken", "starting"],
  UPLOADING: ["uploading", "uploading"],
  READY: ["ready", "ready"],
  FAILED: ["failed", "error"],
  DELETING: ["being deleted", "deleting"],
};
const GOES_ON = new Set(["UPLOADING", "DELETING"]);
// What cannot be used, and never will be.
const USELESS = new Set(["FAILED", "DELETING"]);
const CONSISTENCY = { clean: "clean", crash: "crash-consistent" };
const AS_AFTER_A_CRASH =
  "as after a power failure: what programs had not written to the disk is not in it.";

/** Return the state of the section, of a panel that has just been opened. */
export function newSnapshots() {
  return {
    // `GET /workspaces/{id}/snapshots`.
    list: null,
    // The operation that takes one, until a list has what it has taken.
    taking: null,
    // What has changed, for those who do not see it.
    said: "",
    problem: null,
    // Since it was last read.
    failures: 0,
    form: { open: false, name: "", sending: false, problem: null },
    // How it is kept fresh. Times are milliseconds.
    asked: 0,
    timer: null,
    of: "",
    readAt: 0,
    changedAt: 0,
    retryAt: 0,
  };
}

/**
 * Show the section's content.
 *
 * @param {import("page/app.js").app} app
 * @param {object} workspace as the API has it.
 * @param {object} snapshots of `newSnapshots`: plain state of the panel, which this changes.
 * @returns {unknown} a template.
 */
export function snapshotsView(app, workspace, snapshots) {
  const { list, problem, said } = snapshots;
  return html`
    ${list ? listView(app, workspace, snapshots) : absentView(app, snapshots)}
    ${problem && list ? problemView(problem) : nothing} ${list ? takeView(app, workspace, snapshots) : nothing}
    <p class="unseen" role="status">${said}</p>
  `;
}

function absentView(app, { problem }) {
  if (!problem) return html`<p class="soft">Reading them …</p>`;
  return html`${problemView(problem)}
    <button type="button" class="small" @click=${() => read(app)}>Read them again</button>`;
}

function listView(app, workspace, snapshots) {
  const shown = shownOf(workspace, snapshots);
  const { most } = snapshots.list;
  const crash = shown.some((each) => !USELESS.has(each.state) && each.consistency === "crash");
  const { operation, archived_at: archived } = workspace;
  const waits = (operation || archived) && canRestore(app, workspace);
  const isTaking = waits && operation?.kind === "SNAPSHOT";
  return html`
    ${
      shown.length
        ? html`<ul class="snapshots" aria-labelledby="snapshots-title">
            ${repeat(
              shown,
              (each) => each.id,
              (each) => itemView(app, workspace, snapshots, each),
            )}
          </ul>`
        : html`<p>None yet. A snapshot keeps what is on the disk of the home, and a new workspace can
            be made from it, in any zone.</p>`
    }
    ${crash ? html`<p class="hint">Crash-consistent: ${AS_AFTER_A_CRASH}</p>` : nothing}
    <p id="snapshots-hint" class="soft">
      <b>${shown.length} of ${most}</b> snapshots.
      ${isTaking ? "None can be restored while one is being taken." : nothing}
      ${hindrance(workspace, snapshots, shown.length, waits)}
    </p>
  `;
}

/** The list, with the one that is being taken. */
function shownOf({ operation }, snapshots) {
  const { list } = snapshots;
  if (operation?.kind === "SNAPSHOT") snapshots.taking = operation;
  const { taking } = snapshots;
  if (!taking || list.snapshots.some((each) => each.id === taking.id)) return list.snapshots;
  const { id, snapshot_name: name, requested_at, deadline_at, automatic } = taking;
  return [
    { id, name, state: "TAKING", automatic, asked_at: requested_at, deadline_at },
    ...list.snapshots,
  ];
}

function isOwn({ state: { me } }, { owner_id: owner }) {
  return me === null || owner === me.owner_id;
}

function isHomeGone({ error }) {
  return error?.code === "HOME_DISK_GONE";
}

/** Whether the person can restore a snapshot: content is its owner's only. */
function canRestore(app, workspace) {
  return isOwn(app, workspace) && app.session.features.has("restore");
}

/** Why no snapshot can be taken now, or restored, in a sentence; empty if one can. */
function hindrance(workspace, { list, taking }, kept, restores = false) {
  if (!isSettled(workspace))
    return `None can be taken${restores ? " or restored" : ""} while it is ${status(workspace)}.`;
  if (workspace.archived_at)
    return `Its home is a snapshot. Start it to take another${restores ? ", or to restore one" : ""}.`;
  const next = time(list.next_at);
  if (next && next > now()) {
    return html`The next one can be taken <span class="count">${moment(next, ahead)}</span>.`;
  }
  if (taking) return restores ? "" : "One is being taken.";
  const leaves = list.snapshots.some((each) => each.state === "DELETING");
  if (kept < list.most || (firstToGo(list) && !(leaves && kept > list.most))) return "";
  return leaves
    ? "Another can be taken when one of them is gone."
    : "Delete one before you take another.";
}

/** The one that goes when there are as many as may be. Each counts until it is gone. */
function firstToGo({ snapshots }, source = null) {
  return (
    snapshots.findLast((each) => each.state === "FAILED") ??
    snapshots.findLast((each) => each.automatic && !USELESS.has(each.state) && each !== source)
  );
}

/** Which one goes for another, if one does. */
function goesView({ list }, source) {
  const goes = list.snapshots.length >= list.most && firstToGo(list, source);
  if (!goes) return nothing;
  return html`The oldest ${goes.state === "FAILED" ? "that failed" : "automatic one"}, of
    ${moment(takenAt(goes), clock)}, is deleted for it.`;
}

function itemView(app, workspace, snapshots, snapshot) {
  const [word, look] = STATES[snapshot.state] ?? [snapshot.state.toLowerCase(), "unknown"];
  const called = calledWhen(snapshot);
  const waits = app.state.asking.has(workspace.id);
  const { error, state } = snapshot;
  const { operation } = workspace;
  const waitsToo = operation || workspace.archived_at;
  const isSource = operation?.snapshot_id === snapshot.id;
  return html`<li class="snapshot is-${look}">
    ${shape(look)}
    <p class="name">
      <b><bdi>${snapshotCalled(snapshot)}</bdi></b>
      ${snapshot.automatic ? html`<span class="tag">automatic</span>` : nothing}
      ${isSource ? html`<span class="tag">being restored</span>` : nothing}
    </p>
    <p class="word">${word}</p>
    <p class="soft">${moment(takenAt(snapshot), clock)}${factsOf(snapshot)}</p>
    ${error ? html`<p class="wrong"><bdi>${error.message}</bdi></p>` : nothing}
    ${
      state === "TAKING" || state === "DELETING"
        ? nothing
        : html`<div class="acts">
            ${
              isOwn(app, workspace) && state === "READY"
                ? html`<button
                    type="button"
                    class="small"
                    aria-label="New workspace from it: ${called}"
                    @click=${() => beginFrom(app, snapshot, workspace)}
                  >
                    New workspace from it
                  </button>`
                : nothing
            }
            ${
              canRestore(app, workspace) && state === "READY"
                ? html`<button
                    type="button"
                    class="small"
                    aria-label="Restore ${called}"
                    aria-describedby=${waitsToo ? "snapshots-hint" : nothing}
                    ?disabled=${waits || waitsToo}
                    @click=${() => restore(app, workspace, snapshots, snapshot)}
                  >
                    Restore …
                  </button>`
                : nothing
            }
            <button
              type="button"
              class="small bad"
              aria-label="Delete ${called}"
              ?disabled=${waits || isSource}
              @click=${() => new DeleteDialog(app, workspace, snapshots, snapshot).open()}
            >
              Delete …
            </button>
          </div>`
    }
  </li>`;
}

function takenAt({ captured_at: capturedAt, asked_at: askedAt }) {
  return time(capturedAt) ?? time(askedAt);
}

/** Its name; that of one without a name has its time. */
function calledWhen(snapshot) {
  return snapshot.name ?? `unnamed, of ${clock(takenAt(snapshot) ?? now())}`;
}

function factsOf({ state, disk_gb: disk, stored_bytes: stored, consistency, deadline_at: until }) {
  if (state === "TAKING") return html`, given up at ${moment(time(until), clock)} at the latest`;
  const facts = [
    disk && `${disk} GB disk`,
    typeof stored === "number" && `${size(stored)} stored`,
    !USELESS.has(state) && (CONSISTENCY[consistency] ?? consistency),
  ];
  return facts.filter(Boolean).map((each) => ` · ${each}`);
}

// ---- taking one ---------------------------------------------------------------------------------

function takeView(app, workspace, snapshots) {
  const { form, list } = snapshots;
  if (workspace.operation?.kind === "DELETE") return nothing;
  const kept = shownOf(workspace, snapshots);
  const hindered = hindrance(workspace, snapshots, kept.length) !== "";
  const toggle = () =>
    app.update(() => Object.assign(form, { open: !form.open, problem: null }));
  return html`<button
      type="button"
      class="small"
      aria-expanded=${form.open}
      aria-controls="take-snapshot"
      ?disabled=${hindered && !form.open}
      @click=${toggle}
    >
      ${icon("plus")} Take a snapshot
    </button>
    <div id="take-snapshot" ?hidden=${!form.open}>
      ${form.open ? formView(app, workspace, snapshots, hindered) : nothing}
    </div>`;
}

function formView(app, workspace, snapshots, hindered) {
  const { form, list } = snapshots;
  const typed = (name) =>
    app.update(() => {
      const problem = form.problem?.status === 429 ? form.problem : null;
      Object.assign(form, { name, problem });
    });
  const waits = form.sending || secondsLeft(form.problem) > 0 || hindered;
  return html`<form
    class="keep"
    novalidate
    @submit=${(event) => {
      event.preventDefault();
      if (!waits) take(app, workspace, snapshots);
    }}
  >
    <p>It keeps what is on the disk of the home now. <b>Memory is never in it.</b></p>
    <p>${consistencyOf(workspace)} ${goesView(snapshots)}</p>
    ${textField({
      id: "snapshot-name",
      label: "Name",
      value: form.name,
      change: typed,
      wrong: wrongName(form, list),
    })}
    ${problemView(isNameTaken(form) ? null : form.problem, ["name"])}
    <div class="acts">
      <button class="small go" aria-disabled=${waits ? "true" : "false"}>
        ${pressed("Take it", form.problem, form.sending)}
      </button>
      <button type="button" class="small" @click=${() => close(app, form)}>Cancel</button>
    </div>
  </form>`;
}

/** What a snapshot of it would lack, before it is taken. */
function consistencyOf({ status, memory_kept: memoryKept }) {
  const crash = `crash-consistent, ${AS_AFTER_A_CRASH}`;
  if (status === "READY")
    return html`Its machine runs, so the snapshot is ${crash} Save first, and stop databases.`;
  if (status !== "SUSPENDED") return html`If its machine runs, the snapshot is ${crash}`;
  if (memoryKept === false) return "Its machine is off: all that was written is in it.";
  return html`It is suspended with its memory, so the snapshot is ${crash}`;
}

/** What is wrong with the name, before it is sent or by the Hub's words. */
function wrongName(form, list) {
  const { name, problem } = form;
  if (!name) return fieldProblem(problem, "name");
  const taken = list.snapshots.some((each) => each.name === name && each.state !== "DELETING");
  if (taken || isNameTaken(form)) return "is that of another snapshot of this workspace";
  return nameProblem(name) || fieldProblem(problem, "name");
}

function isNameTaken({ problem }) {
  return problem?.code === "NAME_TAKEN";
}

async function take(app, workspace, snapshots) {
  const { form, list } = snapshots;
  if (!wrongName(form, list)) {
    app.update(() => Object.assign(form, { sending: true, problem: null }));
    const body = form.name ? { name: form.name } : {};
    const { problem } = await send(app, workspace.id, () =>
      app.api.post(`/workspaces/${workspace.id}/snapshots`, body),
    );
    app.update(() => Object.assign(form, { sending: false, problem }));
    if (!problem) return close(app, form);
  }
  requestAnimationFrame(() => {
    if (wrongName(form, list)) document.getElementById("snapshot-name")?.focus();
  });
}

function close(app, form) {
  app.update(() => Object.assign(form, { open: false, name: "", problem: null }));
  focusTitle();
}

/** Move the focus to the section. */
export function focusTitle() {
  document.getElementById("snapshots-title")?.focus();
}

/**
 * Open the form of a snapshot: a way out of one that has failed.
 *
 * @param {import("page/app.js").app} app
 * @param {object} snapshots of `newSnapshots`.
 */
export function openForm(app, { form }) {
  app.update(() => (form.open = true));
  requestAnimationFrame(() => {
    (document.getElementById("snapshot-name") ?? document.getElementById("snapshots-title"))?.focus();
  });
}

// ---- restoring one ------------------------------------------------------------------------------

function restore(app, workspace, snapshots, snapshot) {
  const said = (answer) => html`It becomes what the snapshot
    <b><bdi>${snapshotCalled(snapshot)}</bdi></b>, of ${moment(takenAt(snapshot), clock)}, holds.
    ${isHomeGone(workspace) ? nothing : "What is in it now is kept as a snapshot."}
    ${answer?.steps.includes("snapshot") ? goesView(snapshots, snapshot) : nothing}`;
  openConfirm(app, "restore", workspace, { fields: { snapshot_id: snapshot.id }, said });
}

// ---- deleting one -------------------------------------------------------------------------------

class DeleteDialog extends Modal {
  #workspace;
  #snapshots;
  #snapshot;
  #sending = false;
  #problem = null;

  constructor(app, workspace, snapshots, snapshot) {
    super(app);
    this.#workspace = workspace;
    this.#snapshots = snapshots;
    this.#snapshot = snapshot;
  }

  rest() {
    return document.getElementById("snapshots-title");
  }

  view() {
    const waits = this.#sending || secondsLeft(this.#problem) > 0 || this.isSignedOut;
    const press = (event) => {
      event.preventDefault();
      if (!waits) this.#delete();
    };
    return html`<form method="dialog" @submit=${press} novalidate>
      <h2 id="confirm-title">Delete the snapshot <bdi>${calledWhen(this.#snapshot)}</bdi>?</h2>
      ${this.#said()} ${this.isSignedOut ? this.signInView() : problemView(this.#problem)}
      <div class="acts">
        <button type="button" @click=${() => this.element.close()}>Cancel</button>
        <button class="go is-bad" aria-disabled=${waits ? "true" : "false"} data-first>
          ${pressed("Delete", this.#problem, this.#sending)}
        </button>
      </div>
    </form>`;
  }

  #said() {
    const { name, owner_email: owner } = this.#workspace;
    const owns = isOwn(this.app, this.#workspace);
    const whose = html`<bdi>${name}</bdi>${owns ? nothing : html` of <bdi>${owner}</bdi>`}`;
    if (this.#snapshot.state === "FAILED") {
      return html`<p>It can never be used: nothing of ${whose} is lost by it.</p>`;
    }
    return html`<p>The workspace ${whose} and its home stay. So do workspaces made from it.</p>
      <div class="losses">
        <h3>What is lost</h3>
        <ul>
          <li>
            <b>The home as of</b> ${moment(takenAt(this.#snapshot), clock)}.
            ${
              isHomeGone(this.#workspace)
                ? html`<b>The home itself is gone: this may be its last copy.</b>`
                : html`<span class="soft">Nothing brings it back.</span>`
            }
          </li>
        </ul>
      </div>`;
  }

  async #delete() {
    const { app } = this;
    const { api } = app;
    const { id } = this.#workspace;
    this.#set(true, null);
    try {
      const answer = await api.delete(`/workspaces/${id}/snapshots/${this.#snapshot.id}`);
      app.update(() => replace(this.#snapshots, answer));
    } catch (error) {
      const problem = expected(app, error);
      // It is gone already, or with its workspace.
      if (problem.status !== 404) {
        if (!this.isOpen && api === app.api) app.update((state) => state.refused.set(id, problem));
        return this.#set(false, problem);
      }
    }
    this.end();
    read(app);
  }

  #set(sending, problem) {
    this.#sending = sending;
    this.#problem = problem;
    this.draw();
  }
}

/** Show the answer at once. */
function replace(snapshots, answer) {
  const { list } = snapshots;
  const all = list.snapshots.map((each) => (each.id === answer.id ? answer : each));
  told(snapshots, { ...list, snapshots: all });
}

// ---- keeping it fresh ---------------------------------------------------------------------------

/**
 * Read the open panel's snapshots, if they may have changed.
 *
 * @param {import("page/app.js").app} app
 */
export async function refreshSnapshots(app) {
  const found = opened(app);
  if (found && isDue(found)) await read(app);
}

/** Return the open panel, if it has snapshots. */
function opened(app) {
  const { route, panel } = app.state;
  if (!app.session.features.has("snapshots") || panel?.id !== route.id) return null;
  return panel?.workspace && !panel.gone ? panel : null;
}

function isDue({ workspace, snapshots }) {
  if (Date.now() < snapshots.retryAt) return false;
  return operationOf(workspace) !== snapshots.of || Date.now() - snapshots.readAt > QUIET_MS;
}

/** The end of an operation is when there is another snapshot. */
function operationOf({ operation }) {
  return operation?.id ?? "none";
}

/** Read the open panel's snapshots, and again as long as something goes on. */
async function read(app) {
  const panel = opened(app);
  if (!panel) return;
  const { workspace, snapshots } = panel;
  const of = operationOf(workspace);
  const asked = ++snapshots.asked;
  clearTimeout(snapshots.timer);
  let found = null;
  let problem = null;
  try {
    found = await app.api.get(`/workspaces/${panel.id}/snapshots`);
  } catch (error) {
    problem = expected(app, error);
  }
  // Another question is under way, or somebody else asks by now.
  if (asked !== snapshots.asked || app.state.panel !== panel) return;
  const isNews = found?.changed && snapshots.list !== null;
  app.update(() => {
    snapshots.readAt = Date.now();
    if (found) {
      Object.assign(snapshots, { of, problem: null, failures: 0, retryAt: 0 });
      if (found.changed || !snapshots.list) told(snapshots, found.body);
      if (workspace.operation?.kind !== "SNAPSHOT") snapshots.taking = null;
      return;
    }
    snapshots.failures += 1;
    const pause = problem.retryAfter ?? Math.min(LONGEST_PAUSE_SECONDS, 2 ** snapshots.failures);
    snapshots.retryAt = Date.now() + pause * 1000;
    // If the workspace is gone, the next round tells.
    snapshots.problem = problem.status === 404 ? null : problem;
  });
  goOn(app, snapshots);
  if (!isNews) return;
  // The workspace does not change by it, but its history does.
  panel.eventsOf = "";
  app.live.poke();
}

function goOn(app, snapshots) {
  const { list, changedAt, retryAt } = snapshots;
  if (!list?.snapshots.some((each) => GOES_ON.has(each.state))) return;
  const pause = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, (Date.now() - changedAt) / 10));
  const again = () => {
    if (opened(app)?.snapshots === snapshots && !document.hidden) read(app);
  };
  snapshots.timer = setTimeout(again, Math.max(pause, retryAt - Date.now()));
}

/** Take a newer list, and say what has changed. */
function told(snapshots, list) {
  const before = snapshots.list?.snapshots;
  snapshots.list = list;
  snapshots.changedAt = Date.now();
  if (!before) return;
  const was = new Map(before.map((each) => [each.id, each.state]));
  const is = new Set(list.snapshots.map((each) => each.id));
  const said = [
    ...list.snapshots
      .filter((each) => was.get(each.id) !== each.state)
      .map((each) => `The snapshot ${calledWhen(each)} is ${STATES[each.state]?.[0]}.`),
    ...before
      .filter((each) => !is.has(each.id))
      .map((each) => `The snapshot ${calledWhen(each)} is gone.`),
  ];
  if (said.length) snapshots.said = said.join(" ");
}
