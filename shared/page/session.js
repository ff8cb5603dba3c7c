/**
 * Who the person is, and how they prove it to this Hub. Tokens stay in memory: they are in no
 * storage, no cookie and no address, and a reload forgets them.
 *
 * @module
 */

const WINDOW = "popup,width=480,height=640";
const POLL_MS = 500;
const SIGN_IN_MS = 5 * 60_000;
// A token is renewed so long before it expires.
const EARLY_MS = 60_000;

/** No answer, or none that can be understood: try again later. */
class NoSignIn extends Error {
  constructor() {
    super("The Hub does not answer.");
    this.name = "NoSignIn";
  }
}

/**
 * Ask the Hub how people sign in here, and begin a session of that kind.
 *
 * @returns {Promise<Session>} of one of the kinds below. It may have nobody yet (`signedIn`).
 * @throws {Error} the Hub does not answer, or not as a Hub.
 */
export async function openSession() {
  const described = await signInOf();
  const kinds = new Map(described.methods.map((method) => [method.kind, method]));
  if (kinds.has("iap")) return new ProxySession(described);
  if (kinds.has("local")) return LocalSession.open(described);
  if (kinds.has("oauth_web")) return new GoogleSession(described);
  return new Session("none", described);
}

async function signInOf() {
  try {
    const response = await fetch("/sign-in", {
      cache: "no-store",
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(30_000),
    });
    const described = await response.json();
    if (response.ok && Array.isArray(described.methods)) return described;
  } catch {
    // It is told in the same words.
  }
  throw new NoSignIn();
}

/**
 * A session in which nobody can sign in: the Hub has no way for browsers. The others refine it.
 */
class Session {
  /**
   * @param {"local"|"iap"|"google"|"none"} kind
   * @param {object} described what `GET /sign-in` answered.
   */
  constructor(kind, described) {
    /** @type {"local"|"iap"|"google"|"none"} */
    this.kind = kind;
    /** @type {Set<string>} what this Hub can do that others cannot. */
    this.features = new Set(described.features ?? []);
    /** @type {{name: string, version: string}} */
    this.hub = described.hub;
    /** @type {string} for `workspace login`: the Hub's address. */
    this.address = described.address ?? location.origin;
    /** @type {object[]|null} who one may be, in the local cloud; null elsewhere. */
    this.people = null;
    /** @type {string|null} the local cloud's person. */
    this.person = null;
    /** @type {Window|null} the last window in which somebody signs in. */
    this.window = null;
  }

  /** @returns {boolean} whether requests have a chance to be answered. */
  get signedIn() {
    return false;
  }

  /**
   * Return the headers that prove who the person is.
   *
   * @returns {Promise<Record<string, string>>}
   */
  async headers() {
    return {};
  }

  /**
   * Have the person sign in. Call it in the handler of a click: it may open a window. Call it again
   * only when it has ended.
   *
   * @returns {Promise<boolean>} whether they have. False: they closed the window, or their browser
   *   did not open it.
   */
  async signIn() {
    return false;
  }

  /**
   * Try to prove again who the person is, after a 401, without asking them.
   *
   * @returns {Promise<boolean>} whether the request may be repeated.
   */
  async renew() {
    return false;
  }
}

/**
 * The local cloud. Its gateway lets a page without a token in as the developer. With the page's
 * secret, which the printed address has in its fragment (`#local=<secret>`), the person may be
 * anybody; `&as=<address>` says whom to begin as.
 */
class LocalSession extends Session {
  #secret = "";
  #token = null;

  static async open(described) {
    const session = new LocalSession("local", described);
    await session.#learn();
    return session;
  }

  get signedIn() {
    return true;
  }

