// What a visitor typed and has not sent yet, with the key of what was tried already: kept by the browser for as long as
// the tab is open, and for an hour at most, since others may come to the same screen. Values are { name: text }, of what
// is typed alone: no hidden field, no captcha's token.

const GOOD_FOR = 3_600_000;

export class Draft {
  #place;
  #kept;

  // One for each address that a form posts to.
  constructor(action) {
    this.#place = `pillarbox draft ${new URL(action, location.href).pathname}`;
    this.#kept = withStorage((storage) => JSON.parse(storage.getItem(this.#place))) ?? {};
    // The clock may have been put back since, and what is no draft of ours has no time.
    if (!(Math.abs(Date.now() - this.#kept.at) < GOOD_FOR)) this.forget();
  }

  // What was typed last, or {}.
  get values() {
    return this.#kept.values ?? {};
  }

  // Whoever takes all of it out again leaves nothing behind.
  keep(values) {
    if (Object.values(values).every((text) => text === "")) this.forget();
    else this.#write(values);
  }

  // A key stands for one message: the same text has the same one, however often it is sent, from however many loads.
  keyOf(values) {
    const mark = fingerprint(JSON.stringify(values));
    if (this.#kept.tried?.mark !== mark) this.#kept.tried = { key: newKey(), mark };
    this.#write(values);
    return this.#kept.tried.key;
  }

  forgetKey() {
    delete this.#kept.tried;
  }

  forget() {
    this.#kept = {};
    withStorage((storage) => storage.removeItem(this.#place));
  }

  #write(values) {
    Object.assign(this.#kept, { at: Date.now(), values });
    withStorage((storage) => storage.setItem(this.#place, JSON.stringify(this.#kept)));
  }
}

// A storage may be full, hold what is not ours, or be forbidden, when even its name throws. It is a help, no need.
function withStorage(use) {
  try {
    return use(sessionStorage);
  } catch {
    return undefined;
  }
}

// 32 bits by which to know a text again without keeping it (the steps of FNV-1a). Two texts with the same bits do no
// harm: the server compares for itself, and refuses the second of them under the first one's key.
function fingerprint(text) {
  let bits = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) bits = Math.imul(bits ^ text.charCodeAt(at), 0x01000193);
  return bits >>> 0;
}

// A random UUID (RFC 9562, section 5.4). crypto.randomUUID is missing on plain http.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
