// A parser with binary values: the packet in CBOR (RFC 8949), one binary message each.

import * as cborg from "cborg";
import { parser } from "./parsers.js";

export const cbor = parser({
  // What isn't there is left out: `undefined` is a value of CBOR.
  encode: ({ type, nsp, id, data }) => {
    const packet = { type, nsp, ...(id !== undefined && { id }), ...(data !== undefined && { data }) };
    return Buffer.from(cborg.encode(packet));
  },
  decode: (chunk) => withBuffers(cborg.decode(chunk)),
});

/** The value with a `Buffer` for each `Uint8Array`, as other parsers have it in Node. */
function withBuffers(value) {
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(withBuffers);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withBuffers(inner)]));
}
