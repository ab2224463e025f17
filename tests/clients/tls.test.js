// Stock clients over TLS, on the server's own listener.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { after, before, describe, test } from "node:test";
import { ask, clients, connected, modes, open } from "../lib/clients.js";
import { runPython } from "../lib/python.js";
import { isReference, startServer } from "../lib/server.js";
import { Authority } from "../lib/tls.js";
import { next, within } from "../lib/wait.js";
import { suite } from "./suite.js";

const authority = new Authority();

if (!isReference) {
  suite(authority.client(clients.v4));

  describe("TLS", () => {
    let server;
    before(async () => (server = await startServer(authority.flags)));
    after(async () => assert.equal(await server.stop(), 0));

    for (const one of Object.values(clients)) {
      const client = authority.client(one);
      for (const mode of Object.keys(modes)) {
        test(`${client.name}, ${mode}: text and bytes there and back`, async () => {
          const socket = await connected(open(client, server, { mode }), mode);
          const value = [mode === "websocket" ? "é🦀" : "text", Buffer.from([0, 1, 254, 255])];
          assert.deepEqual(await ask(socket, "message-with-ack", ...value), value);
          socket.disconnect();
        });
      }
    }

    test("a client that doesn't trust the certificate isn't connected", async () => {
      const socket = open({ ...clients.v4, isSealed: true }, server);
      const [error] = await next(socket, "connect_error");
      assert.match(String(error.description?.message ?? error.description?.error), /certificate/);
      socket.close();
    });

    test("a renewed certificate is for those that come, and the others stay", async () => {
      const client = authority.client(clients.v4);
      const socket = await connected(open(client, server, { mode: "upgrade" }), "upgrade");
      const polling = await connected(open(client, server, { mode: "polling" }), "polling");
      const { id } = socket;
      const serial = async () => {
        const stream = connectTls({ port: server.port, host: "127.0.0.1", ca: authority.ca });
        await within(once(stream, "secureConnect"), () => "the handshake");
        const { serialNumber } = stream.getPeerCertificate();
        stream.destroy();
        return serialNumber;
      };
      const reload = async () => {
        server.log.length = 0;
        process.kill(server.pid, "SIGHUP");
        return server.entry({ event: "reload" });
      };
      const first = await serial();
      authority.spoil();
      assert.match((await reload()).error, /chain\.pem can't be used/);
      assert.equal(await serial(), first);
      authority.renew();
      assert.equal((await reload()).error, null);
      assert.notEqual(await serial(), first);
      for (const one of [socket, polling]) assert.deepEqual(await ask(one, "message-with-ack", 1), [1]);
      assert.equal(socket.id, id);
      socket.disconnect();
      polling.disconnect();
    });

    test("a runtime for each core serves it, too", async () => {
      const cores = await startServer(["--per-core", ...authority.flags]);
      const client = authority.client(clients.v4);
      for (let i = 0; i < 5; i++) {
        const socket = await connected(open(client, cores, { mode: "upgrade" }), "upgrade");
        assert.deepEqual(await ask(socket, "message-with-ack", i), [i]);
        socket.disconnect();
      }
      assert.equal(await cores.stop(), 0);
    });

    test("plain HTTP is told what to do", async () => {
      const response = await fetch(`http://${server.host}/socket.io/?EIO=4&transport=polling`);
      assert.equal(response.status, 400);
      assert.match(await response.text(), /use https:\/\/ or wss:\/\//);
    });

    test("garbage and handshakes that are never finished hold up nobody", async () => {
      const strangers = ["\x00\xff", "\x16", "\x16\x03\x01\x02\x00\x01", "SSH-2.0-x\r\n", ""].flatMap((said) =>
        Array.from({ length: 40 }, () => {
          const stream = connect({ port: server.port, host: "127.0.0.1" });
          stream.on("error", () => {});
          stream.write(Buffer.from(said, "latin1"));
          return stream;
        }),
      );
      await Promise.all(strangers.map((stream) => once(stream, "connect")));
      const socket = await connected(open(authority.client(clients.v4), server));
      assert.deepEqual(await ask(socket, "message-with-ack", 1), [1]);
      socket.disconnect();
      strangers.forEach((stream) => stream.destroy());
    });
  });

  describe("TLS, python-socketio", () => {
    let server;
    before(async () => {
      server = await startServer(authority.flags);
      const ca = authority.at("ca.pem");
      Object.assign(process.env, { SSL_CERT_FILE: ca, REQUESTS_CA_BUNDLE: ca, WEBSOCKET_CLIENT_CA_BUNDLE: ca });
    });
    after(async () => assert.equal(await server.stop(), 0));

    // The threaded client reads and writes one TLS connection from two threads, and loses events by WebSocket
    // also behind a server of OpenSSL: seven runs of forty.
    const all = Object.keys(modes);
    for (const [script, some] of [["asyncio_client.py", all], ["threaded_client.py", ["polling"]]]) {
      for (const mode of some) {
        test(`${script}, ${mode}`, async () => {
          const { lines, stderr } = await runPython(`python/${script}`, [`https://${server.host}`, mode], 60_000);
          const checks = lines.filter(({ check }) => check);
          assert.ok(checks.length >= 9, `it didn't get through its checks:\n${stderr}`);
          assert.deepEqual(checks.filter(({ error }) => error), []);
        });
      }
    }
  });
}
