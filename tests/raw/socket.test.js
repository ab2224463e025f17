// Packets of Socket.IO, revision 5: docs/protocol.md 14 to 17.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { joined, Polling, Socket } from "../lib/raw.js";
import { assertViolation, isReference, oursOnly, startServer } from "../lib/server.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const ONE = '{"_placeholder":true,"num":0}';

describe("CONNECT", () => {
  test("is answered with the socket's id, which is not the session's", async () => {
    const socket = await Socket.session(server);
    socket.send("40");
    const { sid, ...rest } = JSON.parse((await socket.next()).slice(2));
    assert.deepEqual(rest, {}, "nothing but the id");
    assert.match(sid, /^[A-Za-z0-9_-]{20}$/);
    assert.notEqual(sid, socket.handshake.sid);
    assert.equal(await socket.next(), '42["auth",{}]', "before what the handler emits");
    socket.end();
  });

  test("carries the auth payload", async () => {
    const socket = await Socket.session(server);
    for (const [prefix, json] of [
      ["", '{"token":"é","nested":{"a":[1,null]}}'],
      ["/chat,", '{"token":2}'],
      ["/custom,", ""],
    ]) {
      socket.send(`40${prefix}${json}`);
      assert.ok((await socket.next()).startsWith(`40${prefix}{"sid"`));
      assert.equal(await socket.next(), `42${prefix}["auth",${json || "{}"}]`);
    }
    socket.end();
  });

  test("for an unknown namespace is refused, and nothing else happens", async () => {
    const { socket } = await joined(server);
    socket.send("40/nowhere,", '40/chat2,{"token":1}', '42["message"]');
    assert.equal(await socket.next(), '44/nowhere,{"message":"Invalid namespace"}');
    assert.equal(await socket.next(), '44/chat2,{"message":"Invalid namespace"}');
    assert.equal(await socket.next(), '42["message-back"]');
    socket.end();
  });

  test("refused by a middleware carries its message and data", async () => {
    const { socket } = await joined(server);
    const refusal = '44/auth,{"message":"not authorized","data":{"code":"E_AUTH"}}';
    for (const packet of ['40/auth,{"token":"wrong"}', "40/auth,"]) {
      socket.send(packet);
      assert.equal(await socket.next(), refusal);
    }
    socket.send('40/auth,{"token":"secret"}');
    assert.match(await socket.next(), /^40\/auth,\{"sid"/, "a second try may succeed");
    socket.end();
  });

  test("a second one for a namespace closes the connection", async () => {
    const { socket, id } = await joined(server);
    socket.send("40");
    await socket.close();
    await assertViolation(server, id);
  });

  test("a second one before the answer to the first closes it too, where that has joined", { skip: oursOnly }, async () => {
    for (const packet of ["40/chat,", "40/slow-connect,"]) {
      const { socket, id } = await joined(server);
      socket.send(packet, packet);
      await socket.close();
      await assertViolation(server, id);
    }
  });

  test("connect_timeout: without a namespace the connection is closed", async () => {
    const server = await startServer(["--connect-timeout", 500]);
    const silent = await Socket.session(server);
    const refused = await Socket.session(server);
    const polling = await Polling.open(server);
    const { socket: kept } = await joined(server);
    refused.send("40/nowhere,");
    assert.equal(await refused.next(), '44/nowhere,{"message":"Invalid namespace"}');
    await Promise.all([silent.close(), refused.close()]);
    assert.equal((await polling.get()).text.split("\x1e").at(-1), "1");
    await polling.gone();
    kept.send('42["message"]');
    assert.equal(await kept.next(), '42["message-back"]');
    kept.end();
    await server.stop();
  });

  test("what comes during an async connect handler waits for it, in order", async () => {
    const socket = await Socket.session(server);
    socket.send("40/slow-connect,");
    assert.match(await socket.next(), /^40\/slow-connect,\{"sid"/);
    const binary = `451-/slow-connect,["message",${ONE}]`;
    socket.send('42/slow-connect,["message",1]', binary, Buffer.from([2]));
    socket.send('42/slow-connect,7["message-with-ack",3]');
    assert.equal(await socket.next(), '42/slow-connect,["auth",{}]');
    assert.equal(await socket.next(), '42/slow-connect,["message-back",1]');
    assert.equal(await socket.next(), `451-/slow-connect,["message-back",${ONE}]`);
    assert.deepEqual(await socket.next(), Buffer.from([2]));
    assert.equal(await socket.next(), "43/slow-connect,7[3]");
    socket.end();
  });

  test("another namespace doesn't wait for an async connect handler", async () => {
    const { socket } = await joined(server);
    socket.send("40/slow-connect,", '42["message"]');
    const [, , last, ...more] = await socket.upTo('42/slow-connect,["auth",{}]');
    assert.deepEqual([last, more], ['42/slow-connect,["auth",{}]', []]);
    socket.end();
  });
});

describe("DISCONNECT", () => {
  test("leaves one namespace; the others and the heartbeat go on", async () => {
    const server = await startServer(["--ping-interval", 50, "--ping-timeout", 20_000]);
    const { socket, id } = await joined(server);
    socket.send("40/chat,");
    await socket.upTo('42/chat,["auth",{}]');
    socket.send("41");
    await server.entry({ id, event: "disconnect", reason: "client namespace disconnect" });
    socket.answersPings = false;
    assert.equal(await socket.next(), "2");
    socket.answersPings = true;
    socket.send("3", '42/chat,["message",1]');
    assert.equal(await socket.next(), '42/chat,["message-back",1]');
    socket.send("40");
    assert.match(await socket.next(), /^40\{"sid"/, "it may be joined again");
    socket.end();
    await server.stop();
  });

  test("the server's has no payload", async () => {
    const { socket } = await joined(server);
    socket.send("40/chat,");
    await socket.upTo('42/chat,["auth",{}]');
    socket.send('42/chat,["disconnect-me"]', '42["disconnect-me"]');
    assert.equal(await socket.next(), "41/chat,");
    assert.equal(await socket.next(), "41");
    socket.end();
  });
});

describe("events and acknowledgements", () => {
  test("text", async () => {
    const { socket } = await joined(server);
    socket.send('42["message",1,"2",{"3":[true]}]');
    assert.equal(await socket.next(), '42["message-back",1,"2",{"3":[true]}]');
    socket.send('42456["message-with-ack",1,"2",{"3":[false]}]', '420["message-with-ack"]');
    assert.equal(await socket.next(), '43456[1,"2",{"3":[false]}]');
    assert.equal(await socket.next(), "430[]");
    socket.end();
  });

  test("binary: attachments in the order of their placeholders, deep inside too", async () => {
    const { socket } = await joined(server);
    const args = '{"a":{"_placeholder":true,"num":0},"b":[{"_placeholder":true,"num":1}]},"x"';
    const attachments = [Buffer.from([1, 2]), Buffer.alloc(0)];
    socket.send(`452-["message",${args}]`, ...attachments);
    assert.equal(await socket.next(), `452-["message-back",${args}]`);
    for (const bytes of attachments) assert.deepEqual(await socket.next(), bytes);
    socket.send(`452-789["message-with-ack",${args}]`, ...attachments);
    assert.equal(await socket.next(), `462-789[${args}]`);
    for (const bytes of attachments) assert.deepEqual(await socket.next(), bytes);
    socket.end();
  });

  test("binary in another namespace, with an id", async () => {
    const { socket } = await joined(server);
    socket.send("40/chat,");
    await socket.upTo('42/chat,["auth",{}]');
    socket.send(`451-/chat,12["message-with-ack",${ONE}]`, Buffer.from([9]));
    assert.equal(await socket.next(), `461-/chat,12[${ONE}]`);
    assert.deepEqual(await socket.next(), Buffer.from([9]));
    socket.end();
  });

  test("ten attachments are taken", async () => {
    const { socket } = await joined(server);
    const placeholders = Array.from({ length: 10 }, (_, num) => `{"_placeholder":true,"num":${num}}`);
    const attachments = placeholders.map((_, i) => Buffer.from([i]));
    socket.send(`4510-["message",${placeholders}]`, ...attachments);
    assert.equal(await socket.next(), `4510-["message-back",${placeholders}]`);
    for (const bytes of attachments) assert.deepEqual(await socket.next(), bytes);
    socket.end();
  });

  test("an attachment without a placeholder may be dropped, but is never miscounted", async () => {
    const { socket } = await joined(server);
    socket.send('451-["message","none"]', Buffer.from([1]), '42["message"]');
    const back = await socket.next();
    if (back !== '42["message-back","none"]') {
      assert.equal(back, '451-["message-back","none"]');
      assert.deepEqual(await socket.next(), Buffer.from([1]));
    }
    assert.equal(await socket.next(), '42["message-back"]');
    socket.end();
  });

  test("the server's acknowledgements: once, known ids only", async () => {
    const { socket } = await joined(server);
    socket.send('42["emit-with-ack",1]');
    const asked = await socket.next();
    const [, id] = /^42(\d+)\["emit-with-ack",1\]$/.exec(asked);
    socket.send('43999999["unknown"]', `43${id}["a"]`, `43${id}["again"]`);
    assert.equal(await socket.next(), '42["emit-with-ack","a"]');
    socket.send('42["message"]');
    assert.equal(await socket.next(), '42["message-back"]');
    socket.end();
  });

  test("a binary acknowledgement", async () => {
    const { socket } = await joined(server);
    socket.send('42["emit-with-ack"]');
    const [, id] = /^42(\d+)\["emit-with-ack"\]$/.exec(await socket.next());
    socket.send(`461-${id}[{"bytes":${ONE}}]`, Buffer.from([1, 2, 3]));
    assert.equal(await socket.next(), `451-["emit-with-ack",{"bytes":${ONE}}]`);
    assert.deepEqual(await socket.next(), Buffer.from([1, 2, 3]));
    socket.end();
  });

  test("an event that nobody handles is ignored", async () => {
    const { socket } = await joined(server);
    socket.send('42["nobody handles this",1]', "42[7,1]", '42["message"]');
    assert.equal(await socket.next(), '42["message-back"]');
    socket.end();
  });

  test("heartbeats may come between a header and its attachments", async () => {
    const { socket } = await joined(server);
    socket.send(`452-["message",${ONE},{"_placeholder":true,"num":1}]`, "3", Buffer.from([1]), "3");
    socket.send(Buffer.from([2]));
    assert.match(await socket.next(), /^452-\["message-back"/);
    assert.deepEqual([await socket.next(), await socket.next()], [Buffer.from([1]), Buffer.from([2])]);
    socket.end();
  });

  // JavaScript's `slice` cuts emoji in two. What is handed on stays as it came; text that was read is
  // what it is to UTF-8.
  test("half an emoji: in arguments, in auth, as a name, in an acknowledgement", async () => {
    const half = "\\ud83d";
    const halves = (text) => text.replaceAll(half, "\u{fffd}");
    const socket = await Socket.session(server);
    socket.send(`40{"${half}":["${half}"]}`);
    await socket.next();
    assert.equal(halves(await socket.next()), '42["auth",{"\u{fffd}":["\u{fffd}"]}]');
    socket.send(`42["message","cut ${half}",{"${half}":1}]`);
    assert.equal(await socket.next(), `42["message-back","cut ${half}",{"${half}":1}]`);
    socket.send(`427["message-with-ack","${half}"]`);
    assert.equal(await socket.next(), `437["${half}"]`);
    socket.send(`42["${half}"]`, `42["join","${half}"]`, '428["rooms"]');
    assert.match(halves(await socket.next()), /^438\[\[.*"\u{fffd}"\]\]$/u);
    socket.send(`451-9["message-with-ack",${ONE},"${half}"]`, Buffer.from([1]));
    assert.equal(await socket.next(), `461-9[${ONE},"${half}"]`);
    assert.deepEqual(await socket.next(), Buffer.from([1]));
    socket.end();
  });

  test("text that looks like a separator stays in its event", async () => {
    const session = await Polling.open(server);
    await session.send("40");
    await session.upTo('42["auth",{}]');
    await session.send(`42["message","${"\\u001e"}"]`);
    assert.equal(await session.next(), '42["message-back","\\u001e"]');
  });
});

describe("what breaks the rules closes the connection", () => {
  /** Sends to a connection that has joined `/` alone, and gives the id of its socket. */
  async function closedBy(...messages) {
    const { socket, id } = await joined(server);
    socket.send(...messages);
    await socket.close();
    return id;
  }

  for (const [name, packet] of [
    ["an event", '42/chat,["message"]'],
    ["an acknowledgement", "43/chat,0[]"],
    ["a DISCONNECT", "41/chat,"],
    ["an event, refused before,", ['40/auth,{"token":"wrong"}', '42/auth,["message"]']],
  ]) {
    test(`${name} for a namespace that isn't joined`, async () => {
      await assertViolation(server, await closedBy(...[packet].flat()));
    });
  }

  test("an event for a namespace that was left", async () => {
    const { socket, id } = await joined(server);
    socket.send("40/chat,");
    const { sid: left } = JSON.parse((await socket.next()).slice("40/chat,".length));
    await socket.upTo('42/chat,["auth",{}]');
    socket.send("41/chat,");
    await server.entry({ id: left, event: "disconnect" });
    socket.send('42/chat,["message"]');
    await socket.close();
    await assertViolation(server, id);
  });

  test("an event before CONNECT", async () => {
    for (const packet of ['42["message"]', "41", "430[]"]) {
      const socket = await Socket.session(server);
      socket.send(packet);
      await socket.close();
    }
  });

  const INVALID = [
    ["no packet", "4"],
    ["an unknown type", "4abc"],
    ["an unknown type of a digit", "47"],
    ["a CONNECT with text as auth", '40/chat,"text"'],
    ["a CONNECT with a list as auth", "40/chat,[]"],
    ["a DISCONNECT with a payload", "41{}"],
    ["an event of an object", "42{}"],
    ["an event of an empty list", "42[]"],
    ["an event named null", "42[null]"],
    ["an event named by an object", "42[{}]"],
    ["a reserved name", '42["connect"]'],
    ["another reserved name", '42["disconnecting",1]'],
    ["broken JSON", '42["message"'],
    ["broken JSON after an id", '42abc["message-with-ack",1]'],
    ["JSON and more", '42["message"]x'],
    ["an acknowledgement of an object", "430{}"],
    ["a CONNECT_ERROR without payload", "44"],
    ["binary without its count", '45["message"]'],
    ["binary with a count of letters", '45x-["message"]'],
    ["too many attachments", `4511-["message",${Array(11).fill(ONE)}]`],
    ["an attachment without a header", Buffer.from([1])],
    ["text where an attachment is due", [`451-["message",${ONE}]`, '42["message"]']],
    ["an attachment too many", [`451-["message",${ONE}]`, Buffer.from([1]), Buffer.from([2])]],
    ["a placeholder of an attachment that isn't there", ['451-["message",{"_placeholder":true,"num":1}]', Buffer.from([1])]],
    ["a negative placeholder", ['451-["message",{"_placeholder":true,"num":-1}]', Buffer.from([1])]],
    ["a placeholder of text", ['451-["message",{"_placeholder":true,"num":"0"}]', Buffer.from([1])]],
  ];
  for (const [name, packet] of INVALID) {
    test(`invalid: ${name}`, async () => {
      const id = await closedBy(...[packet].flat());
      await server.entry({ id, event: "disconnect", reason: "forced close" });
    });
  }

  // Node hands it to both places; here each naming would be a copy.
  test("invalid: an attachment that is named twice", { skip: oursOnly }, async () => {
    const id = await closedBy(`451-["message",${ONE},${ONE}]`);
    await server.entry({ id, event: "disconnect", reason: "forced close" });
  });

  // Node looks when the attachment is there.
  for (const packet of [`451-/chat,["message",${ONE}]`, `461-/chat,1[${ONE}]`]) {
    test(`a binary packet for a namespace that wasn't joined: ${packet}`, async () => {
      const { socket, id } = await joined(server);
      socket.send(packet);
      if (isReference) socket.send(Buffer.from([1]));
      await socket.close();
      const { reason } = await server.entry({ id, event: "disconnect" });
      assert.match(reason, /^(forced|transport)/);
    });
  }

  // Node takes these for packets without arguments.
  for (const packet of ["42", "430"]) {
    test(`invalid: nothing after ${packet}`, { skip: oursOnly }, async () => {
      const id = await closedBy(packet);
      await server.entry({ id, event: "disconnect", reason: "forced close" });
    });
  }

  test("a CONNECT_ERROR from the client", async () => {
    const id = await closedBy('44{"message":"no"}');
    const { reason } = await server.entry({ id, event: "disconnect" });
    assert.match(reason, /^forced/);
  });

  test("over polling too", async () => {
    const session = await Polling.open(server);
    await session.send("40");
    await session.upTo('42["auth",{}]');
    await session.post("42{}").catch(() => {});
    await session.get();
    await session.gone();
  });

  test("limits: nesting, digits of an id, a namespace's length", { skip: oursOnly }, async () => {
    const { socket: kept } = await joined(server);
    const deep = "[".repeat(50_000);
    await closedBy(`42["message",${deep}${deep.replaceAll("[", "]")}]`);
    await closedBy(`42${"9".repeat(100)}["message-with-ack"]`);
    await closedBy(`40/${"x".repeat(10_000)},`);
    await closedBy(`45${"9".repeat(100)}-["message"]`);
    await closedBy(`42["message",[${"[],".repeat(100_000)}0]]`);
    kept.send('42["message"]');
    assert.equal(await kept.next(), '42["message-back"]');
    kept.end();
  });
});

describe("a binary packet is never torn apart", () => {
  const isPing = (message) => message === "2" || message === "6";

  /** Asserts that attachments directly follow their header; counts the headers. */
  function countWhole(messages, isAttachment) {
    let due = 0;
    let headers = 0;
    for (const message of messages) {
      if (isPing(message)) continue; // another layer
      const attachment = isAttachment(message);
      assert.equal(attachment, due > 0, `${due} attachments are due, but: ${message}`);
      if (attachment) due--;
      const header = !attachment && /^4[56](\d+)-/.exec(message);
      if (header) {
        due = Number(header[1]);
        headers++;
      }
    }
    assert.equal(due, 0);
    return headers;
  }

  /** Events that make others emit to this namespace's sockets, all at once. */
  async function noise(server) {
    const sockets = await Promise.all([1, 2, 3].map(() => joined(server)));
    const broadcast = `452-["broadcast",${ONE},{"_placeholder":true,"num":1}]`;
    return {
      make() {
        for (const { socket } of sockets) {
          socket.send(broadcast, Buffer.from([1]), Buffer.from([2]), '42["broadcast","text"]');
        }
      },
      end: () => sockets.forEach(({ socket }) => socket.end()),
    };
  }

  test("over WebSocket", async () => {
    const server = await startServer(["--ping-interval", 5, "--ping-timeout", 20_000]);
    const { socket } = await joined(server);
    socket.send("40/chat,");
    await socket.upTo('42/chat,["auth",{}]');
    const others = await noise(server);
    for (let round = 0; round < 20; round++) {
      others.make();
      socket.send('42["flood-binary",20]', '42/chat,["flood-binary",20]', "40/nowhere,");
      others.make();
    }
    const messages = [];
    const expected = 20 * (20 + 20 + 2 * 3);
    const headers = () => messages.filter((message) => /^45/.test(message)).length;
    while (headers() < expected || typeof messages.at(-1) === "string") messages.push(await socket.next());
    // The last header may still lack its second attachment.
    while (typeof messages.at(-2) === "string") messages.push(await socket.next());
    assert.equal(countWhole(messages, Buffer.isBuffer), expected);
    socket.end();
    others.end();
    await server.stop();
  });

  test("over polling", async () => {
    const session = await Polling.open(server);
    await session.send("40", "40/chat,");
    await session.upTo('42/chat,["auth",{}]');
    const others = await noise(server);
    const packets = [];
    const expected = 10 * (20 + 20 + 2 * 3);
    const polls = (async () => {
      const whole = () => packets.filter((packet) => packet[0] === "b").length === 2 * expected;
      while (!whole()) packets.push(await session.next());
    })();
    for (let round = 0; round < 10; round++) {
      others.make();
      await session.send('42["flood-binary",20]', '42/chat,["flood-binary",20]');
      others.make();
    }
    await polls;
    assert.equal(countWhole(packets, (packet) => packet[0] === "b"), expected);
    others.end();
  });
});

test("a connection survives the panics of its handlers", async () => {
  const { socket } = await joined(server);
  socket.send('42["panic"]', '42["panic",1]', '42["message"]');
  assert.equal(await socket.next(), '42["message-back"]');
  socket.end();
  assert.ok(server.isRunning, isReference ? "" : server.stderr);
});
