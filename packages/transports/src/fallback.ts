// Calls that find a way: the connection while there is one, the server's ordinary API while there is none.

/** How calls go at present. `none`: neither a connection nor the API works. */
export type Way = "websocket" | "webtransport" | "streaming" | "polling" | "short-polling" | "api" | "none";

export interface FallbackOptions {
  /** Attempts to connect that have failed in a row, after which calls go by the API. Default: 3. */
  attempts?: number;
  /** Milliseconds that a call may take, waiting for a way included. Default: 20000. */
  timeout?: number;
  /** Milliseconds that a connection must have held before calls come back to it. Default: 1000. */
  hold?: number;
  /** Where the API is. Default: the client's own server and path, and `/call` below it. */
  url?: string;
  /** Is told whenever the way has changed. */
  onWay?: (way: Way) => void;
}

export type FallbackErrorCode =
  /** Nothing was sent: there was neither a connection nor an API. */
  | "unreachable"
  /** Nothing was sent: the arguments or the event can't go by the API. */
  | "unsendable"
  /** Nothing was sent: the socket was closed, or the server refused it. */
  | "closed"
  /** It was sent, and the connection was lost before an answer: the server may have handled it. */
  | "lost"
  /** It was sent, and no answer came in time: the server may have handled it. */
  | "timeout"
  /** The API has answered with an error. */
  | "refused";

/** Why a call was given up. */
export class FallbackError extends Error {
  override readonly name = "FallbackError";

  constructor(
    readonly code: FallbackErrorCode,
    message: string,
    /** For `refused`: the answer's status and body (`code`, `message`, `hint`). Else what caused it. */
    readonly details?: unknown,
  ) {
    super(message);
  }

  /** The server may have handled the call: whoever makes it again may have it handled twice. */
  get wasSent(): boolean {
    return this.code === "lost" || this.code === "timeout" || this.code === "refused";
  }
}

export interface Fallback {
  /** How calls go at present. */
  readonly way: Way;
  /** As the socket's own: gives the first value of the acknowledgement. */
  emitWithAck(event: string, ...args: unknown[]): Promise<any>;
  /** Lets go of the socket, which stays as it is. Calls that wait for a way are rejected. */
  close(): void;
}

interface Events {
  on(event: any, listener: (...args: any[]) => void): unknown;
  off(event: any, listener: (...args: any[]) => void): unknown;
}

interface EngineLike extends Events {
  secure?: boolean;
  hostname?: string;
  port?: string | number;
  transport?: { name: string; isShort?: boolean };
}

/** What is needed of a `Socket` of socket.io-client. */
export interface FallbackSocket extends Events {
  connected: boolean;
  active: boolean;
  auth?: unknown;
  io: Events & { engine: unknown; opts: unknown };
  timeout(milliseconds: number): { emit(event: any, ...args: any[]): unknown };
}

/**
 * Calls by `socket`, and by the server's API when the socket's connection fails. The client goes on trying
 * to connect, in its own time. Each call is made once, by one way, and is answered or rejected.
 */
export function withFallback(socket: FallbackSocket, options: FallbackOptions = {}): Fallback {
  return new Calls(socket, options);
}

class Calls implements Fallback {
  way: Way = "none";
  /** Attempts in a row that didn't bring a connection that held. */
  private failed = 0;
  /** Calls go by the API until a connection has held. */
  private isDown = false;
  /** The last call by the API didn't get there. */
  private isApiAway = false;
  private isOpen = false;
  private hasHeld = false;
  private isClosed = false;
  private holding: ReturnType<typeof setTimeout> | undefined;
  private engine: EngineLike | undefined;
  private readonly waiting = new Set<() => void>();
  private readonly subscribed: [Events, string, (...args: any[]) => void][] = [];

  constructor(
    private readonly socket: FallbackSocket,
    private readonly options: FallbackOptions,
  ) {
    const { io } = socket;
    this.on(io, "open", () => {
      this.isOpen = true;
      this.watchEngine();
    });
    // An attempt that fails says `error`; a connection that ends says `close`, and maybe `error` before.
    this.on(io, "error", () => this.isOpen || this.hasFailed());
    this.on(io, "close", () => {
      this.isOpen = false;
      if (this.hasHeld) this.changed();
      else this.hasFailed();
      this.hasHeld = false;
    });
    this.on(socket, "connect", () => this.hasConnected());
    this.on(socket, "disconnect", () => this.changed());
    this.on(socket, "connect_error", () => this.changed());
    this.watchEngine();
    if (socket.connected) {
      this.isOpen = true;
      this.hasConnected();
    }
  }

