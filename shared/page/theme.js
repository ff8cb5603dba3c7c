/**
 * Light, dark, or as the system has it. The choice stays in this browser.
 *
 * @module
 */
const KEY = "theme";

/** What can be chosen. The first is the system's. */
export const THEMES = ["system", "light", "dark"];

/** @returns {string} one of `THEMES`. */
export function chosenTheme() {
  return document.documentElement.dataset.theme ?? THEMES[0];
}

/**
 * Use a theme from now on.
 *
 * @param {string} theme one of `THEMES`; anything else is the system's.
 */
export function chooseTheme(theme) {
  const own = THEMES.indexOf(theme) > 0;
  if (own) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  try {
    if (own) localStorage.setItem(KEY, theme);
    else localStorage.removeItem(KEY);
  } catch {
    // A browser that keeps nothing: the choice is for this page only.
  }
}

/** Use what was chosen before. */
export function recallTheme() {
  try {
    chooseTheme(localStorage.getItem(KEY));
  } catch {
    // As above.
  }
}
