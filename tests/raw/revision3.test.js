// Engine.IO revision 3 (Socket.IO 1.x and 2.x): docs/protocol.md 3.4, 5.5 to 5.7, 9 and 18.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { payload3, Polling, request, Socket, splitPayload3 } from "../lib/raw.js";
import { assertViolation, startServer } from "../lib/server.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const ECHO = { path: "/engine.io/", eio: 3 };
const OCTETS = { "content-type": "application/octet-stream" };

describe("text payloads", () => {
  test("the handshake is a payload, with all keys of revision 4", async () => {
    const { opening, handshake } = await Polling.open(server, ECHO);
    assert.equal(opening.headers["content-type"], "text/plain; charset=UTF-8");
    const keys = ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"];
    assert.deepEqual(Object.keys(handshake), keys);
    assert.deepEqual(handshake.upgrades, ["websocket"]);
  });

  test("lengths count UTF-16 units", async () => {
    const session = await Polling.open(server, ECHO);
    const { status } = await session.post("2:4a3:4é🦀".replace("3:", "4:"));
    assert.equal(status, 200);
    assert.equal((await session.get()).text, "2:4a4:4é🦀");
  });

  test("all that is buffered comes with one poll", async () => {
    const session = await Polling.open(server, ECHO);
    await session.send("4a", "4", "45:4b", "4é");
    assert.equal((await session.get()).text, payload3("4a", "4", "45:4b", "4é"));
  });

  test("binary is base64 where the client asked for it", async () => {
    const session = await Polling.open(server, { ...ECHO, b64: 1 });
    assert.equal((await session.post("10:b4AQIDBA==")).status, 200);
    const { headers, text } = await session.get();
    assert.equal(text, "10:b4AQIDBA==");
    assert.equal(headers["content-type"], "text/plain; charset=UTF-8");
  });

  for (const payload of ["abc", "5:4", ":4", "-1:4", "2:4a2", "99999999999999999999:4a", "1:9", ""]) {
    test(`the payload ${JSON.stringify(payload)} ends the session`, async () => {
      const session = await Polling.open(server, ECHO);
      await session.post(payload).catch(() => {});
      await session.gone();
    });
  }
});

describe("binary payloads", () => {
  const TEXT = Buffer.from([0, 6, 255, ...Buffer.from("4hello")]);
  const BINARY = Buffer.from([1, 5, 255, 4, 1, 2, 3, 4]);

  test("a binary message comes in one, to the byte", async () => {
    const session = await Polling.open(server, ECHO);
    assert.equal((await session.post(BINARY, OCTETS)).status, 200);
    const { headers, bytes } = await session.get();
    assert.equal(headers["content-type"], "application/octet-stream");
    assert.deepEqual(bytes, BINARY);
  });

  test("text beside it is a part of it, its length in bytes", async () => {
    const session = await Polling.open(server, ECHO);
    const accented = Buffer.from([0, 1, 0, 255, ...Buffer.from("4é🦀123")]); // 10 bytes
    assert.equal((await session.post(Buffer.concat([TEXT, BINARY, accented]), OCTETS)).status, 200);
    assert.deepEqual((await session.get()).bytes, Buffer.concat([TEXT, BINARY, accented]));
  });

  test("text alone is a text payload", async () => {
    const session = await Polling.open(server, ECHO);
    await session.post(TEXT, OCTETS);
    assert.equal((await session.get()).text, "6:4hello");
  });

  for (const [name, bytes] of [
    ["cut short", BINARY.subarray(0, 6)],
    ["without the end of its length", Buffer.from([1, 5, 4, 1])],
    ["with a length of many digits", Buffer.from([1, ...Array(400).fill(9), 255, 4])],
  ]) {
    test(`a payload ${name} does no harm`, async () => {
      const session = await Polling.open(server, ECHO);
      await session.post(bytes, OCTETS).catch(() => {});
      // Node ignores some of them; whether or not it ends the session, the server goes on.
      await Polling.open(server, ECHO);
    });
  }
});

