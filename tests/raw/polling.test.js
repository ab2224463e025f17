// Long-polling of revision 4: docs/protocol.md 4 to 6, 9 and 11.

import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { after, before, describe, test } from "node:test";
import { Polling, request, SEPARATOR, Socket } from "../lib/raw.js";
import { isReference, oursOnly, startServer } from "../lib/server.js";
import { until } from "../lib/wait.js";

let server;
before(async () => (server = await startServer(["--max-payload", "100000"])));
after(() => server.stop());

const ECHO = { path: "/engine.io/" };

/** A session that has joined `/`, and its socket's id. */
async function joined(at = server) {
  const session = await Polling.open(at);
  await session.send("40");
  const connect = await session.next();
  assert.match(connect, /^40\{"sid":"[^"]+"\}$/);
  assert.equal(await session.next(), '42["auth",{}]');
  return { session, id: JSON.parse(connect.slice(2)).sid };
}

/** A request that has reached the server but isn't answered: gives a way to end it. */
function begin(session, options, body) {
  const { path, ...query } = session.query;
  const url = `${server.url}${path ?? "/socket.io/"}?${new URLSearchParams(query)}`;
  const request = httpRequest(url, { agent: false, ...options });
  const answered = new Promise((resolve, reject) => {
    request.on("error", reject);
    request.on("response", (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode, text }));
    });
  });
  answered.catch(() => {});
  if (body === undefined) request.end();
  else request.write(body);
  return { request, answered };
}

/** Waits until the request has reached the server: later ones have come and gone on other connections. */
async function reached({ request: begun }) {
  await until(() => begun.socket?.bytesWritten > 0, "the request is written");
  for (let i = 0; i < 3; i++) await request(server, { query: { sid: "none" } });
}

/** A GET that the server holds: the messages that were sent after it come with it. */
async function heldPoll(session) {
  const poll = begin(session, { method: "GET" });
  await reached(poll);
  return poll;
}

/** The packets of `text` and of further polls up to the server's `1`, without noops. */
async function upToClose(session, text) {
  const packets = text.split(SEPARATOR);
  while (packets.at(-1) !== "1") packets.push(...(await session.get()).text.split(SEPARATOR));
  return packets.filter((packet) => packet !== "6");
}

describe("the handshake", () => {
  test("tells the session's settings, in the order of the reference", async () => {
    const { opening } = await Polling.open(server);
    const pattern =
      /^0\{"sid":"[A-Za-z0-9_-]{20}","upgrades":\["websocket"\],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000\}$/;
    assert.match(opening.text, pattern);
    assert.equal(opening.headers["content-type"], "text/plain; charset=UTF-8");
    assert.equal(opening.headers["content-length"], `${opening.bytes.length}`);
    assert.equal(opening.headers["cache-control"], "no-store");
  });

  test("gives every session another id", async () => {
    const sessions = await Promise.all(Array.from({ length: 20 }, () => Polling.open(server)));
    assert.equal(new Set(sessions.map(({ sid }) => sid)).size, 20);
  });

  test("takes unknown parameters and any order of them", async () => {
    const query = { transport: "polling", foo: "a b&c", t: "xyz", EIO: 4, bar: "" };
    assert.equal((await request(server, { query })).status, 200);
  });
});

describe("the echo of engine.io", () => {
  test("a POST is answered with ok", async () => {
    const session = await Polling.open(server, ECHO);
    const { status, headers, text } = await session.post("4hello");
    assert.deepEqual([status, text], [200, "ok"]);
    assert.match(headers["content-type"], /^text\/html/);
    assert.equal(headers["content-length"], "2");
    assert.equal(await session.next(), "4hello");
  });

  test("all that is buffered comes with one poll", async () => {
    const session = await Polling.open(server, ECHO);
    const packets = ["4a", "bAQIDBA==", "4é🦀", "4", "bAP8="];
    await session.send(...packets);
    assert.equal((await session.get()).text, packets.join(SEPARATOR));
  });

  test("packets of several POSTs come with one poll", async () => {
    const session = await Polling.open(server, ECHO);
    for (const packet of ["4a", "4b", "4c"]) await session.send(packet);
    assert.equal((await session.get()).text, ["4a", "4b", "4c"].join(SEPARATOR));
  });

  test("a poll waits for the next packet", async () => {
    const session = await Polling.open(server, ECHO);
    const poll = await heldPoll(session);
    await session.send("4late");
    assert.deepEqual(await poll.answered, { status: 200, text: "4late" });
  });

  test("every type of content is taken but octet-stream", async () => {
    for (const type of ["text/plain", "text/plain;charset=UTF-8", "application/json", "x/y"]) {
      const session = await Polling.open(server, ECHO);
      assert.equal((await session.post("4x", { "content-type": type })).status, 200, type);
    }
    const session = await Polling.open(server, ECHO);
    const { status } = await session.post("4x", { "content-type": "application/octet-stream" });
    assert.equal(status, 400);
    await session.gone();
  });
});

