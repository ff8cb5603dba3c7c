/**
 * What the page knows, in one plain object, and how it changes.
 *
 * Views read `app.state` and return templates. Whoever changes it calls `app.update`, and the page
 * is rendered once before the next frame. The route is the address's fragment, and what the list
 * is narrowed to its query, so that they survive a reload and can be sent to somebody:
 * `#/workspaces/<id>?everybody&q=api&status=ready`.
 *
 * @module
 */
import { Api, Problem } from "page/api.js";

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const TOAST_MS = 6000;

/** The page's state. Every member is there from the beginning. */
const state = {
  /** @type {{view: "list"|"workspace"|"new"|"deleted", id: string|null}} */
  route: { view: "list", id: null },
  /** @type {object|null} `GET /me`; null until it is known, or of a Hub without it. */
  me: null,
  /** @type {object[]|null} the person's workspaces, newest first; null until they are known. */
  mine: null,
  /** @type {object[]|null} everybody's, for administrators; null until they are known. */
  everybody: null,
  /** @type {Map<string, object>} others' workspaces that are opened or acted on, by id. */
  others: new Map(),
  /** @type {Set<string>} ids of which the Hub says that there is no such workspace. */
  missing: new Set(),
  /** @type {"mine"|"everybody"} which of them the list shows, if the person may see them. */
  scope: "mine",
  /** @type {{text: string, status: string}} what the list is narrowed to; "" is everything. */
  filter: { text: "", status: "" },
  /** @type {number} how many times as many rows as at first the list shows. */
  pages: 1,
  /** @type {Map<string, Error>} what was refused last, by the workspace's id. */
  refused: new Map(),
  /** @type {Set<string>} ids of workspaces for which a request of this page is on its way. */
  asking: new Set(),
  /** @type {Map<string, object[]>} events that tell what is usual, by the workspace's id. */
  events: new Map(),
  /** @type {object|null} what the open panel knows beside the list, see `panel.js`. */
  panel: null,
  /** @type {object|null} the form of a new workspace, see `create.js`. */
  draft: null,
  /** @type {{list: object[]|null, problem: Error|null}|null} what can be taken back. */
  deleted: null,
  /** @type {{error: Error, retryAt: number, since: Date|null}|null} why the list is not fresh. */
  trouble: null,
  /** @type {boolean} the Hub no longer believes who the person is. */
  signedOut: false,
  /** @type {{id: number, text: string, undelete: boolean}[]} */
  toasts: [],
};

const subscribers = new Set();
let scheduled = false;
let toasts = 0;
let signingIn = false;

