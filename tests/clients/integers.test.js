// Integers that are larger than JavaScript's numbers keep travel as texts.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connected, msgpack, open } from "../lib/clients.js";
import { oursOnly, startServer } from "../lib/server.js";

for (const client of [clients.v2, clients.v4, msgpack]) {
  describe(client.name, () => {
    let server;
    let socket;

    before(async () => {
      server = await startServer(client.flags);
      socket = await connected(open(client, server));
    });
    after(async () => {
      socket.disconnect();
      await server.stop();
    });

    test("integers beyond 2^53 come back exactly", async () => {
      for (const integer of [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
        const [next] = await ask(socket, "next-integer", integer.toString());
        assert.equal(typeof next, "string");
        assert.equal(BigInt(next), integer + 1n);
      }
    });

    test("a number is taken, too, and the answer is a text all the same", async () => {
      assert.deepEqual(await ask(socket, "next-integer", 41), ["42"]);
      assert.deepEqual(await ask(socket, "next-integer", Number.MAX_SAFE_INTEGER), [String(2n ** 53n)]);
    });

    test("what is no integer is refused", { skip: oursOnly }, async () => {
      for (const wrong of ["", "1n", "1.5", "-1", String(2n ** 64n), 1.5, -1, null, [1]]) {
        const [answer] = await ask(socket, "next-integer", wrong);
        assert.equal(answer.error.code, "invalid_arguments", `${wrong}`);
        assert.match(answer.error.message, /expected a whole number, or the text of one/);
      }
    });
  });
}
