/**
 * The keyboard: `/` searches, `n` makes a workspace, `j` and `k` or the arrows walk through the
 * list, Esc closes what is open, `?` tells all this. Single letters and signs can be switched off:
 * who dictates, or touches keys by accident, would press them unawares (WCAG 2.1.4). And where the
 * keyboard is, when a view opens or closes.
 *
 * @module
 */
import { chosen } from "page/choices.js";

// Pixels of the window that the header covers.
const HEADER = 56;

/**
 * Listen to the keyboard from now on.
 *
 * @param {import("page/app.js").app} app
 */
export function listenToKeys(app) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.isComposing || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (!typing && event.key.length === 1 && chosen("keys") === "off") return;
    const does = typing ? whileTyping(app, event) : KEYS[event.key];
    if (does?.(app, event)) event.preventDefault();
  });
}

const KEYS = {
  "/": () => focus("#search"),
  n: (app) => go(app, "/new"),
  j: () => walk(1),
  k: () => walk(-1),
  ArrowDown: (_, event) => isInList(event) && walk(1),
  ArrowUp: (_, event) => isInList(event) && walk(-1),
  "?": () => toggleMenu(),
  Escape: (app) => close(app),
};

function whileTyping(app, event) {
  if (event.target.id !== "search") return event.key === "Escape" ? () => close(app) : null;
  if (event.key === "ArrowDown") return () => walk(1);
  if (event.key === "Escape") return () => leaveSearch(app, event.target);
  return null;
}

function leaveSearch(app, input) {
  app.narrow({ text: "" }, { typing: true });
  input.blur();
  return true;
}

function close(app) {
  const { view } = app.state.route;
  if (view === "list" || document.querySelector(":popover-open")) return false;
  return go(app, "/");
}

function go(app, route) {
  app.go(route);
  return true;
}

function focus(selector) {
  const element = document.querySelector(selector);
  element?.focus();
  return element !== null;
}

function toggleMenu() {
  document.getElementById("person")?.togglePopover();
  return true;
}

function isInList(event) {
  return event.target.closest(".rows") !== null;
}

/** Move the focus by so many rows; to the first if it is in none. */
function walk(by) {
  const links = [...document.querySelectorAll(".rows h3 a")];
  const row = document.activeElement?.closest(".row");
  const at = links.findIndex((link) => row?.contains(link));
  const next = at < 0 ? links[0] : links[Math.min(links.length - 1, Math.max(0, at + by))];
  next?.focus();
  return next !== undefined;
}

// ---- where it is ---------------------------------------------------------------------------------

/**
 * Move the focus into what opens, and back to where it was opened when it closes, from now on.
 *
 * @param {import("page/app.js").app} app
 */
export function followFocus(app) {
  let before = app.state.route;
  app.subscribe(() => {
    const { route } = app.state;
    if (route.view === before.view && route.id === before.id) return;
    const left = before;
    before = route;
    requestAnimationFrame(() => (route.view === "list" ? leave(left) : enter()));
  });
}

function enter() {
  const panel = document.querySelector(".panel");
  if (!panel || panel.contains(document.activeElement)) return;
  // As the view before has left it.
  panel.scrollTop = 0;
  if (panel.getBoundingClientRect().top < HEADER) panel.scrollIntoView();
  focusOn(panel.querySelector("[data-first]") ?? panel.querySelector("h2") ?? panel);
}

function leave({ id, view }) {
  if (document.activeElement !== document.body) return;
  focusOn(
    document.querySelector(id ? `[data-id="${id}"] h3 a` : `.list [href^="#/${view}"]`) ??
      document.getElementById("list-title"),
  );
}

function focusOn(element) {
  if (element.tabIndex < 0) element.tabIndex = -1;
  element.focus({ preventScroll: element.matches("h2") });
}
