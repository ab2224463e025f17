// JSONP polling: docs/protocol.md 7. Scripts down, forms up.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import vm from "node:vm";
import { payload3, Polling, request, SEPARATOR, Socket } from "../lib/raw.js";
import { oursOnly, startServer } from "../lib/server.js";

const MAX_PAYLOAD = 10_000;
let server;
before(async () => (server = await startServer(["--max-payload", MAX_PAYLOAD])));
after(() => server.stop());

/** As a page of the server's own origin does it. */
const page = () => ({ referer: `${server.url}/page` });

/** The payload that a script hands to the callback `index`, as an engine of JavaScript runs it. */
function run(script, index = 0) {
  const handed = [];
  vm.runInNewContext(script, { ___eio: { [index]: (payload) => handed.push(payload) } });
  assert.equal(handed.length, 1, script);
  return handed[0];
}

/** What stock clients do to a payload before they put it into a form. */
function form(payload) {
  const escaped = payload.replaceAll("\\n", "\\\n").replaceAll("\n", "\\n");
  return new URLSearchParams({ d: escaped }).toString();
}

const FORM = { "content-type": "application/x-www-form-urlencoded" };

/** A session by JSONP. */
class Jsonp extends Polling {
  static async open(server, { eio = 4, j = "0", path = "/engine.io/", ...query } = {}) {
    const session = new Jsonp();
    session.server = server;
    session.revision = eio;
    session.query = { path, EIO: eio, transport: "polling", j, ...(eio === 3 && { b64: 1 }), ...query };
    session.opening = await request(server, { query: session.query, headers: page() });
    assert.equal(session.opening.status, 200, session.opening.text);
    const [open, ...rest] = session.split(run(session.opening.text, Number(j)));
    session.rest = rest;
    session.query.sid = session.sid = JSON.parse(open.slice(1)).sid;
    return session;
  }

  get(options) {
    return super.get({ headers: page(), ...options });
  }

  post(payload, headers = FORM) {
    return super.post(form(payload), { ...headers, ...page() });
  }

  async poll() {
    const { status, text } = await this.get();
    assert.equal(status, 200, text);
    return this.split(run(text, Number(this.query.j)));
  }
}

for (const eio of [3, 4]) {
  describe(`revision ${eio}`, () => {
    test("the handshake is a script", async () => {
      const { opening } = await Jsonp.open(server, { eio, j: "12" });
      assert.match(opening.text, /^___eio\[12\]\(".*"\);$/);
      assert.equal(opening.headers["cache-control"], "no-store");
    });

    test("a browser takes it for nothing but a script", { skip: oursOnly }, async () => {
      const { opening } = await Jsonp.open(server, { eio });
      assert.equal(opening.headers["content-type"], "text/javascript; charset=UTF-8");
      assert.equal(opening.headers["x-content-type-options"], "nosniff");
    });

    test("an echo comes back to the character", async () => {
      const session = await Jsonp.open(server, { eio });
      const texts = ['4"quotes"', "4back\\slash", "4a\nb", '4["a\\nb","\\\\n"]', "4\u2028\u2029", "4é🦀 +%41&d=x", "4\t\0"];
      await session.send(...texts);
      const { text } = await session.get();
      assert.doesNotMatch(text, /[\u2028\u2029\n]/);
      assert.deepEqual(session.split(run(text)), texts);
    });

    test("binary goes as base64, both ways", async () => {
      const session = await Jsonp.open(server, { eio });
      const packet = eio === 3 ? "b4AQIDBA==" : "bAQIDBA==";
      await session.send(packet);
      assert.deepEqual(await session.poll(), [packet]);
    });

    test("it upgrades to WebSocket", async () => {
      const session = await Jsonp.open(server, { eio });
      const socket = await Socket.open(server, { eio, path: "/engine.io/", sid: session.sid });
      socket.send("2probe");
      assert.equal(await socket.next(), "3probe");
      assert.deepEqual(await session.poll(), ["6"]);
      socket.send("5", "4hello");
      assert.equal(await socket.next(), "4hello");
      socket.end();
    });

    test("Socket.IO works over it", async () => {
      const session = await Jsonp.open(server, { eio, path: "/socket.io/" });
      if (eio === 4) await session.send("40");
      const wanted = '42["message-back","a\\nb",1]';
      await session.send('42["message","a\\nb",1]');
      const packets = session.rest;
      while (packets.at(-1) !== wanted) packets.push(...(await session.poll()));
      assert.equal(packets[0].slice(0, 2), "40");
      await session.send("1");
      await session.gone();
    });
  });
}

