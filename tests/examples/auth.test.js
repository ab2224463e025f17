// The example `auth`: the web session is the socket's.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { next, within } from "../lib/wait.js";
import { client, connected, startExample } from "./examples.js";

let server;

before(async () => (server = await startExample("auth")));
after(() => server.stop());

const post = (path, fields, headers) =>
  fetch(`${server.url}${path}`, { method: "POST", body: new URLSearchParams(fields), headers });

async function logIn(name) {
  const response = await post("/login", { name, password: "wonder" });
  assert.equal(response.status, 204);
  return response.headers.get("set-cookie").split(";")[0];
}

test("who isn't logged in gets a connect_error", async () => {
  assert.equal((await post("/login", { name: "eve", password: "guess" })).status, 401);
  for (const cookie of [undefined, "id=nonsense"]) {
    const eve = client(server, { extraHeaders: cookie && { cookie } });
    const [error] = await next(eve, "connect_error");
    assert.equal(error.message, "log in first");
    assert.equal(error.data.code, "unauthorized");
    eve.close();
  }
});

for (const transports of [["polling"], ["websocket"]]) {
  test(`those who are talk under their names, until they log out: ${transports}`, async () => {
    const cookies = await Promise.all([logIn("ada"), logIn("ben")]);
    const open = (cookie) => connected(server, { transports, extraHeaders: { cookie } });
    const [ada, tab, ben] = await Promise.all([open(cookies[0]), open(cookies[0]), open(cookies[1])]);
    const heard = [ada, tab, ben].map((socket) => next(socket, "said"));
    ada.emit("say", "hello");
    assert.deepEqual(await Promise.all(heard), Array(3).fill(["ada", "hello"]));

    const gone = [ada, tab].map((socket) => next(socket, "disconnect"));
    assert.equal((await post("/logout", {}, { cookie: cookies[0] })).status, 204);
    for (const [reason] of await Promise.all(gone)) assert.equal(reason, "io server disconnect");
    ada.connect();
    const [error] = await next(ada, "connect_error");
    assert.equal(error.message, "log in first");
    assert(ben.connected);
    const alone = next(ben, "said");
    ben.emit("say", "still here");
    assert.deepEqual(await within(alone, () => "ben hears himself"), ["ben", "still here"]);
    for (const socket of [ada, tab, ben]) socket.close();
  });
}
