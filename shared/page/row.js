/**
 * One workspace in the list: can I work, and what happens next?
 *
 * @module
 */
import { html, nothing } from "lit";
import { showsEverybody } from "page/app.js";
import { openConfirm } from "page/confirm.js";
import { icon, shape } from "page/icons.js";
import { secondsLeft, send } from "page/problem.js";
import { ahead, clock, duration, moment, now, secondsBetween, time } from "page/times.js";
import * as words from "page/words.js";

// What happens so soon is marked.
const SOON_SECONDS = { archive: 3 * 86400, delete: 3 * 86400 };
const ELSE_SOON_SECONDS = 600;
// So many times the usual is marked.
const SLOW = 1.5;

/**
 * Return a workspace's row.
 *
 * @param {import("page/app.js").app} app
 * @param {object} workspace as the API has it.
 * @returns {unknown} a template.
 */
export function row(app, workspace) {
  const { state } = app;
  const status = words.status(workspace);
  const usual = workspace.operation && usualSeconds(state, workspace);
  const how = workspace.operation ? words.progress(workspace.operation, usual) : null;
  const here = state.route.id === workspace.id;
  return html`<li class="row is-${status}" data-id=${workspace.id}>
    ${shape(status, how?.part)}
    <div class="head">
      <h3><a href=${app.at(`/workspaces/${workspace.id}`)} aria-current=${here ? "true" : nothing}
        ><bdi>${workspace.name}</bdi></a></h3>
      <p class="word">${status}</p>
    </div>
    ${origin(workspace)}
    <div class="specs">
      ${machine(workspace)} ${owner(app, workspace)} ${used(workspace)}
    </div>
    <div class="next">${how ? underWay(workspace, how, usual) : atRest(workspace)}</div>
    <div class="act">${action(app, workspace)}</div>
    ${trouble(app, workspace)}
  </li>`;
}

/** Who it belongs to, where several people's are listed. A press shows only theirs. */
function owner(app, workspace) {
  if (!showsEverybody(app.state)) return nothing;
  const name = workspace.owner_email ?? workspace.owner_id;
  const own = workspace.owner_id === app.state.me?.owner_id;
  const narrow = () => app.narrow({ text: name });
  return html`<p class="owner"><button class="bare" title="Show only those of ${name}"
    @click=${narrow}>${own ? "you" : html`<bdi>${name}</bdi>`}</button></p>`;
}

function origin({ metadata }) {
  const repo = words.repository(metadata?.repo);
  const branch = metadata?.branch;
  return html`<p class="repo" title=${metadata?.repo ?? nothing}>
    ${repo ? html`<bdi>${repo}</bdi>` : html`<span class="none">no repository</span>`}${branch
      ? html` <span class="branch"><bdi>${branch}</bdi></span>`
      : nothing}
  </p>`;
}

function machine(workspace) {
  return html`<p class="machine">${workspace.machine_type} · ${workspace.zone}</p>`;
}

function used(workspace) {
  const { last_activity, last_connected_at } = workspace;
  const connected = last_activity === "created" ? null : time(last_connected_at);
  const device = words.device(workspace);
  const [what, at] = connected ? ["used", connected] : ["made", time(workspace.created_at)];
  return html`<p class="used"><span>${what} ${moment(at)}</span> ${device
    ? html`<span>from <bdi>${device}</bdi></span>`
    : nothing}</p>`;
}

/** What an operation does, for how long, and how long that usually takes. */
function underWay({ operation }, how, usual) {
  const tried = operation.zones_tried?.length;
  const what = words.doing(operation.phase);
  return html`<p>${what}${tried
      ? html`<span class="soft">, no capacity in ${tried} ${tried === 1 ? "zone" : "zones"}</span>`
      : nothing}, <b class="count">${duration(how.elapsed)}</b></p>
    ${how.part === null
      ? html`<p class="soft">by ${moment(time(operation.deadline_at), clock)} at the latest</p>`
      : html`<p class="soft meter ${how.elapsed > usual * SLOW ? "slow" : ""}">
          <progress max="1" value=${how.part} aria-label=${what}></progress>
          usually ${duration(usual)}</p>`}`;
}

