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
  ready = false; // joined on the present connection

  constructor(name) {
    this.name = name;
  }

  /** The server's account of the room, after each join. Older messages that only we still have stay. */
  refresh({ people, messages }) {
    this.people = new Map(people.map((person) => [person.id, person]));
    this.typing.clear();
    for (const message of messages) this.receive(message);
    this.ready = true;
  }

  /** A message from the server. Returns the item when it's new, null when we had it. */
  receive(message) {
    const key = `m${message.id}`;
    if (this.items.has(key)) return null;
    const mine = this.items.get(`p${message.nonce}`);
    if (mine) {
      this.confirm(mine, message);
      return null;
    }
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

  /** Our message has been acknowledged: it takes its place among the others. */
  confirm(item, message) {
    this.items.delete(item.key);
    Object.assign(item, { key: `m${message.id}`, id: message.id, at: message.at, text: message.text, after: message.id, n: 0, state: "sent", error: null });
    if (item.address) item.file.data = null; // shown already, so a Blob holds the bytes
    this.#add(item);
  }

  note(text) {
    const last = this.sorted().findLast((item) => item.after !== Infinity);
    const item = { kind: "note", key: `n${++sequence}`, after: last?.after ?? 0, n: sequence, text };
    this.#add(item);
    return item;
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

  arrived(person) {
    const known = this.people.has(person.id);
    this.people.set(person.id, person);
    return !known;
  }

  departed(person) {
    this.typing.delete(person.id);
    return this.people.delete(person.id);
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
