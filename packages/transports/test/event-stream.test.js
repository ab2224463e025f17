import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStreamParser } from "../dist/event-stream.js";
import { encodePacket, unescapePacket } from "../dist/packet.js";

/** A generator of numbers below `n`; its seed stands in the failure. */
function random(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const UNITS = ["a", "%", ":", " ", "é", "漢", "😀", "\u{1F469}\u200D\u{1F680}", "\x1e", '"', "0A", "\ufeff", ""];

function text(rand, more = []) {
  const units = [...UNITS, ...more];
  return Array.from({ length: rand(12) }, () => units[rand(units.length)]).join("");
}

/** As the server writes a packet, see the wire format. */
function encode(packet) {
  if (!/[\r\n]/.test(packet)) return `data: ${packet}\n\n`;
  const escaped = packet.replace(/[%\r\n]/g, (unit) => ({ "%": "%25", "\r": "%0D", "\n": "%0A" })[unit]);
  return `event: escaped\ndata: ${escaped}\n\n`;
}

function decode({ event, data }) {
  return event === "escaped" ? unescapePacket(data) : data;
}

test("packets come out as they went in, however the bytes are split", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const rand = random(seed);
    const packets = Array.from({ length: rand(8) }, () => "4" + text(rand, ["\r", "\n", "\r\n"]));
    const wire = packets.map((packet) => (rand(3) === 0 ? ":\n\n" : "") + encode(packet)).join("");
    const bytes = new TextEncoder().encode(wire);
    const parser = new EventStreamParser();
    const events = [];
    for (let at = 0; at < bytes.length; ) {
      const end = at + 1 + rand(rand(2) ? 3 : 40);
      events.push(...parser.push(bytes.subarray(at, end)));
      at = end;
    }
    assert.deepEqual(events.map(decode), packets, `seed ${seed}`);
  }
});

test("an event is given when its empty line has come, and not before", () => {
  const parser = new EventStreamParser();
  const push = (text) => parser.push(new TextEncoder().encode(text));
  assert.deepEqual(push("id: 7"), []);
  assert.deepEqual(push("\n"), []);
  assert.deepEqual(push("\ndata: 4a"), [{ id: "7" }]);
  assert.deepEqual(push("\n\n:\n\ndata:4b\n\n"), [{ data: "4a" }, { data: "4b" }]);
});

test("comments and unknown fields leave no trace in the event that follows", () => {
  const parser = new EventStreamParser();
  const wire = ": hello\n\nretry: 3\n\nevent: escaped\n\ndata: 4x%25\n\n";
  assert.deepEqual(parser.push(new TextEncoder().encode(wire)), [{ data: "4x%25" }]);
});

test("only the three escapes are taken back", () => {
  assert.equal(unescapePacket("4%2525%0A%0D%41%zz%"), "4%25\n\r%41%zz%");
});

test("packets as text: strings, and bytes as base64", async () => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
  assert.equal(await encodePacket({ type: "ping", data: "probe" }), "2probe");
  assert.equal(await encodePacket({ type: "upgrade" }), "5");
  assert.equal(await encodePacket({ type: "message", data: "" }), "4");
  for (const data of [bytes, bytes.buffer, Buffer.from(bytes), new Blob([bytes])]) {
    const text = await encodePacket({ type: "message", data });
    assert.equal(text[0], "b");
    assert.deepEqual(new Uint8Array(Buffer.from(text.slice(1), "base64")), bytes);
  }
  assert.equal(await encodePacket({ type: "message", data: bytes.subarray(1, 4) }), "bAQID");
});
