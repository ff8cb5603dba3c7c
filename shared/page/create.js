/**
 * A new workspace. What is typed is checked at once, and a dry run says what would be made.
 *
 * The draft is in the page's state, so it survives a new sign-in and a look at something else.
 *
 * @module
 */
import { html, nothing } from "lit";
import { commandName } from "page/connect.js";
import { DRY_RUN, factsView, hasNoDryRuns } from "page/forecast.js";
import { machineField, offeredTags, selectField, textField } from "page/fields.js";
import { closeLink } from "page/icons.js";
import { expected, fieldProblem, pressed, problemView, secondsLeft, send } from "page/problem.js";
import { branchProblem, imageProblem, nameProblem, repositoryProblem } from "page/rules.js";
import { clock, moment, time } from "page/times.js";
import { snapshotCalled } from "page/words.js";

// After the last key, before the Hub is asked.
const PAUSE_MS = 400;
const FIELDS = ["name", "machine_type", "zone", "image_tag", "metadata.repo", "metadata.branch"];
const USED_UP = ["IDEMPOTENCY_KEY_REUSED", "WORKSPACE_GONE"];

/**
 * Show the form.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function createView(app) {
  const draft = draftOf(app);
  const { choices } = app.state.me ?? {};
  const left = secondsLeft(draft.problem);
  return html`<form
    class="create"
    aria-labelledby="panel-title"
    novalidate
    @submit=${(event) => submit(app, event)}
  >
    <div class="panel-head">
      <h2 id="panel-title" tabindex="-1">New workspace</h2>
      ${closeLink(app)}
    </div>
    ${sourceView(app, draft)} ${fieldsView(app, draft, choices)}
    <div class="forecast" aria-live="polite">${forecastView(app, draft)}</div>
    ${refusalView(draft.problem)}
    <div class="acts">
      <button class="go" aria-disabled=${draft.sending || left > 0 ? "true" : "false"}>
        ${pressed("Create", draft.problem, draft.sending)}
      </button>
      <button type="button" @click=${() => discard(app)}>Discard</button>
      <p class="hint">or <code>${commandOf(draft, choices)}</code></p>
    </div>
  </form>`;
}

/** The snapshot that the home begins as. */
function sourceView(app, { from }) {
  if (!from) return nothing;
  const { snapshot, workspace } = from;
  const without = () => {
    change(app, (draft) => (draft.from = null));
    document.getElementById("new-name")?.focus();
  };
  return html`<div class="note is-source" role="group" aria-label="Where its home comes from">
    <p>
      Its home begins as the snapshot <b><bdi>${snapshotCalled(snapshot)}</bdi></b> of
      <b><bdi>${workspace.name}</bdi></b>, as of ${moment(time(snapshot.captured_at), clock)}.
    </p>
    <p class="soft">It boots: memory and <code>/run/secrets</code> are not in a snapshot.</p>
    <button type="button" class="small" @click=${without}>Begin with an empty home</button>
  </div>`;
}

function fieldsView(app, draft, choices) {
  const { values } = draft;
  const usual = usualOf(draft, choices);
  const there = draft.from?.snapshot.metadata;
  const wrong = problemsOf(draft, choices);
  const edits = (field) => (value) => edit(app, field, value);
  return html`
    ${textField({
      id: "new-name",
      label: "Name",
      value: values.name,
      change: edits("name"),
      required: true,
      first: true,
      hint: "Letters, digits, “-”, “_” and “.”. You connect by it.",
      wrong: wrong.name,
    })}
    ${textField({
      id: "new-repo",
      label: "Repository",
      value: values.repo,
      change: edits("repo"),
      hint: there?.repo
        ? html`If it is empty, the snapshot’s: <bdi>${there.repo}</bdi>`
        : "Its address, without credentials: everybody who sees the workspace sees it.",
      wrong: wrong["metadata.repo"],
    })}
    ${textField({
      id: "new-branch",
      label: "Branch",
      value: values.branch,
      change: edits("branch"),
      hint: there?.branch && html`If it is empty, the snapshot’s: <bdi>${there.branch}</bdi>`,
      wrong: wrong["metadata.branch"],
    })}
    ${
      choices
        ? html`${machineField({
              id: "new-machine",
              value: values.machine_type ?? usual.machine_type,
              types: choices.machine_types,
              change: edits("machine_type"),
              wrong: wrong.machine_type,
            })}
            <details class="more" ?open=${Boolean(wrong.zone || wrong.image_tag)}>
              <summary>Zone and image</summary>
              ${selectField({
                id: "new-zone",
                label: "Zone",
                value: values.zone ?? choices.zones[0],
                options: choices.zones,
                change: edits("zone"),
                hint: "If it has no capacity, the others are tried.",
                wrong: wrong.zone,
              })}
              ${textField({
                id: "new-image",
                label: "Image",
                value: values.image_tag ?? usual.image_tag,
                change: edits("image_tag"),
                required: true,
                options: offeredTags(choices.image_tags, [usual.image_tag]),
                hint: "The container image’s tag, or its digest.",
                code: true,
                wrong: wrong.image_tag,
              })}
            </details>`
        : nothing
    }
  `;
}

