// The box in which a message is written: its text, and the pictures and files that will go with it.

import { $, el, icon } from "./dom.js";
import { addressOf, isPicture, prepare, sizeText } from "./files.js";

const MAX_STAGED = 6;
const TYPING_AGAIN_MS = 2_000; // "still typing" is told this often

export class Composer {
  #staged = []; // { name, type, size, data, chip }
  #toldTypingAt = 0;

  /** `limits()` as the server told them; `send(text, files)`; `typing(boolean)` tells the others. */
  constructor({ limits, send, typing }) {
    Object.assign(this, { limits, send, typing });
    this.text = $("text");
    this.text.addEventListener("input", () => this.#changed());
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.text.addEventListener("blur", () => this.#tellTyping(false));
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    $("file-input").addEventListener("change", ({ target }) => {
      this.#stage([...target.files]);
      target.value = "";
    });
    this.text.addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files];
      if (!files.length) return;
      event.preventDefault();
      this.#stage(files);
    });
    this.#acceptDrops($("conversation"));
    this.#changed();
  }

  /** Changes to another room (or none) and gives back the draft that was there. */
  open(room, draft = "") {
    const before = this.text.value;
    this.#tellTyping(false);
    this.room = room;
    this.text.value = draft;
    this.text.placeholder = room ? `Message #${room}` : "Join a room to write";
    this.text.disabled = !room;
    $("file-input").disabled = !room;
    this.#error("");
    this.#changed({ quiet: true });
    return before;
  }

  focus() {
    // On a touch screen the keyboard would cover the room that was just opened.
    if (matchMedia("(pointer: fine)").matches) this.text.focus();
  }

  #submit() {
    const text = this.text.value.trim();
    if (!this.room || (!text && !this.#staged.length) || this.#excess()) return;
    const files = this.#staged;
    for (const { chip, preview } of files) {
      chip.remove();
      if (preview) URL.revokeObjectURL(preview);
    }
    this.#staged = [];
    this.text.value = "";
    this.#toldTypingAt = 0; // the message itself tells the others that the typing is over
    this.#error("");
    this.#changed({ quiet: true });
    this.send(text, files.map(({ name, type, size, data }) => ({ name, type, size, data })));
  }

  /** How many characters are too many. */
  #excess() {
    return Math.max(0, [...this.text.value.trim()].length - this.limits().text);
  }

  #changed({ quiet = false } = {}) {
    const { text } = this;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
    const over = this.#excess();
    if (over > 0) this.#error(`This is ${over} ${over === 1 ? "character" : "characters"} too long; a message has up to ${this.limits().text}.`);
    else if (this.wasTooLong) this.#error("");
    this.wasTooLong = over > 0;
    $("send").disabled = !this.room || over > 0 || (!text.value.trim() && !this.#staged.length);
    $("chips").hidden = !this.#staged.length;
    if (!quiet) this.#tellTyping(text.value.trim() !== "");
  }

  #tellTyping(typing) {
    const now = Date.now();
    if (typing ? now - this.#toldTypingAt < TYPING_AGAIN_MS : !this.#toldTypingAt) return;
    this.#toldTypingAt = typing ? now : 0;
    this.typing(typing);
  }

  async #stage(files) {
    if (!this.room) return;
    this.#error("");
    for (const file of files) {
      if (this.#staged.length >= MAX_STAGED) {
        this.#error(`Up to ${MAX_STAGED} files go with one message.`);
        break;
      }
      try {
        this.#addChip(await prepare(file, this.limits().file));
      } catch (error) {
        this.#error(error.message);
      }
    }
    this.#changed({ quiet: true });
    this.focus();
  }

  #addChip(file) {
    const staged = { ...file };
    if (isPicture(file)) staged.preview = addressOf(file, file.data);
    const remove = () => {
      this.#staged = this.#staged.filter((other) => other !== staged);
      staged.chip.remove();
      if (staged.preview) URL.revokeObjectURL(staged.preview);
      this.#changed({ quiet: true });
      this.focus();
    };
    staged.chip = el(
      "li",
      { class: "chip", "data-testid": "attachment" },
      staged.preview ? el("img", { src: staged.preview, alt: "" }) : icon("file"),
      el("span", { class: "chip-text" }, `${file.name}, ${sizeText(file.size)}`),
      el("button", { type: "button", class: "icon-button", "aria-label": `Remove ${file.name}`, onclick: remove }, icon("close")),
    );
    this.#staged.push(staged);
    $("chips").append(staged.chip);
  }

  #acceptDrops(zone) {
    let depth = 0;
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    const show = (shown) => ($("drop").hidden = !shown || !this.room);
    zone.addEventListener("dragenter", (event) => carriesFiles(event) && show(++depth > 0));
    zone.addEventListener("dragleave", (event) => carriesFiles(event) && show(--depth > 0));
    // Everywhere on the page, so that a file that misses the zone doesn't replace the chat.
    addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      depth = 0;
      show(false);
      if (zone.contains(event.target)) this.#stage([...event.dataTransfer.files]);
    });
  }

  #error(text) {
    $("composer-error").textContent = text;
  }
}
