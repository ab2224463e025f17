// An HTTP/1.1 reverse proxy that forbids things, as networks do. Its rule can be changed while it runs,
// also for what is on its way through it.

import { createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";

/**
 * What a rule is made of:
 * * `webSocket: false`: no upgrades; those that are open are cut
 * * `buffer: true`: a response goes on when it has come as a whole
 * * `cutAfter: ms`: what takes longer is cut
 * * `only: RegExp`: other requests than `METHOD /path` of this kind are answered 403
 */
export const RULES = {
  "pass": {},
  "no WebSocket": { webSocket: false },
  "buffered": { webSocket: false, buffer: true },
  "cut at 5 s": { webSocket: false, cutAfter: 5_000 },
  "cut at 1 s": { webSocket: false, cutAfter: 1_000 },
  "API alone": { webSocket: false, only: /^POST \/[^?]*\/call\// },
  "nothing": { webSocket: false, only: /(?!)/ },
};

/** Headers that are between two neighbours alone (RFC 9110, 7.6.1). */
const HOP_BY_HOP = ["connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"];

/** In front of `port`. `files` gives what is served here, whatever the rule: `{ type, body }` for a path. */
export async function startProxy(port, { rule = RULES.pass, files = () => undefined } = {}) {
  const proxy = new Proxy(port, rule, files);
  await proxy.listen();
  return proxy;
}

class Proxy {
  /** Requests that came, by `METHOD transport`. */
  requests = new Map();
  #port;
  #rule;
  #files;
  #exchanges = new Set();
  #tunnels = new Set();
  #server = createServer((request, response) => this.#forward(request, response));

  constructor(port, rule, files) {
    this.#port = port;
    this.#rule = rule;
    this.#files = files;
    this.#server.on("upgrade", (request, socket, head) => this.#tunnel(request, socket, head));
    this.#server.on("clientError", (_, socket) => socket.destroy());
  }

  async listen() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** The rule for all that comes, and for what is under way. */
  set rule(rule) {
    this.#rule = rule;
    if (rule.webSocket === false) for (const socket of this.#tunnels) socket.destroy();
    for (const exchange of this.#exchanges) exchange.apply(rule);
  }

  close() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#tunnels) socket.destroy();
    this.#server.closeAllConnections();
    return closed;
  }

  #count(request) {
    const { searchParams, pathname } = new URL(request.url, this.url);
    const kind = pathname.includes("/call/") ? "call" : searchParams.get("transport");
    const key = `${request.method} ${kind}`;
    this.requests.set(key, (this.requests.get(key) ?? 0) + 1);
  }

  #isForbidden(request) {
    const { only } = this.#rule;
    return only && !only.test(`${request.method} ${request.url}`);
  }

  #forward(request, response) {
    const file = this.#files(request.url);
    if (file) return response.writeHead(200, { "content-type": file.type }).end(file.body);
    this.#count(request);
    if (this.#isForbidden(request)) {
      request.resume();
      response.writeHead(403, { "content-type": "text/plain" }).end("forbidden by the proxy\n");
      return;
    }
    const exchange = new Exchange(request, response, this.#port);
    this.#exchanges.add(exchange);
    response.on("close", () => this.#exchanges.delete(exchange));
    exchange.apply(this.#rule);
  }

  #tunnel(request, socket, head) {
    this.#count(request);
    if (this.#rule.webSocket === false || this.#isForbidden(request)) {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return;
    }
    const upstream = connect({ port: this.#port, host: "127.0.0.1", noDelay: true });
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    }
    upstream.write(`${lines.join("\r\n")}\r\n\r\n`);
    upstream.write(head);
    socket.setNoDelay(true);
    socket.pipe(upstream).pipe(socket);
    for (const [from, to] of [[socket, upstream], [upstream, socket]]) {
      this.#tunnels.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#tunnels.delete(from);
        to.destroy();
      });
    }
  }
}

/** One request and its response. */
class Exchange {
  #start = Date.now();
  #response;
  #upstream;
  #timer;
  #isBuffered = false;
  #held = [];

  constructor(request, response, port) {
    this.#response = response;
    const { method, url } = request;
    this.#upstream = httpRequest(
      { host: "127.0.0.1", port, method, path: url, headers: passed(request.headers), agent: false },
      (answer) => this.#answer(answer),
    );
    this.#upstream.on("error", () => response.destroy());
    request.pipe(this.#upstream);
    response.on("close", () => {
      clearTimeout(this.#timer);
      this.#upstream.destroy();
    });
  }

  apply({ only, cutAfter, buffer = false }) {
    if (only && !only.test(`${this.#response.req.method} ${this.#response.req.url}`)) return this.#cut();
    this.#isBuffered = buffer;
    if (!buffer) this.#release();
    clearTimeout(this.#timer);
    if (cutAfter === undefined) return;
    const left = Math.max(0, this.#start + cutAfter - Date.now());
    this.#timer = setTimeout(() => this.#cut(), left);
  }

  #answer(answer) {
    this.#pass(() => {
      this.#response.writeHead(answer.statusCode, passed(answer.headers));
      this.#response.flushHeaders();
    });
    answer.on("data", (chunk) => this.#pass(() => this.#response.write(chunk)));
    answer.on("error", () => this.#response.destroy());
    answer.on("end", () => {
      this.#release();
      this.#response.end();
    });
  }

  #pass(step) {
    if (this.#isBuffered) this.#held.push(step);
    else step();
  }

  #release() {
    for (const step of this.#held.splice(0)) step();
  }

  #cut() {
    this.#response.destroy();
  }
}

function passed(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.includes(name)));
}
