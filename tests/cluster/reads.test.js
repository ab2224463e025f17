// Node's own packages read what the crate `antiphon-protocol` writes for each of their adapters: the
// example `cluster_frames` prints it, and a server of Node gets it from a broker inside of this
// process. Most of it is compared to the byte with what Node writes, in that crate's own tests; what
// Node writes in another form, as binary answers, is shown here.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, test } from "node:test";
import { examples } from "../lib/server.js";
import { until, within } from "../lib/wait.js";
import { adapters, client, server } from "./node.js";

const bytes = Buffer.from([1, 2, 3]);

/** What is published by us, with answers for this request. */
function ours(adapter, request = "-", asker = "-") {
  const command = join(examples, "cluster_frames");
  const lines = execFileSync(command, [adapter, request, asker], { encoding: "utf8" });
  return lines.trim().split("\n").map((line) => JSON.parse(line));
}

/** A server of Node with a client in the room `lobby`, and us as another server. */
async function cluster(adapter) {
  const broker = adapters[adapter].broker();
  const io = server(adapter, broker);
  const { client: peer, socket } = await client(io);
  after(() => {
    peer.disconnect();
    io.close();
  });
  socket.join("lobby");
  // Redis says how many servers listen.
  if (adapter !== "postgres") {
    const channels = ["socket.io#/#", "socket.io-request#/#"];
    await broker.client().subscribe(channels, () => {});
  }
  const deliver = (step, request, asker) => {
    const frames = ours(adapter, request, asker).filter((frame) => frame.step === step);
    let id;
    for (const { channel, hex, fields, row } of frames) {
      if (row) id = broker.insert(Buffer.from(row, "hex"));
      else if (fields) broker.append(fields);
      else {
        const payload = Buffer.from(hex, "hex");
        broker.deliver(channel, id ? payload.toString().replace('"0"', `"${id}"`) : payload);
      }
    }
  };
  deliver("heartbeat");
  return { io, broker, peer, socket, deliver };
}

/** The request that Node has published: its name, and the server's. */
async function asked(io, broker, from) {
  const find = () => {
    for (const { payload } of broker.record.slice(from)) {
      const text = payload?.toString("latin1");
      // In JSON a quote stands before it, in MessagePack a byte that says how long it is.
      const found = text?.match(/requestId(?:":"|[^a-zA-Z0-9_-])([a-zA-Z0-9_-]+)/);
      if (found) return found[1];
    }
  };
  return [await until(find, "a request"), io.of("/").adapter.uid];
}

/** Waits until so much was published that answers our request. */
function answered(broker, count) {
  const answers = () => broker.record.filter(({ payload }) => payload?.includes("ours"));
  return until(() => answers().length >= count, "answers to our request");
}

test("streams: a client of ours is recovered by Node, and gets what it has missed", async () => {
  const broker = adapters.streams.broker();
  const io = server("streams", broker, { connectionStateRecovery: { skipMiddlewares: true } });
  const frames = ours("streams");
  const { key, value } = frames.find(({ step }) => step === "session");
  const { fields } = frames.find(({ step }) => step === "emit");
  broker.keep(key, value);
  const [offset, missed] = [broker.append(fields), broker.append(fields)];

  const { client: peer, socket } = await client(io, { auth: { pid: "secret", offset } }, (peer) => {
    peer.events = [];
    peer.onAny((...args) => peer.events.push(args));
  });
  after(() => {
    peer.disconnect();
    io.close();
  });
  assert.equal(socket.recovered, true);
  assert.equal(peer.id, "ours");
  assert.deepEqual(socket.rooms, new Set(["ours", "lobby"]));
  assert.deepEqual(socket.data, { name: "é" });
  await until(() => peer.events.length > 0, "what it has missed");
  assert.deepEqual(peer.events, [["ev", 1, bytes, missed]]);
});

for (const adapter of Object.keys(adapters)) {
  test(`${adapter}: our messages`, async () => {
    const { io, broker, peer, socket, deliver } = await cluster(adapter);

    const event = new Promise((done) => peer.once("ev", (...args) => done(args)));
    deliver("emit");
    assert.deepEqual(await within(event, () => "the event"), [1, bytes]);

    peer.once("ask", (_, data, ack) => ack(data));
    deliver("emit with acks");
    await answered(broker, 2);

    deliver("join");
    await until(() => socket.rooms.has("more"), "the join");
    deliver("leave");
    await until(() => !socket.rooms.has("more"), "the leave");

    broker.record.length = 0;
    deliver("fetch");
    await answered(broker, 1);

    broker.record.length = 0;
    const question = new Promise((done) => {
      io.once("question", (data, answer) => {
        answer(7);
        done(data);
      });
    });
    deliver("server-side emit");
    assert.deepEqual(await within(question, () => "the question"), bytes);
    await answered(broker, 1);

    const gone = new Promise((done) => peer.once("disconnect", done));
    deliver("disconnect");
    await within(gone, () => "the disconnect");
  });

  test(`${adapter}: our answers`, async () => {
    const { io, broker, peer, deliver } = await cluster(adapter);
    const ask = async (request) => {
      const from = broker.record.length;
      const answer = request();
      return { answer, names: await asked(io, broker, from) };
    };

    const fetched = await ask(() => io.of("/").fetchSockets());
    deliver("fetched", ...fetched.names);
    const found = await within(fetched.answer, () => "the sockets");
    assert.equal(found.length, 2);
    const { id, data } = found.find((socket) => socket.id === "ours");
    assert.deepEqual({ id, data }, { id: "ours", data: bytes });

    const emitted = await ask(() => io.serverSideEmitWithAck("question"));
    deliver("emitted", ...emitted.names);
    assert.deepEqual(await within(emitted.answer, () => "the answers of servers"), [bytes]);

    peer.once("ask", (ack) => ack("theirs"));
    const acknowledged = await ask(() => io.timeout(20_000).emitWithAck("ask"));
    deliver("clients", ...acknowledged.names);
    deliver("acknowledged", ...acknowledged.names);
    const answers = await within(acknowledged.answer, () => "the acknowledgements");
    assert.deepEqual(new Set(answers), new Set(["theirs", bytes]));
  });
}
