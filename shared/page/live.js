/**
 * Keeps what the page shows fresh, as seldom as is enough.
 *
 * @module
 */
import { Offline, Problem } from "page/api.js";
import { showsEverybody } from "page/app.js";

// While an operation is under way.
const BUSY_MS = 2000;
const QUIET_MS = 20_000;
// An administrator's look at everybody is noted.
const EVERYBODY_MS = 60_000;
const LONGEST_PAUSE_MS = 60_000;
// Other workspaces whose events tell what is usual.
const USUAL_FROM = 3;

/** Somebody else asks by now: what has been answered to the one before is not to be shown. */
class Superseded extends Error {}

/** Polls the Hub: not while the page is hidden, and at once when it is seen again. */
export class Live {
  #app;
  #timer = null;
  #asking = false;
  #askWho = true;
  #again = false;
  #failures = 0;
  #everybodyAt = 0;
  #seenAt = null;
  #rounds = new Set();

  /** @param {import("page/app.js").app} app */
  constructor(app) {
    this.#app = app;
  }

  /** Begin, and go on for ever. */
  start() {
    document.addEventListener("visibilitychange", () => {
      // Behind a proxy somebody else may have signed in meanwhile, in another tab.
      this.#askWho = true;
      this.poke();
    });
    addEventListener("online", () => this.poke());
    this.poke();
  }

  /** Ask now: somebody has done something, or wants to know. */
  poke() {
    if (this.#asking) this.#again = true;
    else this.#round();
  }

  /** Ask for everybody's workspaces now, too. */
  pokeEverybody() {
    this.#everybodyAt = 0;
    this.poke();
  }

  /**
   * Call something after every round that has succeeded, such as to read an open panel's events.
   *
   * @param {() => Promise<void>|void} also
   * @returns {() => void} ends it.
   */
  onRound(also) {
    this.#rounds.add(also);
    return () => this.#rounds.delete(also);
  }

  async #round() {
    clearTimeout(this.#timer);
    const { session, update } = this.#app;
    if (document.hidden || session.kind === "none") return;
    if (!session.signedIn) return update((state) => (state.signedOut = true));
    this.#asking = true;
    this.#again = false;
    const pause = await this.#ask().catch((error) => {
      // A fault of the page: it goes on.
      reportError(error);
      return QUIET_MS;
    });
    this.#asking = false;
    if (this.#again) this.#round();
    else if (pause !== null) this.#timer = setTimeout(() => this.#round(), pause);
  }

  /** Ask for everything once. Returns the pause until the next time; null: not by itself. */
  async #ask() {
    const { api } = this.#app;
    try {
      await this.#read(api);
    } catch (error) {
      if (api !== this.#app.api) return 0;
      if (error instanceof Problem || error instanceof Offline) return this.#failed(error);
      throw error;
    }
    this.#failures = 0;
    this.#seenAt = new Date();
    this.#app.update((state) => {
      state.trouble = null;
      state.signedOut = false;
    });
    for (const also of this.#rounds) await also();
    this.#readUsual();
    return this.#isBusy() ? BUSY_MS : QUIET_MS;
  }

  async #read(api) {
    const { session, state } = this.#app;
    const list = await api.all("/workspaces");
    const askWho = this.#askWho || list.changed || state.me === null || state.signedOut;
    if (session.features.has("me") && askWho) {
      const { body } = await api.get("/me");
      // The one who signs in again need not be the one who was there before.
      if (state.me && state.me.owner_id !== body.owner_id) this.#app.restart();
      this.#show(api, () => (state.me = body));
      this.#askWho = false;
    }
    this.#show(api, () => (state.mine = list.body));
    await this.#readOthers(api);
    if (showsEverybody(state) && Date.now() - this.#everybodyAt >= EVERYBODY_MS) {
      const everybody = await api.all("/workspaces?all=true");
      this.#everybodyAt = Date.now();
      this.#show(api, () => (state.everybody = everybody.body));
    }
  }

  /** Change what is shown, unless somebody else asks by now. */
  #show(api, change) {
    if (api !== this.#app.api) throw new Superseded();
    this.#app.update(change);
  }

  /** Read those of others' workspaces that are opened, or change since this page asked for it. */
  async #readOthers(api) {
    const { state } = this.#app;
    const followed = [...state.others.values()].filter((each) => each.operation);
    const ids = new Set(followed.map((each) => each.id));
    const opened = state.route.id;
    const known = state.missing.has(opened) || state.mine.some((each) => each.id === opened);
    if (opened && !known) ids.add(opened);
    for (const id of ids) {
      try {
        const { body } = await api.get(`/workspaces/${id}`);
        this.#show(api, () => this.#app.put(body));
      } catch (error) {
        if (error.status !== 404) throw error;
        this.#app.drop(id);
      }
    }
  }

  #failed(error) {
    this.#failures += 1;
    this.#app.failed(error);
    if (error.status === 401) return null;
    const backoff = Math.min(LONGEST_PAUSE_MS, BUSY_MS * 2 ** (this.#failures - 1));
    const pause = error.retryAfter ? error.retryAfter * 1000 : backoff;
    const trouble = { error, retryAt: Date.now() + pause, since: this.#seenAt };
    this.#app.update((state) => (state.trouble = trouble));
    return pause;
  }

  #isBusy() {
    const { mine, others } = this.#app.state;
    return [...mine, ...others.values()].some((each) => each.operation);
  }

  /** Read, once, the events that tell how long operations usually take. */
  async #readUsual() {
    const { api, state, update } = this.#app;
    const busy = state.mine.filter((each) => each.operation);
    const others = state.mine.filter((each) => !each.operation).slice(0, USUAL_FROM);
    for (const { id } of busy.length ? [...busy, ...others] : []) {
      if (state.events.has(id)) continue;
      state.events.set(id, []);
      try {
        const { body } = await api.get(`/workspaces/${id}/events`);
        update(() => state.events.set(id, body));
      } catch (error) {
        if (!(error instanceof Problem || error instanceof Offline)) throw error;
      }
    }
  }
}
