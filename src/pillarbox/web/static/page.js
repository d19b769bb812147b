// The form without leaving the page. Everything here has its counterpart without a script: the same form posts by
// itself and gets a page. Sentences come translated from the data- attributes; nothing is ever written as HTML.

import { Draft } from "./draft.js";
import { persist, post } from "./sending.js";

const SHOWN_FOR = 5_000;
const SILENT_FOR = 5_000;
const CAPTCHAS_PATIENCE = 5_000;
const CAPTCHAS_WIDTH = 304;

const form = document.querySelector("form.letter");
const button = form.querySelector("button[type=submit]");
const label = button.querySelector(".label");
const spinner = button.querySelector(".spinner-border");
const receipt = form.querySelector(".receipt");
const earlier = form.querySelector(".earlier");
const good = form.querySelector(".says[role=status]");
const bad = form.querySelector(".says[role=alert]");
const captcha = form.querySelector(".captcha");
const widget = captcha?.querySelector("[data-sitekey]");
const controls = [...form.querySelectorAll(".form-control")];
const idleLabel = label.textContent;
const action = form.getAttribute("action"); // a field may be called "action"
const draft = new Draft(action);
let stopping; // of a message on its way
let waiting; // the alert that says that we try again
let sent = 0;
let captchaFailed = false;

// What is wrong with a field, in one sentence, or "".
function problem(control) {
  const { value, validity, dataset } = control;
  if (control.required && value.trim() === "") return dataset.missing;
  // Browsers know no letters outside ASCII before the @; the server does (RFC 6531), so it decides there.
  const [local] = value.split("@");
  if (validity.typeMismatch && /^[\x20-\x7e]*$/.test(local)) return dataset.mistyped;
  return validity.tooLong ? dataset.tooLong : "";
}

function mark(control, sentence) {
  document.getElementById(control.getAttribute("aria-describedby")).textContent = sentence;
  control.classList.toggle("is-invalid", sentence !== "");
  if (sentence) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
}

// Marks what the finder calls wrong, and takes the visitor to the first of it. Tells whether anything is wrong.
function markAll(find) {
  const wrong = controls.filter((control) => {
    const sentence = find(control);
    mark(control, sentence);
    return sentence !== "";
  });
  wrong[0]?.focus();
  return wrong.length > 0;
}

// Only what was filled in: an empty optional field is left out, never sent as "" or null.
function filled() {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim() !== ""));
}

// Says to a captcha's provider, whose script runs after this one, how to draw: two of three know nothing of dark pages.
function prepare() {
  // By this name its element tells the provider whom to call when it can't go on; true says that we have seen to it.
  window.captchaFailed = () => (captchaFailed = true);
  if (!widget) return;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  widget.dataset.theme ??= dark ? "dark" : "light";
  if (captcha.clientWidth < CAPTCHAS_WIDTH) widget.dataset.size = "compact";
}

// Whether there is a captcha that was not solved. One that is blocked or broken keeps nobody from writing: without its
// token a person looks at the message first.
function unsolved() {
  return widget?.hasChildNodes() && !captchaFailed && !new FormData(form).get(captcha.dataset.field);
}

// The token of a captcha that shows nothing and judges the moment of sending; nothing at all if none comes in time.
async function judged() {
  const { action, api, field, sitekey } = captcha?.dataset ?? {};
  const provider = action && window[api];
  if (!provider) return {};
  const late = new Promise((resolve) => setTimeout(resolve, CAPTCHAS_PATIENCE));
  const token = new Promise((resolve) => provider.ready(() => resolve(provider.execute(sitekey, { action }))));
  const found = await Promise.race([token, late]).catch(() => undefined);
  return found ? { [field]: found } : {};
}

// A token counts once: after whatever may have used it up, the visitor needs another.
function renew({ sent, answer }) {
  const unused = answer?.errors?.length > 0 || answer?.code === "TOO_MANY_REQUESTS";
  if (!widget || (!sent && (unused || !answer?.code))) return;
  try {
    window[captcha.dataset.api]?.reset();
  } catch {
    captchaFailed = true; // there is nothing to be solved
  }
}

function hush() {
  good.replaceChildren();
  bad.replaceChildren();
  earlier.replaceChildren();
  form.querySelector(".alert.top")?.remove();
}

function say(region, kind, content) {
  const close = document.createElement("button");
  close.className = "btn-close";
  close.setAttribute("aria-label", form.dataset.dismiss);
  const alert = show(region, kind, content, close);
  alert.scrollIntoView({ block: "nearest" });
  close.addEventListener("click", () => {
    remove(alert);
    button.focus();
  });
  return alert;
}

function show(region, kind, content, end) {
  const alert = document.createElement("div");
  alert.className = `alert alert-${kind}`;
  const text = document.createElement("p");
  text.append(...content);
  end.type = "button";
  alert.append(text, end);
  region.replaceChildren(alert);
  return alert;
}

function showWithButton(region, content, { label, name, press }) {
  const end = document.createElement("button");
  end.className = `btn ${name}`;
  end.textContent = label;
  end.addEventListener("click", press);
  return show(region, "info", content, end);
}

function remove(alert) {
  alert.remove();
  receipt.hidden = receipt.textContent === "";
}

// Takes the alert away after five seconds, unless somebody points at it or stands in it: then five after they leave.
function dismissLater(alert) {
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => (alert.matches(":hover, :focus-within") ? wait() : remove(alert)), SHOWN_FOR);
  };
  for (const type of ["mouseleave", "focusout"]) alert.addEventListener(type, wait);
  wait();
}

