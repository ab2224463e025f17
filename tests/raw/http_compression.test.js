// Compressed polls and POSTs: docs/protocol.md 5.10, 5.11.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { brotliCompressSync, deflateSync, gunzipSync, gzipSync, inflateSync } from "node:zlib";
import { Polling, request } from "../lib/raw.js";
import { oursOnly, startServer } from "../lib/server.js";

const ECHO = { path: "/engine.io/" };
const TEXT = "tick tock é🦀 ";

let server;
before(async () => (server = await startServer(["--max-payload", 300_000])));
after(() => server.stop());

/** What a poll brings of an echo of so many bytes, asked for with this `Accept-Encoding`. */
async function echoed(message, accepted) {
  const session = await Polling.open(server, ECHO);
  await session.send(`4${message}`);
  return session.get({ headers: accepted === undefined ? {} : { "accept-encoding": accepted } });
}

describe("polls", () => {
  for (const [name, inflate] of [["gzip", gunzipSync], ["deflate", inflateSync]]) {
    // The last leaves in parts.
    for (const length of [1_024, 10_000, 200_000]) {
      test(`${name}: ${length} bytes and more are compressed`, async () => {
        const message = TEXT.repeat(length).slice(0, length);
        const { status, headers, bytes } = await echoed(message, name);
        assert.equal(status, 200);
        assert.equal(headers["content-encoding"], name);
        assert.match(headers["content-type"], /^text\/plain; charset=utf-8$/i);
        assert.equal(inflate(bytes).toString(), `4${message}`);
        assert.ok(bytes.length < length / 5, `${bytes.length} bytes of ${length}`);
      });
    }
  }

  test("exactly 1,024 bytes are enough", async () => {
    const { headers } = await echoed("x".repeat(1_023), "gzip");
    assert.equal(headers["content-encoding"], "gzip");
  });

  test("less isn't, nor is what its client doesn't take", async () => {
    for (const [message, accepted] of [
      ["x".repeat(1_022), "gzip"],
      ["x".repeat(2_000), undefined],
      ["x".repeat(2_000), "identity"],
      ["x".repeat(2_000), "gzip;q=0"],
    ]) {
      const { headers, text } = await echoed(message, accepted);
      assert.equal(headers["content-encoding"], undefined, accepted);
      assert.equal(headers["content-length"], String(message.length + 1));
      assert.equal(text, `4${message}`);
    }
  });

  test("what gains nothing leaves as it is", { skip: oursOnly }, async () => {
    const message = Array.from({ length: 2_000 }, () => String.fromCharCode(33 + Math.random() * 94)).join("");
    const { headers, text } = await echoed(message, "gzip");
    assert.ok([undefined, "gzip"].includes(headers["content-encoding"]));
    if (!headers["content-encoding"]) assert.equal(text, `4${message}`);
  });

  test("a script of JSONP is compressed, too", { skip: oursOnly }, async () => {
    // In Node the handshake says for the whole session whether it is one of JSONP.
    const session = await Polling.open(server, ECHO);
    await session.send(`4${"x".repeat(2_000)}`);
    const headers = { referer: `${server.url}/`, "accept-encoding": "gzip" };
    const polled = await request(server, { query: { ...session.query, j: 0 }, headers });
    assert.equal(polled.headers["content-encoding"], "gzip");
    assert.match(gunzipSync(polled.bytes).toString(), /^___eio\[0\]\("4x{2000}"\);$/);
  });
});

describe("POSTs", { skip: oursOnly }, () => {
  const type = { "content-type": "text/plain;charset=UTF-8" };
  const post = (session, coding, body) => session.post(body, { ...type, "content-encoding": coding });

  for (const [coding, compress] of [["gzip", gzipSync], ["x-gzip", gzipSync], ["deflate", deflateSync]]) {
    test(`${coding} is inflated`, async () => {
      const session = await Polling.open(server, ECHO);
      const message = TEXT.repeat(5_000);
      const { status, text } = await post(session, coding, compress(`4${message}`));
      assert.deepEqual([status, text], [200, "ok"]);
      assert.equal(await session.next(), `4${message}`);
    });
  }

  test("identity is taken", async () => {
    const session = await Polling.open(server, ECHO);
    assert.equal((await post(session, "identity", "4a")).status, 200);
    assert.equal(await session.next(), "4a");
  });

  test("others are refused with 415, and harm nothing", async () => {
    const session = await Polling.open(server, ECHO);
    for (const [coding, body] of [["br", brotliCompressSync("4a")], ["gzip, gzip", gzipSync(gzipSync("4a"))]]) {
      const { status, headers, json } = await post(session, coding, body);
      assert.deepEqual([status, json.code], [415, 3]);
      assert.equal(headers["accept-encoding"], "gzip, deflate");
      assert.match(json.hint, /http_compression/);
    }
    await session.send("4b");
    assert.equal(await session.next(), "4b");
  });

  test("what is larger than may be when it is inflated gets 413, and the session stays", async () => {
    const session = await Polling.open(server, ECHO);
    const bomb = gzipSync(Buffer.alloc(100_000_000, "4"));
    assert.ok(bomb.length < 300_000, "it would be taken as it is");
    assert.equal((await post(session, "gzip", bomb)).status, 413);
    await session.send("4b");
    assert.equal(await session.next(), "4b");
  });

  test("what isn't what it says ends the session, as a payload that can't be decoded", async () => {
    for (const body of ["4a", gzipSync("4a").subarray(0, -1), deflateSync("4a")]) {
      const session = await Polling.open(server, ECHO);
      const { status, json } = await post(session, "gzip", body);
      assert.deepEqual([status, json.code], [400, 3]);
      assert.match(json.hint, /gzip/);
      await session.gone();
    }
  });
});
