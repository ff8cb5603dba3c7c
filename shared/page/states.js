/**
 * What stands in the list's place while there is no list.
 *
 * @module
 */
import { html, nothing } from "lit";
import { showsEverybody } from "page/app.js";
import { icon } from "page/icons.js";
import { duration } from "page/times.js";

/** @returns {unknown} the outlines of rows, until the first answer. */
export function loading() {
  const outline = html`<li class="row outline"><i class="line"></i><i class="line"></i></li>`;
  return html`<p class="unseen" role="status">Reading your workspaces …</p>
    <ul class="rows" aria-hidden="true">${[outline, outline, outline]}</ul>`;
}

/**
 * Return what a person sees who has no workspace yet.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function empty(app) {
  if (showsEverybody(app.state)) return card({ title: "Nobody has a workspace yet." });
  return card({
    title: "No workspace yet",
    text: html`A workspace is a machine of your own in the cloud with your tools and your code. It
      sleeps when you are away, and is as you left it when you come back.`,
    actions: html`<a class="button go" href=${app.at("/new")}>${icon("plus")} New workspace</a>`,
    more: html`or in a terminal: <code>workspace create NAME</code>`,
  });
}

/**
 * Return what a person sees whose search finds nothing.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function nothingMatches(app) {
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

/**
 * Return what a person sees if the first list cannot be read.
 *
 * @param {import("page/app.js").app} app
 * @param {{error: Error, retryAt: number}} trouble
 * @returns {unknown} a template.
 */
export function unavailable(app, { error, retryAt }) {
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
