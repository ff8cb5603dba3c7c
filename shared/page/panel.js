/**
 * One workspace: how to connect, what happens next, what took how long, what happened, what it is.
 *
 * @module
 */
import { html, nothing } from "lit";
import { openConfirm } from "page/confirm.js";
import { connectView, copyLine } from "page/connect.js";
import { goneView } from "page/deleted.js";
import { historyView } from "page/history.js";
import { closeLink, shape } from "page/icons.js";
import { newKeepAwake, outlookView } from "page/outlook.js";
import { expected, problemView } from "page/problem.js";
import {
  focusTitle,
  newSnapshots,
  openForm,
  refreshSnapshots,
  snapshotsView,
} from "page/snapshots.js";
import { timelineView } from "page/timeline.js";
import { clock, moment, time } from "page/times.js";
import { waysOut } from "page/ways.js";
import * as words from "page/words.js";

const SHOWN_EVENTS = 8;
const MORE_EVENTS = 40;
const LONGEST_PAUSE_SECONDS = 60;

/**
 * Show the workspace of the route.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function panelView(app) {
  const panel = panelOf(app);
  const workspace = current(app, panel);
  if (!workspace) return absent(app, panel);
  const status = words.status(workspace);
  const archived = words.archivedAt(workspace);
  const how =
    workspace.operation && words.progress(workspace.operation, usualSeconds(app, workspace));
  return html`<article class="workspace is-${status}" aria-labelledby="panel-title">
    <div class="panel-head is-${status}">
      ${shape(panel.gone ? "gone" : status, how?.part)}
      <h2 id="panel-title" tabindex="-1"><bdi>${workspace.name}</bdi></h2>
      <p class="word">
        ${panel.gone ? "gone" : status}${
          archived && !panel.gone ? html` since ${moment(archived, clock)}` : nothing
        }
      </p>
      ${closeLink(app)}
    </div>
    ${
      panel.gone
        ? html`<p class="soft">It has been deleted.</p>
            ${goneView(app, workspace)}`
        : parts(app, panel, workspace)
    }
  </article>`;
}

function parts(app, panel, workspace) {
  const { me } = app.state;
  const owns = me === null || workspace.owner_id === me.owner_id;
  const events = panel.events?.items ?? null;
  const shown = events?.slice(0, panel.shown) ?? null;
  const connection = panel.status?.connection ?? null;
  const refused = app.state.refused.get(workspace.id);
  return html`
    ${problemView(panel.problem)} ${problemView(refused)}
    ${workspace.error && words.isSettled(workspace) ? errorView(app, workspace, panel) : nothing}
    ${part("connect", "Connect", connectView(app, workspace, connection, owns))}
    ${part("next", "What happens next", outlookView(app, expectedOf(workspace, panel), panel.keepAwake))}
    ${
      app.session?.features.has("snapshots")
        ? part("snapshots", "Snapshots", snapshotsView(app, workspace, panel.snapshots))
        : nothing
    }
    ${timelineView(workspace, events ?? [])}
    ${part("history", "History", historyView(shown, me?.owner_id, moreOf(app, panel)))}
    ${part("details", "Details", detailsView(app, workspace, panel.status, owns))}
    ${actionsView(app, workspace)}
  `;
}

/** While a snapshot is taken, what was to happen before still is. */
function expectedOf(workspace, panel) {
  if (!workspace.operation) panel.outlook = workspace.outlook;
  const taking = workspace.operation?.kind === "SNAPSHOT";
  return taking && panel.outlook ? { ...workspace, outlook: panel.outlook } : workspace;
}

function part(id, title, content) {
  return html`<section class="part" aria-labelledby="${id}-title">
    <h3 id="${id}-title" tabindex="-1">${title}</h3>
    ${content}
  </section>`;
}

function absent(app, panel) {
  return html`<div class="panel-head">
      <h2 id="panel-title" tabindex="-1">${panel.gone ? "No such workspace" : "Reading it …"}</h2>
      ${closeLink(app)}
    </div>
    ${
      panel.gone
        ? html`<p>
            There is no workspace at this address, or it is somebody else’s. It may have been
            deleted.
          </p>`
        : nothing
    }
    ${problemView(panel.problem)}`;
}

