// What the page knows of a room that this person is in. No DOM here.

const KEPT_ITEMS = 300;
const TYPING_LASTS_MS = 5_000;

let sequence = 0; // orders what the server hasn't numbered: notes, and messages on their way

export class Room {
  items = new Map(); // key -> message or note
  people = new Map(); // id -> person
  typing = new Map(); // id -> { person, until }
  unread = 0;
  draft = "";
  missed = null; // the line above what was missed, while that comes
  ready = false; // joined on the present connection

  constructor(name) {
    this.name = name;
  }

  /** A message from the server. Returns the item when it's new, null when we had it. A line above the first that was missed says how many were. */
  receive(message, { missed = false } = {}) {
    const key = `m${message.id}`;
    if (this.items.has(key)) return null;
    const mine = this.items.get(`p${message.nonce}`);
    if (mine) {
      this.confirm(mine, message);
      return null;
    }
    if (missed) this.#countMissed();
    const item = { ...message, kind: "message", key, after: message.id, n: 0, state: "sent" };
    this.#add(item);
    return item;
  }

  /** A message of our own that isn't acknowledged yet. The nonce lets it be sent again and stored once. */
  compose(from, text, file) {
    const nonce = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("");
    const item = { kind: "message", key: `p${nonce}`, after: Infinity, n: ++sequence, nonce, from, at: Date.now(), text, file, state: "pending" };
    this.#add(item);
    return item;
  }

  /** Our message has come back from the server, so it is kept: it takes its place among the others. */
  confirm(item, message) {
    this.items.delete(item.key);
    Object.assign(item, { key: `m${message.id}`, id: message.id, at: message.at, text: message.text, after: message.id, n: 0, state: "sent", error: null, sending: false });
    if (item.address) item.file.data = null; // shown already, so a Blob holds the bytes
    this.#add(item);
  }

  note(text) {
    const last = this.sorted().findLast((item) => item.after !== Infinity);
    const item = { kind: "note", key: `n${++sequence}`, after: last?.after ?? 0, n: sequence, at: Date.now(), text };
    this.#add(item);
    return item;
  }

  #countMissed() {
    this.missed ??= Object.assign(this.note(""), { kind: "missed", count: 0 });
    this.missed.count += 1;
    this.missed.text = `${this.missed.count} ${this.missed.count === 1 ? "message" : "messages"} while you were away`;
  }

  /** What comes from now on wasn't missed. */
  caughtUp() {
    this.missed = null;
  }

  sorted() {
    return [...this.items.values()].sort((a, b) => (a.after === b.after ? a.n - b.n : a.after - b.after));
  }

  pending() {
    return this.sorted().filter((item) => item.state === "pending");
  }

  forget(item) {
    this.items.delete(item.key);
    item.dispose?.();
  }

  /** Our connection is lost: who types isn't known, and what was sent may have to be sent again. */
  lost() {
    this.ready = false;
    this.typing.clear();
    for (const item of this.pending()) item.sending = false;
  }

  arrived(person) {
    const known = this.people.has(person.id);
    this.people.set(person.id, person);
    return !known;
  }

  departed(person) {
    this.typing.delete(person.id);
    return this.people.delete(person.id);
  }

  /** Someone has another name. What they have said keeps the name under which they said it. */
  renamed(person) {
    if (this.people.has(person.id)) this.people.set(person.id, person);
    const typing = this.typing.get(person.id);
    if (typing) typing.person = person;
  }

  setTyping(person, typing) {
    if (typing) this.typing.set(person.id, { person, until: Date.now() + TYPING_LASTS_MS });
    else this.typing.delete(person.id);
  }

  /** Who is typing now; entries that were never taken back run out. */
  typists() {
    for (const [id, { until }] of this.typing) if (until <= Date.now()) this.typing.delete(id);
    return [...this.typing.values()].map(({ person }) => person);
  }

  dispose() {
    for (const item of this.items.values()) item.dispose?.();
  }

  #add(item) {
    this.items.set(item.key, item);
    if (this.items.size <= KEPT_ITEMS) return;
    for (const old of this.sorted().slice(0, this.items.size - KEPT_ITEMS)) this.forget(old);
  }
}
