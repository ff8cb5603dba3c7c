/**
 * The one action that fits a workspace's state.
 *
 * @module
 */
import { html } from "lit";
import { openConfirm } from "page/confirm.js";
import { secondsLeft, send } from "page/problem.js";
import { isSettled } from "page/words.js";

/**
 * Return the button of the one action that fits.
 *
 * @param {import("page/app.js").app} app
 * @param {object} workspace as the API has it.
 * @returns {unknown} a template.
 */
export function action(app, workspace) {
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
  if (operation && (status !== "READY" || !isSettled({ operation }))) {
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
