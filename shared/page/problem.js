/**
 * A refusal, or no answer, with what to do about it.
 *
 * @module
 */
import { html, nothing } from "lit";
import { Offline, Problem } from "page/api.js";
import { duration } from "page/times.js";
import { adviceOf } from "page/ways.js";

/**
 * Send a change of a workspace, and show its answer at once.
 *
 * @param {import("page/app.js").app} app
 * @param {string} id the workspace's; empty for a new one.
 * @param {() => Promise<object|null>} ask sends the request; returns the workspace.
 * @returns {Promise<{answer: object|null, problem: Problem|Offline|null}>} what came of it.
 */
export async function send(app, id, ask) {
  app.update((state) => state.asking.add(id));
  try {
    const answer = await ask();
    if (answer?.id) app.put(answer);
    app.update((state) => state.refused.delete(id));
    return { answer, problem: null };
  } catch (error) {
    return { answer: null, problem: expected(app, error) };
  } finally {
    app.update((state) => state.asking.delete(id));
    app.live?.poke();
  }
}

/**
 * Return an error of the API, and note what it says of the session.
 *
 * @param {import("page/app.js").app} app
 * @param {Error} error
 * @returns {Problem|Offline}
 * @throws {Error} it is another error: a fault of the page.
 */
export function expected(app, error) {
  if (!(error instanceof Problem || error instanceof Offline)) throw error;
  app.failed(error);
  return error;
}

/**
 * Return for how many seconds the Hub wants no further try.
 *
 * @param {Problem|Offline|null} [problem]
 * @returns {number} 0 if it may be tried again now.
 */
export function secondsLeft(problem) {
  if (!problem?.retryAfter) return 0;
  return Math.max(0, problem.retryAfter - (Date.now() - problem.at.getTime()) / 1000);
}

/**
 * Return what a button says whose request may be on its way, or may have to wait.
 *
 * @param {string} label
 * @param {Problem|Offline|null} problem of the last try.
 * @param {boolean} [sending]
 * @returns {unknown} a template.
 */
export function pressed(label, problem, sending) {
  const left = secondsLeft(problem);
  if (sending) return "Asking …";
  return left > 0 ? html`${label} in <span class="count">${duration(left)}</span>` : label;
}

/**
 * Return what is wrong with a field, as the API says it.
 *
 * @param {Problem|Offline|null} problem
 * @param {string} field its path in the body.
 * @returns {string} empty if nothing is.
 */
export function fieldProblem(problem, field) {
  return problem?.errors?.find((each) => each.field === field)?.message ?? "";
}

/**
 * Show a refusal: what happened, what to do next, and how long that has to wait.
 *
 * @param {Problem|Offline|null} problem
 * @param {string[]} [fields] those that show their problems themselves.
 * @returns {unknown} a template; nothing if there is no problem beside those.
 */
export function problemView(problem, fields = []) {
  if (!problem) return nothing;
  const others = (problem.errors ?? []).filter((each) => !fields.includes(each.field));
  if (problem.errors?.length && !others.length) return nothing;
  const left = secondsLeft(problem);
  const advice =
    problem instanceof Offline
      ? "Your request may have reached it all the same: look before you try again."
      : adviceOf(problem.code);
  return html`<div class="note is-bad" role="alert">
    <p>
      <bdi
        >${others.length ? others.map((each) => `${each.field} ${each.message}`).join("; ") : problem.message}</bdi
      >
    </p>
    <p>
      ${advice}
      ${left > 0 ? html`Try again in <b class="count" aria-live="off">${duration(left)}</b>.` : nothing}
    </p>
    ${
      problem.requestId && problem.status >= 500
        ? html`<p class="soft">Request <code>${problem.requestId}</code></p>`
        : nothing
    }
  </div>`;
}
