/**
 * The audit trail of one workspace, in words.
 *
 * @module
 */
import { html, nothing } from "lit";
import { clock, duration, moment, time } from "page/times.js";

// What people ask for.
const ASKED = {
  WorkspaceRequested: "asked for it",
  StartRequested: "started it",
  StopRequested: "stopped it",
  StopConfirmed: "stopped it",
  DeleteRequested: "deleted it",
  DeleteConfirmed: "deleted it",
  ConnectRequested: "connected",
  WorkspaceRenamed: "gave it another name",
  SnapshotRequested: "asked for a snapshot of it",
  SnapshotDeleteRequested: "deleted a snapshot of it",
  RestoreRequested: "had its home restored",
  ArchiveRequested: "archived it",
  ArchiveConfirmed: "archived it",
  WorkspaceUndeleted: "took it back",
  UndeleteRequested: "asked to take it back",
  KeepAwakeRequested: "had it kept awake",
  KeepAwakeEnded: "took back that it is kept awake",
  StatusRequested: "looked at it",
  RecordRequested: "looked at it",
  EventsRequested: "looked at its history",
  SnapshotsRequested: "looked at its snapshots",
};
// What the sweeps ask for.
const SWEPT = {
  StopRequested: "nobody was connected for long enough: put to sleep",
  ArchiveRequested: "nobody started it for long enough: archived",
  DeleteRequested: "nobody started it for long enough: deleted",
};
const ENDED = {
  WorkspaceReady: "ready",
  WorkspaceSuspended: "asleep",
  ArchiveAnnounced: "announced that it will be archived unless somebody starts it",
  WorkspaceArchived: "archived",
  SnapshotTaken: "its home is captured",
  SnapshotReady: "a snapshot is ready",
  SnapshotDeleted: "a snapshot is gone",
};
const FAILED = {
  CreateFailed: "could not be made",
  StartFailed: "could not be started",
  StartRefused: "could not be started, and sleeps on",
  StopFailed: "could not be stopped",
  RestoreFailed: "its home could not be restored, and is what it was",
  ArchiveFailed: "could not be archived, and its home is kept",
  DeleteFailed: "could not be deleted",
  AutomaticStopAbandoned: "in use again: not put to sleep",
  AutomaticArchiveAbandoned: "in use again: not archived",
  AutomaticDeleteAbandoned: "in use again: not deleted",
  SnapshotFailed: "a snapshot failed",
  SnapshotLost: "a snapshot was deleted outside the Hub",
  MachineFailed: "its machine failed",
  MachineFailedMeanwhile: "its machine failed",
};
const CODE = /^[A-Z][A-Z0-9_]*$/;

/**
 * Return an event in words.
 *
 * @param {object} event as the API has it.
 * @param {string|undefined} me who reads it: an `owner_id`.
 * @returns {string}
 */
function eventInWords(event, me) {
  const { what, result, who } = event;
  const times = event.times > 1 ? `, ${event.times} times` : "";
  if (who === "cleanup" && SWEPT[what]) return SWEPT[what];
  if (ASKED[what] && who !== "hub") {
    const refused = result === "REFUSED" ? ", which was refused" : "";
    return `${whoOf(event, me)} ${ASKED[what]}${refused}${times}`;
  }
  const took = typeof event.seconds === "number" ? ` after ${duration(event.seconds)}` : "";
  if (FAILED[what]) return `${FAILED[what]}${took}${isFailure(result) ? `: ${result}` : ""}`;
  if (ENDED[what]) return `${ENDED[what]}${took}`;
  if (result === "DELETED") return `deleted${took}`;
  if (what === "DriftFollowed") return "changed outside the Hub";
  // The Hub's notes say why, in a sentence of their own.
  return spaced(what) + (CODE.test(result) ? took + times : `: ${result}`);
}

function isFailure(result) {
  return CODE.test(result) && !["READY", "SUSPENDED", "ERROR", "PROVISIONING"].includes(result);
}

function whoOf({ who, who_email: email, as_admin: asAdmin }, me) {
  if (who === me) return "you";
  const name = email ?? (who.startsWith("machine/") ? "its machine" : who);
  return asAdmin ? `${name}, as administrator,` : name;
}

function spaced(what) {
  return what.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
}

/**
 * Show the events.
 *
 * @param {object[]|null} events as the API has them, the latest first; null until they are known.
 * @param {string|undefined} me who reads them: an `owner_id`.
 * @param {(() => void)|null} more shows the rest; null if these are all.
 * @returns {unknown} a template.
 */
export function historyView(events, me, more) {
  if (!events) return html`<p class="soft">Reading it …</p>`;
  if (!events.length) return html`<p class="soft">Nothing yet.</p>`;
  const line = (event) =>
    html`<li class=${FAILED[event.what] ? "is-error" : nothing}>
      ${moment(time(event.at), clock)}<span><bdi>${eventInWords(event, me)}</bdi></span>
    </li>`;
  return html`<ol class="events">
      ${events.map(line)}
    </ol>
    ${more ? html`<button class="small" @click=${more}>Show more</button>` : nothing}`;
}
