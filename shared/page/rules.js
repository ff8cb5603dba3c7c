/**
 * Checks what people type by the rules of the API, before it is sent. `shared/entry/bodies.py` and
 * `shared/domain/credentials.py` have the same rules in Python, and decide: these only say it
 * sooner. Each function returns what is wrong, in the API's words, or an empty string.
 *
 * @module
 */

const NAME = /^[A-Za-z0-9._-]{1,48}$/;
const TAG = /^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64})$/;
// Characters.
const LONGEST_TEXT = 1024;
const NO_CREDENTIALS =
  "must not hold credentials: no user name or password before '@', and no token";

// Over SSH a bare user name is not a secret: keys are.
const SSH = new Set(["ssh", "git+ssh", "ssh+git", "svn+ssh", "bzr+ssh", "sftp", "rsync"]);
const URL_START = /(?:([a-z][a-z0-9+.-]*):|(?<![^\s=])(?=\/\/))[/\\]+([^/\\?#\s]*)/giu;
const WITHOUT_SCHEME = /^\s*[^/\\@:\s]*:[^/\\@\s]+@[^@\s]/u;
const PARAMETERS = /[?#&;]([^?#\s]*)/gu;
const PARAMETER_ENDS = [
  "token",
  "secret",
  "password",
  "passwd",
  "passphrase",
  "pwd",
  "apikey",
  "accesskey",
  "privatekey",
  "signature",
  "credential",
  "credentials",
  "authorization",
];
const PARAMETER_NAMES = new Set(["auth", "bearer", "jwt", "key", "pass", "sig", "userpass"]);
const KNOWN_TOKEN =
  /(?<![\p{L}\p{N}_])(?:gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_[\p{L}\p{N}_]{16,}|gl[a-z]{2,5}-[\p{L}\p{N}_-]{16,})/u;

/** Say what is wrong with a workspace's name. */
export function nameProblem(text) {
  return NAME.test(text) ? "" : "must be 1 to 48 letters, digits, '-', '_' or '.'";
}

/** Say what is wrong with a repository: a URL, `git@host:path`, or any other form. */
export function repositoryProblem(text) {
  return branchProblem(text) || (holdsCredentialsWithoutScheme(text) ? NO_CREDENTIALS : "");
}

/** Say what is wrong with a branch, or any other line that everybody may see. */
export function branchProblem(text) {
  const characters = [...text];
  if (characters.length > LONGEST_TEXT) return `must be at most ${LONGEST_TEXT} characters`;
  if (characters.some(isControl)) return "must be one line of text without control characters";
  return holdsCredentials(text) ? NO_CREDENTIALS : "";
}

/** Say what is wrong with an image's tag, of which `patterns` are allowed. */
export function imageProblem(text, patterns) {
  if (!TAG.test(text)) return "must be a container image's tag, or its digest: sha256:…";
  if (!patterns || patterns.some((pattern) => matches(text, pattern))) return "";
  return `must be one of ${patterns.join(", ")}`;
}

/** Say whether a text holds a password, a token, or a user name that may be one. */
function holdsCredentials(text) {
  const once = unquote(text);
  return [text, once, unquote(once)].some(inPlain);
}

function holdsCredentialsWithoutScheme(text) {
  return [text, unquote(text)].some((plain) => WITHOUT_SCHEME.test(plain));
}

function inPlain(text) {
  return (
    [...text.matchAll(URL_START)].some((found) => inAuthority(found[1] ?? "", found[2], text)) ||
    [...text.matchAll(PARAMETERS)].some((found) => inParameters(found[1])) ||
    KNOWN_TOKEN.test(text)
  );
}

function inAuthority(scheme, authority, text) {
  const at = authority.lastIndexOf("@");
  if (at < 0) {
    // A password with a slash in it: the authority ends within it, where a port would be.
    const rest = authority.replace(/\[.*\]/u, "");
    const colon = rest.indexOf(":");
    const port = colon < 0 ? "" : rest.slice(colon + 1);
    return port !== "" && !/^\p{Nd}+$/u.test(port) && text.includes("@");
  }
  const user = authority.slice(0, at);
  const colon = user.indexOf(":");
  const name = colon < 0 ? user : user.slice(0, colon);
  const password = colon < 0 ? "" : user.slice(colon + 1);
  return SSH.has(scheme.toLowerCase()) ? password !== "" : name !== "" || password !== "";
}

function inParameters(text) {
  return text.split(/[&;]/u).some((part) => {
    const equals = part.indexOf("=");
    if (equals < 0 || equals === part.length - 1) return false;
    const name = unquote(part.slice(0, equals).replaceAll("+", " "));
    const letters = name.toLowerCase().replace(/[^a-z]/gu, "");
    return PARAMETER_NAMES.has(letters) || PARAMETER_ENDS.some((end) => letters.endsWith(end));
  });
}

/** Undo percent-encoding; what is not valid stays or becomes a replacement character. */
function unquote(text) {
  return text.replace(/(?:%[0-9a-f]{2})+/giu, (encoded) => {
    const bytes = encoded
      .slice(1)
      .split("%")
      .map((pair) => Number.parseInt(pair, 16));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes));
  });
}

function isControl(character) {
  const code = character.codePointAt(0);
  return code < 32 || (code >= 0x7f && code < 0xa0) || (code >= 0xd800 && code < 0xe000);
}

/** Match a text with a shell's pattern: `*`, `?`, `[abc]`, `[!abc]`. */
function matches(text, pattern) {
  let source = "";
  for (let at = 0; at < pattern.length; at += 1) {
    const one = pattern[at];
    const end = one === "[" ? pattern.indexOf("]", at + (pattern[at + 1] === "!" ? 3 : 2)) : -1;
    if (one === "*") source += ".*";
    else if (one === "?") source += ".";
    else if (end > 0) {
      const within = pattern.slice(at + 1, end).replace(/[\\[\]^]/gu, "\\$&");
      source += `[${within.startsWith("!") ? `^${within.slice(1)}` : within}]`;
      at = end;
    } else source += one.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&");
  }
  return new RegExp(`^(?:${source})$`, "su").test(text);
}