describe("one request of a kind at a time", () => {
  test("a second GET ends the session: the first gets `1`, the second 400", async () => {
    const { session, id } = await joined();
    const first = await heldPoll(session);
    const second = begin(session, { method: "GET" });
    const answers = await Promise.all([first.answered, second.answered]);
    // Which of them the server saw first is the network's choice.
    answers.sort((one, other) => one.status - other.status);
    assert.deepEqual(answers[0], { status: 200, text: "1" });
    assert.equal(answers[1].status, 400);
    await session.gone();
    await server.entry({ id, event: "disconnect", reason: "transport error" });
  });

  test("a second POST ends the session", async () => {
    const { session, id } = await joined();
    const headers = { "content-type": "text/plain", "content-length": 10 };
    const first = begin(session, { method: "POST", headers }, "4");
    await reached(first);
    await until(async () => (await session.post("43999[]")).status === 400, "the second is refused");
    first.request.destroy();
    await session.gone();
    await server.entry({ id, event: "disconnect", reason: "transport error" });
  });

  test("a GET and a POST at a time are no overlap", async () => {
    const { session } = await joined();
    const poll = await heldPoll(session);
    await session.send('42["message",1]');
    assert.equal((await poll.answered).text, '42["message-back",1]');
  });
});

describe("ends", () => {
  test("an aborted GET ends the session", async () => {
    const { session, id } = await joined();
    const poll = await heldPoll(session);
    poll.request.destroy();
    await server.entry({ id, event: "disconnect", reason: "transport error" });
    await session.gone();
  });

  test("an aborted POST ends the session", async () => {
    const { session, id } = await joined();
    const headers = { "content-type": "text/plain", "content-length": 10 };
    const post = begin(session, { method: "POST", headers }, "42[");
    await reached(post);
    post.request.destroy();
    await server.entry({ id, event: "disconnect", reason: "transport error" });
    await session.gone();
  });

  test("the client's `1` ends the session: a held poll gets `6`", async () => {
    const { session, id } = await joined();
    const poll = await heldPoll(session);
    await session.send("1");
    assert.deepEqual(await poll.answered, { status: 200, text: "6" });
    await session.gone();
    await server.entry({ id, event: "disconnect", reason: "transport close" });
  });

  test("the server's close comes with the held poll", async () => {
    const { session, id } = await joined();
    const poll = await heldPoll(session);
    await session.send('42["close-me"]');
    assert.deepEqual(await upToClose(session, (await poll.answered).text), ["41", "1"]);
    await session.gone();
    await server.entry({ id, event: "disconnect", reason: "server namespace disconnect" });
  });

  test("the server's close waits for the next poll", async () => {
    const { session } = await joined();
    await session.send('42["message",1]', '42["close-me"]', '42["message",2]');
    const packets = await upToClose(session, (await session.get()).text);
    assert.deepEqual(packets, ['42["message-back",1]', "41", "1"]);
    await session.gone();
  });

  for (const [name, payload] of [
    ["an unknown type", "abc"],
    ["nothing at all", ""],
    ["an empty packet among good ones", `43999[]${SEPARATOR}${SEPARATOR}43999[]`],
    ["broken base64", "b!!!!"],
    ["a type without meaning here", "9x"],
  ]) {
    // Node's base64 decoder takes anything.
    test(`a payload of ${name} ends the session`, { skip: payload[0] === "b" && oursOnly }, async () => {
      const { session, id } = await joined();
      const status = await session.post(payload).then(
        ({ status }) => status,
        () => "aborted",
      );
      assert.ok(isReference || status === 400, `${status}`);
      await session.gone();
      await server.entry({ id, event: "disconnect", reason: "parse error" });
    });
  }
});

