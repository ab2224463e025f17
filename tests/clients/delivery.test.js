// Delivery that is promised, with the stock client and `@antiphon/delivery`.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { receive, send } from "../../packages/delivery/dist/index.js";
import { ask, clients, connected, modes, open } from "../lib/clients.js";
import { tcpProxy } from "../lib/proxy.js";
import { startServer } from "../lib/server.js";
import { next, until } from "../lib/wait.js";

const client = clients.v4;
const PAUSE = 100;

let server;
let brief;
before(async () => {
  server = await startServer(["--recovery", 60_000]);
  brief = await startServer(["--recovery", 300]);
});
after(() => Promise.all([server.stop(), brief.stop()]));

async function behind(to, options = {}) {
  const proxy = await tcpProxy(to.port);
  const socket = open(client, { url: proxy.url }, options);
  await connected(socket, options.mode);
  return { proxy, socket };
}

/** The connection is lost, and the server has noticed. */
async function lose({ proxy, socket }, to) {
  const { id } = socket;
  const lost = next(socket, "disconnect");
  proxy.cut();
  await lost;
  await to.entry({ id, event: "disconnect" });
  proxy.restore();
}

describe(`at least once: ${client.name}`, () => {
  test("an event comes until it is acknowledged, and not again", async () => {
    const { proxy, socket } = await behind(server);
    const tries = [];
    socket.on("bill", (value, id, acknowledge) => tries.push({ value, id, acknowledge }));
    socket.emit("keep-sending", "bill", 7, PAUSE);
    await until(() => tries.length === 3, "two more tries");
    assert.deepEqual(new Set(tries.map(({ value }) => value)), new Set([7]));
    assert.equal(new Set(tries.map(({ id }) => id)).size, 1, "all have one id");
    tries.at(-1).acknowledge();
    // What was sent before the server knew comes before the answer.
    await ask(socket, "message-with-ack");
    const tried = tries.length;
    await new Promise((resolve) => setTimeout(resolve, 10 * PAUSE));
    assert.equal(tries.length, tried);
    socket.disconnect();
    await proxy.close();
  });

  test("what wasn't acknowledged comes again when the session is recovered, in its order", async () => {
    const subject = await behind(server);
    const { socket } = subject;
    let acknowledges = false;
    const seen = [];
    socket.on("bill", (value, id, acknowledge) => {
      seen.push(value);
      if (acknowledges) acknowledge();
    });
    for (let i = 0; i < 20; i++) socket.emit("keep-sending", "bill", i, 60_000);
    await until(() => seen.length === 20, "all of them");
    acknowledges = true;
    await lose(subject, server);
    socket.connect();
    await connected(socket);
    assert.equal(socket.recovered, true);
    await until(() => seen.length === 40, "all of them again");
    assert.deepEqual(seen.slice(20), [...Array(20).keys()]);
    socket.disconnect();
    await subject.proxy.close();
  });

  test("what is emitted to a room while its client is away comes, and is handled once", async () => {
    const subject = await behind(server);
    const { socket } = subject;
    const { id } = socket;
    const teller = await connected(open(client, server));
    const handled = [];
    receive(socket, "bill", (value) => handled.push(value));
    await ask(socket, "join", "payers");
    teller.emit("keep-sending-to", ["payers"], "bill", 1, PAUSE);
    await until(() => handled.length === 1, "the first");
    await lose(subject, server);
    teller.emit("keep-sending-to", ["payers"], "bill", 2, PAUSE);
    teller.emit("keep-sending-to", [id], "bill", 3, PAUSE);
    await ask(teller, "rooms");
    socket.connect();
    await connected(socket);
    await until(() => handled.length === 3, "what was emitted meanwhile");
    await new Promise((resolve) => setTimeout(resolve, 3 * PAUSE));
    assert.deepEqual(handled, [1, 2, 3]);
    teller.disconnect();
    socket.disconnect();
    await subject.proxy.close();
  });

  test("who never acknowledges is given up, and so is who doesn't come back", async () => {
    const mute = await connected(open(client, brief));
    const { id } = mute;
    mute.emit("keep-sending", "bill", 1, 1);
    await brief.entry({ id, event: "undelivered", name: "bill", reason: "NotAcknowledged" });
    mute.disconnect();

    const gone = await behind(brief);
    const { id: goneId } = gone.socket;
    gone.socket.emit("keep-sending", "bill", 1, 60_000);
    await next(gone.socket, "bill");
    await lose(gone, brief);
    await brief.entry({ id: goneId, event: "undelivered", reason: "SessionOver" });

    const leaver = await connected(open(client, brief));
    const { id: leaverId } = leaver;
    leaver.emit("keep-sending", "bill", 1, 60_000);
    await next(leaver, "bill");
    leaver.disconnect();
    await brief.entry({ id: leaverId, event: "undelivered", reason: "SessionOver" });
    await gone.proxy.close();
  });
});

describe(`handled once: ${client.name}`, () => {
  for (const mode of Object.keys(modes)) {
    test(`an event whose acknowledgement is late or lost is handled once: ${mode}`, async () => {
      const subject = await behind(server, { mode, retries: 300, ackTimeout: 100, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 });
      const { proxy, socket } = subject;
      // Longer than the time for an answer: it comes again while it is handled.
      const first = await send(socket, "buy", 350);
      // The answer is lost with the connection.
      const second = send(socket, "buy", 150);
      await new Promise((resolve) => setTimeout(resolve, 50));
      proxy.cut();
      await new Promise((resolve) => setTimeout(resolve, 200));
      proxy.restore();
      assert.equal(await second, first + 1);
      assert.equal(await send(socket, "buy", 0), first + 2);
      socket.disconnect();
      await proxy.close();
    });
  }

  test("two clients with the same arguments are two", async () => {
    const one = await connected(open(client, server));
    const [before] = await ask(one, "buy", 0, "id a");
    assert.deepEqual(await ask(one, "buy", 0, "id a"), [before]);
    assert.deepEqual(await ask(one, "buy", 1, "id a"), [before + 1]);
    assert.deepEqual(await ask(one, "buy", 0, "id b"), [before + 2]);
    one.disconnect();
  });

  test("an event without an id is rejected, and says so", async () => {
    const one = await connected(open(client, server));
    for (const args of [[], [5], [5, 7], [5, ""], [5, "x".repeat(129)], [5, null]]) {
      const [answer] = await ask(one, "buy", ...args);
      assert.equal(answer.error.code, "no_event_id");
    }
    one.disconnect();
  });
});
