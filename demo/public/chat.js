// The chat: puts the connection, the rooms and what is on the screen together.
// The events that go over the wire are listed in demo/README.md.

import { Composer } from "./composer.js";
import { Connection, WAYS, transportName } from "./connection.js";
import { $, avatar, durationText, el, fieldError, icon, memory, time } from "./dom.js";
import { Identity } from "./identity.js";
import { MessageList } from "./messages.js";
import { announce, closePanels, toast } from "./panels.js";
import { Room } from "./room.js";

const HOME = "lobby";
const LEFT_NOTE_AFTER_MS = 8_000; // someone who reloads the page hasn't left, nor someone who comes back when the server does
const FILE_TIMEOUT_MS = 45_000;
const KEPT_WITHIN_MS = 15_000;

const connection = new Connection(new URLSearchParams(location.search).get("transport"));
const { socket } = connection;

let me = { id: "", name: "" };
let limits = { name: 32, room: 32, text: 4_000, file: 700_000 };
let allRooms = []; // what exists on the server: { name, people }
const rooms = new Map(); // name -> Room: where we are in
let current = null; // name of the room on the screen
let missing = null; // name of a room that was asked for and doesn't exist

const messages = new MessageList({
  me: () => me,
  fetchFile: async (item) => (await connection.ask("file", { room: item.room, id: item.id }, { timeout: FILE_TIMEOUT_MS })).data,
  retry: (item) => {
    item.state = "pending";
    deliver(rooms.get(item.room), item);
    drawRoom();
  },
  discard: (item) => {
    rooms.get(item.room)?.forget(item);
    drawRoom();
  },
});

const composer = new Composer({
  limits: () => limits,
  send: (text, files) => {
    const room = rooms.get(current);
    if (!room) return;
    if (!files.length) say(room, text);
    files.forEach((file, index) => say(room, index === 0 ? text : "", file));
  },
  typing: (typing) => rooms.get(current)?.ready && connection.tell("typing", { room: current, typing }),
});

// ---- who we are ----

const identity = new Identity({
  enter: (auth) => connection.enter(auth),
  rename: async (name) => iAm(await connection.ask("rename", { name })),
});

/** The server's word on who we are. */
function iAm(person) {
  me = person;
  socket.auth = identity.accepted(me.name);
  for (const room of rooms.values()) room.renamed(me);
  drawYou();
  drawPeople();
}

// ---- what the server says ----

connection.addEventListener("refused", ({ detail }) => identity.refused(detail.message));

let rounds = 0;
/** Asks where we are. What was missed comes before the answer. */
socket.on("connect", async () => {
  const round = ++rounds;
  let welcome;
  try {
    welcome = await connection.ask("hello");
  } catch (refusal) {
    if (refusal.code === "no_answer") connection.retry();
    else if (refusal.code !== "offline") toast(refusal.message);
    return;
  }
  iAm(welcome.you);
  limits = { ...limits, ...welcome.limits };
  allRooms = welcome.rooms;
  drawServers(welcome.servers);
  // A socket that has recovered is in its rooms. Where it hasn't, or on another page of this tab, we join them again,
  // and make them again where they are gone.
  const here = new Map(welcome.here.map(({ room, people }) => [room, people]));
  const before = rooms.size ? [...rooms.keys()] : (memory.get("sessionStorage", "rooms") ?? []);
  const back = (name) => (rooms.has(name) && here.has(name) ? enterAgain(rooms.get(name), here.get(name)) : join(name, { create: true, refused: () => {} }));
  await Promise.all([...new Set([...before, ...here.keys()])].map(back));
  if (round !== rounds) return; // lost meanwhile, and back once more
  connection.caughtUp(welcome.not_recovered);
  for (const room of rooms.values()) room.caughtUp();
  const wanted = current ?? roomInAddress() ?? memory.get("sessionStorage", "current") ?? HOME;
  await open(wanted);
});

socket.on("rooms", (list) => {
  allRooms = list;
  drawRooms();
  drawHead();
});

