/**
 * What a person chooses for this browser. It stays there.
 *
 * A choice is an attribute of the document, `data-<name>`, unless it is the first one.
 *
 * @module
 */

/** What can be chosen, by name; the first of each is so until somebody chooses. */
export const CHOICES = { theme: ["system", "light", "dark"], keys: ["on", "off"] };

/**
 * Return what is chosen.
 *
 * @param {string} name of a choice.
 * @returns {string} one of its values.
 */
export function chosen(name) {
  return document.documentElement.dataset[name] ?? CHOICES[name][0];
}

/**
 * Use a value from now on.
 *
 * @param {string} name of a choice.
 * @param {string|null} value anything that is not one of its values is the first.
 */
export function choose(name, value) {
  const own = CHOICES[name].indexOf(value) > 0;
  if (own) document.documentElement.dataset[name] = value;
  else delete document.documentElement.dataset[name];
  try {
    if (own) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // A browser that keeps nothing: the choice is for this page only.
  }
}

/** Use what was chosen before. */
export function recallChoices() {
  for (const name of Object.keys(CHOICES)) {
    try {
      choose(name, localStorage.getItem(name));
    } catch {
      // As above.
    }
  }
}