function numbered(sentence, id) {
  const strong = document.createElement("strong");
  strong.textContent = id;
  return [sentence, " ", strong];
}

function succeed(answer) {
  const id = typeof answer.id === "string" ? answer.id : "";
  const sentence = answer.message || form.dataset.sent;
  HTMLFormElement.prototype.reset.call(form); // a field may be called "reset"
  draft.forget();
  for (const control of controls) mark(control, "");
  receipt.replaceChildren(...(id ? numbered(form.dataset.last, id) : []));
  dismissLater(say(good, "success", id ? [`${sentence} `, ...numbered(form.dataset.number, id)] : [sentence]));
}

// A stamp is good for so many messages from one page, and whoever writes at a counter all day never loads it anew.
async function renewStamp() {
  const stamp = form.querySelector("input[name=_stamp]");
  if (!stamp) return;
  try {
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    stamp.value = page.querySelector("input[name=_stamp]")?.value || stamp.value;
  } catch {
    // The old one still counts for a while.
  }
}

function fail({ answer, why = "failed" }) {
  const errors = Array.isArray(answer?.errors) ? answer.errors : [];
  const sentences = new Map(errors.map((error) => [error?.field, String(error?.message ?? "")]));
  const sentence = typeof answer?.message === "string" && answer.message ? answer.message : form.dataset[why];
  say(bad, "danger", [sentence]);
  markAll((control) => sentences.get(control.name) ?? "");
  if (answer?.code === "CAPTCHA_REFUSED") captcha?.focus();
}

function setBusy(value) {
  waiting?.remove();
  waiting = undefined;
  removeEventListener("beforeunload", holdOn);
  const had = document.activeElement === button || document.activeElement === document.body;
  button.disabled = value;
  spinner.hidden = !value;
  label.textContent = value ? label.dataset.busy : idleLabel;
  // Not on the form: what is said in it meanwhile has to be heard.
  form.querySelector(".fields").setAttribute("aria-busy", String(value));
  for (const control of controls) control.readOnly = value; // what is changed now would be neither sent nor kept
  if (!value && had) button.focus({ preventScroll: true }); // a disabled button loses the focus
}

// Lets the browser ask whoever is about to leave before the message has.
function holdOn(event) {
  event.preventDefault();
}

// Says that it goes on, once for each reason: what is said again and again is no longer listened to.
function tellWaiting() {
  const sentence = form.dataset[navigator.onLine ? "again" : "offline"];
  const text = waiting?.querySelector("p");
  if (text?.textContent === sentence) return;
  if (text) text.textContent = sentence;
  else {
    const stop = { label: form.dataset.stop, name: "btn-stop", press: () => stopping.abort() };
    waiting = showWithButton(good, [sentence], stop);
    addEventListener("beforeunload", holdOn);
  }
  waiting.scrollIntoView({ block: "nearest" });
}

function typed() {
  return Object.fromEntries(controls.map(({ name, value }) => [name, value]));
}

// Gives back what was typed here before, and says so: it may be somebody else who sees it now. If something else stands
// here already, that is newer.
function restore() {
  const { values } = draft;
  if (controls.some(({ name, value }) => value !== "" && value !== values[name])) return;
  for (const control of controls) control.value = values[control.name] ?? "";
  const refused = form.querySelector(".alert.top"); // what was sent a moment ago surprises nobody
  if (refused || controls.every(({ value }) => value === "")) return;
  showWithButton(earlier, [form.dataset.restored], { label: form.dataset.clear, name: "btn-clear", press: clear });
}

function clear() {
  draft.forget();
  hush();
  for (const control of controls) {
    control.value = "";
    mark(control, "");
  }
  controls[0].focus();
}

async function deliver({ signal }) {
  const ask = async (patience) => {
    const fields = { ...filled(), ...(await judged()) };
    const outcome = await post(action, fields, { key: draft.keyOf(typed()), patience, signal });
    renew(outcome);
    if (unsolved()) outcome.again = false; // only the visitor can solve another
    return outcome;
  };
  const persistently = () => persist(ask, { signal, onPause: tellWaiting });
  const outcome = await persistently();
  if (outcome.answer?.code !== "IDEMPOTENCY_KEY_REUSED") return outcome;
  draft.forgetKey(); // the key stands for another message there, so this one needs its own
  return persistently();
}

async function submit(event) {
  event.preventDefault();
  if (stopping) return;
  hush();
  if (markAll(problem)) return;
  if (unsolved()) {
    say(bad, "danger", [captcha.dataset.missing]);
    captcha.focus();
    return;
  }
  const { signal } = (stopping = new AbortController());
  setBusy(true);
  receipt.hidden = true;
  const silent = setTimeout(tellWaiting, SILENT_FOR); // a server may take its time, with nothing to be tried again
  let outcome;
  try {
    outcome = await deliver({ signal });
  } finally {
    clearTimeout(silent);
    stopping = undefined;
    setBusy(false);
  }
  if (outcome.sent) {
    succeed(outcome.answer);
    if (++sent % 5 === 0) await renewStamp();
  } else if (signal.aborted) say(good, "info", [form.dataset.stopped]);
  else fail(outcome);
}

prepare();
restore();
form.noValidate = true;
form.addEventListener("submit", submit);
form.addEventListener("input", ({ target }) => {
  draft.keep(typed());
  if (target.getAttribute("aria-invalid") && problem(target) === "") mark(target, "");
});
for (const type of ["online", "offline"]) addEventListener(type, () => waiting && tellWaiting());