test("binary goes as base64 in revision 3, also where the client doesn't ask for it", { skip: oursOnly }, async () => {
  const session = await Jsonp.open(server, { eio: 3, b64: undefined });
  await session.send("b4AQIDBA==");
  assert.deepEqual(await session.poll(), ["b4AQIDBA=="]);
});

test("the index of each request is the one that counts", { skip: oursOnly }, async () => {
  const session = await Jsonp.open(server);
  session.query.j = "4294967295";
  await session.send("4a");
  assert.deepEqual(await session.poll(), ["4a"]);
});

test("what is no index is refused, and told so in few words", { skip: oursOnly }, async () => {
  for (const j of ["", "a", "-1", "1.5", "0](alert", "4294967296", "1".repeat(5_000)]) {
    const query = { path: "/engine.io/", EIO: 4, transport: "polling", j };
    const { status, text, json } = await request(server, { query, headers: page() });
    assert.equal(status, 400, j);
    assert.equal(json.code, 3);
    assert.match(json.hint, /`j`/);
    assert.ok(text.length < 300, text);
  }
});

test("errors are what they are without JSONP", async () => {
  const query = { path: "/engine.io/", EIO: 4, transport: "polling", j: 0 };
  const unknown = await request(server, { query: { ...query, sid: "x" }, headers: page() });
  assert.deepEqual([unknown.status, unknown.json.code], [400, 1]);
  const post = await request(server, { method: "POST", query, headers: page(), body: "d=4" });
  assert.deepEqual([post.status, post.json.code], [400, 2]);
});

test("with WebSocket the index means nothing", async () => {
  const socket = await Socket.session(server, { path: "/engine.io/", j: "x" });
  socket.send("4a");
  assert.equal(await socket.next(), "4a");
  socket.end();
});

test("a body over the limit is refused as it comes, and the session lives", { skip: oursOnly }, async () => {
  const session = await Jsonp.open(server);
  // Each is a payload within the limit, in a form that isn't.
  for (const [character, factor] of [["a", 1], ['"', 3], ["é", 6]]) {
    const fits = character.repeat(Math.floor((MAX_PAYLOAD - 3) / factor));
    await session.send(`4${fits}`);
    assert.deepEqual(await session.poll(), [`4${fits}`]);
    const { status } = await session.post(`4${fits}${character.repeat(3)}`);
    assert.equal(status, 413);
  }
});

test("a form without a payload ends the session", { skip: oursOnly }, async () => {
  for (const body of ["", "4a", "e=4a", "d=4a&d=4b", "d=", "d=9", "d=%ff"]) {
    const session = await Jsonp.open(server);
    const query = session.query;
    const answer = await request(server, { method: "POST", query, headers: { ...FORM, ...page() }, body });
    assert.deepEqual([answer.status, answer.json.code], [400, 3], body);
    await session.gone();
  }
});

describe("a script is fetched for any page, so its page has to be known", { skip: oursOnly }, () => {
  const open = (headers, target = server) =>
    request(target, { query: { path: "/engine.io/", EIO: 4, transport: "polling", j: 0 }, headers });

  test("a page of another origin is refused", async () => {
    const { status, json } = await open({ referer: "https://evil.example/page" });
    assert.deepEqual([status, json.code], [403, 4]);
    assert.match(json.hint, /https:\/\/evil\.example"/);
  });

  test("so is a page that hides", async () => {
    for (const headers of [{}, { "sec-fetch-site": "cross-site" }]) {
      const { status, json } = await open(headers);
      assert.deepEqual([status, json.code], [403, 4]);
    }
    assert.equal((await open({ "sec-fetch-site": "same-origin" })).status, 200);
  });

  test("and each request of a session by JSONP", async () => {
    const session = await Jsonp.open(server);
    const { status } = await session.get({ headers: { referer: "https://evil.example/" } });
    assert.equal(status, 403);
    await session.send("4a");
    assert.deepEqual(await session.poll(), ["4a"]);
  });

  test("listed origins are let in, and all where all are", async () => {
    const listed = await startServer(["--cors", "https://app.example"]);
    const any = await startServer(["--cors", "*"]);
    assert.equal((await open({ referer: "https://app.example/x" }, listed)).status, 200);
    assert.equal((await open({ referer: "https://evil.example/" }, listed)).status, 403);
    assert.equal((await open({}, any)).status, 200);
    await Promise.all([listed.stop(), any.stop()]);
  });
});

test("packets are joined as in plain polling", async () => {
  const four = await Jsonp.open(server);
  await four.send("4a", "4b");
  assert.equal(run((await four.get()).text), ["4a", "4b"].join(SEPARATOR));
  const three = await Jsonp.open(server, { eio: 3 });
  await three.send("4é", "4🦀");
  assert.equal(run((await three.get()).text), payload3("4é", "4🦀"));
});
