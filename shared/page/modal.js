/**
 * A dialog over the page. Esc, a press beside it and the browser's Back end it, and the focus
 * returns to where it was.
 *
 * @module
 */
import { html, nothing, render } from "lit";
import { SIGNED_OUT } from "page/notices.js";

/** Refine it: `view` returns what it shows; the button in it with `data-first` gets the focus. */
export class Modal {
  /** @type {HTMLDialogElement} */
  element = document.createElement("dialog");
  /** @type {import("page/app.js").app} */
  app;
  #opener = document.activeElement;
  #route;
  #unsubscribe = null;

  /** @param {import("page/app.js").app} app */
  constructor(app) {
    this.app = app;
    this.#route = app.state.route;
  }

  /** Show it. Its heading has the id `confirm-title`. */
  open() {
    this.element.className = "confirm";
    this.element.setAttribute("aria-labelledby", "confirm-title");
    this.element.addEventListener("close", () => this.end());
    // Not at the end of selecting text in it.
    let beside = false;
    this.element.addEventListener("pointerdown", (event) => (beside = this.#isBeside(event)));
    this.element.addEventListener("click", (event) => {
      if (beside && this.#isBeside(event)) this.element.close();
    });
    document.body.append(this.element);
    this.#unsubscribe = this.app.subscribe(() => this.draw());
    this.draw();
    this.element.showModal();
    this.element.querySelector("[data-first]")?.focus();
  }

  #isBeside({ target, clientX: x, clientY: y }) {
    const { left, right, top, bottom } = this.element.getBoundingClientRect();
    return target === this.element && (x < left || x > right || y < top || y > bottom);
  }

  /** Whether it has not ended. */
  get isOpen() {
    return this.#unsubscribe !== null;
  }

  /** While it is open, nothing beside it can be pressed: it has the button of a new sign-in, too. */
  get isSignedOut() {
    return this.app.state.signedOut;
  }

  /** Render it, after each change; it ends when the person goes somewhere else. */
  draw() {
    if (!this.isOpen) return;
    if (this.app.state.route !== this.#route) this.end();
    else render(this.view(), this.element);
  }

  /** @returns {unknown} a template. */
  view() {
    return nothing;
  }

  /** @returns {HTMLElement|null} what gets the focus if what was pressed is gone, or disabled. */
  rest() {
    return null;
  }

  /** @returns {unknown} the button of a new sign-in. */
  signInView() {
    return html`<div class="note is-bad">
      <p role="alert">${SIGNED_OUT}</p>
      <button type="button" @click=${this.app.signIn}>Sign in again</button>
    </div>`;
  }

  /** Close it for good. */
  end() {
    if (!this.isOpen) return;
    this.#unsubscribe();
    this.#unsubscribe = null;
    this.element.close();
    this.element.remove();
    requestAnimationFrame(() => {
      if (this.#opener?.isConnected && !this.#opener.disabled) this.#opener.focus();
      if (document.activeElement === document.body) this.rest()?.focus();
    });
  }
}
