/**
 * What a workspace is, does now, and what happens to it next, in words: the command's own words
 * (`workspace_cli/words.py`), so that page and command speak of the same thing.
 *
 * @module
 */
import { clock, now, secondsBetween, time } from "page/times.js";

// What an operation does in a phase, and what it has done when the phase is over. Several phases
// are one thing to a person: a call to Compute and the wait for it, since the operation goes back
// and forth between them while Compute refuses. A phase of a newer Hub is shown as it is called.
const DOING = {
  survey: ["checking the machine", "machine checked"],
  insert: ["making the machine", "machine made"],
  inserting: ["making the machine", "machine made"],
  set_metadata: ["preparing the machine", "machine prepared"],
  await_metadata: ["preparing the machine", "machine prepared"],
  start: ["switching on", "switched on"],
  starting: ["switching on", "switched on"],
  await_ready: ["booting", "booted"],
  resume: ["waking up", "awake"],
  await_running: ["waking up", "awake"],
  suspend: ["going to sleep", "asleep"],
  await_suspended: ["going to sleep", "asleep"],
  stop: ["shutting down", "shut down"],
  await_stopped: ["shutting down", "shut down"],
  delete_instance: ["deleting the machine", "machine deleted"],
  await_absent: ["deleting the machine", "machine deleted"],
  delete_disk: ["deleting the disk", "disk deleted"],
  await_disk_absent: ["deleting the disk", "disk deleted"],
  forget: ["forgetting it", "forgotten"],
  snapshot: ["capturing the home", "home captured"],
  await_snapshot: ["capturing the home", "home captured"],
  await_stored: ["storing the snapshot", "snapshot stored"],
  resize_disk: ["enlarging the disk", "disk enlarged"],
  await_resized: ["enlarging the disk", "disk enlarged"],
};
const STATUS = { PROVISIONING: "starting", READY: "ready", SUSPENDED: "asleep", ERROR: "error" };
const UNDER_WAY = {
  CREATE: "starting",
  START: "starting",
  STOP: "stopping",
  RESTORE: "restoring",
  ARCHIVE: "archiving",
  DELETE: "deleting",
};
const STOPPED_BECAUSE = {
  requested: "somebody stopped it",
  idle: "nobody was connected for long enough",
  outside: "its machine was stopped outside the Hub",
};
const FAILED = { ...UNDER_WAY, CREATE: "creating", SNAPSHOT: "taking a snapshot" };
// What the outlook's kinds are called in a row. Kinds that are not here are told in the panel.
const NEXT = {
  suspend: "sleeps",
  archive: "archived",
  delete: "deleted",
  compute_limit: "loses its memory",
  max_run: "stopped by Compute",
};
/** The words of `status`, in the order in which they are offered as filters. */
export const STATUSES = [
  "ready",
  "starting",
  "stopping",
  "restoring",
  "archiving",
  "asleep",
  "archived",
  "error",
  "deleting",
];

/**
 * Say whether no change of a workspace is under way. A snapshot of its home changes nothing.
 *
 * @param {object} workspace as the API has it.
 * @returns {boolean}
 */
export function isSettled({ operation }) {
  return !operation || operation.kind === "SNAPSHOT";
}

/**
 * Say whether a start calls an operation off: an archive that does not delete the disk yet, nor
 * shuts down what its person has just wanted shut down.
 *
 * @param {object|null} operation as the API has it.
 * @returns {boolean}
 */
export function yieldsToStart(operation) {
  const { kind, phase, automatic } = operation ?? {};
  return kind === "ARCHIVE" && !(automatic ? /disk/ : /disk|stop/).test(phase);
}

/**
 * Return the status in a word: what is under way goes before what is, if it changes that.
 *
 * @param {object} workspace as the API has it.
 * @returns {string} one of `STATUSES`, or a newer Hub's own word.
 */
export function status(workspace) {
  const kind = workspace.operation?.kind;
  if (!isSettled(workspace)) return UNDER_WAY[kind] ?? kind.toLowerCase();
  return archivedAt(workspace) ? "archived" : (STATUS[workspace.status] ?? workspace.status);
}

/**
 * Return since when a workspace that sleeps has neither machine nor disk: its home is a snapshot.
 *
 * @param {object} workspace as the API has it.
 * @returns {Date|null} null if it has them, or does not sleep.
 */
export function archivedAt({ status, archived_at: at }) {
  return status === "SUSPENDED" ? time(at) : null;
}

/**
 * Return a word as a heading or a button begins with it.
 *
 * @param {string} word
 * @returns {string}
 */
export function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/**
 * Return what an operation does now, or does in another phase.
 *
 * @param {string} phase as the API has it.
 * @returns {string}
 */
export function doing(phase) {
  return DOING[phase]?.[0] ?? (phase || "working");
}

