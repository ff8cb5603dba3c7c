/**
 * The ways out of an error: what a person can do about each code, as in docs/troubleshooting.md.
 *
 * A way is `{act, label}`: `act` is the verb of `openConfirm`, `snapshot` for the form that takes
 * one, or `snapshots` for the list of them; `label` is what its button says.
 *
 * @module
 */

const AGAIN = {
  CREATE: { act: "start", label: "Try again" },
  START: { act: "start", label: "Try again" },
  STOP: { act: "stop", label: "Try again" },
  DELETE: { act: "delete", label: "Delete again …" },
};
const START = { act: "start", label: "Start" };
const REBUILD = { act: "rebuild", label: "Make a new machine …" };
const MACHINE = { act: "change", label: "Other machine type …" };
const IMAGE = { act: "change", label: "Other image …" };
const EMPTY_HOME = { act: "empty_home", label: "Go on with an empty home …" };
const ARCHIVE = { act: "archive", label: "Archive again …" };
const MOVE = { act: "move", label: "Move to another zone …" };
const GROW = { act: "grow", label: "Larger home …" };
const KEEP = { act: "start", label: "Keep it: start" };
const SNAPSHOT = { act: "snapshot", label: "Take a snapshot again …" };
const PURGE = { act: "purge", label: "Delete for good …" };
const SNAPSHOTS = { act: "snapshots", label: "To its snapshots" };

const OTHER_IMAGE = "Start it with an image that exists and keeps running.";
const OPERATOR = "Whoever runs the Hub has to change something first.";
const REPAIR = "Nothing was formatted. Have the home disk repaired from a snapshot, then try again.";
// Of every code that is not below.
const AGAIN_OR_TELL = "Try again. If it stays so, tell whoever runs the Hub.";

const AS_IT_WAS = "The workspace is as it was: only this snapshot of it is missing.";
const NOT_RESTORED = "Its home is what it was. You can restore it again.";
const NOT_ARCHIVED = "Nothing of its home is lost. Start it, or archive it again.";
const NO_ROOM = "Start it again later, or have it moved: its home goes along, its memory does not.";

// What to do, in a sentence, and what else than "Try again" helps.
const CODES = {
  NO_CAPACITY: [
    "Nothing runs and nothing costs. Try again later, or take another machine type.",
    [MACHINE],
  ],
  COMPUTE_QUOTA_EXCEEDED: [
    "Stop or delete a workspace, or ask whoever runs the Hub for more.",
    [MACHINE],
  ],
  COMPUTE_PERMISSION_DENIED: [OPERATOR, []],
  COMPUTE_POLICY_FORBIDS: [OPERATOR, [MACHINE]],
  COMPUTE_NAME_TAKEN: [OPERATOR, []],
  COMPUTE_REFUSED: ["Take another machine type, or have the settings corrected.", [MACHINE]],
  MACHINE_GONE: ["The home is kept: a start makes a new machine on it.", []],
  MACHINE_NOT_READY: ["A start boots it again.", []],
  MACHINE_STOPPED: ["A start boots it again.", []],
  MACHINE_AMBIGUOUS: [OPERATOR, []],
  HOME_DISK_GONE: [
    "Restore it from one of its snapshots, make a workspace from one, or go on without it.",
    [SNAPSHOTS, EMPTY_HOME],
  ],
  SNAPSHOT_GONE: [
    "Go on without it, or delete this workspace and make one from another snapshot.",
    [EMPTY_HOME],
  ],
  LAST_COPY_NOT_MADE: ["Delete it again, or for good: then it cannot be taken back.", [PURGE]],
  DISK_IN_USE: ["Detach the disk from the machine that the message names, then try again.", []],
  NOT_READY_IN_TIME: [
    "Look for the cause in what the machine printed, then try again.",
    [REBUILD, IMAGE],
  ],
  BOOT_FAILED: ["Try again.", [REBUILD]],
  IMAGE_MISSING: [OTHER_IMAGE, [IMAGE]],
  IMAGE_DENIED: [OTHER_IMAGE, [IMAGE]],
  IMAGE_WRONG_PLATFORM: [
    "Take an image for this machine's processor, or another machine type.",
    [IMAGE, MACHINE],
  ],
  IMAGE_PULL_FAILED: ["If the registry is away, try again in a while.", [IMAGE]],
  CONTAINER_ENDS: [OTHER_IMAGE, [IMAGE]],
  CONTAINER_UNHEALTHY: [OTHER_IMAGE, [IMAGE]],
  CONTAINER_REFUSED: [OTHER_IMAGE, [IMAGE]],
  CONTAINER_NOT_RUNNING: ["Try again, or take a smaller image.", [IMAGE]],
  CONTAINER_OUT_OF_MEMORY: ["Take a larger machine type.", [MACHINE]],
  BOOT_DISK_FULL: ["Take a smaller image.", [IMAGE]],
  DISK_FULL: ["Make its home larger: its file system grows at boot.", [GROW]],
  DISK_READ_ONLY: ["Have the home disk attached for writing, then try again.", []],
  DISK_UNREADABLE: ["Try again. If it stays so, have a snapshot of the disk restored.", []],
  DISK_FOREIGN: [REPAIR, []],
  DISK_DAMAGED: [REPAIR, []],
  DISK_UNMOUNTABLE: [REPAIR, []],
  DISK_UNUSABLE: [REPAIR, []],
};

