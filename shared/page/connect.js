/**
 * How to connect to a workspace: the command, the ssh host, an editor, and the pasted line.
 *
 * @module
 */
import { html, nothing } from "lit";
import { isSettled, yieldsToStart } from "page/words.js";

const NAME = /^[A-Za-z0-9._-]{1,48}$/;
const HOST_PREFIX = "workspace.";
const WAITS = {
  START: "This waits until it is ready.",
  STOP: "This waits until it is asleep, and starts it then.",
  ARCHIVE: "This waits until it is archived, and starts it then.",
};
// The container's home, as the boot scripts mount it.
const HOME = "/home/workspace";

/** Return a workspace's name as a word of a command line: its id if the name reads otherwise. */
export function commandName(workspace) {
  return NAME.test(workspace.name) && !workspace.name.startsWith("-")
    ? workspace.name
    : workspace.id;
}

/** Return the host of `workspace config-ssh`, as the command `workspace` names it. */
export function sshHost(workspace) {
  return HOST_PREFIX + (NAME.test(workspace.name) ? workspace.name : workspace.id);
}

/**
 * Return the link that has VS Code open the home over SSH.
 *
 * VS Code makes a host in a link lower case; one that has capitals is written as hexadecimal JSON.
 * https://github.com/microsoft/vscode-remote-release/issues/9370 shows the form.
 */
export function editorLink(workspace) {
  const host = sshHost(workspace);
  const bytes = new TextEncoder().encode(JSON.stringify({ hostName: host }));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const authority = host === host.toLowerCase() ? host : hex;
  return `vscode://vscode-remote/ssh-remote+${authority}${HOME}`;
}

/**
 * Show how to connect.
 *
 * @param app the page.
 * @param workspace the API's object.
 * @param connection what `/status` says of it; null while that is not known.
 * @param owns whether it is this person's own: nobody else may connect.
 */
export function connectView(app, workspace, connection, owns) {
  if (!owns) return html`<p class="soft">Only its owner can connect to it.</p>`;
  const name = commandName(workspace);
  const kind = isSettled(workspace) ? null : workspace.operation.kind;
  if (kind === "DELETE") return html`<p class="soft">It is being deleted.</p>`;
  const runs = workspace.status === "READY" && (!kind || kind === "START");
  const yields = yieldsToStart(workspace.operation);
  const starts = !kind && !runs;
  return html`
    ${copyLine(app, `workspace ssh ${name}`, "the command")}
    ${
      starts
        ? html`<p class="soft">
            This starts it first. So does <code>workspace open ${name}</code>, for VS Code.
          </p>`
        : nothing
    }
    ${
      kind && !runs
        ? html`<p class="soft">
            ${yields ? "This starts it, and it is not archived." : (WAITS[kind] ?? WAITS.START)}
          </p>`
        : nothing
    }
    ${
      runs
        ? html`<p class="soft">
            or open it in <a href=${editorLink(workspace)}>VS Code</a>, or
            <code>ssh ${sshHost(workspace)}</code>
          </p>`
        : nothing
    }
    ${runs ? accessView(connection?.access) : nothing}
    ${otherWays(app, workspace, runs ? connection : null)}
  `;
}

function accessView(access) {
  if (access?.state === "refused") {
    return html`<p class="note bad">
      You may not log in to its machine: ${access.why ?? "no reason is known"}. Ask whoever runs
      this Hub.
    </p>`;
  }
  if (access?.state === "pending" && access.why) {
    return html`<p class="note">The right to log in is on its way: ${access.why}</p>`;
  }
  return nothing;
}

function otherWays(app, workspace, connection) {
  return html`<details class="more">
    <summary>Set up once, other ways</summary>
    <p class="soft">
      For <code>ssh ${sshHost(workspace)}</code>, VS Code, scp and rsync, run this once:
    </p>
    ${copyLine(app, "workspace config-ssh", "the set-up command")}
    ${
      connection?.command
        ? html`<p class="soft">Without the command <code>workspace</code>:</p>
            ${copyLine(app, connection.command, "the whole line")}`
        : nothing
    }
    ${
      connection?.host_key
        ? html`<p class="soft">Its host key:</p>
            ${copyLine(app, connection.host_key, "the host key")}`
        : nothing
    }
  </details>`;
}

/** Show a line of code with a button that copies it; `what` names it for screen readers. */
export function copyLine(app, text, what) {
  return html`<div class="copy">
    <code tabindex="0" role="group" aria-label=${what}>${text}</code>
    <button type="button" class="small" aria-label="Copy ${what}" @click=${() => copy(app, text)}>
      Copy
    </button>
  </div>`;
}

async function copy(app, text) {
  try {
    await navigator.clipboard.writeText(text);
    app.toast("Copied.");
  } catch {
    app.toast("The browser does not let the page copy: select the text and copy it.");
  }
}
