// One message on its way to the server: asked again under the same key until there is an answer that counts. It knows
// nothing of the page. An outcome is { sent, answer, why, again, wait }: whether the message is kept, what the server
// said, else why nothing was heard ("unanswered", "unreachable"), whether to ask again, and after how long at least.

const PATIENCE = 30_000;
const LEAST_PATIENCE = 5_000;
const PERSISTENCE = 120_000;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 16_000;

// Asks once; never throws. `patience` is in milliseconds, `signal` ends it at once.
export async function post(action, fields, { key, patience, signal }) {
  const asking = new AbortController();
  const end = () => asking.abort();
  const timer = setTimeout(end, patience);
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  try {
    const response = await fetch(action, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "Idempotency-Key": key },
      body: JSON.stringify(fields),
      signal: asking.signal,
    });
    return judge(response, await response.text());
  } catch {
    return { sent: false, why: asking.signal.aborted ? "unanswered" : "unreachable", again: true, wait: 0 };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

function judge({ ok, status, headers }, text) {
  const answer = parsed(text);
  const later = headers.get("Retry-After");
  // A 500 is a fault that stays, unless it says when it will be over: so says our server when it cannot keep a message.
  const again = status > 500 || (status === 500 && later !== null);
  return { sent: ok && answer?.success === true, answer, again, wait: milliseconds(later ?? "") };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // a proxy's page
  }
}

// Retry-After is a number of seconds or a date (RFC 9110, section 10.2.3).
function milliseconds(later) {
  const found = /^\d+$/.test(later) ? Number(later) * 1_000 : Date.parse(later) - Date.now();
  return Math.max(0, found || 0);
}

// Lets `ask(patience)` try until its outcome is not to be asked for again, two minutes are over, or `signal` ends it.
// Before each pause `onPause` is called. Time without a connection does not count: nothing can be tried in it.
export async function persist(ask, { signal, onPause }) {
  let deadline = 0;
  let pause = FIRST_PAUSE;
  for (;;) {
    if (!navigator.onLine || !deadline) deadline = performance.now() + PERSISTENCE;
    // A machine that slept wakes long after the deadline: the try that it had waited for is a whole one all the same.
    const left = Math.max(LEAST_PATIENCE, deadline - performance.now());
    const outcome = await ask(Math.min(PATIENCE, left));
    // Who failed together shall not come back together.
    const wait = Math.max(outcome.wait, pause / 2) + Math.random() * pause;
    const late = navigator.onLine && performance.now() + wait > deadline;
    if (!outcome.again || late || signal.aborted) return outcome;
    onPause();
    const back = await slept(wait, signal);
    if (signal.aborted) return outcome;
    pause = back ? FIRST_PAUSE : Math.min(2 * pause, LONGEST_PAUSE);
  }
}

// Resolves after so many milliseconds, when `signal` ends it, or with true as soon as the connection is back.
function slept(wait, signal) {
  return new Promise((resolve) => {
    const woken = new AbortController();
    const wake = (event) => {
      clearTimeout(timer);
      woken.abort();
      resolve(event?.type === "online");
    };
    const timer = setTimeout(wake, wait);
    addEventListener("online", wake, { signal: woken.signal });
    signal.addEventListener("abort", wake, { signal: woken.signal });
  });
}
