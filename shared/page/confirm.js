/**
 * Asks before a workspace is changed: what happens, what exactly is lost, what it costs.
 *
 * The dialog is told by a dry run, if the Hub has it; it asks again when the workspace or what has
 * been chosen changes. Where work is lost, the person types the name.
 *
 * @module
 */
import { html, nothing } from "lit";
import { DRY_RUN, factsView, hasNoDryRuns, losesWork, lossesView } from "page/forecast.js";
import { machineField, offeredTags, textField } from "page/fields.js";
import { Modal } from "page/modal.js";
import { expected, fieldProblem, pressed, problemView, secondsLeft, send } from "page/problem.js";
import { imageProblem, nameProblem } from "page/rules.js";
import { clock, moment, time } from "page/times.js";

// After the last change of a field.
const PAUSE_MS = 300;

const VERBS = {
  start: { title: "Start", button: "Start", path: "start" },
  stop: { title: "Stop", button: "Stop", path: "stop" },
  delete: { title: "Delete", button: "Delete", path: "", bad: true },
  purge: {
    title: "Delete",
    rest: " for good",
    button: "Delete for good",
    path: "",
    query: "purge=true",
    bad: true,
  },
  undelete: { title: "Undelete", button: "Undelete", path: "undelete", plain: true },
  archive: { title: "Archive", button: "Archive", path: "archive" },
  move: {
    title: "Move",
    rest: " to another zone",
    button: "Move",
    path: "start",
    fields: { may_move: true },
  },
  grow: {
    title: "Make the home of",
    rest: " larger",
    button: "Make larger",
    path: "start",
    form: true,
  },
  rebuild: { title: "Rebuild", button: "Rebuild", path: "start", fields: { rebuild: true } },
  empty_home: {
    title: "Start",
    rest: " with an empty home",
    button: "Start with an empty home",
    path: "start",
    fields: { empty_home: true },
  },
  change: { title: "Change the machine of", button: "Change and start", path: "start", form: true },
  restore: { title: "Restore the home of", button: "Restore", path: "restore" },
  rename: {
    title: "Start",
    rest: " under another name",
    button: "Start",
    path: "start",
  },
};
const SAID = {
  start: "Nothing is lost.",
  stop: "It is put to sleep. A start goes on where you left off.",
  delete: "Nothing brings it back.",
  purge: "Nothing brings it back.",
  undelete:
    "It comes back archived, with its home and its snapshots. A start makes disk and machine again.",
  archive:
    "Its home is kept as a snapshot; machine and disk are deleted. A start makes both again, in the first zone with capacity. That takes longer, as for a new workspace.",
  move: "If its zone has capacity again, it starts there. If not, its home goes along as a snapshot, and a new machine is made in another zone.",
  grow: "A new machine is made on the larger disk, which cannot be made smaller again.",
  rebuild: "A new machine is made on the same home, with the current system.",
  empty_home:
    "It gets a new, empty home if its home disk is gone. An existing home is never emptied.",
  change: "A new machine is made on the same home.",
  rename: "Its own name is another’s by now.",
};
const UNARCHIVES =
  "Disk and machine are made again, in the first zone with capacity. That takes longer. What was in memory is gone.";
const TO_CHOOSE = { change: "another machine type or image", grow: "a larger size" };
// Of a Hub without dry runs.
const MACHINE = [{ what: "memory" }, { what: "boot_disk" }];
const LOSES = {
  delete: [{ what: "memory" }, { what: "home" }],
  rebuild: MACHINE,
  change: MACHINE,
  grow: MACHINE,
  archive: MACHINE,
};
// A dry run does not know which zone has capacity.
const MOVED = {
  loses: MACHINE.map((each) => ({ ...each, why: "Unless it starts where it is." })),
  steps: ["survey", "snapshot", "await_stored", "insert", "await_ready"],
};
const FIELDS = ["name", "home_disk_gb"];

/**
 * Ask whether a workspace is to be changed, and change it. The focus returns to where it was.
 *
 * @param {import("page/app.js").app} app
 * @param {keyof typeof VERBS} verb
 * @param {object} workspace as the API has it.
 * @param {{fields: object, said: (answer: object|null) => unknown}} [more] what is asked for in
 *   particular, and what is said of it, by the dry run's answer.
 * @returns {Promise<boolean>} whether it was asked for; false if the person did not want it.
 */
export function openConfirm(app, verb, workspace, more = null) {
  return new Promise((resolve) => new Dialog(app, verb, workspace, more, resolve).open());
}

