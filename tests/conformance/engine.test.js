// What the public Engine.IO protocol suites check (docs/protocol.md 2 to 11), against the conformance server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Polling, request, SEPARATOR, Socket } from "../lib/raw.js";
import { oursOnly, startConformanceServer } from "../lib/server.js";

let server;
before(async () => (server = await startConformanceServer()));
after(() => server.stop());

/** One poll's packets, without a heartbeat that came in between. */
async function poll(session) {
  const { status, text } = await session.get();
  assert.equal(status, 200, text);
  return session.split(text).filter((packet) => packet !== "2");
}

for (const eio of [4, 3]) {
  const echo = { path: "/engine.io/", eio };
  const isOld = eio === 3;
  const bytes = (...payload) => Buffer.from(isOld ? [4, ...payload] : payload);

  describe(`revision ${eio}: handshake`, () => {
    const settings = { pingInterval: 300, pingTimeout: 200, maxPayload: 1_000_000 };

    test("polling", async () => {
      const { sid, ...handshake } = (await Polling.open(server, echo)).handshake;
      assert.equal(typeof sid, "string");
      assert.deepEqual(handshake, { upgrades: ["websocket"], ...settings });
    });

    test("websocket", async () => {
      const socket = await Socket.session(server, echo);
      const { sid, ...handshake } = socket.handshake;
      assert.equal(typeof sid, "string");
      assert.deepEqual(handshake, { upgrades: [], ...settings });
      socket.end();
    });

    test("refusals", async () => {
      const good = { path: "/engine.io/", EIO: eio, transport: "polling" };
      for (const [method, query] of [
        ["GET", { ...good, transport: undefined }],
        ["GET", { ...good, transport: "abc" }],
        ["POST", good],
        ["PUT", good],
        ["GET", { ...good, transport: "websocket" }],
      ]) {
        const { status } = await request(server, { method, query });
        assert.equal(status, 400, `${method} ${JSON.stringify(query)}`);
      }
    });

    test("a wrong EIO", { skip: oursOnly }, async () => {
      const query = { path: "/engine.io/", EIO: "abc", transport: "polling" };
      assert.equal((await request(server, { query })).status, 400);
      const socket = Socket.connect(server, { path: "/engine.io/", eio: "abc" });
      await socket.close();
    });
  });

  describe(`revision ${eio}: messages`, () => {
    test("polling: text, several at once, binary, and both", async () => {
      const session = await Polling.open(server, { ...echo, ...(isOld && { b64: 1 }) });
      const binary = isOld ? "b4AQIDBA==" : "bAQIDBA==";
      for (const packets of [["4hello"], ["4one", "4two", "4three"], [binary], ["4text", binary]]) {
        await session.send(...packets);
        assert.deepEqual(await poll(session), packets);
      }
    });

    test("websocket: text and binary", async () => {
      const socket = await Socket.session(server, echo);
      for (const message of ["4hello", bytes(1, 2, 3, 4)]) {
        socket.send(message);
        assert.deepEqual(await socket.next(), message);
      }
      socket.end();
    });

    test("an invalid packet closes the session", async () => {
      const session = await Polling.open(server, echo);
      await session.post("abc").catch(() => {});
      assert.equal((await session.get()).status, 400);
      const socket = await Socket.session(server, echo);
      socket.send("abc");
      await socket.close();
    });

    test("a second GET closes the session", async () => {
      const session = await Polling.open(server, echo);
      const answers = await Promise.all([session.get(), session.get()]);
      const [one, other] = answers.sort((one, other) => one.status - other.status);
      assert.deepEqual([one.status, one.text], [200, session.join("1")]);
      assert.equal(other.status, 400);
      assert.equal((await session.get()).status, 400);
    });
  });

  describe(`revision ${eio}: heartbeat`, () => {
    test("polling: three rounds", async () => {
      const session = await Polling.open(server, echo);
      for (let round = 0; round < 3; round++) {
        if (isOld) await session.send("2");
        assert.equal((await session.get()).text, isOld ? "1:3" : "2");
        if (!isOld) await session.send("3");
      }
    });

    test("websocket: three rounds", async () => {
      const socket = await Socket.session(server, echo);
      socket.answersPings = false;
      for (let round = 0; round < 3; round++) {
        if (isOld) socket.send("2");
        assert.equal(await socket.next(), isOld ? "3" : "2");
        if (!isOld) socket.send("3");
      }
      socket.end();
    });

    test("silence closes the session", async () => {
      const session = await Polling.open(server, echo);
      const socket = await Socket.session(server, echo);
      socket.answersPings = false;
      await socket.close();
      await session.gone();
    });
  });

  describe(`revision ${eio}: close`, () => {
    test("polling: a held GET gets a noop", async () => {
      const session = await Polling.open(server, echo);
      const poll = session.get();
      await session.send("1");
      const { status, text } = await poll;
      // Where the POST came first, the session is gone already.
      if (status === 200) assert.equal(text, session.join("6"));
      else assert.equal(status, 400);
      assert.equal((await session.get()).status, 400);
    });

    test("websocket", async () => {
      const socket = await Socket.session(server, echo);
      socket.ws.close();
      await socket.close();
    });

    test("an aborted GET closes the session", async () => {
      const session = await Polling.open(server, echo);
      const abort = new AbortController();
      const poll = session.get({ signal: abort.signal });
      await session.send(isOld ? "2" : "3");
      abort.abort();
      await poll.catch(() => {});
      await session.gone();
    });
  });

  describe(`revision ${eio}: upgrade`, () => {
    const upgraded = async () => {
      const session = await Polling.open(server, echo);
      const socket = await Socket.open(server, { ...echo, sid: session.sid });
      socket.send("2probe");
      assert.equal(await socket.next(), "3probe");
      assert.equal((await session.get()).text, session.join("6"));
      socket.send("5");
      return { session, socket };
    };

    test("messages go over WebSocket, and polling is refused", async () => {
      const { session, socket } = await upgraded();
      socket.send("4hello", bytes(1));
      assert.equal(await socket.next(), "4hello");
      assert.deepEqual(await socket.next(), bytes(1));
      assert.equal((await session.get()).status, 400);
      socket.send("4again");
      assert.equal(await socket.next(), "4again");
      socket.end();
    });

    test("a second WebSocket is ignored, during the upgrade and after", async () => {
      const session = await Polling.open(server, echo);
      const socket = await Socket.open(server, { ...echo, sid: session.sid });
      socket.send("2probe");
      assert.equal(await socket.next(), "3probe");
      await Socket.connect(server, { ...echo, sid: session.sid }).close();
      socket.send("5");
      await Socket.connect(server, { ...echo, sid: session.sid }).close();
      socket.send("4hello");
      assert.equal(await socket.next(), "4hello");
      socket.end();
    });
  });
}

test("revision 3: binary payloads, to the byte", async () => {
  const octets = { "content-type": "application/octet-stream" };
  const session = await Polling.open(server, { path: "/engine.io/", eio: 3 });
  const payload = Buffer.from([0, 6, 255, 52, 104, 101, 108, 108, 111, 1, 5, 255, 4, 1, 2, 3, 4]);
  assert.equal((await session.post(payload, octets)).status, 200);
  const { headers, bytes } = await session.get();
  assert.equal(headers["content-type"], "application/octet-stream");
  assert.deepEqual(bytes, payload);
});

test("every origin may read the answers", async () => {
  const query = { path: "/engine.io/", EIO: 4, transport: "polling" };
  const { headers } = await request(server, { query, headers: { origin: "https://a.example" } });
  assert.equal(headers["access-control-allow-origin"], "*");
});

test("revision 4: packets of one POST come back joined by the separator", async () => {
  const session = await Polling.open(server, { path: "/engine.io/" });
  await session.post(["4test1", "4test2", "4test3"].join(SEPARATOR));
  assert.deepEqual(await poll(session), ["4test1", "4test2", "4test3"]);
});