describe("heartbeat", () => {
  test("the server pings, and a pong keeps the session", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 20_000]);
    const { session } = await joined(server);
    session.answersPings = false;
    for (let round = 0; round < 3; round++) {
      assert.equal(await session.next(), "2");
      await session.send("3");
    }
    session.answersPings = true;
    await session.send('42["message"]');
    assert.equal(await session.next(), '42["message-back"]');
    await server.stop();
  });

  test("no pong: the session ends, and a held poll is answered", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 100]);
    const { session, id } = await joined(server);
    session.answersPings = false;
    assert.equal(await session.next(), "2");
    const { status, text } = await session.get();
    assert.ok((status === 200 && text === "1") || status === 400, `${status} ${text}`);
    await server.entry({ id, event: "disconnect", reason: "ping timeout" });
    await session.gone();
    await server.stop();
  });

  test("a session that never polls ends too", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 100]);
    const session = await Polling.open(server);
    await session.send("40");
    await server.entry({ event: "disconnect", reason: "ping timeout" });
    await session.gone();
    await server.stop();
  });

  test("messages don't stand in for a pong", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 100]);
    const { session, id } = await joined(server);
    const ended = server.entry({ id, event: "disconnect", reason: "ping timeout" });
    let isOpen = true;
    ended.finally(() => (isOpen = false)).catch(() => {});
    while (isOpen) await session.post('42["message"]');
    await ended;
    await server.stop();
  });

  test("the client's ping is the wrong direction and ends the session", async () => {
    const { session, id } = await joined();
    await session.post("2").catch(() => {});
    await server.entry({ id, event: "disconnect", reason: "transport error" });
    await session.gone();
  });

  test("a pong too many is tolerated", async () => {
    const { session } = await joined();
    await session.send("3", "3");
    await session.send('42["message"]');
    assert.equal(await session.next(), '42["message-back"]');
  });
});

describe("limits", () => {
  for (const [name, headers] of [
    ["announced", {}],
    ["chunked", { "transfer-encoding": "chunked" }],
  ]) {
    test(`a POST that is too long (${name}) gets 413, and the session stays`, async () => {
      const { session } = await joined();
      const body = "4".repeat(100_001);
      const status = await session.post(body, { "content-type": "text/plain", ...headers }).then(
        ({ status }) => status,
        (error) => error.code, // the connection may be closed before all is written
      );
      assert.ok([413, "EPIPE", "ECONNRESET"].includes(status), `${status}`);
      await session.send('42["message"]');
      assert.equal(await session.next(), '42["message-back"]');
    });
  }

  test("a POST of exactly the limit is taken", async () => {
    const session = await Polling.open(server, ECHO);
    const packet = `4${"x".repeat(99_999)}`;
    await session.send(packet);
    assert.equal(await session.next(), packet);
    // Counted in bytes.
    assert.equal((await session.post(`4${"é".repeat(50_000)}`)).status, 413);
  });

  test("packets a payload", { skip: oursOnly }, async () => {
    const server = await startServer(["--max-packets", 16]);
    const session = await Polling.open(server, ECHO);
    await session.send(...Array(16).fill("4x"));
    const { status, json } = await session.post(Array(17).fill("4x").join(SEPARATOR));
    assert.equal(status, 400);
    assert.match(json.hint, /packets/);
    await session.gone();
    await server.stop();
  });

  test("a client that reads nothing is closed, not stored up for", { skip: oursOnly }, async () => {
    const { session, id } = await joined();
    const ended = server.entry({ id, event: "disconnect" });
    let isOpen = true;
    ended.finally(() => (isOpen = false)).catch(() => {});
    while (isOpen) await session.post('42["flood",5000]');
    await ended;
    await session.gone();
  });
});

test("`b64=1` and `j`-less polling of revision 4 are the same", async () => {
  const session = await Polling.open(server, { ...ECHO, b64: 1 });
  await session.send("bAQID");
  assert.equal(await session.next(), "bAQID");
});

test("the separator splits payloads, but not the frames of a WebSocket", async () => {
  const session = await Polling.open(server, ECHO);
  await session.send("4a", "4b");
  assert.equal(await session.next(), "4a");
  assert.equal(await session.next(), "4b");
  const socket = await Socket.session(server, ECHO);
  socket.send(`4a${SEPARATOR}4b`);
  assert.equal(await socket.next(), `4a${SEPARATOR}4b`);
  socket.end();
});

test("a poll and a goodbye at the same moment both end in order", async () => {
  for (let i = 0; i < 50; i++) {
    const session = await Polling.open(server);
    await session.send("40/nowhere,");
    assert.match(await session.next(), /^44\/nowhere,/);
    const [polled, posted] = await Promise.all([session.get(), session.post("1")]);
    assert.deepEqual([polled.status, polled.text, posted.status, posted.text], [200, "6", 200, "ok"]);
    assert.equal((await session.get()).status, 400);
  }
});

test("a script filter is told to leave payloads alone", async () => {
  const agents = {
    "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko": "0",
    "Mozilla/5.0 (compatible;MSIE 9.0)": "0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": undefined,
  };
  for (const [agent, expected] of Object.entries(agents)) {
    const headers = { "user-agent": agent };
    const session = await Polling.open(server, { headers });
    const posted = await session.post("40", headers);
    const polled = await session.get({ headers });
    for (const { headers } of [session.opening, posted, polled]) {
      assert.equal(headers["x-xss-protection"], expected, agent);
    }
  }
});
