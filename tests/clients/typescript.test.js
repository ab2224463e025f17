// Declarations of a server's events, from the types of its handlers: what fits them compiles and is
// true when it runs, what doesn't is refused. Checked with the stock client's own types.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { examples, oursOnly, Server } from "../lib/server.js";
import { within } from "../lib/wait.js";

const run = promisify(execFile);
const tests = fileURLToPath(new URL("..", import.meta.url));
// Within the tests, where the client's package is found.
const folder = join(tests, ".state", `typescript-${process.pid}`);
const compiler = join(tests, "../packages/transports/node_modules/typescript/bin/tsc");
let server;

before(async () => {
  if (oursOnly) return;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  server = new Server(join(examples, "typescript"), [join(folder, "events.d.ts"), "0"]);
  await within(server.listening, () => "the example listens");
});
after(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Compiles a program; gives what the compiler says of it. */
async function compile(name, program) {
  const head = `
    import { io, type Socket } from "sio4";
    import type { ChatClientToServer, ChatServerToClient, MessageOut, Stored, Rejected } from "./events.js";
    export type Chat = Socket<ChatServerToClient, ChatClientToServer>;
  `;
  await writeFile(join(folder, `${name}.ts`), head + program);
  const options = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"];
  try {
    await run(process.execPath, [compiler, ...options, `${name}.ts`], { cwd: folder });
    return "";
  } catch (error) {
    return error.stdout;
  }
}

test("a program that fits the declarations compiles, and they hold when it runs", { skip: oursOnly }, async () => {
  const said = await compile("fits", `
    export async function talk(url: string) {
      const [ada, ben]: [Chat, Chat] = [io(url, { forceNew: true }), io(url, { forceNew: true })];
      const joined = new Promise<[string, number | null]>((resolve) => ada.on("joined", (id, since) => resolve([id, since])));
      const heard = new Promise<MessageOut>((resolve) => ben.on("message", resolve));
      ada.on("question", (question: string, ack) => ack(question.length));
      ada.emit("join", "lobby");
      const answer: number | Rejected = await ada.emitWithAck("ask back");
      ben.emit("join", "lobby", 7);
      const arrival = await joined;
      const stored: Stored | { error: "too-long" | "not-in-room" } | Rejected =
        await ada.emitWithAck("message", { room: "lobby", text: "hello", kind: { type: "reply", to: 3 } });
      const refused = await ada.emitWithAck("message", { room: "elsewhere", text: "", mentions: [], kind: { type: "plain" } });
      const [name, size] = await new Promise<[string, number] | [Rejected]>((resolve) =>
        ada.emit("upload", "a.bin", new Uint8Array([1, 2, 3]), (...reply) => resolve(reply)));
      const message = await heard;
      ada.close();
      ben.close();
      return { answer, since: arrival[1], stored, refused, name, size, mentions: message.mentions, kind: message.kind };
    }
  `);
  assert.equal(said, "");
  const { talk } = await import(pathToFileURL(join(folder, "fits.js")));
  assert.deepEqual(await within(talk(`${server.url}/chat`), () => "the talk"), {
    answer: "six times seven?".length,
    since: 7,
    stored: { id: 1 },
    refused: { error: "not-in-room" },
    name: "a.bin",
    size: 3,
    mentions: [],
    kind: { type: "reply", to: 3 },
  });
});

const WRONG = {
  "an event that isn't there": 'chat.emit("jion", "lobby");',
  "an argument of another type": 'chat.emit("join", 5);',
  "an argument too few": 'chat.emit("join");',
  "an argument too many": 'chat.emit("join", "lobby", 7, 8);',
  "a field that lacks": 'chat.emitWithAck("message", { room: "lobby", kind: { type: "plain" } });',
  "a variant that isn't there": 'chat.emitWithAck("message", { room: "a", text: "", kind: { type: "shout" } });',
  "a reply of another type": 'const id: string = await chat.emitWithAck("message", { room: "a", text: "", kind: { type: "plain" } });',
  "an error that is left aside": 'const answer: number = await chat.emitWithAck("ask back");',
  "a listener of another type": 'chat.on("message", (message: string) => {});',
  "an acknowledgement of another type": 'chat.on("question", (question, ack) => ack("42"));',
};

test("what doesn't fit the declarations is refused by the compiler", { skip: oursOnly }, async () => {
  const lines = Object.entries(WRONG).map(([what, line]) => `// @ts-expect-error ${what}\n${line}`);
  const said = await compile("wrong", `export async function wrong(chat: Chat) {\n${lines.join("\n")}\n}`);
  assert.equal(said, ""); // it also says where an error was expected, and none is
});