function forecastView(app, draft) {
  const { answer, refusal } = draft.forecast;
  // Says the same, and more.
  if (draft.problem) return nothing;
  if (refusal) return refusalView(refusal);
  if (!answer) return nothing;
  if (answer.decision === "nothing")
    return html`<p class="soft">You have asked for this already.</p>`;
  return html`<h3>What you get</h3>
    ${factsView(answer, [...app.state.events.values()].flat())}`;
}

/** Return the draft; one with the defaults if there is none. */
function draftOf(app) {
  app.state.draft ??= {
    values: { name: "", repo: "", branch: "", machine_type: null, zone: null, image_tag: null },
    // The snapshot that the home begins as, and its workspace: `{snapshot, workspace}`.
    from: null,
    edited: new Set(),
    // Makes every press of this form the same request.
    key: crypto.randomUUID(),
    sending: false,
    problem: null,
    forecast: { asked: 0, timer: null, answer: null, refusal: null },
  };
  return app.state.draft;
}

/**
 * Go to the form, for a workspace whose home begins as a snapshot. What has been typed stays.
 *
 * @param {import("page/app.js").app} app
 * @param {object} snapshot as the API has it.
 * @param {object} workspace of which it is.
 */
export function beginFrom(app, snapshot, workspace) {
  change(app, (draft) => (draft.from = { snapshot, workspace }));
  app.go("/new");
}

function edit(app, field, value) {
  change(app, (draft) => {
    draft.values[field] = value;
    draft.edited.add(field);
  });
}

function change(app, how) {
  app.update(() => {
    const draft = draftOf(app);
    how(draft);
    if (draft.problem?.status !== 429) draft.problem = null;
    foresee(app, draft);
  });
}

/** Have the Hub say what would be made, a moment after the last key. */
function foresee(app, draft) {
  const { forecast } = draft;
  const asked = stopForeseeing(draft);
  if (isWrong(app, draft) || !draft.values.name || !app.session.features.has("dry_run")) {
    Object.assign(forecast, { answer: null, refusal: null });
    return;
  }
  forecast.refusal = null;
  forecast.timer = setTimeout(async () => {
    const found = { answer: null, refusal: null };
    try {
      // With the key, an earlier press whose answer was lost is known to be the same request.
      const body = { ...bodyOf(draft), ...DRY_RUN.fields };
      found.answer = await app.api.post(`/workspaces${DRY_RUN.query}`, body, {
        idempotencyKey: draft.key,
      });
    } catch (error) {
      if (!hasNoDryRuns(error)) found.refusal = expected(app, error);
    }
    if (asked === forecast.asked) app.update(() => Object.assign(forecast, found));
  }, PAUSE_MS);
}

/**
 * Ask no more, and let an answer that still comes be nothing: the request itself is about to be
 * sent, or something else is asked.
 */
function stopForeseeing({ forecast }) {
  clearTimeout(forecast.timer);
  return (forecast.asked += 1);
}

/** Return what is wrong with each field: by the rules, or by what the Hub has said. */
function problemsOf(draft, choices) {
  const found = rulesOf(draft, choices);
  for (const field of FIELDS)
    found[field] ||= saidOf(draft.problem, field) || saidOf(draft.forecast.refusal, field);
  return found;
}

