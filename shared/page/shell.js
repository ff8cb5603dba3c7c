/**
 * The page around its views: header, notices, and where each view stands.
 *
 * @module
 */
import { html, nothing } from "lit";
import { createView } from "page/create.js";
import { deletedView, showsDeleted } from "page/deleted.js";
import { headerView } from "page/header.js";
import { card, listView } from "page/list.js";
import { notices } from "page/notices.js";
import { panelView } from "page/panel.js";

/**
 * Return the whole page.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function pageView(app) {
  const alone = standingAlone(app);
  return html`${alone ? nothing : html`<a class="skip" href="#list-title" @click=${skip}
      >Skip to the workspaces</a>`}
    ${headerView(app)} ${alone ? html`<main class="alone">${alone}</main>` : main(app)}
    ${notices(app)}`;
}

/** What is all that there is to see; null if nothing stands before the views. */
function standingAlone(app) {
  if (app.session?.kind === "none") return notConfigured(app.session);
  return app.state.signedOut && app.state.mine === null ? signIn(app) : null;
}

function main(app) {
  const view = shown(app);
  return html`<main class=${view === "list" ? nothing : "with-panel"}>
    ${listView(app)}
    ${view === "list" ? nothing : html`<div class="panel">${panel(app, view)}</div>`}
  </main>`;
}

/** The view of the route; the list if there is no Hub yet, or one that has no such view. */
function shown(app) {
  const { view } = app.state.route;
  return !app.session || (view === "deleted" && !showsDeleted(app)) ? "list" : view;
}

function panel(app, view) {
  return { new: createView, deleted: deletedView, workspace: panelView }[view](app);
}

function notConfigured({ address }) {
  return card({
    title: "Signing in to this page is not set up",
    text: html`Whoever runs this Hub can change that: its README says how. The command does all that
      the page does:`,
    more: html`<code>workspace login ${address}</code>`,
  });
}

function signIn(app) {
  return card({
    title: "Sign in to see your workspaces",
    actions: html`<button class="go" @click=${app.signIn}>Sign in</button>`,
  });
}

const TITLES = { new: "New workspace", deleted: "Deleted workspaces" };

/**
 * Return the document's title: where one is, and how much is under way.
 *
 * @param {import("page/app.js").app} app
 * @returns {string}
 */
export function pageTitle(app) {
  const { route, mine } = app.state;
  const busy = mine?.filter((each) => each.operation).length;
  const here = TITLES[route.view] ?? app.workspace(route.id)?.name;
  return `${busy ? `(${busy}) ` : ""}${here ? `${here} · ` : ""}Workspaces`;
}

/** A fragment is a route here, so the link moves the focus itself. */
function skip(event) {
  event.preventDefault();
  document.getElementById("list-title")?.focus();
}
