// The protocols by hand: requests, polling sessions and WebSockets without a Socket.IO client.

import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { WebSocket } from "ws";
import { Queue, until, within } from "./wait.js";

export const SEPARATOR = "\x1e";

/** The path and query of a request; a value of `undefined` leaves its parameter out. */
export function target({ path = "/socket.io/", ...query } = {}) {
  const parameters = Object.entries(query).filter(([, value]) => value !== undefined);
  return `${path}?${new URLSearchParams(parameters)}`;
}

/** One HTTP request on a connection of its own: gives `{ status, headers, bytes, text, json }`. */
export function request(server, { method = "GET", query = {}, headers = {}, body, signal } = {}) {
  const url = `${server.url}${target(query)}`;
  const answer = new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers, signal, agent: false }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const bytes = Buffer.concat(chunks);
        resolve({
          status: response.statusCode,
          headers: response.headers,
          bytes,
          text: bytes.toString(),
          get json() {
            return JSON.parse(bytes);
          },
        });
      });
    });
    request.on("error", reject);
    request.end(body);
  });
  return within(answer, () => `the answer to ${method} ${url}`);
}

/** The packets of a text payload of revision 3: `<UTF-16 units>:<packet>`, again and again. */
export function splitPayload3(text) {
  const packets = [];
  while (text.length > 0) {
    const [length] = /^\d+(?=:)/.exec(text) ?? assert.fail(`no payload of revision 3: ${text}`);
    const start = length.length + 1;
    const end = start + Number(length);
    assert.ok(end <= text.length, `a packet is shorter than its length: ${text}`);
    packets.push(text.slice(start, end));
    text = text.slice(end);
  }
  return packets;
}

export function payload3(...packets) {
  return packets.map((packet) => `${packet.length}:${packet}`).join("");
}

/** A session over long-polling. `query` are further parameters of its handshake. */
export class Polling {
  /** Answers pings of revision 4, which `next` then doesn't show. */
  answersPings = true;
  #packets = new Queue();

  static async open(server, { eio = 4, path, headers, ...query } = {}) {
    const session = new Polling();
    session.server = server;
    session.revision = eio;
    session.query = { path, EIO: eio, transport: "polling", ...query };
    session.opening = await request(server, { query: session.query, headers });
    const { status, text } = session.opening;
    assert.equal(status, 200, text);
    const [open, ...rest] = session.split(text);
    assert.equal(open[0], "0", text);
    session.handshake = JSON.parse(open.slice(1));
    session.sid = session.handshake.sid;
    session.query.sid = session.sid;
    rest.forEach((packet) => session.#packets.push(packet));
    return session;
  }

  split(text) {
    return this.revision === 3 ? splitPayload3(text) : text.split(SEPARATOR);
  }

  join(...packets) {
    return this.revision === 3 ? payload3(...packets) : packets.join(SEPARATOR);
  }

  get(options) {
    return request(this.server, { query: this.query, ...options });
  }

  /** POSTs a payload as it is. */
  post(body, headers = { "content-type": "text/plain;charset=UTF-8" }) {
    return request(this.server, { method: "POST", query: this.query, headers, body });
  }

  /** POSTs packets, and wants them to be taken. */
  async send(...packets) {
    const { status, text } = await this.post(this.join(...packets));
    assert.deepEqual([status, text], [200, "ok"]);
  }

  /** The next packet, polled for when none is left of the last poll. */
  async next() {
    for (;;) {
      while (this.#packets.length === 0) {
        const { status, text } = await this.get();
        assert.equal(status, 200, text);
        this.split(text).forEach((packet) => this.#packets.push(packet));
      }
      const packet = await this.#packets.next();
      if (packet !== "2" || this.revision === 3 || !this.answersPings) return packet;
      await this.send("3");
    }
  }

  /** Reads packets up to the one that says `last`. */
  async upTo(last) {
    return readUpTo(this, last);
  }

  /** Waits until the session is gone: its requests get code 1. */
  async gone() {
    await until(async () => {
      const { status, text } = await this.post(this.join("4"));
      return status === 400 && text.includes('"code":1');
    }, "the end of the session");
  }
}

async function readUpTo(session, last) {
  const packets = [];
  while (packets.at(-1) !== last) packets.push(await session.next());
  return packets;
}

/** A WebSocket whose messages wait in a queue: text as a string, binary as a Buffer. */
export class Socket {
  messages = new Queue();
  /** Answers pings of revision 4, which `next` then doesn't show. */
  answersPings = true;

  /** Opens it; `sid` makes it the probe of a session. */
  static async open(server, options) {
    const socket = Socket.connect(server, options);
    await within(socket.opened, () => "the WebSocket opens");
    return socket;
  }

  /** Opens a session of its own, and reads its handshake. */
  static async session(server, options) {
    const socket = await Socket.open(server, options);
    const open = await socket.next();
    assert.equal(open[0], "0", open);
    socket.handshake = JSON.parse(open.slice(1));
    return socket;
  }

  static connect(server, { eio = 4, path, headers, ...query } = {}) {
    const socket = new Socket();
    const url = target({ path, EIO: eio || undefined, transport: "websocket", ...query });
    const ws = new WebSocket(`ws://${server.host}${url}`, { headers, perMessageDeflate: false });
    socket.ws = ws;
    socket.revision = eio;
    ws.on("message", (data, isBinary) => socket.messages.push(isBinary ? data : data.toString()));
    ws.on("upgrade", ({ headers }) => (socket.headers = headers));
    /** The refusal's `{ status, text }`, if the handshake was refused. */
    socket.refused = new Promise((resolve) => {
      ws.on("unexpected-response", (_request, response) => {
        let text = "";
        response.on("data", (chunk) => (text += chunk));
        response.on("close", () => {
          resolve({ status: response.statusCode, headers: response.headers, text });
          ws.terminate();
        });
      });
    });
    socket.closed = new Promise((resolve) => ws.on("close", (code) => resolve(code)));
    socket.opened = new Promise((resolve, reject) => {
      ws.on("open", resolve);
      ws.on("error", reject);
    });
    socket.opened.catch(() => {}); // for who waits for `closed` or `refused`
    return socket;
  }

  send(...messages) {
    for (const message of messages) this.ws.send(message);
  }

  /** The next message; a text frame is one packet. */
  async next() {
    for (;;) {
      const message = await this.messages.next("a WebSocket message");
      if (message !== "2" || this.revision === 3 || !this.answersPings) return message;
      this.send("3");
    }
  }

  async upTo(last) {
    return readUpTo(this, last);
  }

  /** The code that it is closed with. */
  close() {
    return within(this.closed, () => "the WebSocket is closed");
  }

  end() {
    this.ws.terminate();
  }
}

/** A WebSocket that has joined `/`, and its socket's id. */
export async function joined(server, options) {
  const socket = await Socket.session(server, options);
  socket.send("40");
  const { sid: id } = JSON.parse((await socket.next()).slice(2));
  assert.equal(await socket.next(), '42["auth",{}]');
  return { socket, id };
}
