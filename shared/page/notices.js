/**
 * What lies over the page for a while: no contact with the Hub, an ended sign-in, short messages.
 * Nothing below moves for it.
 *
 * @module
 */
import { html, nothing } from "lit";
import { icon } from "page/icons.js";
import { clock, duration, moment } from "page/times.js";

export const SIGNED_OUT = "Your sign-in has ended. Nothing that you have typed is lost.";

/**
 * Return the notices.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function notices(app) {
  const { signedOut, trouble, mine, toasts } = app.state;
  if (!toasts.length && !(mine && (signedOut || trouble))) return nothing;
  return html`<section class="notices" aria-label="Notices">
    ${toasts.map((each) => html`<p class="notice">${each.text}
      ${each.undelete ? html`<a href=${app.at("/deleted")}>Undelete</a>` : nothing}
      <button class="bare" aria-label="Dismiss" @click=${() => app.untoast(each.id)}>
        ${icon("close")}</button></p>`)}
    ${signedOut && mine ? ended(app) : nothing}
    ${trouble && mine && !signedOut ? away(app, trouble) : nothing}
  </section>`;
}

function ended(app) {
  return html`<p class="notice is-bad">
    <span role="alert">${SIGNED_OUT}</span>
    <button class="go" @click=${app.signIn}>Sign in again</button>
  </p>`;
}

function away(app, { error, retryAt, since }) {
  const left = Math.max(0, (retryAt - Date.now()) / 1000);
  return html`<p class="notice is-bad">
    ${icon("away")}
    <span><span role="alert">${error.message} ${since
        ? html`You see how it was at ${moment(since, clock)}.` : nothing}</span>
      <span class="soft count">Next try in ${duration(left)}.</span></span>
    <button @click=${() => app.tryNow()}>Try now</button>
  </p>`;
}
