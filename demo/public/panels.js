// The panels beside the conversation, which are opened by buttons where the screen is too narrow for all three; and notices.

import { $, el, icon } from "./dom.js";

const PANELS = [["open-rooms", "rooms-panel"], ["open-people", "people-panel"]];
for (const [button, panel] of PANELS) {
  $(button).addEventListener("click", () => {
    closePanels();
    $(panel).dataset.open = "";
    $(button).setAttribute("aria-expanded", "true");
    $("backdrop").hidden = false;
    $("conversation").inert = true;
    $(panel).querySelector("[data-close-panel]").focus();
  });
}
/** `focusBack`: to the button that opened the panel. */
export function closePanels({ focusBack = false } = {}) {
  $("conversation").inert = false;
  for (const [button, panel] of PANELS) {
    if (focusBack && "open" in $(panel).dataset) $(button).focus();
    delete $(panel).dataset.open;
    $(button).setAttribute("aria-expanded", "false");
  }
  $("backdrop").hidden = true;
}
$("backdrop").addEventListener("click", () => closePanels({ focusBack: true }));
for (const button of document.querySelectorAll("[data-close-panel]")) button.addEventListener("click", () => closePanels({ focusBack: true }));
// A dialog above a panel is closed first.
addEventListener("keydown", (event) => event.key === "Escape" && !document.querySelector("dialog[open]") && closePanels({ focusBack: true }));

/** An error that belongs to no field. */
export function toast(text) {
  const close = () => node.remove();
  const node = el("div", { class: "toast", "data-testid": "toast" }, el("p", {}, text), el("button", { type: "button", class: "icon-button", "aria-label": "Dismiss", onclick: close }, icon("close")));
  const isSame = (other) => other.firstChild.textContent === text;
  [...$("toasts").children].find(isSame)?.remove();
  $("toasts").append(node);
  setTimeout(close, 8_000);
}

/** For screen readers: the list itself is silent, since opening a room would read all of it. */
export function announce(text) {
  $("announcer").append(el("p", {}, text));
  while ($("announcer").children.length > 5) $("announcer").firstChild.remove();
}
