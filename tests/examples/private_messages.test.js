// The example `private_messages`, and the program for Node that it was made of: the same.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Server } from "../lib/server.js";
import { next, Queue, within } from "../lib/wait.js";
import { client, startExample } from "./examples.js";

async function startOriginal() {
  const program = fileURLToPath(new URL("private_messages.node.js", import.meta.url));
  const server = new Server(process.execPath, [program, "0"]);
  await within(server.listening, () => "the original listens");
  return server;
}

const PROGRAMS = { "ours": () => startExample("private_messages"), "the original": startOriginal };

/** A tab of someone, with all that it hears. */
async function tab(server, name) {
  const socket = client(server, { auth: { name } });
  const heard = new Queue();
  socket.onAny((...event) => heard.push(event));
  await next(socket, "connect");
  const [event, users] = await heard.next();
  assert.equal(event, "users");
  return { socket, heard, users };
}

/** The next event, of this name if one is given. With recovery it has an offset behind its arguments. */
async function hears({ heard }, wanted) {
  for (;;) {
    const [event, argument] = await heard.next();
    if (!wanted || event === wanted) return [event, argument];
  }
}

for (const [name, start] of Object.entries(PROGRAMS)) {
  describe(name, () => {
    let server;
    before(async () => (server = await start()));
    after(() => server.stop());

    test("who has no name is refused", async () => {
      const socket = client(server, { auth: { name: "" } });
      const [error] = await next(socket, "connect_error");
      assert.equal(error.message, "invalid name");
      socket.close();
    });

    test("people see each other, and what goes to one goes to all tabs of both", async () => {
      const ada = await tab(server, "ada");
      assert.deepEqual(ada.users, ["ada"]);
      const ben = await tab(server, "ben");
      assert.deepEqual(ben.users, ["ada", "ben"]);
      assert.deepEqual(await hears(ada), ["user connected", "ben"]);
      const second = await tab(server, "ada");
      assert.deepEqual(second.users, ["ada", "ben"]);
      for (const other of [ada, ben]) assert.deepEqual(await hears(other), ["user connected", "ada"]);

      ada.socket.emit("private message", { to: "ben", text: "hello" });
      const message = ["private message", { from: "ada", to: "ben", text: "hello" }];
      assert.deepEqual(await hears(ben), message);
      assert.deepEqual(await hears(second), message);
      ben.socket.emit("private message", { to: "ada", text: "hi" });
      const reply = ["private message", { from: "ben", to: "ada", text: "hi" }];
      assert.deepEqual(await hears(ada), reply); // and not what she has sent herself
      assert.deepEqual(await hears(second), reply);

      ben.socket.io.engine.close(); // away for a moment
      ada.socket.emit("private message", { to: "ben", text: "there?" });
      await next(ben.socket, "connect");
      assert(ben.socket.recovered);
      const missed = ["private message", { from: "ada", to: "ben", text: "there?" }];
      assert.deepEqual(await hears(ben, "private message"), missed);

      second.socket.close();
      ada.socket.close();
      const gone = async () => (await hears(ben, "user disconnected"))[1];
      while ((await gone()) !== "ada"); // for a moment it was himself
      ben.socket.close();
    });
  });
}
