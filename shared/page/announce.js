/**
 * Tells people who do not look at the page what has changed.
 *
 * @module
 */
import { status } from "page/words.js";

/**
 * Say in the live region, from now on, when a workspace of the person's own changes its status, and
 * what the page says for some seconds.
 *
 * @param {import("page/app.js").app} app
 * @param {HTMLElement} region a polite live region.
 */
export function announceChanges(app, region) {
  let before = null;
  let spoken = 0;
  app.subscribe(() => {
    const { mine } = app.state;
    // Somebody else's by now.
    if (mine === null && before !== null) region.textContent = "";
    if (mine === null) before = null;
    if (mine === before) return;
    const said = before === null ? [] : changes(before, mine);
    tellDeleted(app, before ?? []);
    before = mine;
    if (said.length) region.textContent = said.join(" ");
  });
  app.subscribe(() => {
    const toast = app.state.toasts.at(-1);
    if (toast && toast.id !== spoken) region.textContent = toast.text;
    spoken = toast?.id ?? spoken;
  });
}

/** Say of what has been deleted, unless its panel does, where it can be taken back. */
function tellDeleted(app, before) {
  const { mine, route } = app.state;
  const is = new Set(mine.map((each) => each.id));
  for (const { id, name, undelete_until: until } of before) {
    if (until && !is.has(id) && id !== route.id) app.toast(`${name} is deleted.`, { undelete: true });
  }
}

/**
 * Return what has changed between two lists, in sentences.
 *
 * @param {object[]} before
 * @param {object[]} after
 * @returns {string[]}
 */
export function changes(before, after) {
  const was = new Map(before.map((each) => [each.id, status(each)]));
  const is = new Set(after.map((each) => each.id));
  return [
    ...after
      .filter((each) => was.get(each.id) !== status(each))
      .map((each) => `${each.name} is ${status(each)}.`),
    ...before.filter((each) => !is.has(each.id)).map((each) => `${each.name} is gone.`),
  ];
}
