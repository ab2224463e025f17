// Which pages may connect: CORS headers, preflights, and the check of Origin.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Polling, request, Socket } from "../lib/raw.js";
import { isReference, oursOnly, startServer } from "../lib/server.js";

const APP = "https://app.example";
const FOREIGN = "https://foreign.example";
const HANDSHAKE = { EIO: 4, transport: "polling" };

async function withServer(flags, use) {
  const server = await startServer(flags);
  try {
    await use(server);
  } finally {
    await server.stop();
  }
}

async function assertForbidden(server, headers) {
  const refused = await request(server, { query: HANDSHAKE, headers });
  const socket = await Socket.connect(server, { headers }).refused;
  for (const { status, text } of [refused, socket]) {
    assert.equal(status, 403, text);
    const { code, hint } = JSON.parse(text);
    assert.equal(code, 4);
    assert.ok(hint.includes(headers.origin), `the hint names the origin: ${hint}`);
    assert.match(hint, /cors/i, "the hint names the option");
  }
}

async function assertAllowed(server, headers) {
  const { status, text } = await request(server, { query: HANDSHAKE, headers });
  assert.equal(status, 200, text);
  (await Socket.session(server, { headers })).end();
}

describe("by default", () => {
  test("programs without an Origin, and pages of the same origin, may connect", () =>
    withServer([], async (server) => {
      await assertAllowed(server, {});
      await assertAllowed(server, { origin: server.url });
      // Programs say it in their own way: Swift and ESP32 the WebSocket's scheme, and ports always.
      for (const [origin, host] of [
        [`ws://${server.host}`, server.host],
        ["wss://app.example", "app.example:443"],
        ["https://app.example:443", "app.example"],
        ["ws://app.example:80", "app.example:80"],
        ["https://APP.example.", "app.example"],
      ]) {
        await assertAllowed(server, { origin, host });
      }
      // A proxy tells the host that the browser asked for.
      await assertAllowed(server, { origin: APP, "x-forwarded-host": "app.example" });
    }));

  test("pages of another origin may not, by polling nor WebSocket", { skip: oursOnly }, () =>
    withServer([], async (server) => {
      await assertForbidden(server, { origin: FOREIGN });
      await assertForbidden(server, { origin: "null" });
      await assertForbidden(server, { origin: `http://127.0.0.1:${server.port + 1}` });
    }));

  test("the same origin is asked for in requests of a session too", { skip: oursOnly }, () =>
    withServer([], async (server) => {
      const session = await Polling.open(server);
      const answer = await session.get({ headers: { origin: FOREIGN } });
      assert.equal(answer.status, 403);
      await session.send("40");
    }));
});

test("origins without a host can be listed", () =>
  withServer(["--cors", `null,file://,capacitor://localhost,*,${APP}`], async (server) => {
    for (const origin of ["null", "file://", "capacitor://localhost", "*", APP]) {
      await assertAllowed(server, { origin });
      const { headers } = await request(server, { query: HANDSHAKE, headers: { origin } });
      assert.equal(headers["access-control-allow-origin"], origin);
    }
    if (!isReference) await assertForbidden(server, { origin: FOREIGN });
  }));

describe("with a list of origins", () => {
  const flags = ["--cors", `https://one.example,${APP}`, "--cors-credentials"];

  test("their pages may read the answers", () =>
    withServer(flags, async (server) => {
      const headers = { origin: APP };
      await assertAllowed(server, headers);
      const session = await Polling.open(server, { headers });
      const posted = await session.post("40", headers);
      const polled = await session.get({ headers });
      const tooLong = await session.post("4".repeat(1_000_001), headers);
      const unknown = await request(server, { query: { ...HANDSHAKE, sid: "x" }, headers });
      assert.deepEqual([posted, polled, tooLong, unknown].map((a) => a.status), [200, 200, 413, 400]);
      for (const answer of [session.opening, posted, polled, unknown, ...(isReference ? [] : [tooLong])]) {
        assert.equal(answer.headers["access-control-allow-origin"], APP);
        assert.equal(answer.headers["access-control-allow-credentials"], "true");
        assert.match(answer.headers.vary, /origin/i);
      }
    }));

  test("a preflight is answered", () =>
    withServer(flags, async (server) => {
      const { sid } = await Polling.open(server);
      const headers = {
        origin: APP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-token",
      };
      for (const query of [HANDSHAKE, { ...HANDSHAKE, sid }]) {
        const answer = await request(server, { method: "OPTIONS", query, headers });
        assert.ok([200, 204].includes(answer.status), `${answer.status}`);
        assert.equal(answer.text, "");
        assert.equal(answer.headers["access-control-allow-origin"], APP);
        assert.equal(answer.headers["access-control-allow-credentials"], "true");
        assert.match(answer.headers["access-control-allow-methods"], /GET.*POST/);
        assert.match(answer.headers["access-control-allow-headers"], /x-token/i);
      }
    }));

  test("pages of other origins may not", () =>
    withServer(flags, async (server) => {
      const headers = { origin: FOREIGN };
      if (!isReference) return assertForbidden(server, headers);
      // Node lets them connect; the browser keeps the answer from the page.
      const answer = await request(server, { query: HANDSHAKE, headers });
      assert.equal(answer.headers["access-control-allow-origin"], undefined);
    }));
});

test("any origin", () =>
  withServer(["--cors", "*"], async (server) => {
    await assertAllowed(server, { origin: FOREIGN });
    const { headers } = await request(server, { query: HANDSHAKE, headers: { origin: FOREIGN } });
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.equal(headers["access-control-allow-credentials"], undefined);
  }));

describe("the cookie", () => {
  test("comes with the handshake over polling, and with nothing else", () =>
    withServer(["--cookie", "io"], async (server) => {
      const session = await Polling.open(server);
      const [cookie, ...others] = session.opening.headers["set-cookie"];
      assert.deepEqual(others, []);
      const [value, ...attributes] = cookie.split("; ");
      assert.equal(value, `io=${session.sid}`);
      const expected = ["httponly", "path=/", "samesite=lax"];
      assert.deepEqual(attributes.map((attribute) => attribute.toLowerCase()).sort(), expected);
      const posted = await session.post("40");
      const polled = await session.get();
      const socket = await Socket.session(server);
      for (const { headers } of [posted, polled, socket]) assert.equal(headers["set-cookie"], undefined);
      socket.end();
    }));

  test("there is none by default", () =>
    withServer([], async (server) => {
      const session = await Polling.open(server);
      assert.equal(session.opening.headers["set-cookie"], undefined);
    }));
});
