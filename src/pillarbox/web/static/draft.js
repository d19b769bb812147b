// What a visitor typed and has not sent yet, with the key of what was tried already: kept by the browser for as long as
// the tab is open. Values are { name: text }, of what is typed alone: no hidden field, no captcha's token.

export class Draft {
  #place;
  #kept;

  // One for each address that a form posts to.
  constructor(action) {
    this.#place = `pillarbox draft ${new URL(action, location.href).pathname}`;
    this.#kept = withStorage((storage) => JSON.parse(storage.getItem(this.#place))) ?? {};
  }

  // What was typed last, or {}.
  get values() {
    return this.#kept.values ?? {};
  }

  keep(values) {
    this.#kept.values = values;
    withStorage((storage) => storage.setItem(this.#place, JSON.stringify(this.#kept)));
  }

  // A key stands for one message: the same text has the same one, however often it is sent, from however many loads.
  keyOf(values) {
    const text = JSON.stringify(values);
    if (this.#kept.tried?.text !== text) this.#kept.tried = { key: newKey(), text };
    this.keep(values);
    return this.#kept.tried.key;
  }

  forgetKey() {
    delete this.#kept.tried;
  }

  forget() {
    this.#kept = {};
    withStorage((storage) => storage.removeItem(this.#place));
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

// A random UUID (RFC 9562, section 5.4). crypto.randomUUID is missing on plain http.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