describe("heartbeat: the client pings", () => {
  test("a ping is answered", async () => {
    const session = await Polling.open(server, ECHO);
    await session.send("2", "4x", "2");
    assert.equal((await session.get()).text, payload3("3", "4x", "3"));
    const socket = await Socket.session(server, ECHO);
    socket.send("2", "2");
    assert.equal(await socket.next(), "3");
    assert.equal(await socket.next(), "3");
    socket.end();
  });

  test("a silent client is closed, a pinging one is not, and the server doesn't ping", async () => {
    const server = await startServer(["--ping-interval", 300, "--ping-timeout", 700]);
    const silent = await Polling.open(server, ECHO);
    const socket = await Socket.session(server, ECHO);
    const lively = await Polling.open(server, ECHO);
    let isOpen = true;
    const gone = Promise.all([silent.gone(), socket.close()]).finally(() => (isOpen = false));
    while (isOpen) {
      await lively.send("2");
      assert.equal((await lively.get()).text, "1:3");
    }
    await gone;
    assert.equal(socket.messages.length, 0);
    await lively.send("4x");
    assert.equal(await lively.next(), "4x");
    await server.stop();
  });

  test("a pong from the client is the wrong direction and ends the session", async () => {
    const session = await Polling.open(server, ECHO);
    await session.post(payload3("3")).catch(() => {});
    await session.gone();
    const socket = await Socket.session(server, ECHO);
    socket.send("3");
    await socket.close();
  });
});

describe("WebSocket", () => {
  test("binary frames start with the byte 4", async () => {
    const socket = await Socket.session(server, ECHO);
    assert.deepEqual(socket.handshake.upgrades, []);
    socket.send("4é🦀", Buffer.from([4, 1, 2, 3]), "b4AQID");
    assert.equal(await socket.next(), "4é🦀");
    assert.deepEqual(await socket.next(), Buffer.from([4, 1, 2, 3]));
    assert.deepEqual(await socket.next(), Buffer.from([4, 1, 2, 3]));
    socket.end();
  });

  test("binary is base64 where the client asked for it", async () => {
    const socket = await Socket.session(server, { ...ECHO, b64: 1 });
    socket.send(Buffer.from([4, 1, 2, 3]), "b4AQID");
    assert.equal(await socket.next(), "b4AQID");
    assert.equal(await socket.next(), "b4AQID");
    socket.end();
  });

  test("upgrades as revision 4 does", async () => {
    const session = await Polling.open(server, ECHO);
    const socket = await Socket.open(server, { ...ECHO, sid: session.sid });
    socket.send("2probe");
    assert.equal(await socket.next(), "3probe");
    assert.equal((await session.get()).text, "1:6");
    socket.send("5", "4upgraded");
    assert.equal(await socket.next(), "4upgraded");
    socket.end();
  });
});

describe("clients from before EIO=3", () => {
  for (const EIO of [undefined, "", "1", "2"]) {
    const says = EIO === undefined ? "no EIO" : `EIO=${EIO}`;

    test(`${says} is revision 3 over polling, in later requests too`, async () => {
      const session = await Polling.open(server, { eio: 3, EIO });
      assert.equal(await session.next(), "40");
      assert.equal(await session.next(), '42["auth",{}]');
      await session.send('42["message","é"]');
      assert.equal(await session.next(), '42["message-back","é"]');
      await session.send("2");
      assert.equal(await session.next(), "3");
    });

    test(`${says} is revision 3 over WebSocket`, async () => {
      const socket = await Socket.session(server, { eio: 3, EIO });
      assert.equal(await socket.next(), "40");
      socket.send("2");
      assert.equal(await socket.next(), '42["auth",{}]');
      assert.equal(await socket.next(), "3");
      socket.end();
    });

    test(`${says} is revision 3 in an upgrade`, async () => {
      const session = await Polling.open(server, { eio: 3, EIO });
      assert.equal(await session.upTo('42["auth",{}]').then((packets) => packets[0]), "40");
      const socket = await Socket.open(server, { eio: 3, EIO, sid: session.sid });
      socket.send("2probe");
      assert.equal(await socket.next(), "3probe");
      socket.send("5", '42["message",1]');
      assert.equal(await socket.next(), '42["message-back",1]');
      socket.end();
    });
  }

  test("a request that says another revision than its session's is refused, and harms nothing", async () => {
    for (const [eio, other] of [[3, 4], [4, 3], [4, 2]]) {
      const session = await Polling.open(server, { eio });
      for (const method of ["GET", "POST"]) {
        const { status, json } = await request(server, { method, query: { ...session.query, EIO: other }, body: "1" });
        assert.deepEqual([status, json.code, json.message], [400, 3, "Bad request"]);
      }
      const { status } = await Socket.connect(server, { eio: other, sid: session.sid }).refused;
      assert.equal(status, 400);
      await session.send(eio === 3 ? "2" : "40");
      assert.match(await session.next(), /^40/);
    }
  });
});