socket.on("message", (message) => {
  const room = rooms.get(message.room);
  if (!room) return;
  const item = hear(room, message, { missed: catchingUp() });
  const shown = room.name === current;
  if (!item) return shown && messages.draw(); // our own
  room.setTyping(message.from, false);
  if (shown) {
    messages.arrived(item);
    drawEmpty();
    announce(`${item.from.name}: ${item.text || `sent ${item.file?.name}`}`);
  }
  drawRooms();
  drawTyping();
});

/** We have lost the connection, and what was missed meanwhile still comes. */
const catchingUp = () => Boolean(connection.comeback && !connection.comeback.done);

/** A message that was just said, or was missed, or is part of the history. Gives its item if it's new. */
function hear(room, message, { missed, history = false }) {
  const item = room.receive(message, { missed });
  if (!item) return null;
  if (missed) connection.comeback.missed += 1;
  if (!history && (room.name !== current || document.hidden)) room.unread += 1;
  return item;
}

const leaving = new Map(); // "room person" -> timer

/** Someone is in a room. Returns whether that is news: they haven't just been there. */
function arrives(room, person) {
  const key = `${room.name} ${person.id}`;
  const back = leaving.has(key);
  clearTimeout(leaving.get(key));
  leaving.delete(key);
  return room.arrived(person) && !back;
}

function departs(room, person) {
  if (!room.departed(person)) return;
  const key = `${room.name} ${person.id}`;
  const timer = setTimeout(() => {
    leaving.delete(key);
    room.note(`${person.name} left`);
    drawRoom();
  }, LEFT_NOTE_AFTER_MS);
  leaving.set(key, timer);
}

/** The server's account of who is in a room. */
function areHere(room, people) {
  const ids = new Set(people.map(({ id }) => id));
  for (const person of [...room.people.values()]) if (!ids.has(person.id)) departs(room, person);
  for (const person of people) arrives(room, person);
}

socket.on("joined", ({ room: name, person }) => {
  const room = rooms.get(name);
  if (!room) return;
  if (arrives(room, person)) room.note(`${person.name} came in`);
  drawRoom();
});
socket.on("left", ({ room: name, person }) => {
  const room = rooms.get(name);
  if (!room) return;
  departs(room, person);
  drawRoom();
});

// A change of name is told in each room, to other tabs of the same person, too.
socket.on("renamed", ({ room: name, person, before }) => {
  if (person.id === me.id) iAm(person);
  const room = rooms.get(name);
  if (!room) return;
  room.renamed(person);
  room.note(`${before} is now ${person.name}`);
  drawRoom();
});

// A server has come or gone, and who is here with it.
socket.on("here", ({ room: name, people }) => {
  const room = rooms.get(name);
  if (!room) return;
  areHere(room, people);
  drawRoom();
});
socket.on("servers", drawServers);

socket.on("typing", ({ room: name, person, typing }) => {
  rooms.get(name)?.setTyping(person, typing);
  drawTyping();
});
setInterval(drawTyping, 1_000);

socket.on("disconnect", () => {
  for (const room of rooms.values()) room.lost();
  drawRoom();
});

// ---- rooms ----

/** Joins a room. Gives the Room, or null after an error, which goes to `refused`. */
async function join(name, { create = false, refused = toast } = {}) {
  try {
    const joined = await connection.ask("join", { room: name, create });
    const known = rooms.get(joined.room);
    const room = known ?? new Room(joined.room);
    rooms.set(room.name, room);
    const missed = Boolean(known) && catchingUp();
    for (const message of joined.messages) hear(room, message, { missed, history: !missed });
    enterAgain(room, joined.people);
    remember();
    return room;
  } catch (refusal) {
    if (refusal.code === "unknown_room") missing = name;
    else refused(refusal.message);
    return null;
  }
}

/** We are in a room, with these people. What waited to be sent goes out. */
function enterAgain(room, people) {
  areHere(room, people);
  room.ready = true;
  for (const item of room.pending()) deliver(room, item);
}