function atRest(workspace) {
  if (workspace.error) {
    const at = time(workspace.error.at);
    return html`<p>${words.failed(workspace.error)}</p>
      <p class="soft">${at ? moment(at) : nothing}</p>`;
  }
  const next = words.upcoming(workspace);
  const left = next && secondsBetween(now(), next.at);
  const soon = next && left < (SOON_SECONDS[next.kind] ?? ELSE_SOON_SECONDS);
  const when = next && html`<span class=${soon ? "soon" : nothing}
    >${next.what} <b class="count">${moment(next.at, ahead)}</b></span>`;
  const asleep = words.asleepSince(workspace);
  if (asleep) {
    return html`<p>${asleep}</p><p class="soft">${when ?? words.stoppedBecause(workspace)}</p>`;
  }
  if (!next) return html`<p class="soft">stays as it is</p>`;
  return html`<p>${when}</p>
    <p class="soft detail" title=${next.unless ? `unless ${next.unless}` : nothing}>
      ${awake(workspace, next)}</p>`;
}

/** Since when nobody uses it, or until when somebody wants it awake. */
function awake(workspace, { since, kind }) {
  const until = time(workspace.kept_awake_until);
  if (until && until > now()) return html`kept awake until ${moment(until, clock)}`;
  if (kind !== "suspend") return nothing;
  return since ? html`not in use since ${moment(since, clock)}` : "unless somebody connects";
}

/** What is wrong: with the workspace, or with what was asked for last. */
function trouble(app, workspace) {
  const refused = app.state.refused.get(workspace.id);
  if (refused) {
    const dismiss = () => app.update((state) => state.refused.delete(workspace.id));
    return html`<div class="trouble">
      <p><span role="alert">${refused.message}</span>${retryIn(refused)}</p>
      <button class="bare" aria-label="Dismiss" @click=${dismiss}>${icon("close")}</button>
    </div>`;
  }
  if (!workspace.error || workspace.operation) return nothing;
  return html`<div class="trouble"><p>${workspace.error.message}</p></div>`;
}

/** Not in the alert: a screen reader would say it every second. */
function retryIn(problem) {
  const left = secondsLeft(problem);
  return left > 0 ? html` Try again in <span class="count">${duration(left)}</span>.` : nothing;
}

/** How long the operation usually takes: for this workspace, or else for the person's others. */
function usualSeconds({ events }, { id, operation }) {
  return (
    words.usual(events.get(id) ?? [], operation.kind) ??
    words.usual([...events.values()].flat(), operation.kind)
  );
}

// ---- the one action that fits its state ----------------------------------------------------------

function action(app, workspace) {
  const { me, asking, refused } = app.state;
  const own = !me || workspace.owner_id === me.owner_id;
  const { label, look = "", press } = own ? fitting(workspace) : forOthers(workspace);
  const named = `${label.replace(" …", "")} ${workspace.name}`;
  const waits = asking.has(workspace.id) || secondsLeft(refused.get(workspace.id)) > 0;
  return html`<button class=${look} aria-label=${named} ?disabled=${waits}
    @click=${() => press(app, workspace)}>${label}</button>`;
}

const confirm = (verb) => (app, workspace) => openConfirm(app, verb, workspace);
const CONNECT = { label: "Connect", look: "go", press: open };
const WATCH = { label: "Watch", press: open };
const DETAILS = { label: "Details", press: open };
const SEE_WHY = { label: "See why", press: open };
const CANCEL = { label: "Cancel …", press: confirm("delete") };
const DELETE = { label: "Delete …", look: "bad", press: confirm("delete") };
const STOP = { label: "Stop …", press: confirm("stop") };
const START = { label: "Start", press: start };
const TRY_AGAIN = { label: "Try again", press: start };

function fitting({ status, operation, error }) {
  // One can connect while a snapshot is taken.
  if (words.yieldsToStart(operation)) return START;
  if (operation && (status !== "READY" || !words.isSettled({ operation }))) {
    return operation.kind === "CREATE" ? CANCEL : WATCH;
  }
  if (error?.operation_kind === "DELETE") return DELETE;
  if (status === "READY") return CONNECT;
  if (status === "SUSPENDED") return START;
  return error?.retryable === false ? SEE_WHY : TRY_AGAIN;
}

/** Only its owner gets into a workspace; an administrator can stop it. */
function forOthers({ status, operation }) {
  if (operation) return WATCH;
  return status === "READY" ? STOP : DETAILS;
}

/** The panel says how to connect, and what is under way. */
function open(app, workspace) {
  app.go(`/workspaces/${workspace.id}`);
}

async function start(app, { id }) {
  const { api } = app;
  const { problem } = await send(app, id, () => api.post(`/workspaces/${id}/start`));
  if (problem && api === app.api) app.update((state) => state.refused.set(id, problem));
}
