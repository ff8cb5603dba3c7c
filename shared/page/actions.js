/**
 * The one action that fits a workspace's state.
 *
 * @module
 */
import { html, nothing } from "lit";
import { openConfirm } from "page/confirm.js";

/**
 * Return the button of the one action that fits; a link where there is nothing to do but look.
 *
 * @param {import("page/app.js").app} app
 * @param {object} workspace as the API has it.
 * @returns {unknown} a template.
 */
export function action(app, workspace) {
  const asking = app.state.asking.has(workspace.id);
  const fits = fitting(workspace);
  if (!fits) return nothing;
  const named = `${fits.label.replace(" …", "")} ${workspace.name}`;
  const press = () => fits.press(app, workspace);
  return html`<button class=${fits.look ?? nothing} aria-label=${named} ?disabled=${asking}
    @click=${press}>${fits.label}</button>`;
}

const CONNECT = { label: "Connect", look: "go", press: look };
const WATCH = { label: "Watch", press: look };
const CANCEL = { label: "Cancel …", press: (app, workspace) => openConfirm(app, "delete", workspace) };
const DELETE = {
  label: "Delete …",
  look: "bad",
  press: (app, workspace) => openConfirm(app, "delete", workspace),
};
const START = { label: "Start", press: start };
const TRY_AGAIN = { label: "Try again", press: start };
const SEE_WHY = { label: "See why", press: look };

function fitting({ status, operation, error }) {
  if (operation) return operation.kind === "CREATE" ? CANCEL : WATCH;
  if (error?.operation_kind === "DELETE") return DELETE;
  if (status === "READY") return CONNECT;
  if (status === "SUSPENDED") return START;
  return error?.retryable === false ? SEE_WHY : TRY_AGAIN;
}

/** The panel says how to connect, and what is under way. */
function look(app, workspace) {
  app.go(`/workspaces/${workspace.id}`);
}

function start(app, workspace) {
  return app.ask(workspace, () => app.api.post(`/workspaces/${workspace.id}/start`));
}
