/**
 * Times as people say them, in the reader's own zone, with UTC on hover.
 *
 * The Hub's clock counts: countdowns are wrong by what the reader's clock is wrong. So `now` is
 * corrected by the `Date` of the Hub's answers.
 *
 * @module
 */
import { html } from "lit";

const DAY = 86400;
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
// An answer's Date has whole seconds, and the way takes time.
const TOLERATED_MS = 2000;

// Milliseconds that the Hub's clock is ahead.
let skew = 0;

/**
 * Return the current time by the Hub's clock, as far as its answers have told it.
 *
 * @returns {Date}
 */
export function now() {
  return new Date(Date.now() + skew);
}

/**
 * Learn the Hub's clock from an answer.
 *
 * @param {string|null} header the answer's `Date`; anything else changes nothing.
 */
export function learnClock(header) {
  const difference = Date.parse(header ?? "") - Date.now();
  if (Number.isFinite(difference)) skew = Math.abs(difference) > TOLERATED_MS ? difference : 0;
}

/**
 * Return the time that a representation has.
 *
 * @param {string|null|undefined} text RFC 3339.
 * @returns {Date|null} null if there is none, or if it is not a time.
 */
export function time(text) {
  const date = new Date(text ?? NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}

/**
 * Return how many seconds lie between two times; negative if the second is earlier.
 *
 * @param {Date} from
 * @param {Date} to
 * @returns {number}
 */
export function secondsBetween(from, to) {
  return (to.getTime() - from.getTime()) / 1000;
}

/**
 * Return a time span as people say it: `8 s`, `22 min`, `5 h`, `12 days`. As the command says it.
 *
 * @param {number} seconds negative counts as 0.
 * @returns {string}
 */
export function duration(seconds) {
  const span = Math.max(0, seconds);
  if (span < 119.5) return `${rounded(span)} s`;
  if (span < 119.5 * 60) return `${rounded(span / 60)} min`;
  if (span < 2 * DAY) return `${rounded(span / 3600)} h`;
  return `${rounded(span / DAY)} days`;
}

/**
 * Return a number of bytes as people say it: `812 MB`, `3.4 GB`; a GB has 1024³. As the command
 * says it.
 *
 * @param {number} bytes
 * @returns {string}
 */
export function size(bytes) {
  let amount = bytes;
  let unit = "bytes";
  for (const larger of ["KB", "MB", "GB", "TB"]) {
    if (amount < 1023.5) break;
    amount /= 1024;
    unit = larger;
  }
  return `${unit !== "bytes" && amount < 9.95 ? amount.toFixed(1) : rounded(amount)} ${unit}`;
}

/** A half goes to the even number, as in the command. */
function rounded(number) {
  const near = Math.round(number);
  return number % 1 === 0.5 && near % 2 ? near - 1 : near;
}

/**
 * Return a time in the reader's zone, as short as is unmistakable: `18:40`, `Mon 12:02`, `Dec 9`.
 *
 * @param {Date} date
 * @param {Date} [at] what counts as now.
 * @returns {string}
 */
export function clock(date, at = now()) {
  const two = (number) => String(number).padStart(2, "0");
  const hour = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (date.toDateString() === at.toDateString()) return hour;
  if (Math.abs(secondsBetween(at, date)) < 6 * DAY) return `${DAYS[date.getDay()]} ${hour}`;
  const day = `${MONTHS[date.getMonth()]} ${date.getDate()}`;
  return date.getFullYear() === at.getFullYear() ? day : `${day}, ${date.getFullYear()}`;
}

/**
 * Return a time against now: `22 min ago`, `Mon 12:02`, `in 38 min`, `on Dec 9`, `any moment`.
 *
 * @param {Date} date
 * @param {Date} [at] what counts as now.
 * @returns {string}
 */
function relative(date, at = now()) {
  const ahead = secondsBetween(at, date);
  if (ahead <= -DAY) return clock(date, at);
  if (ahead <= -1) return `${duration(-ahead)} ago`;
  if (ahead <= 0) return "any moment";
  return ahead < DAY ? `in ${duration(ahead)}` : `on ${clock(date, at)}`;
}

/**
 * Return when something is to happen: as `relative`, and `any moment` once it is due.
 *
 * @param {Date} date
 * @param {Date} [at] what counts as now.
 * @returns {string}
 */
export function ahead(date, at = now()) {
  return date <= at ? "any moment" : relative(date, at);
}

/**
 * Return a time in full, in UTC: `2026-11-26 17:40:03 UTC`.
 *
 * @param {Date} date
 * @returns {string}
 */
function utc(date) {
  return `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/**
 * Return a time as an element: machines read the moment, hovering shows it in UTC.
 *
 * @param {Date|null} date nothing is shown for null.
 * @param {(date: Date, at: Date) => string} [says] how it is said: `relative`, `clock`, or another.
 * @returns {unknown} a template.
 */
export function moment(date, says = relative) {
  if (date === null) return "";
  return html`<time datetime=${date.toISOString()} title=${utc(date)}>${says(date, now())}</time>`;
}

/**
 * Call something at every full second while the page is seen.
 *
 * @param {() => void} tick
 */
export function everySecond(tick) {
  const wait = () => setTimeout(run, 1000 - (Date.now() % 1000));
  const run = () => {
    if (!document.hidden) tick();
    wait();
  };
  wait();
}