/** Puts a room on the screen, joining it first where needed. */
async function open(name, options) {
  missing = null;
  const room = rooms.get(name) ?? (name ? await join(name, options) : null);
  if (missing || (name && !room && current)) return missing ? show(null) : undefined;
  show(room);
}

function show(room) {
  const left = rooms.get(current);
  const draft = composer.open(room?.name, room?.name === current ? $("text").value : room?.draft);
  if (left && left !== room) left.draft = draft;
  const changed = current !== (room?.name ?? null);
  current = room?.name ?? null;
  if (room) {
    room.unread = 0;
    if (roomInAddress() !== room.name) history.pushState(null, "", `#${encodeURIComponent(room.name)}`);
  }
  remember();
  if (changed || !room) messages.show(room ?? null);
  drawRoom();
  if (changed) {
    closePanels();
    composer.focus();
  }
}

function roomInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null;
  } catch {
    return null;
  }
}
addEventListener("popstate", () => connection.online && open(roomInAddress() ?? HOME));

function remember() {
  memory.set("sessionStorage", "rooms", [...rooms.keys()]);
  memory.set("sessionStorage", "current", current);
}

$("create-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = $("create-name");
  const name = field.value.trim();
  if (!name) return field.focus();
  const room = await join(name, { create: true, refused: (why) => fieldError(field, why) });
  if (!room) return field.focus();
  field.value = "";
  fieldError(field, "");
  show(room);
});

$("leave").addEventListener("click", async () => {
  const room = rooms.get(current);
  if (!room) return;
  try {
    await connection.ask("leave", { room: room.name });
  } catch (refusal) {
    if (refusal.code === "offline" || refusal.code === "no_answer") return toast(refusal.message);
    // Else the server has us in no such room, which is what was asked for.
  }
  rooms.delete(room.name);
  room.dispose();
  history.replaceState(null, "", location.pathname + location.search);
  show([...rooms.values()].at(-1) ?? null);
});

// ---- messages ----

function say(room, text, file) {
  const item = room.compose(me, text, file && { ...file });
  item.room = room.name;
  deliver(room, item);
  messages.toLatest();
  messages.draw();
  drawEmpty();
}

let attempts = 0;
/**
 * Sends a message of ours. It is sent when it comes back as a message of the room, since then it is stored; what has not come
 * back when the connection is lost, or could not go out, goes out when we are in the room again.
 */
async function deliver(room, item) {
  if (!room?.ready || item.sending) return;
  const attempt = (item.sending = ++attempts);
  const { nonce, text, file } = item;
  const data = { room: room.name, nonce, text };
  if (file) data.file = { name: file.name, type: file.type, data: file.data };
  const failed = (error) => {
    if (item.state !== "pending" || item.sending !== attempt) return; // it has come back, or is on its way again
    Object.assign(item, { state: "failed", error, sending: false });
    if (room.name === current) messages.draw();
  };
  try {
    await connection.ask("message", data, { timeout: file ? FILE_TIMEOUT_MS : KEPT_WITHIN_MS });
    setTimeout(failed, KEPT_WITHIN_MS, "The server could not keep it.");
  } catch (refusal) {
    if (refusal.code !== "offline") failed(refusal.message); // else the loss of the connection says what to do
  }
}

// ---- drawing ----

function drawRoom() {
  messages.draw();
  drawHead();
  drawRooms();
  drawPeople();
  drawTyping();
  drawEmpty();
}

function drawHead() {
  const room = rooms.get(current);
  const count = allRooms.find(({ name }) => name === current)?.people ?? room?.people.size;
  $("room-title").textContent = room ? `#${room.name}` : "Antiphon";
  $("room-subtitle").textContent = room ? `${count} ${count === 1 ? "person" : "people"} here` : "No room open";
  $("leave").disabled = !room;
}

