// Functions of the application that see requests and responses of the engine: README.md, `--hooks`.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Polling, request, Socket } from "../lib/raw.js";
import { isReference, oursOnly, startServer } from "../lib/server.js";

const HANDSHAKE = { EIO: 4, transport: "polling" };

describe("hooks of the engine", () => {
  let server;
  before(async () => (server = await startServer(["--hooks"])));
  after(() => server.stop());

  test("a middleware sees each request, and headers of a session's first response are told from others", async () => {
    const session = await Polling.open(server);
    assert.match(session.sid, /^0{18}/, "the application has made the id");
    const responses = [session.opening, await session.post("40"), await session.get()];
    const names = ["x-asked", "x-initial", "x-each"];
    const seen = responses.map(({ headers }) => names.map((name) => headers[name]));
    assert.deepEqual(seen[0], ["handshake", "yes", "yes"]);
    assert.deepEqual(seen[1], ["session", undefined, "yes"]);
    assert.deepEqual(seen[2], ["session", undefined, "yes"]);
  });

  test("the 101 of a WebSocket has them, too", async () => {
    const socket = await Socket.session(server);
    const { "x-asked": asked, "x-each": each, "x-initial": initial } = socket.headers;
    assert.deepEqual([asked, each, initial], ["handshake", "yes", "yes"]);
    socket.end();
    const session = await Polling.open(server);
    const probe = await Socket.open(server, { sid: session.sid });
    assert.equal(probe.headers["x-asked"], "session");
    assert.equal(probe.headers["x-initial"], undefined);
    probe.end();
  });

  test("a middleware refuses, and the application is told of it", async () => {
    const { status, json } = await request(server, { query: { ...HANDSHAKE, refuse: 1 } });
    assert.deepEqual([status, json.code, json.message], [400, 3, "Bad request"]);
    await server.entry({ event: "connection_error", code: 3, message: "Bad request" });
    const { status: ofSocket } = await Socket.connect(server, { refuse: 1 }).refused;
    assert.equal(ofSocket, 400);
  });

  test("the application is told of every refusal, with its code", async () => {
    await request(server, { query: { ...HANDSHAKE, transport: "abc" } });
    await server.entry({ event: "connection_error", code: 0, message: "Transport unknown" });
    await request(server, { query: { ...HANDSHAKE, sid: "nobody" } });
    await server.entry({ event: "connection_error", code: 1, message: "Session ID unknown" });
    await request(server, { method: "POST", query: HANDSHAKE });
    await server.entry({ event: "connection_error", code: 2, message: "Bad handshake method" });
    await request(server, { query: { ...HANDSHAKE, deny: 1 } });
    // Node tells its hook the general message, and the text in the context.
    const message = isReference ? "Forbidden" : "denied by the test";
    await server.entry({ event: "connection_error", code: 4, message });
  });

  test("an id that can't be made is refused with code 3", async () => {
    const { status, json } = await request(server, { query: { ...HANDSHAKE, id: "fail" } });
    assert.deepEqual([status, json.code, json.message], [400, 3, "Bad request"]);
  });

  test("an id is taken as it is, for one session", async () => {
    const id = "made-by-the-test_000";
    const session = await Polling.open(server, { id });
    assert.equal(session.sid, id);
    await session.send("40");
  });

  test("an id of another form, or of another session, is refused", { skip: oursOnly }, async () => {
    const id = "made-by-the-test_111";
    await Polling.open(server, { id });
    for (const bad of [id, "short", `${id}2`, "made-by-the-test.000"]) {
      const { status, json } = await request(server, { query: { ...HANDSHAKE, id: bad } });
      assert.deepEqual([status, json.code], [400, 3], bad);
      assert.match(json.hint, /generate_id/);
      const { status: ofSocket } = await Socket.connect(server, { id: bad }).refused;
      assert.equal(ofSocket, 400);
    }
  });
});
