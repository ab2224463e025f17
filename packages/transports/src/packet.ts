// Engine.IO packets as text: what goes up, and how packets come down in an event of a stream.

/** A packet as the client has it before it is encoded. */
export interface Packet {
  type: string;
  data?: unknown;
}

const TYPES: Record<string, string> = {
  open: "0",
  close: "1",
  ping: "2",
  pong: "3",
  message: "4",
  upgrade: "5",
  noop: "6",
};

/** Separates the packets of a payload. */
export const SEPARATOR = "\x1e";

/** The packet as text: its digit and its text, or `b` and its bytes as base64. */
export async function encodePacket({ type, data }: Packet): Promise<string> {
  if (data === undefined || data === null) return TYPES[type];
  if (typeof data === "string") return TYPES[type] + data;
  return "b" + base64(await bytesOf(data));
}

async function bytesOf(data: unknown): Promise<Uint8Array> {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (typeof Blob === "function" && data instanceof Blob) return new Uint8Array(await data.arrayBuffer());
  throw new TypeError("a packet is text, an ArrayBuffer, a view of one, or a Blob");
}

// `fromCharCode` takes its bytes as arguments, of which there may not be too many.
const CHUNK = 0x2000;

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += CHUNK) {
    text += String.fromCharCode(...bytes.subarray(i, i + CHUNK));
  }
  return btoa(text);
}

/** Takes back the escapes of an event `escaped`: `%25`, `%0A` and `%0D`. */
export function unescapePacket(text: string): string {
  return text.replace(/%(25|0A|0D)/g, (_, code: string) => String.fromCharCode(parseInt(code, 16)));
}