/**
 * Return what has been done when a phase is over.
 *
 * @param {string} phase as the API has it.
 * @returns {string}
 */
export function done(phase) {
  return DOING[phase]?.[1] ?? (phase || "worked");
}

/**
 * Return how long an operation, or one thing that it does, usually takes: the median.
 *
 * @param {object[]} events the audit trail's, of one workspace or of several.
 * @param {string} kind of the operation.
 * @param {string} [phase] as the API has it; phases that are one thing to a person are added up.
 *   Without it: the whole operation.
 * @returns {number|null} seconds; null if no event tells.
 */
export function usual(events, kind, phase) {
  const wanted = phase && doing(phase);
  const took = [];
  for (const event of events) {
    if (event.operation_kind !== kind || typeof event.seconds !== "number") continue;
    // Ended early, or at its deadline.
    if (/(Failed|Refused)$/.test(event.what)) continue;
    if (!wanted) {
      took.push(event.seconds);
      continue;
    }
    const same = (event.phases ?? []).filter((each) => doing(each.phase) === wanted);
    if (same.length) took.push(same.reduce((sum, each) => sum + each.seconds, 0));
  }
  return median(took);
}

/**
 * Return the one thing that happens next to a workspace at rest.
 *
 * @param {object} workspace as the API has it.
 * @returns {{kind: string, what: string, at: Date, since: Date|null, unless: string|null}|null}
 *   null if nothing does, or if an operation is under way.
 */
export function upcoming(workspace) {
  if (workspace.operation) return null;
  for (const entry of workspace.outlook ?? older(workspace)) {
    const at = time(entry.at);
    if (at && NEXT[entry.kind]) {
      const { kind, unless = null } = entry;
      return { kind, what: NEXT[kind], at, since: time(entry.since), unless };
    }
  }
  return null;
}

/**
 * Return since when a workspace sleeps or is archived, and what of it is kept.
 *
 * @param {object} workspace as the API has it.
 * @returns {string} empty if it does not sleep.
 */
export function asleepSince(workspace) {
  const archived = archivedAt(workspace);
  if (archived) return `since ${clock(archived, now())}, home kept`;
  const since = time(workspace.suspended_at);
  if (workspace.status !== "SUSPENDED" || !since) return "";
  const memory = { true: ", memory kept", false: ", memory lost" }[workspace.memory_kept] ?? "";
  return `since ${clock(since, now())}${memory}`;
}

/**
 * Return why a workspace sleeps.
 *
 * @param {object} workspace as the API has it.
 * @returns {string} empty if it does not sleep, or if this is unknown.
 */
export function stoppedBecause(workspace) {
  return archivedAt(workspace) ? "" : (STOPPED_BECAUSE[workspace.stopped_because] ?? "");
}

/**
 * Return what failed: `starting failed`.
 *
 * @param {object} error as a workspace has it.
 * @returns {string}
 */
export function failed(error) {
  const verb = FAILED[error.operation_kind];
  return verb ? `${verb} failed` : "something went wrong";
}

/**
 * Return from where somebody last connected, or where the workspace was made.
 *
 * @param {object} workspace as the API has it.
 * @returns {string} empty if nobody ever said.
 */
export function device(workspace) {
  return workspace.last_device_id ?? workspace.metadata?.device_id ?? "";
}

/**
 * Return what a snapshot is called.
 *
 * @param {object} snapshot as the API has it.
 * @returns {string}
 */
export function snapshotCalled({ name }) {
  return name ?? "unnamed";
}

/**
 * Return a repository's address without what every address has.
 *
 * @param {string|null|undefined} address
 * @returns {string}
 */
export function repository(address) {
  return (address ?? "").replace(/^(https:\/\/|ssh:\/\/git@|git@)/, "").replace(/\.git$/, "");
}

/**
 * Return how far an operation is.
 *
 * @param {object} operation as the API has it.
 * @param {number|null} seconds that it usually takes.
 * @returns {{elapsed: number, part: number|null}} seconds since it was asked for, and the part of
 *   the usual time that has passed, at most 0.97: it is not over yet. Null if nothing is usual.
 */
export function progress(operation, seconds) {
  const since = time(operation.requested_at);
  const elapsed = since ? Math.max(0, secondsBetween(since, now())) : 0;
  return { elapsed, part: seconds ? Math.min(0.97, elapsed / seconds) : null };
}

/** What happens next, of a Hub without outlook. */
function older(workspace) {
  if (workspace.status === "READY") return [{ kind: "suspend", at: workspace.stops_at }];
  if (workspace.status === "SUSPENDED") return [{ kind: "delete", at: workspace.deletes_at }];
  return [];
}

function median(numbers) {
  if (!numbers.length) return null;
  const sorted = numbers.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
