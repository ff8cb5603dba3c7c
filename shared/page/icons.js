/**
 * Shapes. Each status has its own, so that colour only repeats what the shape and the word say.
 *
 * @module
 */
import { svg, html, nothing } from "lit";

// The length of the ring.
const ROUND = 2 * Math.PI * 5;

const SHAPES = {
  ready: svg`<circle cx="8" cy="8" r="5.5" fill="currentColor"/>`,
  asleep: svg`<path d="M12.9 10A5.6 5.6 0 0 1 6 3.1 5.6 5.6 0 1 0 12.9 10z" fill="currentColor"/>`,
  archived: svg`<path d="M1.8 3h12.4v3.2H1.8zM3 6v7.2h10V6M6.4 9h3.2" fill="none"
    stroke="currentColor" stroke-width="1.6" stroke-linejoin="round"/>`,
  error: svg`<path d="M8 1.8 15 14H1z" fill="currentColor" stroke="currentColor"
    stroke-width="1.6" stroke-linejoin="round"/><path class="cut" d="M8 6.2v3.6M8 12v.2"/>`,
  uploading: svg`<path d="M8 13.5V4M3.8 8 8 3.8 12.2 8" fill="none" stroke="currentColor"
    stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/>`,
  unknown: svg`<circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="2"
    stroke-dasharray="2 2"/>`,
};

/**
 * Return the shape of a status. It is decoration: the word stands beside it.
 *
 * @param {string} status as `words.status` returns it.
 * @param {number|null} [part] how far an operation is, 0 to 1; null if that is unknown.
 * @returns {unknown} a template.
 */
export function shape(status, part = null) {
  const busy = /^(start|stopp|restor|archiv|delet)ing$/.test(status);
  const drawn = busy ? ring(part) : (SHAPES[status] ?? SHAPES.unknown);
  return html`<svg class="shape ${busy && part === null ? "turning" : ""}" viewBox="0 0 16 16"
    width="16" height="16" aria-hidden="true">${drawn}</svg>`;
}

/**
 * Return a small picture by name, as decoration.
 *
 * @param {"search"|"plus"|"close"|"back"|"person"|"away"} name
 * @returns {unknown} a template.
 */
export function icon(name) {
  const path = ICONS[name];
  return path
    ? html`<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        ${svg`<path d=${path}/>`}</svg>`
    : nothing;
}

/**
 * Return the link that closes what is open beside the list.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function closeLink(app) {
  return html`<a class="button bare close" href=${app.at("/")} aria-label="Close"
    >${icon("close")}</a
  >`;
}

const ICONS = {
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.6 10.6 14 14",
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  back: "M9.5 3.5 5 8l4.5 4.5",
  person: "M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2.5 14a5.5 5.5 0 0 1 11 0",
  away: "M2 5.5a9 9 0 0 1 12 0M4.5 8.5a5 5 0 0 1 7 0M8 12v.1M3 14 13 2",
};

function ring(part) {
  const drawn = (part ?? 0.3) * ROUND;
  return svg`<circle class="track" cx="8" cy="8" r="5"/><circle class="arc" cx="8" cy="8" r="5"
    stroke-dasharray="${drawn} ${ROUND}" transform="rotate(-90 8 8)"/>`;
}
