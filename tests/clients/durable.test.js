// A log in a file, with the stock client: what was delivered or acknowledged outlives `kill -9`.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ask, clients, connected, modes, open } from "../lib/clients.js";
import { oursOnly, startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";

const client = clients.v4;
const KILLS = 10;

let folder;
before(() => (folder = mkdtempSync(join(tmpdir(), "antiphon-"))));
after(() => rmSync(folder, { recursive: true }));

const again = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };

/** A client that collects the numbers of a room, and what it is at each of its connects. */
function collecting(server, mode) {
  const socket = open(client, server, { mode, ...again });
  const seen = { socket, numbers: [], ids: [], recovered: [] };
  // The teller's number, not the log's offset behind it.
  socket.on("n", (number) => seen.numbers.push(number));
  socket.on("connect", () => {
    seen.ids.push(socket.id);
    seen.recovered.push(socket.recovered);
  });
  return seen;
}

test(`${KILLS} kills under load: each event once and in order, each socket the same`, { skip: oursOnly }, async () => {
  const flags = ["--durable", join(folder, "kills.redb")];
  let server = await startServer(flags);
  const { port } = server;
  const all = Object.keys(modes).map((mode) => collecting(server, mode));
  for (const { socket } of all) {
    if (!socket.connected) await next(socket, "connect");
    await ask(socket, "join", "room");
  }
  // Tells the next number when the one before has come to all: what it tells is delivered, or lost with it.
  const teller = open(client, server, again);
  await connected(teller);
  let told = 0;
  let telling = true;
  const tell = (async () => {
    while (telling) {
      if (teller.connected) teller.emit("io-to", ["room"], [], "n", told++);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  for (let kill = 0; kill < KILLS; kill++) {
    const before = all.map(({ numbers }) => numbers.length);
    await until(() => all.every(({ numbers }, i) => numbers.length > before[i] + 20), "events come");
    const lost = Promise.all(all.map(({ socket }) => next(socket, "disconnect", 60_000)));
    await server.kill();
    server = await startServer(flags, { port });
    await lost;
    await until(() => all.every(({ socket }) => socket.connected), "all are back");
  }
  telling = false;
  await tell;
  await until(() => teller.connected, "the teller is back");
  teller.emit("io-to", ["room"], [], "n", "end");
  await until(() => all.every(({ numbers }) => numbers.at(-1) === "end"), "the end");
  for (const { ids, recovered, numbers } of all) {
    assert.equal(new Set(ids).size, 1, "one socket");
    assert.deepEqual(recovered.slice(1), Array(KILLS).fill(true));
    const sorted = numbers.slice(0, -1);
    for (let i = 1; i < sorted.length; i++) assert.ok(sorted[i] > sorted[i - 1], `${sorted[i]} behind ${sorted[i - 1]}`);
    assert.deepEqual(numbers, all[0].numbers, "all have seen the same");
  }
  for (const { socket } of all) socket.disconnect();
  teller.disconnect();
  await server.stop();
});

/** A client that joins its room again whenever it isn't recovered, and notes where that was. */
function rejoining(server, mode) {
  const socket = open(client, server, { mode, ...again });
  const seen = { socket, isIn: false, numbers: [], anew: [], why: [] };
  socket.on("n", (number) => seen.numbers.push(number));
  let isFirst = true;
  socket.on("connect", () => {
    if (!socket.recovered) {
      seen.anew.push(seen.numbers.length);
      seen.isIn = false;
      socket.emit("join", "room", () => (seen.isIn = true));
      if (!isFirst) socket.emit("recovered", (recovered, why) => seen.why.push([recovered, why]));
    }
    isFirst = false;
  });
  return seen;
}

test("kills of a server that stores later: nothing comes twice, and what is lost is told", { skip: oursOnly }, async () => {
  const flags = ["--durable-later", join(folder, "later.redb")];
  let server = await startServer(flags);
  const { port } = server;
  const all = Object.keys(modes).map((mode) => rejoining(server, mode));
  const teller = open(client, server, again);
  await connected(teller);
  let told = 0;
  let telling = true;
  let pausing = false;
  const tell = (async () => {
    while (telling) {
      if (teller.connected && !pausing) teller.emit("io-to", ["room"], [], "n", told++);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  for (let kill = 0; kill < KILLS; kill++) {
    const before = all.map(({ numbers }) => numbers.length);
    await until(() => all.every(({ numbers }, i) => numbers.length > before[i] + 20), "events come");
    // Half of the time all is stored by then, half of the time much is not.
    pausing = kill % 2 === 0;
    if (pausing) {
      await new Promise((resolve) => setTimeout(resolve, 500));
    } else {
      const some = told + 10;
      for (let i = 0; i < 500; i++) teller.emit("io-to", ["room"], [], "n", told++);
      await until(() => all[1].numbers.at(-1) >= some, "the first of a burst");
    }
    const anew = all.map((seen) => seen.anew.length);
    const lost = Promise.all(all.map(({ socket }) => next(socket, "disconnect", 60_000)));
    await server.kill();
    server = await startServer(flags, { port });
    await lost;
    await until(() => all.every(({ socket, isIn }) => socket.connected && isIn), "all are back");
    const recovered = all.filter((seen, i) => seen.anew.length === anew[i]).length;
    if (pausing) assert.equal(recovered, all.length, "nothing was missing");
    pausing = false;
  }
  telling = false;
  await tell;
  await until(() => teller.connected, "the teller is back");
  teller.emit("io-to", ["room"], [], "n", told);
  await until(() => all.every(({ numbers }) => numbers.at(-1) === told), "the end");
  const anyone = [...new Set(all.flatMap(({ numbers }) => numbers))].sort((a, b) => a - b);
  for (const { numbers, anew, why } of all) {
    for (let i = 1; i < numbers.length; i++) assert.ok(numbers[i] > numbers[i - 1], `${numbers[i]} behind ${numbers[i - 1]}`);
    // Between two connects at which it began anew it has had all that anyone has had.
    anew.forEach((from, i) => {
      const part = numbers.slice(from, anew[i + 1]);
      const [first, last] = [part.at(0), part.at(-1)];
      assert.deepEqual(part, anyone.filter((number) => number >= first && number <= last));
    });
    assert.equal(why.length, anew.length - 1);
    for (const [recovered, reason] of why) {
      assert.equal(recovered, false);
      assert.match(reason, /not in the log/);
    }
  }
  assert.ok(all.some(({ why }) => why.length > 0), "something was lost, too");
  for (const { socket } of all) socket.disconnect();
  teller.disconnect();
  await server.stop();
});

test("a server that closes in order and starts again: what was missed comes", { skip: oursOnly }, async () => {
  const flags = ["--durable", join(folder, "close.redb")];
  let server = await startServer(flags);
  const { port } = server;
  const subject = collecting(server, "websocket");
  subject.socket.io.reconnection(false);
  await connected(subject.socket);
  await ask(subject.socket, "join", "room");
  const { id } = subject.socket;
  assert.equal(await server.stop(), 0);
  server = await startServer(flags, { port });
  const teller = await connected(open(client, server));
  for (let i = 0; i < 5; i++) teller.emit("io-to", ["room"], [], "n", i);
  await ask(teller, "rooms");
  subject.socket.connect();
  await connected(subject.socket);
  assert.equal(subject.socket.recovered, true);
  assert.equal(subject.socket.id, id);
  await until(() => subject.numbers.length === 5, "what was missed");
  assert.deepEqual(subject.numbers, [0, 1, 2, 3, 4]);
  assert.deepEqual((await ask(subject.socket, "rooms"))[0].sort(), [id, "room"].sort());
  subject.socket.disconnect();
  teller.disconnect();
  await server.stop();
});

test("what comes behind an event keeps its place while it is stored", { skip: oursOnly }, async () => {
  const server = await startServer(["--durable", join(folder, "order.redb")]);
  for (const mode of Object.keys(modes)) {
    const subject = await connected(open(client, server, { mode }), mode);
    const seen = [];
    // "auth" comes at the connect.
    subject.onAny((event, value) => event !== "auth" && seen.push(`${event} ${value}`));
    // In one batch: the server does the next long before the one before is on the disk.
    subject.emit("join", "room");
    subject.emit("io-to", ["room"], [], "n", 1);
    subject.emit("leave", "room");
    subject.emit("io-to", ["room"], [], "n", 2);
    subject.emit("message", 3);
    subject.emit("message-with-ack", 4, (value) => seen.push(`ack ${value}`));
    subject.emit("message", 5);
    subject.emit("disconnect-me");
    assert.equal((await next(subject, "disconnect"))[0], "io server disconnect");
    assert.deepEqual(seen, ["n 1", "message-back 3", "ack 4", "message-back 5"]);
  }
  await server.stop();
});
