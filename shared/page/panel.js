/** @module One workspace: stands in until it is written. */
import { html } from "lit";

/** @param {import("page/app.js").app} app */
export function panelView(app) {
  return html`<h2>${app.workspace(app.state.route.id)?.name ?? "No such workspace"}</h2>`;
}
