// Parsers of one's own, as Socket.IO's documentation describes them: an `Encoder` for the packet
// object, and a `Decoder` that emits `decoded`. The server's are
// `cbor_parser` and `plain_parser` of tests/server.

import { EventEmitter } from "node:events";

/** `encode` makes a message of a packet, `decode` a packet of a message. */
export function parser({ encode, decode }) {
  class Encoder {
    encode(packet) {
      return [encode(packet)];
    }
  }
  class Decoder extends EventEmitter {
    add(chunk) {
      const packet = decode(chunk);
      if (!isValid(packet)) throw new Error("invalid packet");
      this.emit("decoded", packet);
    }
    destroy() {}
  }
  return { Encoder, Decoder };
}

function isValid({ type, nsp, id, data }) {
  const isObject = typeof data === "object" && data !== null && !Array.isArray(data);
  if (typeof nsp !== "string" || !(id === undefined || Number.isInteger(id))) return false;
  switch (type) {
    case 0:
      return data === undefined || isObject;
    case 1:
      return data === undefined;
    case 2:
      return Array.isArray(data) && data.length > 0;
    case 3:
      return Array.isArray(data);
    case 4:
      return typeof data === "string" || isObject;
    default:
      return false;
  }
}

/** `JSON.stringify` of the packet. It has no binary values. */
export const plain = parser({ encode: JSON.stringify, decode: JSON.parse });
