/** @module A new workspace: stands in until it is written. */
import { html } from "lit";

/** @returns {unknown} a template. */
export function createView() {
  return html`<h2>New workspace</h2>`;
}
