// The example `several_servers`: one chat on two servers and a Redis.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRedis } from "../lib/redis.js";
import { next, until } from "../lib/wait.js";
import { connected, startExample } from "./examples.js";

let redis;
let servers;

before(async () => {
  redis = await startRedis();
  servers = await Promise.all([1, 2].map(() => startExample("several_servers", redis.url)));
});
after(async () => {
  await Promise.all((servers ?? []).map((server) => server.stop()));
  await redis?.stop();
});

test("two servers are one chat", async () => {
  const open = (at, name) => connected(servers[at], { auth: { name } });
  const [ada, ben] = await Promise.all([open(0, "ada"), open(1, "ben")]);
  await until(async () => (await ada.emitWithAck("who")).length === 2, "the servers know each other");
  assert.deepEqual(await ben.emitWithAck("who"), ["ada", "ben"]);
  for (const [speaker, name] of [[ada, "ada"], [ben, "ben"]]) {
    const heard = [ada, ben].map((socket) => next(socket, "said"));
    speaker.emit("say", `I am ${name}`);
    assert.deepEqual(await Promise.all(heard), Array(2).fill([name, `I am ${name}`]));
  }
  const gone = next(ada, "disconnect");
  ben.emit("ban", "ada");
  assert.deepEqual((await gone)[0], "io server disconnect");
  assert.deepEqual(await ben.emitWithAck("who"), ["ben"]);
  ben.close();
});
