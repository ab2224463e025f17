// Stock clients that leave a namespace and come again at once, as React's strict mode makes them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { also, clients, connected, open } from "../lib/clients.js";
import { isReference, startServer } from "../lib/server.js";
import { next } from "../lib/wait.js";

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const ask = (socket, event) => new Promise((resolve) => socket.emit(event, resolve));

for (const client of [clients.v2, clients.v3, clients.v4]) {
  describe(client.name, () => {
    test("mounted twice while a middleware is asked: it joins, and its connection lives", async () => {
      const main = open(client, server);
      await connected(main);
      let lost = 0;
      main.on("disconnect", () => lost++);
      const socket = also(client, main, "/slow-auth");
      socket.connect(); // a manager that doesn't connect by itself
      socket.disconnect();
      socket.connect();
      await next(socket, "connect");
      assert.ok((await ask(socket, "rooms")).includes("asked"));
      await ask(main, "rooms");
      assert.equal(lost, 0);
      main.disconnect();
      socket.disconnect();
    });

    test("it leaves and comes again, and again", async () => {
      const main = open(client, server);
      await connected(main);
      const socket = also(client, main, "/chat");
      if (!socket.connected) await next(socket, "connect");
      for (let i = 0; i < 5; i++) {
        await new Promise((resolve) => socket.emit("join", `room ${i}`, resolve));
        const left = { id: socket.id, event: "disconnect", reason: "client namespace disconnect" };
        server.log.length = 0; // clients of 2.x have the same id again
        socket.disconnect();
        // Node takes a CONNECT right behind for one of a socket that is there, and closes the connection.
        if (isReference) await server.entry(left);
        socket.connect();
        await next(socket, "connect");
        await server.entry(left);
        assert.equal((await ask(socket, "rooms")).length, 1, "the room of its own id");
      }
      main.disconnect();
      socket.disconnect();
    });
  });
}
