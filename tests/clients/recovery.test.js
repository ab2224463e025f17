// Connection state recovery with the stock client: docs/protocol.md 23.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connected, modes, open, settled } from "../lib/clients.js";
import { tcpProxy } from "../lib/proxy.js";
import { oursOnly, startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";

const client = clients.v4;
const AWAY = 60_000;
const SHORT = 300;

let server;
let brief;
let teller;
before(async () => {
  // A poll whose connection ends in the moment in which the server takes it may be dropped by the HTTP server
  // unseen. Only the heartbeat shows it then.
  server = await startServer(["--recovery", AWAY, "--ping-interval", 3_000, "--ping-timeout", 3_000]);
  brief = await startServer(["--recovery", SHORT]);
  teller = await connected(open(client, server));
});
after(async () => {
  teller.disconnect();
  await Promise.all([server.stop(), brief.stop()]);
});

/** Emits by another client's handler. */
async function tell(rooms, event, value, { except = [], by = teller } = {}) {
  by.emit("io-to", rooms, except, event, value);
  await settled(by);
}

let rooms = 0;

/** A client behind a network of its own, in a room of its own. */
class Subject {
  news = [];
  room = `room ${rooms++}`;

  static async start(options = {}, to = server) {
    const subject = new Subject();
    subject.proxy = await tcpProxy(to.port);
    subject.socket = open(client, { url: subject.proxy.url }, { autoConnect: false, ...options });
    subject.mode = options.mode;
    // The offset is behind the arguments.
    subject.socket.on("news", (value) => subject.news.push(value));
    subject.socket.connect();
    await connected(subject.socket, subject.mode);
    subject.id = subject.socket.id;
    await ask(subject.socket, "join", subject.room);
    return subject;
  }

  /** The connection is lost, and the server has noticed, unless it is told otherwise. */
  async lose({ noticed = true, by = server } = {}) {
    const lost = next(this.socket, "disconnect");
    const entries = by.log.length;
    await settled(this.socket); // an upgrade is over on both sides
    // By polling a side notices when a request is under way.
    const polls = this.socket.io.engine.transport.name === "polling";
    if (polls) await this.proxy.pending();
    const { refused } = this.proxy;
    if (noticed) this.proxy.cut();
    else this.proxy.desert();
    await lost;
    // It tries to say so.
    if (polls) await until(() => this.proxy.refused > refused, "its last request");
    if (noticed) {
      const left = ({ id, event }) => id === this.id && event === "disconnect";
      await until(() => by.log.slice(entries).some(left), "the server notices");
    }
    this.proxy.restore();
  }

  async back(mode = this.mode) {
    this.socket.io.opts.transports = modes[mode ?? "websocket"];
    this.socket.connect();
    await connected(this.socket, mode);
  }

  async end() {
    this.socket.disconnect();
    await this.proxy.close();
  }
}

/** The subject is the socket that it was, with what it had. */
async function assertRecovered(subject, news) {
  assert.equal(subject.socket.recovered, true);
  assert.equal(subject.socket.id, subject.id);
  assert.deepEqual(await ask(subject.socket, "recovered"), [true, null]);
  assert.deepEqual(subject.news, news);
  const [joined] = await ask(subject.socket, "rooms");
  assert.deepEqual(joined, [subject.id, subject.room]);
  // It is in them.
  await tell([subject.room], "news", "live");
  await tell([subject.id], "news", "own");
  await until(() => subject.news.length === news.length + 2, "what comes now");
  assert.deepEqual(subject.news.slice(-2), ["live", "own"]);
}

describe(`recovery: ${client.name}`, () => {
  for (const from of Object.keys(modes)) {
    for (const to of Object.keys(modes)) {
      test(`what was missed comes once and in order: from ${from} to ${to}`, async () => {
        const subject = await Subject.start({ mode: from });
        await tell([subject.room], "news", 1);
        await until(() => subject.news.length === 1, "the first");
        await subject.lose();
        await tell([subject.room], "news", 2);
        await tell(["another room"], "news", "not for it");
        await tell([subject.id], "news", 3);
        await tell([], "news", 4);
        await tell([], "news", "excepted", { except: [subject.room] });
        await tell([subject.room, subject.id], "news", 5);
        await subject.back(to);
        await assertRecovered(subject, [1, 2, 3, 4, 5]);
        await subject.end();
      });
    }
  }

  for (const mode of Object.keys(modes)) {
    test(`nothing received yet: ${mode}`, { skip: oursOnly }, async () => {
      const subject = await Subject.start({ mode, nsp: "/slow-auth" });
      await subject.end();
      const other = await Subject.start({ mode });
      other.socket._lastOffset = undefined; // as if its handlers' events had not come
      await other.lose();
      await tell([other.room], "news", 1);
      await other.back();
      await assertRecovered(other, [1]);
      await other.end();
    });

    test(`after volatile events with and without arguments: ${mode}`, { skip: oursOnly }, async () => {
      for (const args of [[], ["AAPL"], [5], ["AAPL", { a: 1 }], ["a", "b"]]) {
        const subject = await Subject.start({ mode });
        await tell([subject.room], "news", 1);
        // It is dropped between two polls.
        let ticks = 0;
        subject.socket.once("tick", () => ticks++);
        await until(() => subject.socket.emit("tick", ...args) && ticks, "a volatile event");
        await subject.lose();
        await tell([subject.room], "news", 2);
        await subject.back();
        await assertRecovered(subject, [1, 2]);
        await subject.end();
      }
    });

    test(`back while the old connection is still open: ${mode}`, { skip: oursOnly }, async () => {
      const subject = await Subject.start({ mode });
      await tell([subject.room], "news", 1);
      await until(() => subject.news.length === 1, "the first");
      await subject.lose({ noticed: false });
      await tell([subject.room], "news", 2);
      await subject.back();
      await server.entry({ id: subject.id, event: "disconnect", reason: "session taken over" });
      await assertRecovered(subject, [1, 2]);
      await subject.end();
    });

    test(`several times in a row: ${mode}`, async () => {
      const subject = await Subject.start({ mode });
      await tell([subject.room], "news", 0);
      await until(() => subject.news.length === 1, "the first");
      const news = [0];
      for (let i = 1; i <= 6; i++) {
        await subject.lose();
        await tell([subject.room], "news", i);
        news.push(i);
        await subject.back();
        await until(() => subject.news.length === news.length, "what was missed");
        assert.equal(subject.socket.recovered, true);
        assert.equal(subject.socket.id, subject.id);
      }
      await assertRecovered(subject, news);
      await subject.end();
    });
  }

  test("several times in a row before the server notices", { skip: oursOnly }, async () => {
    const subject = await Subject.start();
    const news = [];
    for (let i = 0; i < 6; i++) {
      await subject.lose({ noticed: false });
      await tell([subject.room], "news", i);
      news.push(i);
      await subject.back();
    }
    await assertRecovered(subject, news);
    await subject.end();
  });

  for (const mode of Object.keys(modes)) {
    test(`much that was missed comes while more is emitted: ${mode}`, async () => {
      const subject = await Subject.start({ mode });
      await tell([subject.room], "news", "first");
      await until(() => subject.news.length === 1, "the first");
      await subject.lose();
      const text = "x".repeat(6_000);
      let told = 0;
      const one = () => teller.emit("io-to", [subject.room], [], "news", { number: told++, text });
      // 3 MB: several portions.
      while (told < 500) one();
      await settled(teller);
      const back = subject.back();
      while (!subject.socket.connected || subject.news.length < told / 2) {
        one();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await back;
      assert.equal(subject.socket.recovered, true);
      await until(() => subject.news.length >= told + 1, "all of it");
      await settled(teller, subject.socket);
      assert.deepEqual(subject.news.slice(1).map(({ number }) => number), [...Array(told).keys()]);
      await subject.end();
    });
  }

  test("attachments are missed and come, too", async () => {
    const subject = await Subject.start();
    await tell([subject.room], "news", "first");
    await until(() => subject.news.length === 1, "the first");
    await subject.lose();
    await tell([subject.room], "news", Buffer.from([1, 2, 3]));
    await tell([subject.room], "news", "then");
    await subject.back();
    await assertRecovered(subject, ["first", Buffer.from([1, 2, 3]), "then"]);
    await subject.end();
  });

  test("what it keeps is there again", async () => {
    const subject = await Subject.start();
    await ask(subject.socket, "keep", "a text");
    await tell([subject.room], "news", 1);
    await until(() => subject.news.length === 1, "the first");
    await subject.lose();
    await subject.back();
    assert.deepEqual(await ask(subject.socket, "kept"), ["a text"]);
    await assertRecovered(subject, [1]);
    await subject.end();
  });

  test("who is refused learns nothing, and can come back later", { skip: oursOnly }, async () => {
    let token = "secret";
    const auth = (send) => send({ token });
    const chatter = await connected(open(client, server, { nsp: "/auth", auth }));
    const subject = await Subject.start({ nsp: "/auth", auth });
    await subject.lose();
    await tell([subject.room], "news", 1, { by: chatter });
    token = "stolen";
    const early = [];
    subject.socket.io.once("open", () => {
      subject.socket.io.engine.on("packet", ({ type, data }) => type === "message" && early.push(data));
    });
    subject.socket.connect();
    const [error] = await next(subject.socket, "connect_error");
    assert.equal(error.message, "not authorized");
    assert.equal(early.length, 1, "the refusal alone");
    token = "secret";
    subject.socket.disconnect();
    subject.socket.connect();
    await connected(subject.socket);
    assert.equal(subject.socket.recovered, true);
    assert.equal(subject.socket.id, subject.id);
    await until(() => subject.news.length > 0, "what was missed");
    assert.deepEqual(subject.news, [1]);
    chatter.disconnect();
    await subject.end();
  });

  test("who left on purpose begins anew", async () => {
    const subject = await Subject.start();
    await tell([subject.room], "news", 1);
    await until(() => subject.news.length === 1, "the first");
    subject.socket.disconnect();
    await server.entry({ id: subject.id, event: "disconnect" });
    await subject.back();
    assert.equal(subject.socket.recovered, false);
    assert.notEqual(subject.socket.id, subject.id);
    await subject.end();
  });

  test("who was disconnected by the server begins anew", async () => {
    const subject = await Subject.start();
    await tell([subject.room], "news", 1);
    await until(() => subject.news.length === 1, "the first");
    subject.socket.emit("disconnect-me");
    await next(subject.socket, "disconnect");
    await subject.back();
    assert.equal(subject.socket.recovered, false);
    assert.notEqual(subject.socket.id, subject.id);
    await subject.end();
  });

  test("who comes too late is told why", { skip: oursOnly }, async () => {
    const subject = await Subject.start({}, brief);
    await subject.lose({ by: brief });
    await new Promise((resolve) => setTimeout(resolve, 2 * SHORT));
    await subject.back();
    assert.equal(subject.socket.recovered, false);
    const [recovered, why] = await ask(subject.socket, "recovered");
    assert.equal(recovered, false);
    assert.match(why, /expired/);
    await subject.end();
  });

  test("an id of another server is unknown", { skip: oursOnly }, async () => {
    const subject = await Subject.start();
    await subject.lose();
    subject.socket._pid = "another.server";
    await subject.back();
    assert.equal(subject.socket.recovered, false);
    assert.match((await ask(subject.socket, "recovered"))[1], /no such session/);
    await subject.end();
  });

  test("an offset that is none is a gap", { skip: oursOnly }, async () => {
    for (const offset of ["nonsense", "1:2:3", "zzzzzz:1", "", ":"]) {
      const subject = await Subject.start();
      await subject.lose();
      subject.socket._lastOffset = offset;
      await subject.back();
      assert.equal(subject.socket.recovered, false);
      assert.match((await ask(subject.socket, "recovered"))[1], /no place of this log/);
      await subject.end();
    }
  });
});