/** What went wrong, what can be done, and a button for each way out. */
function errorView(app, workspace, panel) {
  const { error } = workspace;
  const { advice, ways } = waysOut(workspace);
  const [said, ...printed] = error.message.split("\n");
  const asking = isBusy(app, workspace);
  const press = (act) => {
    if (act === "snapshots") focusTitle();
    else if (act === "snapshot") openForm(app, panel.snapshots);
    else openConfirm(app, act, workspace);
  };
  return html`<section class="note is-bad" aria-labelledby="error-title">
    <h3 id="error-title">
      ${words.capital(words.failed(error))}: <span class="code">${error.code}</span>
    </h3>
    <p><bdi>${said}</bdi></p>
    ${printed.length ? printedView(printed.join("\n")) : nothing}
    ${advice ? html`<p>${advice}</p>` : nothing}
    ${error.at ? html`<p class="soft">${moment(time(error.at))}</p>` : nothing}
    <div class="acts">
      ${ways.map(
        ({ act, label }, at) =>
          html`<button
            class=${at === 0 ? "go" : nothing}
            ?disabled=${asking}
            @click=${() => press(act)}
          >
            ${label}
          </button>`,
      )}
    </div>
  </section>`;
}

/** Whether a request is on its way, or a snapshot, after which everything can be asked for again. */
function isBusy(app, { id, operation }) {
  return app.state.asking.has(id) || operation?.kind === "SNAPSHOT";
}

function printedView(text) {
  const name = "What the machine printed";
  return html`<pre tabindex="0" role="group" aria-label=${name}>${text}</pre>`;
}

function actionsView(app, workspace) {
  const offered = new Set(
    workspace.error && words.isSettled(workspace) ? waysOut(workspace).ways.map(({ act }) => act) : [],
  );
  const asking = isBusy(app, workspace);
  const button = (act, label, look = nothing) =>
    offered.has(act)
      ? nothing
      : html`<button
          class=${look}
          ?disabled=${asking}
          @click=${() => openConfirm(app, act, workspace)}
        >
          ${label}
        </button>`;
  const { status, operation } = workspace;
  const rests = words.isSettled(workspace);
  return html`<div class="acts actions" role="group" aria-label="Actions">
    ${rests && status === "READY" ? button("stop", "Stop") : nothing}
    ${
      (rests && status !== "READY") || words.yieldsToStart(operation)
        ? button("start", "Start", "go")
        : nothing
    }
    ${operation?.kind === "STOP" && operation.automatic ? button("stop", "Stop") : nothing}
    ${rests ? html`${button("change", "Change machine …")} ${button("rebuild", "Rebuild …")}` : nothing}
    ${operation?.kind === "DELETE" && !operation.automatic ? nothing : button("delete", "Delete …", "bad")}
  </div>`;
}

/** How large it is, and a way to make it larger; nothing of a Hub that does not say. */
function homeView(app, workspace) {
  const { home_disk_gb: size } = workspace;
  if (size === undefined) return null;
  return html`${size && `${size} GB`}
    <button
      class="small"
      aria-label="Make the home larger"
      ?disabled=${app.state.asking.has(workspace.id) || workspace.operation}
      @click=${() => openConfirm(app, "grow", workspace)}
    >
      Larger …
    </button>`;
}

function detailsView(app, workspace, status, owns) {
  const { metadata } = workspace;
  const lines = [
    ["Owner", owns ? null : html`<bdi>${workspace.owner_email ?? workspace.owner_id}</bdi>`],
    ["Machine", workspace.machine_type],
    ["Zone", workspace.zone],
    ["Home", homeView(app, workspace)],
    ["Image", html`<span class="code">${workspace.image_tag}</span>`],
    ["Repository", metadata?.repo && html`<bdi>${metadata.repo}</bdi>`],
    ["Branch", metadata?.branch && html`<bdi>${metadata.branch}</bdi>`],
    ["Compute says", status?.instance?.status.toLowerCase() ?? status?.why_no_instance],
    ["Address", status?.instance?.internal_address],
    ["Memory", memoryOf(workspace)],
    [
      "Last used",
      workspace.last_activity === "created" ? null : moment(time(workspace.last_connected_at)),
    ],
    ["From", words.device(workspace) && html`<bdi>${words.device(workspace)}</bdi>`],
    ["Created", moment(time(workspace.created_at), clock)],
  ];
  const shown = lines.filter(([, value]) => value);
  return html`<dl class="details">
      ${shown.map(
        ([label, value]) =>
          html`<div>
            <dt>${label}</dt>
            <dd>${value}</dd>
          </div>`,
      )}
    </dl>
    ${copyLine(app, workspace.id, "its id")}`;
}

