/**
 * The header: what this is, what of the quota is used, and who one is.
 *
 * @module
 */
import { html, nothing } from "lit";
import { CHOICES, choose, chosen } from "page/choices.js";
import { icon } from "page/icons.js";
import { capital } from "page/words.js";

const KEYS = [
  ["/", "search"],
  ["n", "new workspace"],
  ["j, k", "next, previous"],
  ["Enter", "open"],
  ["Esc", "close"],
  ["?", "this menu"],
];

/**
 * Return the header.
 *
 * @param {import("page/app.js").app} app
 * @returns {unknown} a template.
 */
export function headerView(app) {
  const { me } = app.state;
  return html`<header>
    <h1><a class="brand" href="#/" aria-label="Workspaces">
      <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
        <rect width="32" height="32" rx="8"/><path d="M9 11l5 5-5 5M16 21h8"/>
      </svg>
      <span>Workspaces</span>
    </a></h1>
    ${quotaView(me?.quota)} ${app.session ? person(app) : nothing}
  </header>`;
}

function quotaView(quota) {
  if (!quota) return nothing;
  return html`<ul class="quota" aria-label="Quota in use">
    ${used("workspaces", quota.workspaces)} ${used("running", quota.running)}
  </ul>`;
}

function used(what, { used, most }) {
  return html`<li class=${used >= most ? "full" : nothing}>
    <span><b>${used}</b> of ${most}</span> <span class="what">${what}</span>
    <meter min="0" max=${most} value=${used} aria-hidden="true"></meter>
  </li>`;
}

function person(app) {
  const { me } = app.state;
  const email = me?.email ?? "";
  return html`<button class="me" popovertarget="person" aria-label="You: ${email || "menu"}"
      title=${email || nothing}>${email ? email[0].toUpperCase() : icon("person")}</button>
    <div id="person" class="menu" popover>
      ${email ? html`<p class="who"><bdi>${email}</bdi>${me.is_admin
        ? html`<span class="tag">administrator</span>` : nothing}</p>` : nothing}
      ${people(app)} ${choice(app, "Colours", "theme")} ${choice(app, "Keys", "keys")}
      <dl class="keys">
        ${KEYS.map(([key, does]) => html`<dt><kbd>${key}</kbd></dt><dd>${does}</dd>`)}
      </dl>
      <p class="soft">${app.session.hub?.name} ${app.session.hub?.version}</p>
    </div>`;
}

function choice(app, label, name) {
  const use = (value) => () => {
    choose(name, value);
    app.update();
  };
  const button = (value) =>
    html`<button aria-pressed=${value === chosen(name)} @click=${use(value)}>${capital(value)}
    </button>`;
  return html`<h2>${label}</h2>
    <div class="choices" role="group" aria-label=${label}>${CHOICES[name].map(button)}</div>`;
}

/** In the local cloud one chooses who one is, with the secret that its address has. */
function people(app) {
  const { session } = app;
  if (session.kind !== "local") return nothing;
  if (!session.people) {
    return html`<p class="soft">To work as somebody else, open the address that
      <code>localcloud</code> has printed.</p>`;
  }
  const choose = (one) => async () => {
    document.getElementById("person").hidePopover();
    if (await session.choose(one)) app.restart();
    else app.toast(`The local cloud does not let you be ${one.email}.`);
  };
  return html`<h2>Work as</h2>
    <ul class="people">${session.people.map((one) => html`<li><button class="bare"
      aria-pressed=${one.email === session.person} @click=${choose(one)}><bdi>${one.email}</bdi>
      </button></li>`)}</ul>`;
}
