// The client's files for browsers, as Node serves them (its option `serveClient`).

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync, inflateSync } from "node:zlib";
import { Polling, request } from "../lib/raw.js";
import { oursOnly, startServer } from "../lib/server.js";

const dist = fileURLToPath(new URL("../node_modules/sio4/dist/", import.meta.url));
const ORIGIN = "https://app.example";
const NAMES = ["", ".min", ".msgpack.min", ".esm.min"].flatMap((kind) => [`socket.io${kind}.js`, `socket.io${kind}.js.map`]);

const get = (server, name, options) => request(server, { query: { path: `/socket.io/${name}` }, ...options });

describe("the client's files", () => {
  let server;
  let version;
  before(async () => {
    server = await startServer(["--client", dist, "--cors", ORIGIN]);
    ({ version } = JSON.parse(await readFile(`${dist}../package.json`, "utf8")));
  });
  after(() => server.stop());

  for (const name of NAMES) {
    test(name, async () => {
      const { status, headers, bytes } = await get(server, name);
      assert.equal(status, 200);
      assert.deepEqual(bytes, await readFile(dist + name));
      assert.equal(headers.etag, `"${version}"`);
      assert.equal(headers["cache-control"], "public, max-age=0");
      const type = name.endsWith(".map") ? "json" : "javascript";
      assert.equal(headers["content-type"], `application/${type}; charset=utf-8`);
    });
  }

  test("who has the version gets no other", async () => {
    for (const known of [`"${version}"`, `W/"${version}"`]) {
      const { status, bytes } = await get(server, "socket.io.js", { headers: { "if-none-match": known } });
      assert.deepEqual([status, bytes.length], [304, 0], known);
    }
    const { status } = await get(server, "socket.io.js", { headers: { "if-none-match": '"0.0.0"' } });
    assert.equal(status, 200);
  });

  test("they are compressed for who takes that", async () => {
    const script = await readFile(`${dist}socket.io.js`);
    for (const [coding, inflate] of [["gzip", gunzipSync], ["deflate", inflateSync]]) {
      const { headers, bytes } = await get(server, "socket.io.js", { headers: { "accept-encoding": coding } });
      assert.equal(headers["content-encoding"], coding);
      assert.deepEqual(inflate(bytes), script);
      assert.ok(bytes.length < script.length / 2);
    }
  });

  test("HEAD gets the headers alone", { skip: oursOnly }, async () => {
    const { status, headers, bytes } = await get(server, "socket.io.min.js", { method: "HEAD" });
    assert.deepEqual([status, bytes.length], [200, 0]);
    assert.equal(headers["content-length"], String((await readFile(`${dist}socket.io.min.js`)).length));
    assert.equal(headers.etag, `"${version}"`);
  });

  test("pages of other origins may load them", async () => {
    const { headers } = await get(server, "socket.io.js", { headers: { origin: ORIGIN } });
    assert.equal(headers["access-control-allow-origin"], ORIGIN);
    assert.match(headers.vary, /origin/i);
  });

  test("nothing else is a file", async () => {
    for (const name of ["socket.io.slim.js", "socket.io.js.", "socket-io.js", "x/socket.io.js", "..%2fpackage.json"]) {
      const { status, text } = await get(server, name);
      assert.equal(status, 400, `${name}: ${text}`);
    }
  });

  test("the protocol is served beside them", async () => {
    const session = await Polling.open(server);
    await session.send("40");
  });
});

test("without the option a 404 says how to turn it on", { skip: oursOnly }, async () => {
  const server = await startServer();
  const { status, text } = await get(server, "socket.io.js");
  assert.equal(status, 404);
  assert.match(text, /serve_client\(ClientFiles::folder\(/);
  await server.stop();
});
