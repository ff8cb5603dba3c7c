/**
 * The Hub's JSON API, at the page's own origin.
 *
 * @module
 */
import { learnClock } from "page/times.js";

const TIMEOUT_MS = 30_000;
const NO_ANSWER = "The Hub does not answer.";
// Something between us and the Hub has answered.
const UNREADABLE = "The Hub’s answer cannot be read.";

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
    /** @type {{field: string, message: string}[]} */
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    /** @type {number|null} seconds. */
    this.retryAfter = Number.parseInt(response.headers.get("Retry-After"), 10) || null;
    /** @type {Date} when it was said. */
    this.at = new Date();
    /** @type {string} what whoever runs the Hub finds it by. */
    this.requestId = response.headers.get("X-Request-Id") ?? "";
  }
}

/** No answer came: no network, no Hub, or none in time; or none that can be read. */
export class Offline extends Error {
  /** @param {string} [message] */
  constructor(message = NO_ANSWER) {
    super(message);
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
  // Path -> the last good answer.
  #known = new Map();
  // A list's path -> the paths of its pages in #known.
  #pages = new Map();
  #ended = false;

  /** @param {object} session of `openSession`. */
  constructor(session) {
    this.#session = session;
  }

  /** Somebody else asks from now on: what is still to be answered counts as no answer. */
  end() {
    this.#ended = true;
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
    const { response, text } = await this.#send(path, {
      headers: known?.etag ? { "If-None-Match": known.etag } : {},
    });
    if (response.status === 304 && known) return { ...known, status: 304, changed: false };
    const next = nextPage(response.headers.get("Link"));
    const same = known?.text === text && known.next === next;
    const answer = {
      status: response.status,
      body: same ? known.body : parsed(text),
      etag: response.headers.get("ETag"),
      changed: !same,
      next,
      text,
    };
    this.#known.set(path, answer);
    return answer;
  }

  /**
   * Read a list with all its pages. Those that it had earlier and has no more are forgotten.
   *
   * @param {string} path of the first page.
   * @returns {Promise<{body: object[], changed: boolean}>}
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came.
   */
  async all(path) {
    const pages = [];
    const paths = new Set();
    const before = this.#pages.get(path) ?? new Set();
    this.#pages.set(path, before);
    for (let next = path; next; next = pages.at(-1).next) {
      before.add(next);
      paths.add(next);
      pages.push(await this.get(next));
    }
    for (const old of before) if (!paths.has(old)) this.#known.delete(old);
    this.#pages.set(path, paths);
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
   * @returns {Promise<object>} the answer's JSON.
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came: the change may have been made.
   */
  async post(path, body, { idempotencyKey } = {}) {
    const headers = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const { text } = await this.#send(path, { method: "POST", headers, body: sent });
    return parsed(text);
  }

  /**
   * Ask for a deletion.
   *
   * @param {string} path
   * @returns {Promise<object>} the answer's JSON.
   * @throws {Problem} the Hub refused.
   * @throws {Offline} no answer came: the deletion may be under way.
   */
  async delete(path) {
    const { text } = await this.#send(path, { method: "DELETE" });
    return parsed(text);
  }

  async #send(path, options, again = true) {
    const answer = await this.#fetch(path, options);
    const { response } = answer;
    learnClock(response.headers.get("Date"));
    if (response.ok || response.status === 304) return answer;
    if (response.status === 401 && again && (await this.#session.renew())) {
      return this.#send(path, options, false);
    }
    throw new Problem(response, jsonOf(answer.text) ?? {});
  }

  async #fetch(path, options) {
    const identity = await this.#session.headers();
    try {
      const response = await fetch(path, {
        ...options,
        cache: "no-store",
        credentials: "same-origin",
        headers: { Accept: "application/json", ...identity, ...options.headers },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await response.text();
      if (!this.#ended) return { response, text };
    } catch {
      // It is told in the same words.
    }
    throw new Offline();
  }
}

function parsed(text) {
  const body = jsonOf(text);
  if (body === null) throw new Offline(UNREADABLE);
  return body;
}

/** Return an object or a list; null for what is neither. */
function jsonOf(text) {
  try {
    const body = JSON.parse(text);
    return typeof body === "object" ? body : null;
  } catch {
    return null;
  }
}

function nextPage(link) {
  return /<([^>]+)>;\s*rel="next"/.exec(link ?? "")?.[1] ?? null;
}
