// Small helpers for the page. Text from people only ever becomes text nodes and attributes, never markup.

export const $ = (id) => document.getElementById(id);

/** `el("li", { class: "person", "data-id": 7, onclick }, child, "text")` */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Says what is wrong with a field at the place that its `aria-describedby` names, until one types. */
export function fieldError(field, text) {
  $(field.getAttribute("aria-describedby")).textContent = text;
  field.setAttribute("aria-invalid", String(text !== ""));
  if (text) field.addEventListener("input", () => fieldError(field, ""), { once: true });
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Makes `wanted` the children of `parent` and leaves nodes alone that are in place: focus and loaded pictures stay. */
export function reconcile(parent, wanted) {
  const keep = new Set(wanted);
  for (const node of [...parent.childNodes]) if (!keep.has(node)) node.remove();
  let at = parent.firstChild;
  for (const node of wanted) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

/** The same person has the same colour everywhere: one of 18 hues, from the id. */
export function hueOf(id) {
  let hash = 2166136261;
  for (const char of String(id)) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return ((hash >>> 8) % 18) * 20;
}

export function paint(node, person) {
  node.style.setProperty("--hue", hueOf(person.id));
  return node;
}

export function avatar(person) {
  const words = person.name.split(" ").filter(Boolean);
  const first = (word) => [...(word ?? "")][0] ?? "";
  const initials = first(words[0]) + (words.length > 1 ? first(words.at(-1)) : "");
  return paint(el("span", { class: "avatar", "aria-hidden": "true" }, initials.toLocaleUpperCase()), person);
}

/** Text with its web addresses made into links. */
export function linked(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]]/g)) {
    nodes.push(text.slice(from, match.index), el("a", { href: match[0], target: "_blank", rel: "noopener noreferrer" }, match[0]));
    from = match.index + match[0].length;
  }
  nodes.push(text.slice(from));
  return nodes.filter((node) => node !== "");
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export const timeText = (at) => clock.format(at);
export const dayText = (at) => (new Date(at).toDateString() === new Date().toDateString() ? "Today" : day.format(at));

export function time(at, { seconds = false } = {}) {
  return el("time", { datetime: new Date(at).toISOString(), title: full.format(at) }, (seconds ? clockWithSeconds : clock).format(at));
}

export function durationText(ms) {
  if (ms < 1_000) return "less than a second";
  if (ms < 100_000) return `${Math.round(ms / 1_000)} s`;
  return ms < 6_000_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
}

/** What the browser remembers. A browser that forbids storage makes the page forgetful, not broken. */
export const memory = {
  get(storage, key) {
    try { return JSON.parse(window[storage].getItem(`antiphon.${key}`)); } catch { return null; }
  },
  set(storage, key, value) {
    try { window[storage].setItem(`antiphon.${key}`, JSON.stringify(value)); } catch { /* forgetful */ }
  },
};
