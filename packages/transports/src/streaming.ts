// Down: one response that doesn't end, read as it comes. Up: POSTs, as with polling.

import { EventStreamParser, type StreamEvent } from "./event-stream.js";
import { HttpTransport, OFFSET, RETRIES } from "./http.js";
import { known, learn } from "./lessons.js";
import { unescapePacket } from "./packet.js";

/** Responses in a row that brought nothing, after which it gives up. */
const FRUITLESS = 3;

/** Where polls are cut sooner than that, a stream is, too. */
const SHORTEST_STREAM = 10_000;

/**
 * HTTP streaming, for where WebSocket isn't allowed: as fast downward, and it goes through proxies that
 * know nothing but HTTP. A response that is cut is continued by the next, and nothing is lost.
 *
 * Options (`transportOptions: { streaming: .. }`), in milliseconds:
 * * `probeDelay`, 300: as an upgrade it waits so long, so that WebSocket, the better one, comes first.
 * * `probeTimeout`, 4000: if nothing has come down by then, someone on the way holds the response back.
 *   The upgrade has failed, and the session stays on polling.
 * * `silence`, 20000: without a sign for so long (the server gives one every 15 s) the response is lost.
 */
export class Streaming extends HttpTransport {
  /** Tries to take over a session that is on polling. */
  private isProbe = false;
  /** The packet has gone that makes the session ours. */
  private isTakingOver = false;
  /** Offset of the next packet in this response; a probe's answers have none. */
  private position: number | undefined;
  /** The server has ended a response, and no other was asked for. */
  private isPaused: (() => void) | undefined;

  override get name(): string {
    return "streaming";
  }

  protected override doOpen(): void {
    this.isProbe = this.query.sid !== undefined;
    void (this.isProbe ? this.probe() : this.run());
  }

  /** Waits until the server has ended the response in order, so that nothing is on its way any more. */
  override pause(onPause: () => void): void {
    const arrived = new Promise<void>((resolve) => (this.isPaused = resolve));
    this.pausing(arrived, onPause);
  }

  protected override write(packets: Parameters<HttpTransport["write"]>[0]): void {
    if (packets.some(({ type }) => type === "upgrade")) this.isTakingOver = true;
    super.write(packets);
  }

  protected override doClose(): void {
    // A probe that ends leaves the session alone.
    if (!this.isProbe || this.isTakingOver) super.doClose();
    this.closing.abort();
  }

  private async probe(): Promise<void> {
    await this.sleep(this.option("probeDelay", 300));
    if (this.isClosed) return;
    const { streamingFails, pollWait } = known(this.server);
    if (streamingFails || (pollWait !== undefined && pollWait < SHORTEST_STREAM)) {
      return this.fail("streaming has failed on this way");
    }
    await this.run();
  }

  private async run(): Promise<void> {
    let fruitless = 0;
    while (this.is("opening", "open", "pausing")) {
      const before = this.offset;
      const isOurs = this.query.sid !== undefined && (!this.isProbe || this.isTakingOver);
      const outcome = await this.listen(isOurs);
      if (this.isClosed) return;
      if (outcome.isRefused) return this.fail("stream error", outcome.reason);
      const isStarting = !this.query.sid || (this.isProbe && !this.isTakingOver);
      if (isStarting) {
        if (outcome.isHeldBack) learn(this.server, { streamingFails: true });
        return this.fail(outcome.isHeldBack ? "the stream is held back on its way" : "stream error", outcome.reason);
      }
      // The server must have been told whose the session is before it is asked again.
      if (this.isTakingOver && this.position === undefined) await this.drained();
      if (outcome.isWhole && this.isPaused) return this.isPaused();
      fruitless = this.offset > before ? 0 : fruitless + 1;
      if (fruitless === FRUITLESS) {
        // A server that is away says nothing of the way to it.
        if (outcome.hasBegun || outcome.isHeldBack) learn(this.server, { streamingFails: true });
        return this.fail("the stream was cut again and again", outcome.reason);
      }
      if (!outcome.hasBegun) await this.sleep(RETRIES[fruitless]);
    }
  }

  /** Reads one response to its end. */
  private async listen(isOurs: boolean): Promise<Outcome> {
    const outcome: Outcome = { hasBegun: false, isWhole: false, isRefused: false, isHeldBack: false };
    const response = new AbortController();
    const close = () => response.abort();
    this.closing.signal.addEventListener("abort", close);
    let timer = this.setTimeoutFn(() => {
      outcome.isHeldBack = true;
      response.abort();
    }, this.option("probeTimeout", 4_000));
    this.position = undefined;
    try {
      const { signal } = response;
      const answer = await this.request(isOurs ? { [OFFSET]: this.offset } : {}, { signal });
      if (!answer.ok) {
        outcome.isRefused = !this.isCut(answer);
        throw answer.status;
      }
      if (!/^text\/event-stream\b/.test(answer.headers.get("content-type") ?? "") || !answer.body) {
        outcome.isRefused = true;
        throw "not an event stream";
      }
      const reader = answer.body.getReader();
      const parser = new EventStreamParser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        outcome.hasBegun = true;
        if (this.isProbe && this.is("opening")) this.onOpen();
        for (const event of parser.push(value)) this.onEvent(event);
        if (this.isProbing) continue; // its answer is still to come
        clearTimeout(timer);
        timer = this.setTimeoutFn(() => response.abort(), this.option("silence", 20_000));
      }
      outcome.isWhole = true;
    } catch (error) {
      outcome.reason = error;
    } finally {
      clearTimeout(timer);
      response.abort();
      this.closing.signal.removeEventListener("abort", close);
    }
    return outcome;
  }

  /** As an upgrade, it has yet to hear that something comes down this way. */
  private get isProbing(): boolean {
    return this.isProbe && !this.isProbed;
  }
  private isProbed = false;

  private onEvent({ id, event, data }: StreamEvent): void {
    if (this.isClosed) return;
    if (id !== undefined) {
      this.position = Number(id);
      if (!(this.position <= this.offset)) return this.fail("packets are missing in the stream", id);
    }
    if (data === undefined) return;
    const packet = event === "escaped" ? unescapePacket(data) : data;
    if (this.position !== undefined && packet !== "6") {
      this.position++;
      if (this.position <= this.offset) return; // it has come before
      this.offset = this.position;
    }
    this.onData(packet);
  }

  protected override onPacket(packet: Parameters<HttpTransport["onPacket"]>[0]): void {
    if (packet.type === "open" && this.is("opening")) this.onOpen();
    if (packet.type === "pong" && packet.data === "probe") this.isProbed = true;
    if (packet.type === "close") {
      this.onClose({ description: "transport closed by the server" });
    } else {
      super.onPacket(packet);
    }
  }
}

/** How a response has ended. */
interface Outcome {
  /** Something of the stream has come. */
  hasBegun: boolean;
  /** The server has ended it, in order. */
  isWhole: boolean;
  /** It was no stream, and none will come. */
  isRefused: boolean;
  /** Nothing came down in time. */
  isHeldBack: boolean;
  reason?: unknown;
}