function drawRooms() {
  const others = allRooms.filter(({ name }) => !rooms.has(name));
  const mine = [...rooms.keys()].map((name) => allRooms.find((room) => room.name === name) ?? { name, people: 0 });
  const group = (title, list) => (list.length ? [el("h3", { class: "room-group" }, title), ...list.map(roomButton)] : []);
  const focused = document.activeElement?.dataset?.testid;
  $("room-list").replaceChildren(...group("Your rooms", mine), ...group("More rooms", others));
  if (focused?.startsWith("room-")) $("room-list").querySelector(`[data-testid="${CSS.escape(focused)}"]`)?.focus();

  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  $("unread-elsewhere").hidden = ![...rooms.values()].some((room) => room.unread && room.name !== current);
  document.title = `${unread ? `(${unread}) ` : ""}${current ? `#${current} · ` : ""}Antiphon chat`;
}

function roomButton({ name, people }) {
  const room = rooms.get(name);
  const unread = room?.unread && name !== current ? room.unread : 0;
  return el(
    "button",
    {
      type: "button", class: "room", "data-testid": `room-${name}`, "data-joined": String(Boolean(room)), "aria-current": name === current && "true",
      title: name, onclick: () => open(name),
    },
    el("span", { class: "room-name" }, name),
    unread ? el("span", { class: "room-unread" }, String(unread), el("span", { class: "sr-only" }, " unread")) : null,
    people ? el("span", { class: "room-people", title: `${people} here` }, icon("people"), String(people), el("span", { class: "sr-only" }, " here")) : null,
  );
}

function drawPeople() {
  const room = rooms.get(current);
  const people = [...(room?.people.values() ?? [])].sort((a, b) => (b.id === me.id) - (a.id === me.id) || a.name.localeCompare(b.name));
  $("people-count").textContent = room ? String(people.length) : "";
  $("people").replaceChildren(
    ...people.map((person) =>
      el(
        "li",
        { class: "person", "data-testid": "person", "data-person": person.id, "data-typing": String(room.typing.has(person.id)) },
        avatar(person),
        el("span", { class: "person-name", title: person.name }, person.name),
        person.id === me.id ? el("span", { class: "muted" }, "you") : null,
        el("span", { class: "person-typing" }, voices()),
      ),
    ),
  );
}

function drawTyping() {
  const typists = rooms.get(current)?.typists() ?? [];
  const names = typists.map(({ name }) => name);
  let text = "";
  if (names.length === 1) text = `${names[0]} is typing…`;
  else if (names.length === 2) text = `${names[0]} and ${names[1]} are typing…`;
  else if (names.length) text = `${names.length} people are typing…`;
  if ($("typing").textContent !== text) $("typing").replaceChildren(...(text ? [voices(), el("span", { class: "typing-text" }, text)] : []));
  const ids = new Set(typists.map(({ id }) => id));
  for (const node of $("people").children) node.dataset.typing = String(ids.has(node.dataset.person));
}

const voices = () => el("span", { class: "voices", "aria-hidden": "true" }, el("i"), el("i"), el("i"));

function drawEmpty() {
  const room = rooms.get(current);
  const empty = $("empty");
  empty.hidden = [...(room?.items.values() ?? [])].some(({ kind }) => kind === "message");
  if (empty.hidden) return;
  const logo = () => el("img", { src: "logo.svg", alt: "", width: 56, height: 56 });
  if (room) {
    empty.replaceChildren(logo(), el("h3", {}, `Nothing said in #${room.name} yet`), el("p", { class: "muted" }, "Write the first message, or open this page in a second window and answer yourself."));
  } else if (missing) {
    const name = missing;
    const create = el("button", { type: "button", class: "button primary", "data-testid": "create-missing", onclick: () => open(name, { create: true }) }, "Create it");
    empty.replaceChildren(logo(), el("h3", {}, `There is no room #${name}`), el("p", { class: "muted" }, "Nobody has made it yet, or it has been empty for long."), create);
  } else if (connection.online) {
    empty.replaceChildren(logo(), el("h3", {}, "No room open"), el("p", { class: "muted" }, "Choose one from the list, or make a new one."));
  } else {
    empty.replaceChildren();
  }
}

