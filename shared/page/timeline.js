/**
 * What an operation spent its time on, phase by phase, against what is usual.
 *
 * @module
 */
import { html, nothing, svg } from "lit";
import { doing, done, usual } from "page/words.js";
import { duration, now, secondsBetween, time } from "page/times.js";

const WELL = ["READY", "SUSPENDED", "DELETED", "UPLOADING"];
// After a CREATE that failed there is nothing that a person could lose.
const CLEANS = new Set(["delete_instance", "await_absent", "delete_disk", "await_disk_absent"]);
// Of an ended phase that gets a row.
const SHORTEST_SECONDS = 0.5;

/**
 * Return the operation that a timeline shows: the one under way, or else the last that ended.
 *
 * @param {object} workspace as the API has it.
 * @param {object[]} events its audit trail, the latest first.
 * @returns {{kind: string, underWay: boolean, failed: boolean, seconds: number, rows: object[]}|null}
 *   null if there is none. A row is `{phase, seconds, since, usual}`; `since` is the time from which
 *   the last one still runs.
 */
function timelineOf(workspace, events) {
  const { operation } = workspace;
  if (operation) {
    const rows = rowsOf(operation.phases ?? [], operation.kind, events);
    const since = time(operation.phase_since ?? operation.requested_at);
    const last = rows.at(-1);
    if (last && doing(last.phase) === doing(operation.phase)) last.since = since;
    else rows.push({ ...rowOf(operation.phase, 0, operation.kind, events), since });
    const asked = time(operation.requested_at);
    const seconds = asked ? secondsBetween(asked, now()) : 0;
    return { kind: operation.kind, underWay: true, failed: false, seconds, rows };
  }
  const ended = events.find((event) => event.operation_kind && event.phases?.length);
  if (!ended) return null;
  const earlier = events.slice(events.indexOf(ended) + 1);
  const failed = !WELL.includes(ended.result);
  const isTold = ({ phase }) => !failed || ended.operation_kind !== "CREATE" || !CLEANS.has(phase);
  const rows = rowsOf(ended.phases.filter(isTold), ended.operation_kind, earlier);
  const told = rows.filter((row) => row.seconds >= SHORTEST_SECONDS);
  return {
    kind: ended.operation_kind,
    underWay: false,
    failed,
    seconds: ended.seconds,
    rows: told.length ? told : rows.slice(-1),
  };
}

/** Several phases are one thing to a person: they are one row. */
function rowsOf(phases, kind, events) {
  const rows = [];
  for (const { phase, seconds } of phases) {
    const last = rows.at(-1);
    if (last && doing(last.phase) === doing(phase)) last.seconds += seconds;
    else rows.push(rowOf(phase, seconds, kind, events));
  }
  return rows;
}

function rowOf(phase, seconds, kind, events) {
  return { phase, seconds, since: null, usual: usual(events, kind, phase) };
}

/**
 * Show the timeline.
 *
 * @param {object} workspace as the API has it.
 * @param {object[]} events its audit trail, the latest first.
 * @returns {unknown} a template; nothing if there is no operation to show.
 */
export function timelineView(workspace, events) {
  const found = timelineOf(workspace, events);
  if (!found) return nothing;
  const rows = found.rows.map((row) => ({ ...row, seconds: row.seconds + running(row.since) }));
  const longest = 1.02 * Math.max(1, ...rows.flatMap((row) => [row.seconds, row.usual ?? 0]));
  return html`<section class="part" aria-labelledby="timeline-title">
    <h3 id="timeline-title">${titleOf(found)}</h3>
    <ol class="phases">
      ${rows.map((row) => phaseView(row, found, longest))}
    </ol>
    ${rows.some((row) => row.usual !== null) ? KEY : nothing}
  </section>`;
}

const KEY = html`<p class="key" aria-hidden="true">
  <svg class="bar" width="4" height="13"><rect class="tick" x="1" width="2" height="13" /></svg>
  what is usual
</p>`;

function titleOf({ kind, underWay, failed, seconds }) {
  const verb = kind.toLowerCase();
  const took = duration(seconds);
  if (underWay) return html`This ${verb}, so far <span class="count">${took}</span>`;
  return `Last ${verb}, ${failed ? "failed after " : ""}${took}`;
}

function phaseView(row, found, longest) {
  const now = row.since !== null;
  const look = now ? "is-now" : found.failed ? "is-failed" : nothing;
  return html`<li class=${look}>
    <span>${now ? doing(row.phase) : done(row.phase)}</span>
    ${bar(row, longest)}
    <span class="took">
      ${duration(row.seconds)}${
        row.usual === null
          ? nothing
          : html`<span class="unseen">, usually ${duration(row.usual)}</span>`
      }
    </span>
  </li>`;
}

/** A bar and the tick of what is usual, by attributes: the page's policy allows no inline styles. */
function bar({ seconds, usual }, longest) {
  const share = (part) => `${((100 * part) / longest).toFixed(2)}%`;
  const title = usual === null ? nothing : svg`<title>usually ${duration(usual)}</title>`;
  return html`<svg class="bar" width="100%" height="13" aria-hidden="true">
    ${title}
    <rect class="track" y="3" width="100%" height="7" rx="3.5" />
    <rect class="done" y="3" width=${share(seconds)} height="7" rx="3.5" />
    ${usual === null ? nothing : svg`<rect class="tick" x=${share(usual)} width="2" height="13" />`}
  </svg>`;
}

function running(since) {
  return since === null ? 0 : Math.max(0, secondsBetween(since, now()));
}
