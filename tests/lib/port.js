// Ports of one's own.

import { createServer } from "node:net";

// Below those that the system gives to connections (Linux: from 32,768 on), so that none of these takes a
// port which was looked for a moment ago, or which a server that was killed is to come back on.
const [FIRST, COUNT] = [20_000, 12_000];
let next = Math.floor(Math.random() * COUNT);

/** One that nobody uses now. */
export async function freePort() {
  for (;;) {
    const port = FIRST + (next++ % COUNT);
    const isFree = await new Promise((done) => {
      const probe = createServer();
      probe.on("error", () => done(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => done(true)));
    });
    if (isFree) return port;
  }
}
