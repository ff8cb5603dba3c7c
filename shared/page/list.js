/**
 * The list of workspaces: the person's own, or everybody's.
 *
 * @module
 */
import { html, nothing, repeat } from "lit";
import { showsEverybody } from "page/app.js";
import { icon, shape } from "page/icons.js";
import { row } from "page/row.js";
import { empty, loading, nothingMatches, unavailable } from "page/states.js";
import { STATUSES, capital, status } from "page/words.js";

// Rows at first; a press shows as many more. What is shown is rendered every second, for its
// countdowns: thousands of rows would take most of that second.
const SHOWN = 100;
// What a search finds a workspace by: a new representation is another object.
const texts = new WeakMap();

/**
 * Return the list with its heading, search and filter.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function listView(app) {
  const { state } = app;
  const all = listed(state);
  const found = all?.filter(matches(state.filter));
  return html`<section class="list" aria-labelledby="list-title">
    <div class="bar">
      <h2 id="list-title" tabindex="-1">${title(state)}</h2>
      ${state.me?.is_admin ? scope(app) : nothing}
      ${all || !state.trouble ? newWorkspace(app) : nothing}
    </div>
    ${all?.length || isLoading(app, all) ? tools(app, all ?? [], found ?? []) : nothing}
    ${body(app, all, found)}
    ${
      app.session?.features.has("undelete")
        ? html`<p class="rest"><a href=${app.at("/deleted")}>Deleted workspaces</a></p>`
        : nothing
    }
  </section>`;
}

/**
 * Return the workspaces that the list has, before it is narrowed; null if they are not known yet.
 * The administrator's own go first: they are read more often than everybody's.
 *
 * @param {import("page/app.js").app["state"]} state
 * @returns {object[]|null}
 */
export function listed(state) {
  const { mine, everybody } = state;
  if (!showsEverybody(state) || mine === null) return mine;
  if (everybody === null) return null;
  const own = new Set(mine.map((each) => each.id));
  const others = everybody.filter((each) => !own.has(each.id));
  return [...mine, ...others];
}

function body(app, all, found) {
  if (isLoading(app, all)) return loading();
  if (all === null) return unavailable(app, app.state.trouble);
  if (!all.length) return empty(app);
  if (!found.length) return nothingMatches(app);
  const key = (workspace) => workspace.id;
  const shown = found.slice(0, SHOWN * app.state.pages);
  return html`<ul class="rows" aria-labelledby="list-title">
    ${repeat(shown, key, (workspace) => row(app, workspace))}
  </ul>
  ${shown.length < found.length ? rest(app, shown.length, found.length) : nothing}`;
}

/** The button for the rest, and how much there is. */
function rest(app, shown, all) {
  const more = () => app.update((state) => (state.pages += 1));
  return html`<p class="rest"><button @click=${more}>Show more</button>
    <span class="soft">${shown} of ${all}</span></p>`;
}

function isLoading(app, all) {
  return all === null && app.state.trouble === null;
}

function newWorkspace(app) {
  return html`<a class="button go" href=${app.at("/new")} aria-keyshortcuts="n" aria-label="New workspace"
    >${icon("plus")}<span>New<span class="long"> workspace</span></span></a>`;
}

function title(state) {
  return showsEverybody(state) ? "Everybody’s workspaces" : "Your workspaces";
}

function scope(app) {
  const choose = (chosen) => () => {
    if (chosen !== app.state.scope) app.narrow({ scope: chosen });
  };
  const choice = (name, label) =>
    html`<button aria-pressed=${app.state.scope === name} @click=${choose(name)}>${label}</button>`;
  return html`<div class="choices" role="group" aria-label="Whose workspaces">
    ${choice("mine", "Yours")} ${choice("everybody", "Everybody’s")}
  </div>`;
}

function tools(app, all, found) {
  const { filter } = app.state;
  const typed = (event) => app.narrow({ text: event.target.value }, { typing: true });
  return html`<div class="tools">
    <search class="search">
      ${icon("search")}
      <input type="search" id="search" placeholder="Search" aria-label="Search workspaces"
        aria-keyshortcuts="/" autocomplete="off" spellcheck="false" .value=${filter.text}
        @input=${typed}>
      <kbd aria-hidden="true">/</kbd>
    </search>
    ${filters(app, all)}
    <p class="unseen" role="status">${narrowed(filter, all, found)}</p>
  </div>`;
}

/** How many are left, for those who do not see it. */
function narrowed(filter, all, found) {
  if (!filter.text && !filter.status) return "";
  return `${found.length} of ${all.length} found`;
}

/** A button for each status that there is, with how many: an overview as well as a filter. */
function filters(app, all) {
  const { filter } = app.state;
  const counts = new Map();
  for (const each of all) counts.set(status(each), (counts.get(status(each)) ?? 0) + 1);
  const shown = STATUSES.filter((each) => counts.has(each) || each === filter.status);
  const choose = (chosen) => () =>
    app.narrow({ status: filter.status === chosen ? "" : chosen });
  const chip = (name, label, count) =>
    html`<button class="chip is-${name || "all"}" aria-pressed=${filter.status === name}
      @click=${choose(name)}>${name ? shape(name, 0.7) : nothing}${capital(label)}
      <span class="number">${count}</span></button>`;
  return html`<div class="chips" role="group" aria-label="Show only">
    ${chip("", "all", all.length || "")}
    ${shown.map((each) => chip(each, each, counts.get(each) ?? 0))}
  </div>`;
}

/** Every word of the search must be somewhere in what a row says. */
function matches(filter) {
  const wanted = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return (workspace) => {
    if (filter.status && status(workspace) !== filter.status) return false;
    return wanted.every((word) => textOf(workspace).includes(word));
  };
}

function textOf(workspace) {
  if (!texts.has(workspace)) {
    const said = [
      workspace.name,
      workspace.owner_email,
      workspace.owner_id,
      workspace.machine_type,
      workspace.zone,
      workspace.metadata?.repo,
      workspace.metadata?.branch,
      workspace.last_device_id,
      status(workspace),
    ];
    texts.set(workspace, said.join(" ").toLowerCase());
  }
  return texts.get(workspace);
}
