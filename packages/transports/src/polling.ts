// Long polling that survives being cut, and learns how long a poll may wait on this way.

import { HttpTransport, INTERVAL, OFFSET, RETRIES, WAIT, type Query } from "./http.js";
import { known, learn } from "./lessons.js";
import { SEPARATOR } from "./packet.js";

/** Who is cut this soon didn't wait: that says nothing of how long one may. */
const TOO_SOON = 50;

/** Below that, waiting brings little: ask now and then instead. */
const SHORTEST_WAIT = 100;

/** Polls that are answered within this many milliseconds are short ones. */
const SHORT = 1_000;

/**
 * Long polling with offsets: a poll that is cut is asked again, and nothing is lost. Where one was cut
 * before an answer, the next asks to be answered after half of that time, down to at once, which is
 * short polling.
 *
 * Options (`transportOptions: { polling: .. }`): `interval`, the milliseconds between short polls, 1000.
 */
export class AdaptivePolling extends HttpTransport {
  private isPolling = false;
  /** The server takes a client for gone that comes more seldom than it sends heartbeats. */
  private longest = Infinity;

  override get name(): string {
    return "polling";
  }

  /** Polls are answered within a second, as far as is known. */
  get isShort(): boolean {
    const { wait } = this;
    return wait !== undefined && wait <= SHORT;
  }

  /** Milliseconds after which a poll is answered at the latest; `undefined`: the server decides. */
  protected get wait(): number | undefined {
    return known(this.server).pollWait;
  }

  protected get interval(): number {
    return this.option("interval", 1_000);
  }

  /** Parameters of the request that opens the session. */
  protected opening(): Query {
    return { [OFFSET]: 0 };
  }

  protected override doOpen(): void {
    void this.run();
  }

  override pause(onPause: () => void): void {
    const arrived = this.isPolling
      ? new Promise<void>((resolve) => this.once("pollComplete", resolve))
      : Promise.resolve();
    this.pausing(arrived, onPause);
  }

  private async run(): Promise<void> {
    while (this.is("opening", "open")) {
      this.isPolling = true;
      this.emitReserved("poll");
      const payload = await this.poll();
      if (payload === undefined || this.isClosed) return;
      const isOpening = this.is("opening");
      this.onData(payload);
      this.isPolling = false;
      this.emitReserved("pollComplete");
      if (this.wait === 0 && !isOpening) await this.sleep(Math.min(this.interval, this.longest));
    }
  }

  /** One payload, however often it has to be asked for; nothing if the transport has ended. */
  private async poll(): Promise<string | undefined> {
    const before = this.wait;
    let wait = before;
    for (const pause of [...RETRIES, undefined]) {
      const start = Date.now();
      let reason: unknown;
      try {
        const response = await this.request(this.parameters(wait), { signal: this.closing.signal });
        const payload = await response.text();
        if (response.ok) {
          // Only now is it known that it was a cut, and not the end of the server.
          if (wait !== undefined && wait !== before) this.hasLearned(wait);
          return payload;
        }
        reason = response.status;
        if (!this.isCut(response)) return this.gaveUp(reason);
      } catch (error) {
        reason = error;
      }
      if (this.isClosed) return undefined;
      // Without a session there is nothing to go on with.
      if (!this.query.sid || pause === undefined) return this.gaveUp(reason);
      // A browser repeats a GET by itself when its connection is cut: the time may be that of several.
      const half = Math.floor((Date.now() - start) / 2);
      if (half < TOO_SOON / 2) {
        await this.sleep(pause);
      } else {
        wait = Math.min(half, Math.floor((wait ?? Infinity) / 2));
        if (wait < SHORTEST_WAIT) wait = 0;
      }
    }
    return undefined;
  }

  private parameters(wait: number | undefined): Query {
    if (!this.query.sid) return this.opening();
    const offset = { [OFFSET]: this.offset };
    return wait === undefined ? offset : { ...offset, [WAIT]: wait };
  }

  private gaveUp(reason: unknown): undefined {
    this.fail("poll error", reason);
    return undefined;
  }

  private hasLearned(wait: number): void {
    learn(this.server, { pollWait: wait });
    // For who shows which way is in use.
    (this.socket as unknown as { emit(event: string, wait: number): void }).emit("pollWait", wait);
  }

  protected override onData(payload: string): void {
    for (const packet of payload.split(SEPARATOR)) {
      if (this.isClosed) return;
      if (packet === "6") continue;
      this.offset++;
      super.onData(packet);
    }
  }

  protected override onPacket(packet: Parameters<HttpTransport["onPacket"]>[0]): void {
    if (packet.type === "open" && this.is("opening")) {
      this.longest = pingInterval(packet.data);
      this.onOpen();
    }
    if (packet.type === "close") {
      this.onClose({ description: "transport closed by the server" });
    } else {
      super.onPacket(packet);
    }
  }
}

/**
 * Short polling: each poll is answered at once, and the next comes after an interval.
 *
 * Options (`transportOptions: { polling: .. }`): `interval`, in milliseconds, 1000; at most the server's
 * `pingInterval`, 25000 by default.
 */
export class ShortPolling extends AdaptivePolling {
  protected override get wait(): number {
    return 0;
  }

  protected override opening(): Query {
    return { [OFFSET]: 0, [INTERVAL]: this.interval };
  }
}

/** The server's `pingInterval`, as its handshake says it. */
function pingInterval(handshake: unknown): number {
  try {
    const { pingInterval } = JSON.parse(String(handshake));
    return typeof pingInterval === "number" && pingInterval > 0 ? pingInterval : Infinity;
  } catch {
    return Infinity;
  }
}
