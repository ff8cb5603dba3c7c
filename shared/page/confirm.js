/** @module Confirmation of what cannot be undone: stands in until it is written. */

/**
 * @param {import("page/app.js").app} app
 * @param {"stop"|"start"|"delete"} verb
 * @param {object} workspace
 */
export function openConfirm(app, verb, workspace) {
  app.toast(`${verb} ${workspace.name}: not yet`);
}
