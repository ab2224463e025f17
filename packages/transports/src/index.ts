// Transports for the option `transports` of the stock client (engine.io-client 6.6 and later).

import { transports as stock, type TransportCtor } from "engine.io-client";
import { AdaptivePolling, ShortPolling } from "./polling.js";
import { Streaming } from "./streaming.js";

export { AdaptivePolling, ShortPolling, Streaming };
export { forget } from "./lessons.js";
export {
  FallbackError,
  withFallback,
  type Fallback,
  type FallbackOptions,
  type FallbackSocket,
  type Way,
} from "./fallback.js";

/** The recommended list: begins with polling, which works everywhere, and goes on to the best that does. */
export const transports: TransportCtor[] = [AdaptivePolling, Streaming, stock.websocket] as unknown as TransportCtor[];
