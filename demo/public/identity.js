// The name of this tab's person, and the key that makes it the same person: the gate, where a name is chosen, and the dialog in
// which it is changed. `chat.js` connects with them, and says which name the server has accepted.

import { $, fieldError, memory } from "./dom.js";

export class Identity {
  /** `enter({ name, key })` connects; `rename(name)` asks the server, and rejects with what is wrong with the name. */
  constructor({ enter, rename }) {
    Object.assign(this, { enter, rename });
    $("gate-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = chosen($("name"));
      if (name) this.#comeIn(name);
    });
    $("rename").addEventListener("click", () => this.#openDialog());
    $("rename-cancel").addEventListener("click", () => $("rename-dialog").close());
    $("rename-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submitRename();
    });
  }

  /** Comes in under the name that this tab had, or asks for one. */
  begin() {
    const name = memory.get("sessionStorage", "name");
    if (name) this.#comeIn(name);
    else this.#openGate();
  }

  /** The server doesn't let this name in: asks for another one. */
  refused(why) {
    memory.set("sessionStorage", "name", null);
    this.#openGate(why);
  }

  /** Remembers the name that the server has accepted. Returns what is to be said to it at the next connect. */
  accepted(name) {
    this.name = name;
    memory.set("sessionStorage", "name", name);
    memory.set("localStorage", "name", name); // offered when this browser opens another tab
    return { name, key: key() };
  }

  #comeIn(name) {
    memory.set("sessionStorage", "name", name);
    $("gate").hidden = true;
    $("app").hidden = false;
    this.enter({ name, key: key() });
  }

  #openGate(error = "") {
    $("gate").hidden = false;
    $("app").hidden = true;
    $("name").value ||= memory.get("localStorage", "name") ?? "";
    fieldError($("name"), error);
    $("name").focus();
    $("name").select();
  }

  #openDialog() {
    $("new-name").value = this.name ?? "";
    fieldError($("new-name"), "");
    $("rename-dialog").showModal();
    $("new-name").select();
  }

  async #submitRename() {
    const name = chosen($("new-name"));
    if (!name) return;
    $("rename-save").disabled = true; // until this one is answered
    try {
      await this.rename(name);
      $("rename-dialog").close();
    } catch (refusal) {
      fieldError($("new-name"), refusal.message);
      $("new-name").focus();
    } finally {
      $("rename-save").disabled = false;
    }
  }
}

/** Returns the name in a field. If there is none, the field says so. */
function chosen(field) {
  const name = field.value.trim();
  if (!name) {
    fieldError(field, "Please choose a name.");
    field.focus();
  }
  return name;
}

/** The key proves to the server that a returning tab is the same person; nobody else gets to see it. */
function key() {
  let key = memory.get("sessionStorage", "key");
  if (!key) {
    key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    memory.set("sessionStorage", "key", key);
  }
  return key;
}
