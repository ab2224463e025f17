// A TCP proxy that behaves like a network: it can be slow, and can be cut.

import { connect, createServer } from "node:net";
import { Transform } from "node:stream";
import { until } from "./wait.js";

/** With `webSocketDelay`, the first chunks of a WebSocket connection take that many milliseconds. */
export async function tcpProxy(port, { webSocketDelay = 0 } = {}) {
  const links = new Set();
  const passed = { fromClients: 0, fromServer: 0, extensions: undefined };
  let isCut = false;
  let refused = 0;
  const server = createServer({ noDelay: true }, (client) => {
    if (isCut) {
      refused++;
      return client.destroy();
    }
    const upstream = connect({ port, host: "127.0.0.1", noDelay: true });
    const link = { client, upstream, isWebSocket: false, slowChunks: 10, isAsking: false, isDeserted: false };
    links.add(link);
    client.pipe(line(link, true, webSocketDelay, passed)).pipe(upstream);
    upstream.pipe(line(link, false, webSocketDelay, passed)).pipe(client);
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      from.on("error", () => link.isDeserted || to.destroy());
      from.on("close", () => {
        if (link.isDeserted) return;
        links.delete(link);
        if (!from.readableEnded) to.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

  return {
    url: `http://127.0.0.1:${server.address().port}`,
    port: server.address().port,
    /** How many bytes went each way, and which extensions the last WebSocket's server agreed on. */
    passed,
    /** How many connections were not let through. */
    get refused() {
      return refused;
    },
    /** Waits until a GET has reached the server and waits for its answer. */
    pending() {
      const isPending = ({ upstream, isAsking }) =>
        isAsking && !upstream.connecting && upstream.writableLength === 0;
      return until(() => [...links].some(isPending), "a pending request");
    },
    /** Ends all connections, and lets no new one through until `restore`. */
    cut() {
      isCut = true;
      for (const { client, upstream } of links) {
        client.destroy();
        upstream.destroy();
      }
    },
    restore() {
      isCut = false;
    },
    /** The clients lose all connections and get no new one, and the server doesn't hear of it. */
    desert() {
      isCut = true;
      for (const link of links) {
        link.isDeserted = true;
        link.client.destroy();
      }
    },
    close() {
      const closed = new Promise((resolve) => server.close(resolve));
      this.cut();
      return closed;
    },
  };
}

/** One direction of a link. */
function line(link, isFromClient, delay, passed) {
  return new Transform({
    transform(chunk, _encoding, done) {
      passed[isFromClient ? "fromClients" : "fromServer"] += chunk.length;
      const text = chunk.toString("latin1");
      link.isAsking = isFromClient && text.startsWith("GET ");
      link.isWebSocket ||= /^upgrade: *websocket/im.test(text);
      if (!isFromClient && text.startsWith("HTTP/1.1 101")) {
        passed.extensions = /^sec-websocket-extensions: *(.+)\r$/im.exec(text)?.[1];
      }
      const isSlow = delay > 0 && link.isWebSocket && link.slowChunks-- > 0;
      if (isSlow) setTimeout(done, delay, null, chunk);
      else done(null, chunk);
    },
  });
}