/** The page's one application object, which every view gets. */
export const app = {
  state,
  /** @type {Api|null} null until there is a session. */
  api: null,
  /** @type {object|null} what `openSession` returned. */
  session: null,
  /** @type {import("page/live.js").Live|null} */
  live: null,

  /**
   * Change the state, and render afterwards.
   *
   * @param {(state: object) => void} [change]
   */
  update(change) {
    change?.(state);
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(() => {
      scheduled = false;
      for (const subscriber of subscribers) subscriber();
    });
  },

  /**
   * Call something after every change.
   *
   * @param {() => void} subscriber
   * @returns {() => void} ends it.
   */
  subscribe(subscriber) {
    subscribers.add(subscriber);
    return () => subscribers.delete(subscriber);
  },

  /**
   * Go somewhere: `/`, `/new`, `/deleted`, `/workspaces/<id>`. The list stays as narrow as it is.
   *
   * @param {string} route
   */
  go(route) {
    location.hash = app.at(route);
  },

  /**
   * Return the fragment of a route, with what the list is narrowed to.
   *
   * @param {string} route
   * @returns {string}
   */
  at(route) {
    return `#${route}${queryOf(state)}`;
  },

  /**
   * Narrow the list, or widen it: the way back is the browser's.
   *
   * @param {{scope?: string, text?: string, status?: string}} to what changes.
   * @param {{typing?: boolean}} [how] typing: every letter is no place to go back to.
   */
  narrow({ scope = state.scope, ...filter }, { typing = false } = {}) {
    const query = queryOf({ scope, filter: { ...state.filter, ...filter } });
    const fragment = `#${pathOf(location.hash)}${query}`;
    if (fragment === location.hash) return;
    try {
      history[typing ? "replaceState" : "pushState"](null, "", fragment);
    } catch {
      // Safari takes a hundred in half a minute: the next one tells.
    }
    follow(fragment);
  },

  /**
   * Use a session: whoever it is asks from now on.
   *
   * @param {object} session of `openSession`.
   */
  open(session) {
    app.session = session;
    app.api = new Api(session);
    app.update();
  },

  /** Ask the Hub now, instead of later. The page's beginning says how. */
  tryNow() {},

  /** Sign in, or sign in again. It may open a window, so only a click calls it. */
  async signIn() {
    // A further press shows the window that is open.
    if (signingIn) return app.session.window?.focus();
    signingIn = true;
    await app.session.signIn().finally(() => (signingIn = false));
    if (app.session.signedIn) app.live.poke();
    else app.toast("The sign-in was not finished. Allow the page to open a window, and try again.");
  },

  /** Begin anew: the session's person is another one now. */
  restart() {
    // What is still to be answered to the one before is not shown.
    app.api?.end();
    app.api = new Api(app.session);
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    clearTimeout(state.draft?.forecast.timer);
    Object.assign(state, { me: null, mine: null, everybody: null, panel: null, draft: null });
    state.deleted = null;
    Object.assign(state, { scope: "mine", filter: { text: "", status: "" }, pages: 1 });
    Object.assign(state, { signedOut: false, toasts: [] });
    const { refused, asking, events, others, missing } = state;
    for (const known of [refused, asking, events, others, missing]) known.clear();
    app.go("/");
    app.update();
    app.live.poke();
  },

  /**
   * Say something for some seconds.
   *
   * @param {string} text
   * @param {{undelete?: boolean}} [how] undelete: with the way to what can be taken back.
   */
  toast(text, { undelete = false } = {}) {
    const id = ++toasts;
    app.update((now) => now.toasts.push({ id, text, undelete }));
    setTimeout(() => app.untoast(id), TOAST_MS);
  },

  /** @param {number} id of a toast that has been read. */
  untoast(id) {
    app.update((now) => (now.toasts = now.toasts.filter((each) => each.id !== id)));
  },

  /**
   * Return a workspace that the page knows.
   *
   * @param {string|null} id
   * @returns {object|null} null if it is not known (yet); `state.missing` has those that are not
   *   there.
   */
  workspace(id) {
    const same = (each) => each.id === id;
    return state.mine?.find(same) ?? state.others.get(id) ?? state.everybody?.find(same) ?? null;
  },

  /**
   * Put a newer representation of a workspace where the page keeps it.
   *
   * @param {object} workspace as the API answered it.
   */
  put(workspace) {
    app.update((now) => {
      const owns = !now.me || workspace.owner_id === now.me.owner_id;
      now.mine = replaced(now.mine, workspace, owns);
      if (!owns) now.others.set(workspace.id, workspace);
      now.everybody = replaced(now.everybody, workspace, now.everybody !== null);
    });
  },

  /**
   * Forget a workspace of which the Hub says that there is none.
   *
   * @param {string} id
   */
  drop(id) {
    const other = (each) => each.id !== id;
    app.update((now) => {
      now.others.delete(id);
      now.missing.add(id);
      now.everybody = now.everybody?.filter(other) ?? null;
    });
  },

  /**
   * Note what an error says of the session. Whoever catches an error of the API calls it.
   *
   * @param {Error} error
   */
  failed(error) {
    if (error instanceof Problem && error.status === 401) {
      app.update((now) => (now.signedOut = true));
    }
  },
};

/**
 * Say whether the list shows everybody's workspaces: an address may ask for it, whoever opens it.
 *
 * @param {object} state
 * @returns {boolean}
 */
export function showsEverybody({ scope, me }) {
  return scope === "everybody" && Boolean(me?.is_admin);
}

/** Follow the address's fragment, from now on. */
export function followRoute() {
  addEventListener("hashchange", () => follow(location.hash));
  follow(location.hash);
}

function follow(fragment) {
  const { scope } = state;
  app.update((now) => {
    const { narrowed, ...route } = routeOf(fragment);
    if (route.view !== now.route.view || route.id !== now.route.id) {
      now.route = route;
      // Asked anew.
      now.missing.delete(route.id);
    }
    Object.assign(now, narrowed);
    if (now.scope !== scope) now.pages = 1;
  });
  if (state.scope === "everybody" && scope === "mine") app.live?.pokeEverybody();
}

/**
 * Return the route that a fragment is, and what the list is narrowed to. What is no route is the
 * list.
 *
 * @param {string} fragment with its `#`.
 * @returns {{view: "list"|"workspace"|"new"|"deleted", id: string|null, narrowed: object}}
 */
function routeOf(fragment) {
  const query = new URLSearchParams(fragment.split("?")[1]);
  const narrowed = {
    scope: query.has("everybody") ? "everybody" : "mine",
    filter: { text: query.get("q") ?? "", status: query.get("status") ?? "" },
  };
  const [, first, id] = pathOf(fragment).split("/");
  if (first === "new" || first === "deleted") return { view: first, id: null, narrowed };
  if (first === "workspaces" && ID.test(id)) return { view: "workspace", id, narrowed };
  return { view: "list", id: null, narrowed };
}

/** Return a fragment's path; that of the list if it has none. */
function pathOf(fragment) {
  return fragment.slice(1).split("?")[0] || "/";
}

function queryOf({ scope, filter: { text, status } }) {
  const parts = [
    scope === "everybody" && "everybody",
    text && `q=${encodeURIComponent(text)}`,
    status && `status=${encodeURIComponent(status)}`,
  ].filter(Boolean);
  return parts.length ? `?${parts.join("&")}` : "";
}

function replaced(list, workspace, add) {
  if (list === null) return null;
  if (list.some((each) => each.id === workspace.id)) {
    return list.map((each) => (each.id === workspace.id ? workspace : each));
  }
  return add ? [workspace, ...list] : list;
}
