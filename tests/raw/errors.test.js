// Refused requests: docs/protocol.md 2.4 to 2.9. Code, status, JSON body and the headers that let a page read it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Polling, request, Socket } from "../lib/raw.js";
import { isReference, oursOnly, startServer } from "../lib/server.js";

const ORIGIN = "https://app.example";

function assertRefusal({ status, headers, text }, code, message) {
  assert.equal(status, code === 4 ? 403 : 400, text);
  const body = JSON.parse(text);
  assert.deepEqual([body.code, body.message], [code, message]);
  assert.match(headers["content-type"], /^application\/json/);
  assert.equal(headers["access-control-allow-origin"], ORIGIN, "the page may read it");
  if (!isReference) assert.ok(body.hint.length > 10, text);
}

describe("refused requests over polling", () => {
  let server;
  before(async () => (server = await startServer(["--cors", ORIGIN, "--cors-credentials"])));
  after(() => server.stop());

  const refused = [
    ["no transport", { EIO: 4 }, 0, "Transport unknown"],
    ["an unknown transport", { EIO: 4, transport: "abc" }, 0, "Transport unknown"],
    ["webtransport, which is not HTTP's", { EIO: 4, transport: "webtransport" }, 0, "Transport unknown"],
    ["an unknown session", { EIO: 4, transport: "polling", sid: "abc" }, 1, "Session ID unknown"],
    ["an unknown session without EIO", { transport: "polling", sid: "abc" }, 1, "Session ID unknown"],
    ["websocket without an upgrade", { EIO: 4, transport: "websocket" }, 3, "Bad request"],
    ["what allow_request refuses", { EIO: 4, transport: "polling", deny: 1 }, 4, "denied by the test"],
  ];
  for (const [name, query, code, message] of refused) {
    test(`${name}: code ${code}`, async () => {
      assertRefusal(await request(server, { query, headers: { origin: ORIGIN } }), code, message);
    });
  }

  for (const method of ["POST", "PUT", "DELETE"]) {
    test(`a handshake by ${method}: code 2`, async () => {
      const query = { EIO: 4, transport: "polling" };
      const answer = await request(server, { method, query, headers: { origin: ORIGIN } });
      assertRefusal(answer, 2, "Bad handshake method");
    });
  }

  test("a POST to an unknown session: code 1", async () => {
    const query = { EIO: 4, transport: "polling", sid: "abc" };
    const headers = { origin: ORIGIN };
    const answer = await request(server, { method: "POST", query, headers, body: "4x" });
    assertRefusal(answer, 1, "Session ID unknown");
  });

  test("polling for a session on websocket: code 3", async () => {
    const socket = await Socket.session(server, { headers: { origin: ORIGIN } });
    const query = { EIO: 4, transport: "polling", sid: socket.handshake.sid };
    const answer = await request(server, { query, headers: { origin: ORIGIN } });
    assertRefusal(answer, 3, "Bad request");
    socket.end();
  });

  test("an EIO that nobody has spoken: code 5", { skip: oursOnly }, async () => {
    for (const EIO of ["5", "abc", "44", "0"]) {
      const query = { EIO, transport: "polling" };
      const answer = await request(server, { query, headers: { origin: ORIGIN } });
      assertRefusal(answer, 5, "Unsupported protocol version");
    }
  });

  test("another method than GET and POST for a session is refused, and harms nothing", async () => {
    const session = await Polling.open(server);
    for (const method of ["PUT", "DELETE", "PATCH"]) {
      const { status } = await request(server, { method, query: session.query });
      assert.ok(status >= 400 && status <= 500, `${method}: ${status}`);
    }
    await session.send("40");
  });

  test("another path is not found", { skip: oursOnly }, async () => {
    for (const path of ["/", "/socket.iofoo/", "/other/socket.io/"]) {
      const query = { path, EIO: 4, transport: "polling" };
      assert.equal((await request(server, { query })).status, 404, path);
    }
  });
});

describe("refused handshakes of WebSocket", () => {
  let server;
  before(async () => (server = await startServer()));
  after(() => server.stop());

  const refused = [
    ["an unknown transport", { transport: "abc" }, 0, "Transport unknown"],
    ["an unknown session", { sid: "abc" }, 1, "Session ID unknown"],
    ["what allow_request refuses", { deny: 1 }, 4, "denied by the test"],
  ];
  for (const [name, query, code, message] of refused) {
    test(`${name}: before the upgrade`, async () => {
      const socket = Socket.connect(server, query);
      const { status, text } = await socket.refused;
      if (isReference) {
        assert.deepEqual([status, text], [400, message]);
      } else {
        const { hint, ...body } = JSON.parse(text);
        assert.equal(status, code === 4 ? 403 : 400);
        assert.deepEqual(body, { code, message });
        assert.ok(hint.length > 10);
      }
    });
  }

  test("an unsupported revision opens no session", async () => {
    const server = await startServer(["--no-eio3"]);
    for (const eio of [3, 5, null]) {
      const socket = Socket.connect(server, { eio });
      await socket.close();
      assert.equal(socket.messages.length, 0);
    }
    await server.stop();
  });
});

describe("options that turn something off", () => {
  test("no_eio3: revision 3 gets code 5, revision 4 is served", async () => {
    const server = await startServer(["--no-eio3", "--cors", ORIGIN]);
    const headers = { origin: ORIGIN };
    for (const EIO of [3, 5, undefined, "", 1, 2]) {
      const answer = await request(server, { query: { EIO, transport: "polling" }, headers });
      assertRefusal(answer, 5, "Unsupported protocol version");
      if (!isReference && EIO !== 5) assert.match(answer.json.hint, /allow_eio3/);
    }
    await Polling.open(server, { headers });
    await server.stop();
  });

  test("transports: another one gets code 0, and no upgrade to it is offered", async () => {
    const headers = { origin: ORIGIN };
    const only = (transport) => startServer(["--transports", transport, "--cors", ORIGIN]);
    const polling = await only("polling");
    const session = await Polling.open(polling, { headers });
    assert.deepEqual(session.handshake.upgrades, []);
    for (const sid of [undefined, session.sid]) {
      const { status, text } = await Socket.connect(polling, { headers, sid }).refused;
      assert.equal(status, 400);
      assert.match(text, /Transport unknown/);
    }
    await session.send("40");
    await polling.stop();

    const webSocket = await only("websocket");
    const answer = await request(webSocket, { query: { EIO: 4, transport: "polling" }, headers });
    assertRefusal(answer, 0, "Transport unknown");
    (await Socket.session(webSocket, { headers })).end();
    await webSocket.stop();
  });

  test("no_upgrades: none is offered", async () => {
    const server = await startServer(["--no-upgrades"]);
    assert.deepEqual((await Polling.open(server)).handshake.upgrades, []);
    await server.stop();
  });

  test("path: another one", async () => {
    const server = await startServer(["--path", "/my/path"]);
    const session = await Polling.open(server, { path: "/my/path/" });
    await session.send("40");
    assert.match(await session.next(), /^40/);
    (await Socket.session(server, { path: "/my/path/" })).end();
    await server.stop();
  });
});
