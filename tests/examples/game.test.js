// The example `game`: players steer, and all see the same world.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { until } from "../lib/wait.js";
import { client, startExample } from "./examples.js";

let server;

before(async () => (server = await startExample("game")));
after(() => server.stop());

/** A player, who looks at the world. */
async function play() {
  const socket = client(server, { transports: ["websocket"] });
  const player = { socket, world: null, ticks: [] };
  socket.on("you", (id) => (player.id = id));
  socket.on("world", (world) => {
    player.world = world;
    player.ticks.push(world.tick);
  });
  await until(() => player.id && player.world, "the player is in the world");
  return player;
}

const position = (viewer, id) => viewer.world.players.find((player) => player.id === id);

test("a player moves while it is steered, and others see it", async () => {
  const [ada, ben] = await Promise.all([play(), play()]);
  await until(() => position(ben, ada.id), "ben sees ada");
  ada.socket.volatile.emit("steer", 1, 0);
  await until(() => position(ben, ada.id).x > 1, "ada moves to the right");
  assert.equal(position(ben, ada.id).y, 0);
  assert.equal(position(ben, ben.id).x, 0);
  ada.socket.emit("steer", 0, 0);
  await until(() => {
    const seen = ben.ticks.length;
    const { x } = position(ben, ada.id);
    return until(() => ben.ticks.length > seen + 2, "time passes").then(() => position(ben, ada.id).x === x);
  }, "ada stands still");
  for (const { ticks } of [ada, ben]) assert.deepEqual(ticks, [...ticks].sort((a, b) => a - b));
  ada.socket.close();
  await until(() => !position(ben, ada.id), "ada is gone");
  ben.socket.close();
});

test("nobody is faster for what they ask, and nobody leaves the world", async () => {
  const [ada, ben] = await Promise.all([play(), play()]);
  ada.socket.emit("steer", 1e9, 0);
  ben.socket.emit("steer", 1, 0);
  await until(() => position(ada, ada.id).x >= 3, "ada has moved");
  assert(position(ada, ada.id).x - position(ada, ben.id).x < 10);
  for (const nonsense of [["left"], [null, 1], [], [1e39, 1]]) ada.socket.emit("steer", ...nonsense);
  await until(() => position(ben, ben.id).x === 50, "ben stands at the edge");
  assert(ada.socket.connected);
  ada.socket.close();
  ben.socket.close();
});
