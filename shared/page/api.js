/**
 * The Hub's JSON API, at the page's own origin.
 *
 * @module
 */
import { learnClock } from "page/times.js";

const TIMEOUT_MS = 30_000;
const NO_ANSWER = "The Hub does not answer.";

/** The Hub refused, or has a fault: its problem+json (RFC 9457). */
export class Problem extends Error {
  /**
   * @param {Response} response
   * @param {object} body the answer's JSON object; empty if it had none.
   */
  constructor(response, body) {
    super(body.detail || body.title || `The Hub answers ${response.status}.`);
    this.name = "Problem";
    /** @type {number} of HTTP. */
    this.status = response.status;
    /** @type {string} what went wrong, for programs; empty if the Hub did not say. */
    this.code = body.code ?? "";
    /** @type {string} what happened and what to do next, for people. */
    this.detail = this.message;
    /** @type {{field: string, message: string}[]} */
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    /** @type {object|null} the operation that is in the way. */
    this.operation = body.operation ?? null;
    /** @type {number|null} seconds. */
    this.retryAfter = Number.parseInt(response.headers.get("Retry-After"), 10) || null;
    /** @type {Date} when it was said. */
    this.at = new Date();
    /** @type {string} what whoever runs the Hub finds it by. */
    this.requestId = response.headers.get("X-Request-Id") ?? "";
  }

  /** @returns {number} seconds that are left until a repetition may succeed; 0 if none are. */
  retryIn() {
    const passed = (Date.now() - this.at.getTime()) / 1000;
    return Math.max(0, (this.retryAfter ?? 0) - passed);
  }
}

/** No answer came: no network, no Hub, or none in time. */
export class Offline extends Error {
  constructor() {
    super(NO_ANSWER);
    this.name = "Offline";
  }
}

/**
 * Asks the Hub as the session's person.
 *
 * What has been read is remembered with its ETag, so that what has not changed is not sent again.
 */
export class Api {
  #session;
  #known = new Map(); // path -> the last good answer

  /** @param {object} session of `openSession`. */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Read something.
   *
   * @param {string} path with its query.
   * @returns {Promise<{status: number, body: any, etag: string|null, changed: boolean,
   *   next: string|null}>} `body` is the same object as long as `changed` is false. `next` is the
   *   next page's path.
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came.
   */
  async get(path) {
    const known = this.#known.get(path);
    const response = await this.#send(path, {
      headers: known?.etag ? { "If-None-Match": known.etag } : {},
    });
    if (response.status === 304 && known) return { ...known, status: 304, changed: false };
    const text = await textOf(response);
    if (known?.text === text) return { ...known, changed: false };
    const answer = {
      status: response.status,
      body: parsed(text),
      etag: response.headers.get("ETag"),
      changed: true,
      next: nextPage(response.headers.get("Link")),
      text,
    };
    this.#known.set(path, answer);
    return answer;
  }

  /**
   * Read a list with all its pages.
   *
   * @param {string} path of the first page.
   * @returns {Promise<{body: object[], changed: boolean}>}
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came.
   */
  async all(path) {
    const pages = [];
    for (let next = path; next; next = pages.at(-1).next) pages.push(await this.get(next));
    return {
      body: pages.flatMap((page) => page.body),
      changed: pages.some((page) => page.changed),
    };
  }

  /**
   * Ask for a change.
   *
   * @param {string} path
   * @param {object} [body]
   * @param {{idempotencyKey?: string}} [options] the same key makes a repetition harmless.
   * @returns {Promise<any>} the answer's JSON; null if it has none.
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came: the change may have been made.
   */
  async post(path, body, { idempotencyKey } = {}) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
    const sent = body === undefined ? undefined : JSON.stringify(body);
    return bodyOf(await this.#send(path, { method: "POST", headers, body: sent }));
  }

  /**
   * Ask for a deletion.
   *
   * @param {string} path
   * @returns {Promise<any>} the answer's JSON; null if it has none.
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came: the deletion may be under way.
   */
  async delete(path) {
    return bodyOf(await this.#send(path, { method: "DELETE" }));
  }

  async #send(path, options, again = true) {
    const response = await this.#fetch(path, options);
    learnClock(response.headers.get("Date"));
    if (response.ok || response.status === 304) return response;
    if (response.status === 401 && again && (await this.#session.renew())) {
      return this.#send(path, options, false);
    }
    throw new Problem(response, (await bodyOf(response)) ?? {});
  }

  async #fetch(path, options) {
    const identity = await this.#session.headers();
    try {
      return await fetch(path, {
        ...options,
        cache: "no-store",
        credentials: "same-origin",
        headers: { Accept: "application/json", ...identity, ...options.headers },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch {
      throw new Offline();
    }
  }
}

async function bodyOf(response) {
  try {
    return JSON.parse(await response.text());
  } catch {
    return null;
  }
}

async function textOf(response) {
  try {
    return await response.text();
  } catch {
    throw new Offline(); // the connection broke in the middle of the answer
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Offline(); // something between us and the Hub has answered
  }
}

function nextPage(link) {
  return /<([^>]+)>;\s*rel="next"/.exec(link ?? "")?.[1] ?? null;
}
