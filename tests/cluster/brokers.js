// Brokers inside of one process, in the shape that the clients of Node's packages have: what is
// published is noted down, and given to those that have subscribed. Of use where bytes are to be
// seen, and nothing else is asked: tests of a cluster use real ones.

import { EventEmitter } from "node:events";

const encode = (payload) => (typeof payload === "string" ? Buffer.from(payload) : payload);

/** Redis, for clients of the package `redis` from version 4 on, and of `ioredis`. */
export class Redis {
  /** What was published: `{ channel, payload }`, or `{ fields }` of a stream's entry, or `{ key, value }`. */
  record = [];
  #channels = new Map();
  #patterns = new Map();
  #entries = [];
  #values = new Map();
  #readers = [];

  /** A client of the package `redis`. */
  client() {
    const add = (map) => async (names, listener) => {
      for (const name of [names].flat()) map.set(name, [...(map.get(name) ?? []), listener]);
    };
    const remove = (map) => async (names) => [names].flat().forEach((name) => map.delete(name));
    const publish = async (channel, payload) => {
      this.record.push({ channel, payload: encode(payload) });
      setImmediate(() => this.deliver(channel, payload));
    };
    const redis = this;
    return {
      on() {},
      off() {},
      async connect() {},
      disconnect() {},
      duplicate: () => this.client(),
      publish,
      sPublish: publish,
      pSubscribe: add(this.#patterns),
      pUnsubscribe: remove(this.#patterns),
      subscribe: add(this.#channels),
      unsubscribe: remove(this.#channels),
      sSubscribe: add(this.#channels),
      sUnsubscribe: remove(this.#channels),
      listenerCount: () => 1,
      sendCommand: async ([, , channel]) => [channel, this.#channels.get(channel)?.length ?? 0],
      async xAdd(_stream, _id, fields) {
        redis.record.push({ fields });
        return redis.append(fields);
      },
      xRead: ([{ id }]) => {
        const found = this.#entries.filter((entry) => id !== "$" && isAfter(entry.id, id));
        if (found.length > 0) return Promise.resolve([{ messages: found }]);
        return new Promise((resolve) => this.#readers.push(resolve));
      },
      xRange: async (_stream, from, to) =>
        this.#entries.filter(({ id }) => !isAfter(from, id) && (to === "+" || !isAfter(id, to))),
      set: async (key, value) => {
        this.record.push({ key, value });
        this.#values.set(key, value);
      },
      multi() {
        const results = [];
        return {
          get(key) {
            results.push(redis.#values.get(key) ?? null);
            return this;
          },
          del(key) {
            results.push(Number(redis.#values.delete(key)));
            return this;
          },
          exec: async () => results,
        };
      },
    };
  }

  /** A client of the package `ioredis`, which is told by events what came on all its channels. */
  ioredis() {
    const { xAdd, xRead, xRange, multi, sendCommand, ...client } = this.client();
    const events = new EventEmitter();
    const told = (event) => (payload, channel) => events.emit(event, Buffer.from(channel), payload);
    const entry = ({ id, message }) => [id, Object.entries(message).flat()];
    return {
      publish: client.publish,
      spublish: client.sPublish,
      set: client.set,
      options: {},
      duplicate: () => this.ioredis(),
      disconnect() {},
      on: (event, listener) => events.on(event, listener),
      off: (event, listener) => events.off(event, listener),
      listenerCount: (event) => events.listenerCount(event),
      subscribe: (channels) => client.subscribe(channels, told("messageBuffer")),
      unsubscribe: client.unsubscribe,
      ssubscribe: (channel) => client.sSubscribe(channel, told("smessageBuffer")),
      sunsubscribe: client.sUnsubscribe,
      psubscribe: (pattern) =>
        client.pSubscribe(pattern, (payload, channel) =>
          events.emit("pmessageBuffer", Buffer.from(pattern), Buffer.from(channel), payload),
        ),
      punsubscribe: client.pUnsubscribe,
      send_command: (name, args, then) =>
        sendCommand([name, ...args]).then((result) => then(null, result)),
      xadd: ([stream, , , , id, ...pairs]) => {
        const names = pairs.filter((_, index) => index % 2 === 0);
        const fields = names.map((name, index) => [name, pairs[2 * index + 1]]);
        return xAdd(stream, id, Object.fromEntries(fields));
      },
      xread: async (...args) => {
        const [{ messages }] = await xRead([{ id: args.at(-1) }]);
        return [[args.at(-2), messages.map(entry)]];
      },
      xrange: async (...args) => (await xRange(...args)).map(entry),
      multi: () => {
        const { exec, ...commands } = multi();
        return { ...commands, exec: async () => (await exec()).map((result) => [null, result]) };
      },
    };
  }

  /** Gives a payload to those that listen, as if another had published it. */
  deliver(channel, payload) {
    const bytes = encode(payload);
    for (const listener of this.#channels.get(channel) ?? []) listener(bytes, channel);
    for (const [pattern, listeners] of this.#patterns) {
      if (channel.startsWith(pattern.slice(0, -1))) {
        for (const listener of listeners) listener(bytes, channel);
      }
    }
  }

  /** Appends an entry to the stream, as if another had done so. */
  append(fields) {
    const entry = { id: `1700000000000-${this.#entries.length + 1}`, message: fields };
    this.#entries.push(entry);
    for (const resolve of this.#readers.splice(0)) resolve([{ messages: [entry] }]);
    return entry.id;
  }

  /** Keeps a value under a key, as if another had done so. */
  keep(key, value) {
    this.#values.set(key, value);
  }
}

function isAfter(a, b) {
  const [left, right] = [a, b].map((id) => id.split("-").map(Number));
  return left[0] > right[0] || (left[0] === right[0] && left[1] > right[1]);
}

/** Postgres, for a pool of the package `pg`. */
export class Postgres {
  /** What was published: `{ channel, payload }`, or `{ id, payload }` of an attachment. */
  record = [];
  #rows = [];
  #listeners = [];

  pool() {
    return {
      connect: async () => {
        const channels = new Set();
        return {
          on: (event, listener) => {
            if (event === "notification") this.#listeners.push({ channels, listener });
          },
          query: async (sql) => channels.add(sql.match(/^LISTEN "(.*)"$/)[1]),
          removeAllListeners() {},
          release() {},
        };
      },
      query: async (sql, values) => {
        if (sql.startsWith("INSERT")) {
          const id = this.insert(values[0]);
          this.record.push({ id, payload: Buffer.from(values[0]) });
          return { rows: [{ id }] };
        }
        if (sql.startsWith("SELECT payload")) {
          return { rows: [{ payload: this.#rows[values[0] - 1] }] };
        }
        if (sql.startsWith("SELECT pg_notify")) {
          this.record.push({ channel: values[0], payload: encode(values[1]) });
          setImmediate(() => this.deliver(...values));
        }
        return { rows: [] };
      },
    };
  }

  /** Adds an attachment, as if another had done so. Returns its id. */
  insert(payload) {
    return String(this.#rows.push(payload));
  }

  /** Gives a notification to those that listen, as if another had sent it. */
  deliver(channel, payload) {
    for (const { channels, listener } of this.#listeners) {
      if (channels.has(channel)) listener({ channel, payload: encode(payload).toString() });
    }
  }
}