function memoryOf({ memory_kept: kept, memory_lost_because: why }) {
  if (kept === null || kept === undefined) return null;
  return kept ? "was kept" : `was lost: ${why ?? "no reason is known"}`;
}

function usualSeconds(app, { id, operation }) {
  return words.usual(app.state.events.get(id) ?? [], operation.kind);
}

/** Return the state of the panel: it is that of the workspace of the route. */
function panelOf(app) {
  const { id } = app.state.route;
  if (app.state.panel?.id !== id) {
    app.state.panel = {
      id,
      // As it was last seen.
      workspace: null,
      gone: false,
      status: null, // `GET /status`: the machine, and how to connect
      // What the workspace was then.
      statusOf: "",
      events: null,
      eventsOf: "",
      shown: SHOWN_EVENTS,
      problem: null,
      // Since it was last read.
      failures: 0,
      // Milliseconds.
      retryAt: 0,
      keepAwake: newKeepAwake(),
      // When no operation was under way.
      outlook: null,
      snapshots: newSnapshots(),
    };
  }
  return app.state.panel;
}

function current(app, panel) {
  const known = app.workspace(panel.id);
  if (known) panel.workspace = known;
  panel.gone = !known && app.state.missing.has(panel.id);
  return panel.workspace;
}

function moreOf(app, panel) {
  const { events, shown } = panel;
  if (!events || (shown >= events.items.length && !events.next)) return null;
  return async () => {
    if (events.reading) return;
    if (shown >= events.items.length) {
      events.reading = true;
      try {
        const { body, next } = await app.api.get(events.next);
        Object.assign(events, { items: [...events.items, ...body], next });
      } catch (error) {
        panel.problem = expected(app, error);
      } finally {
        events.reading = false;
      }
    }
    app.update(() => (panel.shown += MORE_EVENTS));
  };
}

/**
 * Keep the open panel fresh, from now on.
 *
 * @param {import("page/app.js").app} app its `live` is there already.
 */
export function followPanel(app) {
  let before = app.state.route.id;
  app.live.onRound(() => refresh(app));
  app.subscribe(() => {
    const { id } = app.state.route;
    if (id === before) return;
    before = id;
    if (id && !app.workspace(id)) app.live.poke();
    else refresh(app);
  });
}

/** Read what the list does not have, if it may have changed since. */
async function refresh(app) {
  if (app.state.route.view !== "workspace") return;
  const panel = panelOf(app);
  const workspace = current(app, panel);
  if (!workspace || panel.gone) return;
  // What goes wrong there is told there.
  const others = refreshSnapshots(app);
  if (Date.now() >= panel.retryAt) await refreshOwn(app, panel, workspace);
  await others;
}

async function refreshOwn(app, panel, workspace) {
  try {
    await Promise.all([readStatus(app, panel, workspace), readEvents(app, panel, workspace)]);
    app.update(() => Object.assign(panel, { problem: null, failures: 0 }));
  } catch (error) {
    const problem = expected(app, error);
    panel.failures += 1;
    const pause = problem.retryAfter ?? Math.min(LONGEST_PAUSE_SECONDS, 2 ** panel.failures);
    panel.retryAt = Date.now() + pause * 1000;
    // If it is gone, the next round tells.
    app.update(() => (panel.problem = problem.status === 404 ? null : problem));
  }
}

async function readStatus(app, panel, { status, operation, generation, machine_type: type, zone }) {
  const of = JSON.stringify([status, operation?.kind, generation, type, zone]);
  const waits = panel.status?.connection?.access?.state === "pending" && status === "READY";
  if (of === panel.statusOf && !waits) return;
  const { body } = await app.api.get(`/workspaces/${panel.id}/status`);
  app.update(() => Object.assign(panel, { status: body, statusOf: of }));
}

async function readEvents(app, panel, workspace) {
  const of = JSON.stringify([
    workspace.updated_at,
    workspace.status,
    workspace.operation?.id,
    workspace.kept_awake_until,
  ]);
  if (of === panel.eventsOf) return;
  const { body, changed, next } = await app.api.get(`/workspaces/${panel.id}/events`);
  app.update((state) => {
    panel.eventsOf = of;
    if (changed || !panel.events) panel.events = { items: body, next };
    state.events.set(panel.id, body);
  });
}
