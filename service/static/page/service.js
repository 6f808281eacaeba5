// Talks to the service. Keys, refusals that ask for patience, and times are dealt with here and nowhere else.

const KEPT = "sightline-key";
const ATTEMPTS = 4; // of one question, while the service says that it is too busy
// What the service says of keys is for who writes a client.
const MISSING = "Ask whoever runs it for one.";
const UNKNOWN = "The key that was entered is not known here. Look whether it is complete, or ask whoever runs this service for another.";

let key = kept();
let wantKey = async () => null;
let asking = null;

/** An answer that is none: the words of the service's problem, or of this page where the service said nothing. */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same question may be answered later: with a key, or once the service can be reached and has time. */
  get mayPass() {
    return [0, 401, 408, 429].includes(this.status) || this.status >= 500;
  }
}

/** Whether a key goes with each question. */
export function hasKey() {
  return key !== null;
}

/** `ask(why)` is called when a key is wanted, and resolves to one, or to null when nobody gives one. */
export function onKeyWanted(ask) {
  wantKey = ask;
}

/**
 * Ask the service: GET without a body, else POST.
 *
 * Resolves to `{ answer, server, total, roundTrip }`: JSON or a Blob; the stages of Server-Timing by name, their
 * total, and the time until the last byte was here, in milliseconds. `attempts` is how often a busy service is asked;
 * `onWait(seconds)` is told of each pause that it asked for. Rejects with a Problem, or an AbortError after `signal`.
 */
export async function ask(path, { body, signal, attempts = ATTEMPTS, onWait = () => {} } = {}) {
  for (let attempt = 1; ; attempt++) {
    const used = key;
    const startedAt = performance.now();
    const response = await send(path, body, signal, used);
    if (response.ok) {
      const json = (response.headers.get("content-type") ?? "").includes("json");
      const answer = await (json ? response.json() : response.blob()).catch(broken);
      const { total, ...server } = stages(response.headers.get("server-timing") ?? "");
      return { answer, server, total, roundTrip: performance.now() - startedAt };
    }
    const problem = await problemOf(response);
    if (response.status === 401) {
      if (used !== key || (await renewKey(used === null ? MISSING : UNKNOWN))) continue;
      throw new Problem(401, used === null ? `This service needs a key. ${MISSING}` : UNKNOWN);
    }
    if (response.status !== 503 || attempt >= attempts) throw problem;
    const seconds = Math.min(Math.max(Number(response.headers.get("retry-after")) || 1, 0.5), 30);
    onWait(seconds);
    // A little later than asked, each a little differently: those who were refused together should not come together.
    await pause(seconds * 1000 + Math.random() * 250, signal);
  }
}

/** A function that runs `run` again and again while it is wanted: one at a time, and the last call is never lost. */
export function newestWins(run) {
  let wanted = false;
  let running = false;
  return async () => {
    wanted = true;
    if (running) return;
    running = true;
    try {
      while (wanted) {
        wanted = false;
        await run();
      }
    } finally {
      running = false;
    }
  };
}

/** Resolves after a while; rejects with an AbortError when `signal` comes first. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

async function send(path, body, signal, used) {
  const headers = used ? { Authorization: `Bearer ${used}` } : {};
  // The service looks at the bytes alone; without a type of its own the browser would name none.
  if (body) headers["Content-Type"] = body.type.startsWith("image/") ? body.type : "application/octet-stream";
  try {
    return await fetch(path, { method: body ? "POST" : "GET", body, headers, signal, cache: "no-store" });
  } catch (error) {
    return broken(error);
  }
}

/** What the browser says of a connection that could not be made, or that broke within an answer. */
function broken(error) {
  if (error.name === "AbortError") throw error;
  throw new Problem(0, "The service cannot be reached, or ended the connection.");
}

async function problemOf(response) {
  try {
    const { title, detail } = await response.json();
    if (title) return new Problem(response.status, detail || title);
  } catch {
    // Something between here and the service answered, in a form of its own.
  }
  return new Problem(response.status, `The answer was ${response.status} ${response.statusText}.`);
}

function stages(header) {
  const found = {};
  for (const [, name, ms] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) found[name] = Number(ms);
  return found;
}

/** Whether there is a new key now. Several questions that were refused wait for the same one. */
async function renewKey(why) {
  asking ??= sendable(why).finally(() => (asking = null));
  key = await asking; // where nobody gives another, the one that is not known is of no use
  try {
    if (key === null) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, key);
  } catch {
    // Storage is off: the key lasts as long as the page.
  }
  return key !== null;
}

/** A key that a header can hold: what is pasted may have a dash or a space in it that nobody sees. */
async function sendable(why) {
  let given = await wantKey(why);
  while (given !== null && !/^[\x21-\x7e]+$/.test(given)) {
    given = await wantKey("That is no key: there are spaces or other characters in it that no key has.");
  }
  return given;
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null;
  }
}