describe("Socket.IO revision 4", () => {
  const joined = async () => {
    const socket = await Socket.session(server, { eio: 3 });
    assert.equal(await socket.next(), "40");
    assert.equal(await socket.next(), '42["auth",{}]');
    return socket;
  };

  test("the answer to a handshake is the open packet alone", async () => {
    const { opening } = await Polling.open(server, { eio: 3 });
    assert.equal(splitPayload3(opening.text).length, 1, opening.text);
  });

  test("the server connects `/` without being asked", async () => {
    (await joined()).end();
    const session = await Polling.open(server, { eio: 3 });
    assert.equal(await session.next(), "40");
    assert.equal(await session.next(), '42["auth",{}]');
    await session.send('42["message","é🦀"]');
    assert.equal(splitPayload3((await session.get()).text)[0], '42["message-back","é🦀"]');
  });

  test("a namespace is answered without payload; its query is the auth", async () => {
    const socket = await joined();
    socket.send("40/chat?token=1&name=a%20b,");
    assert.equal(await socket.next(), "40/chat,");
    const auth = (await socket.next()).slice("42/chat,".length);
    assert.deepEqual(JSON.parse(auth), ["auth", { token: "1", name: "a b" }]);
    socket.send("40/custom");
    assert.equal(await socket.next(), "40/custom,");
    assert.equal(await socket.next(), '42/custom,["auth",{}]');
    const sid = socket.handshake.sid;
    const whoami = async (packet) => {
      socket.send(packet);
      return JSON.parse((await socket.next()).replace(/^43(\/\w+,)?\d/, ""))[0].id;
    };
    assert.equal(await whoami('420["whoami"]'), sid);
    assert.equal(await whoami('42/chat,0["whoami"]'), `/chat#${sid}`);
    socket.end();
  });

  test("refusals carry the data alone", async () => {
    const socket = await joined();
    socket.send("40/auth?token=no,");
    assert.equal(await socket.next(), '44/auth,{"code":"E_AUTH"}');
    socket.send("40/nowhere,");
    assert.equal(await socket.next(), '44/nowhere,{"message":"Invalid namespace"}');
    socket.send('42["message"]');
    assert.equal(await socket.next(), '42["message-back"]');
    socket.end();
  });

  test("a CONNECT for `/` is a second one and closes the connection", async () => {
    const socket = await joined();
    socket.send("40");
    await socket.close();
    await assertViolation(server, socket.handshake.sid);
  });

  test("binary events over polling and WebSocket", async () => {
    const socket = await joined();
    const header = '451-["message",{"_placeholder":true,"num":0}]';
    const back = '451-["message-back",{"_placeholder":true,"num":0}]';
    socket.send(header, Buffer.from([4, 1, 2]));
    assert.equal(await socket.next(), back);
    assert.deepEqual(await socket.next(), Buffer.from([4, 1, 2]));
    socket.end();

    const session = await Polling.open(server, { eio: 3, b64: 1 });
    assert.deepEqual([await session.next(), await session.next()], ["40", '42["auth",{}]']);
    await session.send(header, "b4AQI=");
    assert.equal((await session.get()).text, payload3(back, "b4AQI="));
  });
});
