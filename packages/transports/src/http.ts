// What the transports over HTTP share: requests as the stock client's `Fetch` makes them, and the
// way up, one POST at a time.

import { Transport } from "engine.io-client";
import { encodePacket, SEPARATOR, type Packet } from "./packet.js";

/** A POST carries no more packets; servers have a bound. */
const MAX_PACKETS = 1_000;

/** Pauses before a request that was cut is made again; when they are used up, the transport gives up. */
export const RETRIES = [0, 500, 1_000, 2_000];

/** What a proxy answers for a server that took too long for it. */
const CUT = new Set([408, 502, 503, 504, 524]);

/** Parameters that only servers of Antiphon know. All other names are the application's. */
export const OFFSET = "antiphon-offset";
export const WAIT = "antiphon-wait";
export const INTERVAL = "antiphon-interval";
const POST = "antiphon-post";

export type Query = Record<string, string | number>;

/** What the stock client keeps for itself, as far as it is needed here. */
interface Internals {
  _maxPayload?: number;
  _cookieJar?: {
    appendCookies(headers: Headers): void;
    parseCookies(values: string[] | undefined): void;
  };
}

export abstract class HttpTransport extends Transport {
  /** Packets that came in this session and were counted: what the next request asks from. */
  protected offset = 0;
  /** Ends what runs when the transport closes. */
  protected readonly closing = new AbortController();
  private outbox: Packet[] = [];
  private isPosting = false;

  /** The server's address, for what is learned of the way to it. */
  protected get server(): string {
    return this.createUri(this.opts.secure ? "https" : "http");
  }

  protected get isClosed(): boolean {
    return this.readyState === "closed";
  }

  /** A way around the narrowing of `readyState`, which changes while others run. */
  protected is(...states: string[]): boolean {
    return states.includes(this.readyState);
  }

  /** One option of this transport's `transportOptions`. */
  protected option(name: string, byDefault: number): number {
    const value = (this.opts as Record<string, unknown>)[name];
    return typeof value === "number" && value >= 0 ? value : byDefault;
  }

  /** A request of this session, with these parameters on top of the session's. */
  protected async request(query: Query, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(this.opts.extraHeaders);
    if (init.method === "POST") headers.set("content-type", "text/plain;charset=UTF-8");
    const { _cookieJar: cookies } = this.socket as unknown as Internals;
    cookies?.appendCookies(headers);
    const response = await fetch(this.uri(query), {
      credentials: this.opts.withCredentials ? "include" : "omit",
      cache: "no-store",
      ...init,
      headers,
    });
    const answered = response.headers as Headers & { getSetCookie?(): string[] };
    cookies?.parseCookies(answered.getSetCookie?.());
    return response;
  }

  private uri(query: Query): string {
    const all: Query = { ...this.query, ...query };
    if (this.opts.timestampRequests !== false) all[this.opts.timestampParam ?? "t"] = unique();
    return this.createUri(this.opts.secure ? "https" : "http", all);
  }

  /** The answer came from someone on the way, who had enough of waiting. */
  protected isCut(response: Response): boolean {
    return CUT.has(response.status);
  }

  /** Reports an error, unless the transport has ended anyway. */
  protected fail(reason: string, description?: unknown): void {
    if (!this.isClosed) this.onError(reason, description);
  }

  /** Waits; ends early when the transport closes. */
  protected sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.closing;
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = this.setTimeoutFn(done, milliseconds);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }

  protected override onClose(details?: Parameters<Transport["onClose"]>[0]): void {
    super.onClose(details);
    // Who says goodbye needs the request that waits: its end is the server's answer.
    if (!this.isPosting) this.closing.abort();
  }

  protected override doClose(): void {
    if (this.readyState === "open" && this.query.sid) this.write([{ type: "close" }]);
  }

  protected override write(packets: Packet[]): void {
    this.writable = false;
    // The client goes on with its list: this needs a copy.
    this.outbox = this.outbox.concat(packets);
    if (!this.isPosting) void this.post();
  }

  private async post(): Promise<void> {
    this.isPosting = true;
    let error: [string, unknown] | undefined;
    try {
      while (this.outbox.length > 0 && !error) {
        const body = await this.nextBody();
        // A browser may repeat it by itself: the server knows the repetition by this.
        const response = await this.request({ [POST]: unique() }, { method: "POST", body });
        await response.text();
        if (!response.ok) error = ["post error", response.status];
      }
    } catch (thrown) {
      error = ["post error", thrown];
    }
    this.isPosting = false;
    if (this.isClosed) return this.closing.abort();
    // A POST that failed may have been taken: it isn't sent again.
    if (error) return this.fail(...error);
    this.writable = true;
    this.emitReserved("drain");
  }

  /** The packets that fit in one POST. The client itself looks at that for `polling` alone. */
  private async nextBody(): Promise<string> {
    const limit = (this.socket as unknown as Internals)._maxPayload || Infinity;
    const body: string[] = [];
    let size = 0;
    for (const packet of this.outbox) {
      const text = await encodePacket(packet);
      size += byteLength(text) + 1;
      if (body.length > 0 && (size - 1 > limit || body.length === MAX_PACKETS)) break;
      body.push(text);
    }
    this.outbox = this.outbox.slice(body.length);
    return body.join(SEPARATOR);
  }

  /** The POSTs so far have been answered. */
  protected drained(): Promise<void> {
    if (this.writable) return Promise.resolve();
    return new Promise((resolve) => this.once("drain", resolve));
  }

  /**
   * The client goes on with another transport: what is under way is finished first. If that transport
   * fails now, the stock client would wait without end, so this connection ends and a new one begins.
   */
  protected pausing(arrived: Promise<void>, onPause: () => void): void {
    this.readyState = "pausing";
    const { socket } = this;
    const failed = (error: unknown) => this.fail("upgrade error", error);
    const over = () => {
      socket.off("upgradeError", failed);
      socket.off("upgrade", over);
      socket.off("close", over);
    };
    socket.once("upgradeError", failed);
    socket.once("upgrade", over);
    socket.once("close", over);
    void Promise.all([arrived, this.drained()]).then(() => {
      if (this.isClosed) return;
      this.readyState = "paused";
      onPause();
    });
  }
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

let count = 0;

/** So that no cache takes one request for another. */
function unique(): string {
  return Date.now().toString(36) + (count++).toString(36);
}