  async headers() {
    if (this.#token && this.#token.until < Date.now() + EARLY_MS) await this.renew();
    return this.#token ? { Authorization: `Bearer ${this.#token.value}` } : {};
  }

  async signIn() {
    return this.renew();
  }

  async renew() {
    return this.#token !== null && this.choose({ email: this.person });
  }

  /**
   * Be somebody else.
   *
   * @param {{email: string}} person one of `people`.
   * @returns {Promise<boolean>} whether the local cloud has given their token.
   */
  async choose({ email }) {
    const answer = await this.#ask("/localcloud/token", { email });
    if (!answer) return false;
    this.person = email;
    this.#token = tokenOf(answer.token);
    return true;
  }

  async #learn() {
    const given = new URLSearchParams(location.hash.slice(1));
    if (!given.has("local")) return;
    this.#secret = given.get("local");
    // It stays in no history and no screenshot.
    history.replaceState(null, "", location.pathname + location.search);
    const answer = await this.#ask("/localcloud/people");
    if (!answer) return;
    this.people = answer.people;
    this.person = answer.people[0].email;
    const email = given.get("as");
    if (!email || !(await this.choose({ email }))) return;
    if (!this.people.some((each) => each.email === email)) this.people.push({ email });
  }

  async #ask(path, body) {
    if (!this.#secret) return null;
    try {
      const response = await fetch(path, {
        method: body ? "POST" : "GET",
        cache: "no-store",
        headers: {
          Authorization: `Bearer ${this.#secret}`,
          ...(body ? { "Content-Type": "application/json" } : {}),
        },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(10_000),
      });
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }
}

/**
 * Identity-Aware Proxy: a cookie proves who the person is. It answers a request without a session
 * with 401 instead of its sign-in page if the request says that a script sends it. A new session
 * begins in a window. Source: Identity-Aware Proxy's "Managing IAP sessions".
 */
class ProxySession extends Session {
  static #headers = { "X-Requested-With": "XMLHttpRequest" };
  #ended = false;

  constructor(described) {
    super("iap", described);
  }

  get signedIn() {
    return !this.#ended;
  }

  async headers() {
    return ProxySession.#headers;
  }

  async renew() {
    // A window that no click has asked for is blocked, so a person has to do it.
    this.#ended = true;
    return false;
  }

  async signIn() {
    const opened = open("/?gcp-iap-mode=DO_SESSION_REFRESH", "_blank", WINDOW);
    this.window = opened;
    if (!opened) return false;
    const until = Date.now() + SIGN_IN_MS;
    for (let closed = false; !closed && Date.now() < until; ) {
      await pause(POLL_MS);
      // Then it is asked once more, since the session may just have begun. A window that an opener
      // policy has cut off from this one says that it is closed, too; but the person is there.
      closed = opened.closed && document.hasFocus();
      if (await this.#hasSession()) {
        opened.close();
        this.#ended = false;
        return true;
      }
    }
    return false;
  }

  async #hasSession() {
    try {
      // The page itself is behind the proxy, too, and costs the Hub nothing.
      const response = await fetch("/", {
        cache: "no-store",
        credentials: "same-origin",
        headers: ProxySession.#headers,
        redirect: "manual",
      });
      return response.ok;
    } catch {
      return false;
    }
  }
}

/**
 * Sign in with Google, in a window whose document may load Google's library and hands the token to
 * this page, at the same origin only.
 */
class GoogleSession extends Session {
  #token = null;

  constructor(described) {
    super("google", described);
  }

  get signedIn() {
    return this.#token !== null;
  }

  async headers() {
    return this.#token ? { Authorization: `Bearer ${this.#token.value}` } : {};
  }

  async renew() {
    // Google gives a page no means to renew it without the person.
    this.#token = null;
    return false;
  }

  async signIn() {
    const opened = open("/assets/google-sign-in", "_blank", WINDOW);
    this.window = opened;
    if (!opened) return false;
    const ended = new AbortController();
    try {
      return await new Promise((resolve) => {
        const onMessage = (event) => {
          if (event.origin !== location.origin || event.source !== opened) return;
          if (event.data?.kind !== "google-sign-in" || !event.data.credential) return;
          this.#token = tokenOf(event.data.credential);
          resolve(true);
        };
        addEventListener("message", onMessage, { signal: ended.signal });
        const until = Date.now() + SIGN_IN_MS;
        const timer = setInterval(() => {
          if (opened.closed || Date.now() > until) setTimeout(resolve, POLL_MS, false);
        }, POLL_MS);
        ended.signal.addEventListener("abort", () => clearInterval(timer));
      });
    } finally {
      ended.abort();
    }
  }
}

/** Return a token with the time at which it expires, in milliseconds. */
function tokenOf(value) {
  const payload = value.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  return { value, until: JSON.parse(atob(payload)).exp * 1000 };
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
