/**
 * The person's deleted workspaces that can be taken back.
 *
 * @module
 */
import { html, nothing, repeat } from "lit";
import { openConfirm } from "page/confirm.js";
import { closeLink, shape } from "page/icons.js";
import { expected, problemView, secondsLeft } from "page/problem.js";
import { clock, moment, now, time } from "page/times.js";

/**
 * Show them.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function deletedView(app) {
  const { list, problem } = app.state.deleted ?? {};
  // What was taken back is not deleted any more.
  const shown = list?.filter(({ id }) => !app.workspace(id));
  return html`<section aria-labelledby="panel-title">
    <div class="panel-head">
      <h2 id="panel-title" tabindex="-1">Deleted workspaces</h2>
      ${closeLink(app)}
    </div>
    ${problemView(problem)}
    ${
      shown?.length
        ? html`<ul class="part snapshots" aria-labelledby="panel-title">
            ${repeat(
              shown,
              ({ id }) => id,
              (each) => itemView(app, each),
            )}
          </ul>`
        : html`<p class="part soft">${list ? NONE : problem ? nothing : "Reading them …"}</p>`
    }
  </section>`;
}

const NONE = "None. What you delete is here for as long as it can be taken back.";

function itemView(app, deleted) {
  const { name, automatic, owner_id: owner, deleted_by: by, machine_type: type } = deleted;
  const whom = automatic ? ", since nobody started it" : by === owner ? "" : " by an administrator";
  return html`<li class="snapshot is-unknown">
    ${shape("archived")}
    <p class="name"><b><bdi>${name}</bdi></b></p>
    <p class="word">until ${moment(time(deleted.until), clock)}</p>
    <p class="soft">Deleted ${moment(time(deleted.deleted_at))}${whom}</p>
    <p class="soft">${type} · ${deleted.disk_gb} GB disk · snapshots: ${deleted.snapshots}</p>
    <div class="acts">
      <button
        class="small"
        aria-label="Undelete ${name}"
        @click=${() => undelete(app, deleted)}
      >
        Undelete …
      </button>
    </div>
  </li>`;
}

/** Ask, and show what was taken back. */
async function undelete(app, deleted) {
  if (await openConfirm(app, "undelete", deleted)) app.go(`/workspaces/${deleted.id}`);
}

/**
 * Say of a workspace that is gone until when it can be taken back, with the button that does.
 *
 * @param {import("page/app.js").app} app
 * @param {object} workspace as the API had it last.
 * @returns {unknown} a template; nothing if it cannot be.
 */
export function goneView(app, workspace) {
  const until = time(workspace.undelete_until);
  if (!until || until < now()) return nothing;
  return html`<div class="part">
    <p>You can take it back until <b>${moment(until, clock)}</b>.</p>
    <button class="small" @click=${() => undelete(app, workspace)}>Undelete …</button>
  </div>`;
}

/**
 * Say whether they are shown: the route's view, of a Hub that has it.
 *
 * @param {import("page/app.js").app} app
 * @returns {boolean}
 */
export function showsDeleted({ session, state }) {
  return state.route.view === "deleted" && session.features.has("undelete");
}

/**
 * Keep them fresh while they are shown, from now on.
 *
 * @param {import("page/app.js").app} app its `live` is there already.
 */
export function followDeleted(app) {
  let before = null;
  app.live.onRound(() => read(app));
  app.subscribe(() => {
    const { route } = app.state;
    if (route !== before) read(app);
    before = route;
  });
}

async function read(app) {
  const { api, state } = app;
  if (!showsDeleted(app) || state.mine === null) return;
  if (secondsLeft(state.deleted?.problem) > 0) return;
  const found = { list: state.deleted?.list ?? null, problem: null };
  try {
    found.list = (await api.get("/deleted-workspaces")).body.deleted_workspaces;
  } catch (error) {
    found.problem = expected(app, error);
  }
  if (api === app.api) app.update(() => (state.deleted = found));
}