  async emitWithAck(event: string, ...args: unknown[]): Promise<any> {
    const deadline = Date.now() + (this.options.timeout ?? 20_000);
    await this.hasWay(deadline);
    return this.isDown ? this.post(event, args, deadline) : this.emit(event, args, deadline);
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.holding);
    for (const [emitter, event, listener] of this.subscribed) emitter.off(event, listener);
    this.changed();
  }

  private on(emitter: Events, event: string, listener: (...args: any[]) => void): void {
    emitter.on(event, listener);
    this.subscribed.push([emitter, event, listener]);
  }

  /** Each connection has an engine of its own. */
  private watchEngine(): void {
    const engine = this.socket.io.engine as EngineLike | undefined;
    if (!engine || engine === this.engine) return;
    this.engine = engine;
    this.on(engine, "upgrade", () => this.changed());
    this.on(engine, "pollWait", () => this.changed());
    engine.on("close", () => {
      for (let i = this.subscribed.length - 1; i >= 0; i--) {
        if (this.subscribed[i][0] === engine) this.subscribed.splice(i, 1);
      }
    });
  }

  private hasFailed(): void {
    clearTimeout(this.holding);
    if (this.socket.active) this.failed++; // else it was closed by hand
    if (this.failed >= (this.options.attempts ?? 3)) this.isDown = true;
    this.changed();
  }

  private hasConnected(): void {
    this.watchEngine();
    clearTimeout(this.holding);
    this.holding = setTimeout(() => {
      this.hasHeld = true;
      this.failed = 0;
      this.isDown = false;
      this.isApiAway = false;
      this.changed();
    }, this.options.hold ?? 1_000);
    this.changed();
  }

  private changed(): void {
    const way = this.currentWay();
    if (way !== this.way) {
      this.way = way;
      this.options.onWay?.(way);
    }
    for (const waiting of [...this.waiting]) waiting();
  }

  private currentWay(): Way {
    if (this.isClosed || !this.socket.active) return "none";
    if (this.isDown) return this.isApiAway ? "none" : "api";
    if (!this.socket.connected) return "none";
    const transport = (this.socket.io.engine as EngineLike).transport;
    return transport?.isShort ? "short-polling" : ((transport?.name ?? "none") as Way);
  }

  /** Returns once there is a way to try. */
  private async hasWay(deadline: number): Promise<void> {
    for (;;) {
      if (this.isClosed || !this.socket.active) {
        throw new FallbackError("closed", "the socket is closed, or was refused: nothing was sent");
      }
      if (this.isDown || this.socket.connected) return;
      const left = deadline - Date.now();
      if (left <= 0) throw new FallbackError("unreachable", "no connection in time: nothing was sent");
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          this.waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, left);
        this.waiting.add(wake);
      });
    }
  }

  private emit(event: string, args: unknown[], deadline: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const left = Math.max(1, deadline - Date.now());
      this.socket.timeout(left).emit(event, ...args, (error: unknown, value: unknown) => {
        if (!error) resolve(value);
        else if (Date.now() >= deadline) reject(new FallbackError("timeout", `no answer to "${event}" in time`, error));
        else reject(new FallbackError("lost", `the connection was lost before "${event}" was answered`, error));
      });
    });
  }

  private async post(event: string, args: unknown[], deadline: number): Promise<unknown> {
    const url = this.url(event);
    const body = json(args);
    const options = this.socket.io.opts as { extraHeaders?: Record<string, string>; withCredentials?: boolean };
    const headers = new Headers(options.extraHeaders);
    headers.set("content-type", "application/json");
    const auth = await this.auth();
    if (auth !== undefined) headers.set("antiphon-auth", auth);
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), Math.max(0, deadline - Date.now()));
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method: "POST",
        body,
        headers,
        credentials: options.withCredentials ? "include" : "omit",
        cache: "no-store",
        signal: timeout.signal,
      });
      text = await response.text();
    } catch (error) {
      this.api(false);
      if (timeout.signal.aborted) throw new FallbackError("timeout", `the API didn't answer "${event}" in time`, error);
      // A browser doesn't say whether the request had left.
      throw new FallbackError("lost", `neither a connection nor the API works, "${event}" was not answered`, error);
    } finally {
      clearTimeout(timer);
    }
    const answer = parse(text);
    const isAnswer = response.ok && Array.isArray(answer);
    // An error of the API itself has a code; one from someone on the way hasn't.
    this.api(isAnswer || (answer as { code?: unknown } | undefined)?.code !== undefined);
    if (isAnswer) return (answer as unknown[])[0];
    const message = (answer as { message?: unknown } | undefined)?.message;
    throw new FallbackError("refused", `the API refused "${event}": ${message ?? response.status}`, {
      status: response.status,
      ...(answer as object | undefined),
    });
  }

  private api(isThere: boolean): void {
    this.isApiAway = !isThere;
    this.changed();
  }

  private url(event: string): string {
    if (event === "." || event === "..") throw new FallbackError("unsendable", `"${event}" can't be in a URL`);
    const { io } = this.socket;
    const nsp = (this.socket as { nsp?: string }).nsp ?? "/";
    const namespace = nsp.split("/").filter(Boolean).map(encodeURIComponent);
    const { secure, hostname = "", port } = (io.engine ?? {}) as EngineLike;
    const host = hostname.includes(":") ? `[${hostname}]` : hostname;
    const { path = "/socket.io" } = io.opts as { path?: string };
    const base = this.options.url ?? `${secure ? "https" : "http"}://${host}:${port}${path.replace(/\/$/, "")}/call`;
    const address = [base.replace(/\/$/, ""), ...namespace, encodeURIComponent(event)].join("/");
    // A browser may repeat a POST by itself, when its connection is cut: a server can tell by this.
    return `${address}?t=${unique()}`;
  }

  /** The auth payload as the value of a header: JSON, with escapes for all that isn't plain ASCII. */
  private async auth(): Promise<string | undefined> {
    const { auth } = this.socket;
    const payload = typeof auth === "function" ? await new Promise((resolve) => auth(resolve)) : auth;
    if (payload === undefined || payload === null) return undefined;
    return JSON.stringify(payload).replace(
      /[^\x20-\x24\x26-\x7e]/g,
      (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"),
    );
  }
}

function unique(): string {
  return Date.now().toString(36) + Math.random().toString(36).slice(2);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The arguments as JSON; bytes have no form there. */
function json(args: unknown[]): string {
  return JSON.stringify(args, function (this: any, key, value) {
    const original = this[key];
    const isBinary =
      original instanceof ArrayBuffer ||
      ArrayBuffer.isView(original) ||
      (typeof Blob === "function" && original instanceof Blob);
    if (isBinary) throw new FallbackError("unsendable", "binary data can't go by the API: nothing was sent");
    return value;
  });
}
