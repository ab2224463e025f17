// Connections to the server's own listener (SERVER=per-core) and to Node's. What axum and hyper don't allow
// isn't asked of them.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { Polling, target } from "../lib/raw.js";
import { isReference, startServer } from "../lib/server.js";
import { until, within } from "../lib/wait.js";

const isOwn = isReference || process.env.SERVER === "per-core";

describe("connections", { skip: !isOwn && "the own listener's" }, () => {
  let server;
  before(async () => (server = await startServer()));
  after(() => server?.stop());

  /** What is answered to these bytes on a connection that stays open: status and body. */
  function exchange(socket, bytes) {
    const answer = new Promise((resolve, reject) => {
      let text = "";
      const read = (data) => {
        text += data;
        const [head, body] = text.split("\r\n\r\n");
        const length = /content-length: (\d+)/i.exec(head);
        if (body === undefined || (length && body.length < Number(length[1]))) return;
        socket.off("data", read);
        resolve({ status: Number(text.slice(9, 12)), body });
      };
      socket.setEncoding("latin1").on("data", read);
      socket.on("error", reject);
      socket.on("close", () => reject(new Error(`cut: ${text}`)));
    });
    socket.write(bytes);
    return within(answer, () => `the answer to ${bytes}`);
  }

  for (const raw of ['"quoted"', "<a>", "a>b", "{|}^`\\[]"]) {
    test(`a raw ${JSON.stringify(raw)} in a query is taken`, async () => {
      const socket = connect(server.port, "127.0.0.1");
      const path = "/socket.io/?EIO=4&transport=polling";
      let sid = "";
      const head = "HTTP/1.1\r\nHost: test\r\n";
      const ask = (line, rest) => exchange(socket, Buffer.from(`${line}${sid}&name=${raw} ${head}${rest}`, "utf8"));
      const opened = await ask(`GET ${path}`, "\r\n");
      assert.equal(opened.status, 200, opened.body);
      sid = `&sid=${JSON.parse(opened.body.slice(1)).sid}`;
      const posted = await ask(`POST ${path}`, "Content-Length: 2\r\n\r\n40");
      assert.deepEqual(posted, { status: 200, body: "ok" });
      const polled = await ask(`GET ${path}`, "\r\n");
      assert.match(polled.body, /^40/);
      socket.destroy();
    });
  }

  for (const leaves of ["end", "destroy"]) {
    test(`a whole POST is handled if its client hangs up right behind (${leaves})`, async () => {
      const sockets = [];
      for (let i = 0; i < 40; i++) {
        const session = await Polling.open(server);
        await session.send("40");
        const { sid: id } = JSON.parse((await session.next()).slice(2));
        // Joins a room, which the log of the socket's end tells.
        const body = '42["join","noted"]';
        const socket = connect(server.port, "127.0.0.1");
        const line = `POST ${target(session.query)} HTTP/1.1\r\nHost: test\r\n`;
        await new Promise((resolve) => {
          socket.on("error", () => {});
          socket.write(`${line}Content-Length: ${body.length}\r\n\r\n${body}`, () => resolve(socket[leaves]()));
        });
        sockets.push({ session, id });
      }
      const rooms = async ({ session }) => {
        await session.send('427["rooms"]');
        for (;;) {
          const packet = await session.next();
          if (packet.startsWith("437")) return JSON.parse(packet.slice(3))[0];
        }
      };
      await until(async () => {
        for (const socket of sockets) if (!(await rooms(socket)).includes("noted")) return false;
        return true;
      }, "40 POSTs of 40");
    });
  }
});