/** Say whether a field is wrong by the rules. What the Hub has said may have changed since. */
function isWrong(app, draft) {
  return Object.values(rulesOf(draft, app.state.me?.choices)).some(Boolean);
}

function rulesOf({ values, edited }, choices) {
  const { name, repo, branch, image_tag: tag } = values;
  return {
    name: name ? nameProblem(name) : edited.has("submitted") ? "is required" : "",
    "metadata.repo": repositoryProblem(repo),
    "metadata.branch": branchProblem(branch),
    image_tag: tag === null ? "" : imageProblem(tag, choices?.image_tags),
  };
}

function saidOf(problem, field) {
  if (field === "name" && problem?.code === "NAME_TAKEN")
    return "is that of another workspace of yours";
  return fieldProblem(problem, field);
}

/** Show a refusal, unless a field shows all of it. */
function refusalView(problem) {
  return problem?.code === "NAME_TAKEN" ? nothing : problemView(problem, FIELDS);
}

/** What a new workspace has unless the person says otherwise: the snapshot's, if it is allowed. */
function usualOf({ from }, choices) {
  const { machine_type: type, image_tag: tag } = from?.snapshot ?? {};
  const isOffered = choices?.machine_types.some(({ name }) => name === type);
  const isAllowed = tag && !imageProblem(tag, choices?.image_tags);
  return {
    machine_type: isOffered ? type : choices?.default_machine_type,
    image_tag: isAllowed ? tag : choices?.default_image_tag,
  };
}

function bodyOf({ values, from }) {
  const { repo, branch, ...rest } = values;
  const given = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value));
  const metadata = given({ repo, branch });
  return {
    ...given(rest),
    ...(Object.keys(metadata).length ? { metadata } : {}),
    ...(from ? { from: { snapshot_id: from.snapshot.id } } : {}),
  };
}

async function submit(app, event) {
  event.preventDefault();
  const draft = draftOf(app);
  if (draft.sending || secondsLeft(draft.problem) > 0) return;
  draft.edited.add("submitted");
  app.update();
  if (isWrong(app, draft)) {
    focusFirstWrong();
    return;
  }
  stopForeseeing(draft);
  app.update(() => Object.assign(draft, { sending: true, problem: null }));
  const { answer, problem } = await send(app, "", () =>
    app.api.post("/workspaces", bodyOf(draft), { idempotencyKey: draft.key }),
  );
  app.update((state) => {
    Object.assign(draft, { sending: false, problem });
    if (USED_UP.includes(problem?.code)) draft.key = crypto.randomUUID();
    if (!problem && state.draft === draft) state.draft = null;
  });
  if (problem) focusFirstWrong();
  else app.go(`/workspaces/${answer.id}`);
}

function discard(app) {
  app.update((state) => (state.draft = null));
  app.go("/");
}

/** The page has to be rendered before. */
function focusFirstWrong() {
  requestAnimationFrame(() => document.querySelector(".create [aria-invalid]")?.focus());
}

/** Return the command that makes the same, of what is right so far: nobody is shown a password. */
function commandOf(draft, choices) {
  const { from, values } = draft;
  const { name, repo, branch, machine_type: type, zone, image_tag: tag } = values;
  const usual = usualOf(draft, choices);
  const wrong = problemsOf(draft, choices);
  const word = (text) =>
    /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
  const option = (flag, value, usual) =>
    value && value !== usual ? ` ${flag} ${word(value)}` : "";
  const called = name && !wrong.name ? name : "NAME";
  return [
    from
      ? `workspace fork ${commandName(from.workspace)} ${called} --snapshot ${from.snapshot.id}`
      : `workspace create ${called}`,
    option("--machine-type", type, usual.machine_type),
    wrong["metadata.repo"] ? "" : option("--repo", repo),
    wrong["metadata.branch"] ? "" : option("--branch", branch),
    option("--zone", zone, choices?.zones[0]),
    wrong.image_tag ? "" : option("--image-tag", tag, usual.image_tag),
  ].join("");
}