/**
 * Return the advice on a workspace's error and the ways out, the likeliest first.
 *
 * @param workspace the API's object; its `error` is not null.
 * @returns `{advice, ways}`.
 */
export function waysOut(workspace) {
  const { code, operation_kind: kind } = workspace.error;
  const isGone = code === "HOME_DISK_GONE";
  if (kind === "SNAPSHOT" && !isGone) return { advice: AS_IT_WAS, ways: [SNAPSHOT] };
  if (kind === "RESTORE") {
    const ways = workspace.status === "READY" ? [SNAPSHOTS] : [START, SNAPSHOTS];
    return { advice: NOT_RESTORED, ways };
  }
  if (kind === "ARCHIVE" && !isGone) {
    const ways = workspace.status === "READY" ? [ARCHIVE] : [START, ARCHIVE];
    return { advice: NOT_ARCHIVED, ways };
  }
  const [advice, others] = CODES[code] ?? [AGAIN_OR_TELL, []];
  if (workspace.status === "SUSPENDED") {
    if (kind === "STOP") return { advice, ways: [] };
    if (code === "NO_CAPACITY") {
      // An archived one is tried in all zones.
      return workspace.archived_at
        ? { advice, ways: [START, MACHINE] }
        : { advice: NO_ROOM, ways: [START, MOVE, REBUILD] };
    }
    // A start could not resume it; without its memory it may still boot.
    return { advice, ways: [START, ...(isGone ? others : [REBUILD])] };
  }
  if (workspace.status === "READY") return { advice, ways: kind === "STOP" ? [AGAIN.STOP] : [] };
  const again = AGAIN[kind] ?? START;
  const rescue = kind === "DELETE" ? [KEEP] : [];
  const needsOther =
    others.length > 0 && /^(IMAGE_(?!PULL)|CONTAINER_(?!NOT)|COMPUTE_REFUSED|SNAPSHOT_GONE|DISK_FULL)/.test(code);
  const ways = needsOther ? [...others, again] : [again, ...others];
  return { advice, ways: [...ways, ...rescue] };
}

// What to do after a refusal, beside what the Hub says.
const REFUSALS = {
  OPERATION_UNDER_WAY: "Wait until it has ended, then try again.",
  QUOTA_EXCEEDED: "Stop or delete a workspace, or ask whoever runs the Hub for more.",
  NOT_ALLOWED: "Ask whoever runs this Hub.",
  NAME_TAKEN: "Take another name.",
  WORKSPACE_GONE:
    "An earlier press made a workspace that has been deleted since. Press again to make another.",
  IDEMPOTENCY_KEY_REUSED:
    "An earlier press may have made a workspace: look at the list. Press again to make another.",
  UNAVAILABLE: "Nothing is half done: try again.",
  INTERNAL: "Try again. If it stays so, give whoever runs the Hub the number of the request.",
};

/** Return what a person can do about a refusal of the API; empty if its own words say it. */
export function adviceOf(code) {
  return REFUSALS[code] ?? "";
}
