/**
 * The list of workspaces: the person's own, or everybody's.
 *
 * @module
 */
import { html, nothing, repeat } from "lit";
import { showsEverybody } from "page/app.js";
import { icon, shape } from "page/icons.js";
import { row } from "page/row.js";
import { duration } from "page/times.js";
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

// ---- what stands in its place --------------------------------------------------------------------

/** The outlines of rows, until the first answer. */
function loading() {
  const outline = html`<li class="row outline"><i class="line"></i><i class="line"></i></li>`;
  return html`<p class="unseen" role="status">Reading your workspaces …</p>
    <ul class="rows" aria-hidden="true">${[outline, outline, outline]}</ul>`;
}

/** What a person sees who has no workspace yet. */
function empty(app) {
  if (showsEverybody(app.state)) return card({ title: "Nobody has a workspace yet." });
  return card({
    title: "No workspace yet",
    text: html`A workspace is a machine of your own in the cloud with your tools and your code. It
      sleeps when you are away, and is as you left it when you come back.`,
    actions: html`<a class="button go" href=${app.at("/new")}>${icon("plus")} New workspace</a>`,
    more: html`or in a terminal: <code>workspace create NAME</code>`,
  });
}

/** What a person sees whose search finds nothing. */
function nothingMatches(app) {
  const clear = () => app.narrow({ text: "", status: "" });
  const { text, status } = app.state.filter;
  return card({
    title: "Nothing matches",
    text: html`No workspace ${status ? html`that is <b>${status}</b>` : nothing} ${text
      ? html`has <b><bdi>${text}</bdi></b> in its name, repository, machine, zone or owner`
      : nothing}.`,
    actions: html`<button @click=${clear}>Show all</button>`,
  });
}

/** What a person sees if the first list cannot be read. */
function unavailable(app, { error, retryAt }) {
  const left = Math.max(0, (retryAt - Date.now()) / 1000);
  const isRefused = error.status === 403;
  const title = isRefused ? "This Hub does not let you in" : "Your workspaces cannot be read";
  return card({
    title: html`<span role="alert">${title}</span>`,
    text: error.message,
    actions: html`<button @click=${() => app.tryNow()}>Try now</button>`,
    more: html`${isRefused ? nothing : html`Next try in
      <span class="count">${duration(left)}</span>.`}
      ${error.requestId ? html`Request <code>${error.requestId}</code>` : nothing}`,
  });
}

/**
 * Return a card that stands where a view would.
 *
 * @param {{title: unknown, text?: unknown, actions?: unknown, more?: unknown}} parts
 * @returns {unknown} a template.
 */
export function card({ title, text = nothing, actions = nothing, more = nothing }) {
  return html`<div class="card">
    <svg class="picture" viewBox="0 0 96 64" width="96" height="64" aria-hidden="true">
      <rect x="14" y="6" width="68" height="44" rx="5"/><path d="M4 57h88M28 21l8 7-8 7M42 36h12"/>
    </svg>
    <h2>${title}</h2>
    <p>${text}</p>
    <div class="acts">${actions}</div>
    <p class="soft">${more}</p>
  </div>`;
}