class Dialog extends Modal {
  #verb;
  #id;
  #more;
  #resolve;
  #timer = null;
  #asked = 0;
  #seen = "";
  #was;
  // Whether the person is asked to type the name.
  #asksName = false;
  #state = {
    // The dry run's.
    answer: null,
    // Instead of it.
    refusal: null,
    // Whether the answer is to an earlier question.
    stale: false,
    // Of the request itself.
    problem: null,
    sending: false,
    // Before the dry run's answer was there.
    waiting: false,
    typed: "",
    mistyped: false,
    chosen: {},
  };

  constructor(app, verb, workspace, more, resolve) {
    super(app);
    this.#verb = verb;
    this.#more = more;
    this.#id = workspace.id;
    this.#was = workspace;
    this.#resolve = resolve;
    if (verb === "change") {
      const { machine_type, image_tag } = workspace;
      this.#state.chosen = { machine_type, image_tag };
    }
    if (verb === "grow") this.#state.chosen = { home_disk_gb: workspace.home_disk_gb };
    if (verb === "rename") this.#state.chosen = { name: "" };
  }

  get #workspace() {
    this.#was = this.app.workspace(this.#id) ?? this.#was;
    return this.#was;
  }

  draw() {
    const { status, operation, machine_type: machineType } = this.#workspace;
    const seen = JSON.stringify([
      status,
      operation?.id,
      machineType,
      this.#state.chosen,
      this.isSignedOut,
    ]);
    if (this.isOpen && seen !== this.#seen) {
      const pause = this.#seen ? PAUSE_MS : 0;
      this.#seen = seen;
      this.#ask(pause);
    }
    super.draw();
    const type = this.element.querySelector("#confirm-name");
    // It has come with the answer: whoever has not moved on yet types at once.
    if (this.isOpen && type && !this.#asksName && !document.activeElement?.matches("input")) {
      type.focus();
    }
    this.#asksName = type !== null;
  }

  #set(change) {
    Object.assign(this.#state, change);
    this.draw();
  }

  /** Have the Hub say what would happen. An answer that comes after a newer question is nothing. */
  #ask(pause) {
    clearTimeout(this.#timer);
    const asked = ++this.#asked;
    Object.assign(this.#state, { refusal: null, stale: true });
    if (this.isSignedOut) return;
    if (this.#wrong || this.#isUnchanged) {
      this.#state.answer = null;
      return;
    }
    if (VERBS[this.#verb].plain || !this.app.session.features.has("dry_run")) {
      Object.assign(this.#state, { answer: this.#unaided, stale: false });
      return;
    }
    this.#timer = setTimeout(async () => {
      let found;
      try {
        found = { answer: await this.#foresee(), refusal: null };
      } catch (error) {
        found = hasNoDryRuns(error)
          ? { answer: this.#unaided, refusal: null }
          : { answer: null, refusal: expected(this.app, error) };
      }
      if (asked === this.#asked) this.#told(found);
    }, pause);
  }

  #told(found) {
    const { waiting } = this.#state;
    this.#set({ ...found, stale: false, waiting: false });
    if (found.refusal?.code === "NAME_TAKEN") this.#rename();
    // Whoever is asked for the name only now has to read first what is lost.
    if (waiting && this.#isReady && (!this.#isTyped || this.#isTypedRight)) this.#submit();
  }

  /** What is said of a Hub without dry runs. */
  get #unaided() {
    return { loses: LOSES[this.#verb] ?? [], steps: [] };
  }

  /** Ask for a dry run, never by a DELETE: that has no body that an older Hub would refuse. */
  async #foresee() {
    const { path, query } = VERBS[this.#verb];
    const asked = `${path || "delete"}${DRY_RUN.query}${query ? `&${query}` : ""}`;
    const answer = await this.app.api.post(`/workspaces/${this.#id}/${asked}`, {
      ...this.#fields,
      ...DRY_RUN.fields,
    });
    if (this.#verb !== "move") return answer;
    const { memory_kept: kept } = this.#workspace;
    return { ...answer, ...MOVED, loses: MOVED.loses.slice(kept === false ? 1 : 0) };
  }

  #request() {
    const { path, query } = VERBS[this.#verb];
    const at = `/workspaces/${this.#id}`;
    if (!path) return this.app.api.delete(query ? `${at}?${query}` : at);
    const fields = this.#fields;
    return this.app.api.post(`${at}/${path}`, Object.keys(fields).length ? fields : undefined);
  }

  /** What the request changes. */
  get #fields() {
    const { chosen } = this.#state;
    const changed = Object.entries(chosen).filter(([key, value]) => value !== this.#workspace[key]);
    const fields = this.#more?.fields ?? VERBS[this.#verb].fields;
    return { ...fields, ...Object.fromEntries(changed) };
  }

  /** What is wrong with a chosen field; empty if nothing is. */
  get #wrong() {
    const { name, image_tag: tag } = this.#state.chosen;
    if (name !== undefined && nameProblem(name)) return nameProblem(name);
    return tag === undefined ? "" : imageProblem(tag, this.#choices?.image_tags);
  }

  /** Whether the person has yet to choose what is to change. */
  get #isUnchanged() {
    return VERBS[this.#verb].form && !Object.keys(this.#fields).length;
  }

  get #choices() {
    return this.app.state.me?.choices;
  }

  get #isTyped() {
    const { answer } = this.#state;
    return !VERBS[this.#verb].path || (answer !== null && losesWork(answer));
  }

  get #isTypedRight() {
    return this.#state.typed.trim() === this.#called;
  }

  /** Whose it is, if it is somebody else's: names are unique among one person's only. */
  get #owner() {
    const { owner_id: id, owner_email: email } = this.#workspace;
    const { me } = this.app.state;
    return me && me.owner_id !== id ? (email ?? id) : "";
  }

  /** What the person types where work is lost. */
  get #called() {
    const { name } = this.#workspace;
    return this.#owner ? `${this.#owner}/${name}` : name;
  }

  /** Whether the person may press the button. */
  get #isReady() {
    const { answer, refusal, sending, stale, problem } = this.#state;
    if (sending || stale || this.#wrong || secondsLeft(problem) > 0) return false;
    return answer !== null && answer.decision !== "nothing" && refusal === null;
  }

  #press(event) {
    event.preventDefault();
    const { answer, refusal, stale } = this.#state;
    if (this.isSignedOut) return;
    if (this.#isReady) this.#submit();
    else if (this.#lacksName) {
      this.#set({ mistyped: true });
      this.element.querySelector("#confirm-new-name")?.focus();
    } else if (refusal) {
      this.#ask(0);
      this.draw();
    } else if ((stale || !answer) && !this.#wrong && !this.#isUnchanged)
      this.#set({ waiting: true });
  }

  /** A press asks, asks again, or says what is still to be filled in. */
  get #isPressable() {
    return this.#isReady || this.#state.refusal !== null || this.#lacksName;
  }

  /** Whether the person gives it a name. */
  get #names() {
    return this.#state.chosen.name !== undefined;
  }

  get #lacksName() {
    return this.#names && this.#wrong !== "";
  }

  async #submit() {
    if (this.#isTyped && !this.#isTypedRight) {
      this.#set({ mistyped: true });
      this.element.querySelector("#confirm-name")?.focus();
      return;
    }
    this.#set({ sending: true, problem: null });
    const { api } = this.app;
    const { problem } = await send(this.app, this.#id, () => this.#request());
    if (problem && !this.isOpen && api === this.app.api)
      this.app.update((state) => state.refused.set(this.#id, problem));
    this.#set({ sending: false, problem });
    if (problem?.code === "NAME_TAKEN") this.#rename();
    if (!problem) this.end(true);
  }

  /** Its name is another's by now: go on with a name of the person's choice, except a restore. */
  #rename() {
    if (this.#names || this.#more) return;
    if (this.#verb !== "undelete") this.#verb = "rename";
    this.#set({ chosen: { name: "" }, problem: null });
    this.element.querySelector("#confirm-new-name")?.focus();
  }

  end(done = false) {
    clearTimeout(this.#timer);
    this.#asked += 1;
    super.end();
    this.#resolve(done);
  }

  rest() {
    const row = `[data-id="${this.#id}"] a`;
    return document.querySelector("#panel-title") ?? document.querySelector(row);
  }

  view() {
    const { title, rest = "", button, bad } = VERBS[this.#verb];
    const { answer, refusal, problem } = this.#state;
    const nothingToDo = answer?.decision === "nothing";
    return html`<form method="dialog" @submit=${(event) => this.#press(event)} novalidate>
      <h2 id="confirm-title">${title} <bdi>${this.#workspace.name}</bdi>${
        this.#owner ? html` of <bdi>${this.#owner}</bdi>` : nothing
      }${rest}?</h2>
      <p>${nothingToDo ? "There is nothing to do: it is so, or is under way." : this.#said()}</p>
      ${this.#form()}
      <div class="forecast" aria-live="polite">${this.#forecast()}</div>
      ${this.#isTyped && !nothingToDo ? this.#typing() : nothing}
      ${this.isSignedOut ? nothing : problemView(problem, FIELDS)}
      <div class="acts">
        <button type="button" @click=${() => this.element.close()}>
          ${nothingToDo ? "Close" : "Cancel"}
        </button>
        <button
          class=${bad || (answer && losesWork(answer)) ? "go is-bad" : "go"}
          aria-disabled=${this.#isPressable ? "false" : "true"}
          ?data-first=${!this.#isTyped && !VERBS[this.#verb].form}
        >
          ${this.#label(button)}
        </button>
      </div>
    </form>`;
  }

  #label(button) {
    const { sending, waiting, refusal, problem } = this.#state;
    const label = refusal && !refusal.errors?.length ? "Ask again" : button;
    return pressed(label, problem, sending || waiting);
  }

  #said() {
    const { answer } = this.#state;
    if (this.#more) return this.#more.said(answer);
    if (this.#verb === "stop" && answer?.loses.some(({ what }) => what === "memory")) {
      return "Its machine is switched off. The home is kept.";
    }
    if (this.#verb === "start" && this.#workspace.archived_at) return UNARCHIVES;
    if (this.#verb === "start" && answer?.loses.length) return "It starts anew on its home.";
    if (this.#verb === "delete" && !answer) return html`&nbsp;`;
    const until = time(answer?.workspace?.undelete_until);
    if (until) return html`You can take it back until <b>${moment(until, clock)}</b>.`;
    return SAID[this.#verb];
  }

  #forecast() {
    const { answer, refusal } = this.#state;
    if (this.isSignedOut) return this.signInView();
    if (refusal) return problemView(refusal, FIELDS);
    if (this.#wrong) return nothing;
    if (this.#isUnchanged) return html`<p class="soft">Choose ${TO_CHOOSE[this.#verb]}.</p>`;
    if (!answer) return html`<p class="soft">Asking the Hub what happens …</p>`;
    if (VERBS[this.#verb].plain) return nothing;
    const events = this.app.state.events.get(this.#id) ?? [];
    return html`${lossesView(answer)} ${factsView(answer, events)}`;
  }

  #form() {
    const { chosen, refusal, problem, mistyped } = this.#state;
    const choices = this.#choices;
    const change = (field) => (value) =>
      this.#set({ chosen: { ...chosen, [field]: value }, problem: null });
    const saidOf = (field) => fieldProblem(problem ?? refusal, field);
    if (this.#names) {
      const said = saidOf("name");
      return textField({
        id: "confirm-new-name",
        label: "New name",
        value: chosen.name,
        change: change("name"),
        required: true,
        wrong: said || (chosen.name || mistyped ? nameProblem(chosen.name) : ""),
      });
    }
    if (this.#verb === "grow") {
      const most = this.app.state.me?.limits.home_disk_most_gb;
      return textField({
        id: "confirm-size",
        label: "Size in GB",
        value: chosen.home_disk_gb,
        change: (text) => change("home_disk_gb")(/^\d+$/.test(text) ? Number(text) : text),
        required: true,
        numeric: true,
        hint: `It can only grow${most ? `, to ${most} GB at most` : ""}.`,
        wrong: saidOf("home_disk_gb"),
      });
    }
    if (this.#verb !== "change") return nothing;
    const tags = offeredTags(choices?.image_tags, [this.#workspace.image_tag]);
    return html`
      ${
        choices
          ? machineField({
              id: "confirm-machine",
              value: chosen.machine_type,
              types: choices.machine_types,
              change: change("machine_type"),
            })
          : nothing
      }
      ${textField({
        id: "confirm-image",
        label: "Image",
        value: chosen.image_tag,
        change: change("image_tag"),
        required: true,
        options: tags,
        code: true,
        wrong: imageProblem(chosen.image_tag, choices?.image_tags),
      })}
    `;
  }

  #typing() {
    const { typed, mistyped } = this.#state;
    const wrong = mistyped && !this.#isTypedRight;
    return html`<div class="field">
      <label for="confirm-name"
        >Type its name, <bdi class="code">${this.#called}</bdi>, to confirm</label
      >
      <input
        id="confirm-name"
        type="text"
        autocomplete="off"
        autocapitalize="off"
        spellcheck="false"
        data-first
        .value=${typed}
        aria-invalid=${wrong ? "true" : nothing}
        aria-describedby=${wrong ? "confirm-name-problem" : nothing}
        @input=${(event) => this.#set({ typed: event.target.value, mistyped: false })}
      />
      ${wrong ? html`<p id="confirm-name-problem" class="wrong" role="alert">That is something else.</p>` : nothing}
    </div>`;
  }
}
