// Draws the messages of a room: one list item a message, made once and kept, so that pictures don't flicker.

import { $, avatar, dayText, el, icon, linked, paint, reconcile, time } from "./dom.js";
import { addressOf, isPicture, sizeText } from "./files.js";

const GROUP_MS = 5 * 60_000; // one author's messages within this time stand together
const NEAR_END_PX = 80;
const MAX_RATIO = 3; // of a picture's sides: one that is longer would be a stripe in the list, and is cropped there

export class MessageList {
  #room = null;
  #following = true; // keep the newest message in view
  #lastTop = 0;
  #missed = 0;
  #days = new Map();

  /** `me()` gives our own person; `fetchFile(item)` the bytes of a file; `retry(item)` and `discard(item)` deal with what failed. */
  constructor({ me, fetchFile, retry, discard }) {
    Object.assign(this, { me, fetchFile, retry, discard });
    this.list = $("messages");
    this.scroller = $("scroller");
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    $("to-latest").addEventListener("click", () => this.toLatest());
    const follow = new ResizeObserver(() => this.#following && this.#toEnd());
    follow.observe(this.list);
    follow.observe(this.scroller);
    this.inView = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) if (isIntersecting) target.load();
      },
      { root: this.scroller, rootMargin: "300px" },
    );
    $("lightbox").addEventListener("click", (event) => event.target.tagName !== "IMG" && event.target.id !== "lightbox-download" && $("lightbox").close());
  }

  /** Shows a room (or none) from its newest message. */
  show(room) {
    this.#room = room;
    this.toLatest();
    this.draw();
    this.#toEnd();
  }

  /** Brings the list up to date with the room. */
  draw() {
    const nodes = [];
    let previous = null; // the message just above
    let shownDay = null;
    const items = this.#room?.sorted() ?? [];
    const times = timesOf(items);
    for (const [index, item] of items.entries()) {
      const day = dayText(times[index]);
      if (day !== shownDay) {
        nodes.push(this.#day(day));
        previous = null;
      }
      shownDay = day;
      if (item.kind === "message") {
        item.node ??= this.#message(item);
        const isSame = previous?.from.id === item.from.id && previous.from.name === item.from.name;
        item.node.classList.toggle("grouped", isSame && item.at - previous.at < GROUP_MS);
        this.#refresh(item);
        previous = item;
      } else {
        item.node ??= el("li", { class: item.kind, "data-testid": item.kind });
        item.node.textContent = item.text;
        previous = null;
      }
      nodes.push(item.node);
    }
    reconcile(this.list, nodes);
    if (this.#following) this.#toEnd();
  }

  /** A new message has come while this room is shown. */
  arrived(item) {
    this.draw();
    if (this.#following) return;
    this.#missed += 1;
    $("to-latest-text").textContent = this.#missed === 1 ? "1 new message" : `${this.#missed} new messages`;
    $("to-latest").hidden = false;
  }

  toLatest() {
    this.#following = true;
    this.#missed = 0;
    $("to-latest").hidden = true;
    this.#toEnd();
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #scrolled() {
    // Only a person scrolls up; a picture that has loaded makes the list longer below an unmoved view.
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#following = true;
    else if (scrollTop < this.#lastTop) this.#following = false;
    this.#lastTop = scrollTop;
    if (this.#following) {
      this.#missed = 0;
      $("to-latest").hidden = true;
    } else if (!this.#missed) {
      $("to-latest-text").textContent = "Latest";
      $("to-latest").hidden = false;
    }
  }

  #day(text) {
    if (!this.#days.has(text)) this.#days.set(text, el("li", { class: "day", "data-testid": "day" }, text));
    return this.#days.get(text);
  }

  #message(item) {
    const mine = item.from.id === this.me().id;
    return el(
      "li",
      { class: mine ? "message mine" : "message", "data-testid": "message" },
      mine ? null : avatar(item.from),
      el(
        "div",
        { class: "message-main" },
        el("div", { class: "meta" }, mine ? el("span", { class: "sr-only" }, "You") : paint(el("span", { class: "author" }, item.from.name), item.from), time(item.at)),
        item.text ? el("div", { class: "bubble" }, el("p", { class: "text", "data-testid": "message-text", dir: "auto" }, ...linked(item.text))) : null,
        item.file ? (isPicture(item.file) ? this.#picture(item) : this.#file(item)) : null,
        el("div", { class: "message-state", hidden: true }),
      ),
    );
  }

  /** What may change in a message: on its way, failed, sent. */
  #refresh(item) {
    const { node } = item;
    node.dataset.id = item.id ?? "";
    node.dataset.author = item.from.name;
    node.dataset.state = item.state;
    const shown = `${item.state} ${item.sending} ${item.error}`;
    if (item.shown === shown) return;
    item.shown = shown;
    const state = node.querySelector(".message-state");
    state.hidden = item.state === "sent";
    if (item.state === "pending" && !item.sending) state.replaceChildren("Will be sent when the connection is back");
    else if (item.state === "pending") state.replaceChildren(item.file ? "Sending the file…" : "Sending…");
    if (item.state === "failed") {
      state.replaceChildren(
        el("span", {}, `Not sent. ${item.error}`),
        el("button", { type: "button", class: "link", onclick: () => this.retry(item) }, "Try again"),
        el("button", { type: "button", class: "link", onclick: () => this.discard(item) }, "Discard"),
      );
    }
  }

  /** The address of the file's bytes: from memory, else asked from the server, once. */
  #address(item) {
    item.address ??= (async () => {
      const data = item.file.data ?? (await this.fetchFile(item));
      if (item.state === "sent") item.file.data = null; // the Blob behind the address holds them from here on
      const address = addressOf(item.file, data);
      item.dispose = () => URL.revokeObjectURL(address);
      return address;
    })();
    item.address.catch(() => (item.address = null));
    return item.address;
  }

  #picture(item) {
    const { name } = item.file;
    const waiting = el("span", { class: "waiting" }, "Loading the picture…");
    const frame = el("div", { class: "bubble picture", "data-testid": "picture" }, waiting);
    const failed = (text) => {
      const again = el("button", { type: "button", class: "link", onclick: () => { frame.replaceChildren(waiting); frame.load(); } }, "Try again");
      frame.replaceChildren(el("div", { class: "waiting" }, el("p", {}, `${name}: ${text} `, again)));
    };
    frame.load = async () => {
      this.inView.unobserve(frame);
      try {
        const address = await this.#address(item);
        const image = el("img", { src: address, alt: `Picture ${name}`, "data-testid": "picture-image" });
        await image.decode();
        const { naturalWidth: width, naturalHeight: height } = image;
        image.classList.toggle("cropped", Math.max(width / height, height / width) > MAX_RATIO);
        frame.replaceChildren(el("button", { type: "button", "aria-label": `Enlarge the picture ${name}`, onclick: () => enlarge(item, address) }, image));
      } catch (error) {
        failed(error.code ? error.message : "this is not a picture that can be shown.");
      }
    };
    this.inView.observe(frame);
    return frame;
  }

  #file(item) {
    const { name, size } = item.file;
    const note = el("span", { class: "file-size" }, sizeText(size));
    const save = async () => {
      try {
        download(name, await this.#address(item));
        note.textContent = sizeText(size);
      } catch (error) {
        note.textContent = error.message;
      }
    };
    return el(
      "div",
      { class: "bubble file", "data-testid": "file" },
      icon("file"),
      el("div", { class: "file-text" }, el("span", { class: "file-name" }, name), note),
      el("button", { type: "button", class: "icon-button", "aria-label": `Download ${name}`, "data-testid": "download", onclick: save }, icon("down")),
    );
  }
}

/**
 * The times under which items stand. They never go back, so that each day has one line: a note that was missed bears the time at
 * which it came here, though it is older than the message below it; and the clock of this page may not be the server's.
 */
function timesOf(items) {
  const times = items.map(({ at }) => at);
  for (let i = items.length - 2; i >= 0; i--) if (items[i].kind !== "message") times[i] = Math.min(times[i], times[i + 1]);
  for (let i = 1; i < items.length; i++) times[i] = Math.max(times[i], times[i - 1]);
  return times;
}

function enlarge(item, address) {
  const { name } = item.file;
  Object.assign($("lightbox-image"), { src: address, alt: `Picture ${name}` });
  $("lightbox-name").textContent = name;
  Object.assign($("lightbox-download"), { href: address, download: name });
  $("lightbox").showModal();
}

function download(name, address) {
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