function drawYou() {
  $("you-name").textContent = me.name;
  $("you-avatar").replaceWith(Object.assign(avatar(me), { id: "you-avatar" }));
}

/** Which server this page is on, and the others, if there are several. */
function drawServers(servers) {
  const line = $("servers");
  line.hidden = !servers;
  if (!servers) return;
  const name = (address) => address.replace(/^https?:\/\//, "");
  const link = (address) => el("a", { class: "link", href: `${address}/${location.search}${location.hash}`, target: "_blank" }, name(address));
  const others = servers.others.flatMap((address, at) => [at ? ", " : ". Also at ", link(address)]);
  line.replaceChildren(`On ${name(servers.me)}`, ...(others.length ? others : [". No other server is there"]), ".");
}

// ---- the connection, on the screen ----

let drawnTimeline = null;
connection.addEventListener("change", drawConnection);

function drawConnection() {
  const { state, transport, upgradingTo, latency, timeline, comeback } = connection;
  const badge = $("transport");
  badge.dataset.state = upgradingTo ? "upgrading" : state;
  badge.dataset.transport = transport ?? "";
  const names = { connecting: "Connecting", reconnecting: "Reconnecting", offline: "Offline" };
  let name = names[state] ?? transportName(transport);
  if (upgradingTo) name = `${transportName(transport)} → ${transportName(upgradingTo)}`;
  $("transport-name").textContent = name;
  const milliseconds = latency == null ? "" : `${latency < 10 ? latency.toFixed(1) : Math.round(latency)} ms`;
  $("transport-latency").textContent = milliseconds;

  const summary = state === "online" ? `${name}${milliseconds && `, answers in ${milliseconds}`}` : statusText(connection);
  const id = state === "online" ? el("span", { class: "socket", "data-testid": "socket" }, `Socket ${socket.id}`) : null;
  $("connection-summary").replaceChildren(...[summary, id].filter(Boolean));
  if (drawnTimeline !== timeline) {
    drawnTimeline = timeline;
    $("timeline").replaceChildren(...timeline.map(({ at, kind, text }) => el("li", { class: "moment", "data-kind": kind }, el("span", {}, text), time(at, { seconds: true }))));
  }

  const status = $("status");
  status.dataset.state = state;
  status.dataset.comeback = comeback ? (comeback.recovered ? "recovered" : "new") : "";
  const text = statusText(connection);
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
  $("try-now").hidden = state !== "reconnecting";
}

function statusText({ state, comeback }) {
  if (state === "connecting") return "Connecting…";
  if (state === "offline") return "Not connected";
  // Short enough for one line of a phone. How often it was tried is in the panel behind the badge.
  if (state === "reconnecting") return navigator.onLine ? "No connection. Trying again…" : "This device is offline.";
  if (!comeback) return "Connected";
  const { after, recovered, missed, done } = comeback;
  if (!done) return "Connected again. Catching up…";
  const lead = `Back after ${durationText(after)}`;
  if (!recovered) return `${lead}, but as a new socket: some of what you missed may be lost.`;
  return missed ? `${lead}, with the ${missed === 1 ? "message" : `${missed} messages`} you missed.` : `${lead}. You missed nothing.`;
}

$("try-now").addEventListener("click", () => connection.retry());

$("ways").append(
  ...WAYS.map(({ id, label }) =>
    el("label", {}, el("input", { type: "radio", name: "way", value: id, checked: id === connection.way.id, "data-testid": `way-${id}` }), label),
  ),
);
$("ways").addEventListener("change", ({ target }) => {
  const address = new URL(location);
  if (target.value === "auto") address.searchParams.delete("transport");
  else address.searchParams.set("transport", target.value);
  history.replaceState(null, "", address);
  connection.use(target.value);
});

document.addEventListener("visibilitychange", () => {
  const room = rooms.get(current);
  if (document.hidden || !room?.unread) return;
  room.unread = 0;
  drawRooms();
});

identity.begin();
