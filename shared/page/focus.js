/**
 * Where the keyboard is, when a view opens or closes.
 *
 * @module
 */

// Pixels of the window that the header covers.
const HEADER = 56;

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
