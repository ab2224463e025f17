// The demo on two servers, as two people see it who are on one each.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRedis } from "../lib/redis.js";
import { Demo } from "./demo.js";
import { LATE_PROBE, launch, OUTAGE, Person } from "./person.js";

let browser;
let redis;
const servers = [];
const people = [];

process.on("SIGTERM", () => process.exit(1));

before(async () => {
  [browser, redis] = await Promise.all([launch(), startRedis()]);
  for (const SERVER of ["1", "2"]) {
    const server = new Demo({ REDIS: redis.url, SERVER });
    servers.push(server);
    await server.start();
  }
});
after(async () => {
  await Promise.all(people.map((person) => person.leave()));
  await Promise.all(servers.map((server) => server.kill()));
  await redis?.stop();
  await browser?.close();
  setTimeout(() => process.exit(), 1_000).unref();
});

async function arrives(name, server, { at = "lobby", ...options } = {}) {
  const person = await Person.arrive(browser, options);
  person.expected = new RegExp(`${OUTAGE.source}|${LATE_PROBE.source}`);
  people.push(person);
  await person.open(server, at);
  await person.enter(name);
  await person.get("room-title").filter({ hasText: `#${at}` }).waitFor();
  return person;
}

const sees = (person, wanted, deadline) =>
  person.page.waitForFunction(
    (wanted) => [...document.querySelectorAll("#people .person-name")].map((it) => it.textContent).sort().join() === wanted,
    [...wanted].sort().join(),
    { timeout: deadline },
  );
const counted = (person, room, count) => person.get(`room-${room}`).filter({ hasText: `${count} here` }).waitFor();
const address = (server) => server.url.replace("http://", "");

test("two pages on two servers talk, and a server that is killed takes its people with it", async () => {
  const [one, two] = servers;
  const ada = await arrives("Ada", one);
  const ben = await arrives("Ben", two);
  await Promise.all([ada.online(), ben.online()]);
  const both = [ada, ben];

  // Who is there, and where they are.
  for (const person of both) await sees(person, ["Ada", "Ben"]);
  for (const person of both) await counted(person, "lobby", 2);
  await ada.get("servers").filter({ hasText: `On ${address(one)}. Also at ${address(two)}.` }).waitFor();
  await ben.get("servers").filter({ hasText: `On ${address(two)}. Also at ${address(one)}.` }).waitFor();
  const link = ada.get("servers").getByRole("link");
  assert.equal(await link.getAttribute("href"), `${two.url}/#lobby`);

  // What is said, in one order.
  const said = [];
  for (let number = 0; number < 6; number++) {
    const [speaker, listener, name] = number % 2 ? [ben, ada, "Ben"] : [ada, ben, "Ada"];
    said.push(`${name} says ${number}`);
    await speaker.say(said.at(-1));
    await listener.hears(said.at(-1), name);
    await speaker.hears(said.at(-1), name);
  }
  for (const person of both) assert.deepEqual(await person.texts(), said);
  const ids = await ada.get("message").evaluateAll((all) => all.map(({ dataset }) => dataset.id));
  assert.deepEqual(await ben.get("message").evaluateAll((all) => all.map(({ dataset }) => dataset.id)), ids);
  assert.equal(new Set(ids).size, said.length);

  // A room that is made on one is there on the other, and so is a file.
  await ben.get("create-room-input").fill("choir");
  await ben.get("create-room").click();
  await ben.get("room-title").filter({ hasText: "#choir" }).waitFor();
  await counted(ada, "choir", 1);
  await ada.get("room-choir").click();
  for (const person of both) await sees(person, ["Ada", "Ben"]);
  for (const person of both) await counted(person, "choir", 2);
  await ada.attach({ name: "notes.bin", mimeType: "application/octet-stream", buffer: Buffer.from("from the other server") });
  await ada.get("send").click();
  await ben.get("file").waitFor();
  assert.equal((await ben.saves(ben.get("download"))).bytes.toString(), "from the other server");
  await ada.screenshot("30-two-servers-one");
  await ben.screenshot("31-two-servers-two");

  // A server dies: its people leave the list when it counts as dead, and not when somebody asks.
  await two.kill();
  await ben.sees("status", { "data-state": "reconnecting" });
  // After 7 s, and a busy machine has some more.
  await sees(ada, ["Ada"], 12_000);
  await counted(ada, "choir", 1);
  await ada.get("servers").filter({ hasText: `On ${address(one)}. No other server is there.` }).waitFor();
  await ada.get("note").filter({ hasText: "Ben left" }).waitFor();
  assert.ok(one.log.some((line) => line.includes("counts as dead")), one.log.join("\n"));
  await ada.screenshot("32-one-server-killed");

  // It comes back: whoever was on it is the same, and gets what was said meanwhile on the other one.
  await ada.say("while you were away");
  await ada.hears("while you were away", "Ada");
  await two.start();
  await ben.hears("while you were away", "Ada");
  await ben.page.locator('[data-testid="status"][data-comeback="recovered"]').waitFor({ state: "attached" });
  for (const person of both) await sees(person, ["Ada", "Ben"]);
  await ben.say("back again");
  await ada.hears("back again", "Ben");
  await ben.screenshot("33-back-again");

  // Who comes to it now finds all of it.
  const cy = await arrives("Cy", two, { at: "choir", viewport: { width: 360, height: 740 } });
  await cy.hears("while you were away", "Ada");
  assert.deepEqual(await cy.texts(), await ada.texts());
  for (const person of [...both, cy]) await sees(person, ["Ada", "Ben", "Cy"]);
  await cy.page.getByRole("button", { name: "Rooms", exact: true }).click();
  await cy.get("servers").waitFor();
  await cy.screenshot("34-servers-on-a-phone");
  assert.equal(await cy.overflow(), 0);

  // Another name, from the other server; by its own account and that of newcomers, too.
  await ben.get("rename").click();
  await ben.get("rename-input").fill("Benedict");
  await ben.get("rename-save").click();
  for (const person of [...both, cy]) await sees(person, ["Ada", "Benedict", "Cy"]);
  await ada.get("note").filter({ hasText: "Ben is now Benedict" }).waitFor();
  const dan = await arrives("Dan", one, { at: "choir" });
  for (const person of [...both, cy, dan]) await sees(person, ["Ada", "Benedict", "Cy", "Dan"]);
  await ben.say("by another name");
  await ada.hears("by another name", "Benedict");

  const problems = people.flatMap((person) => person.problems);
  assert.deepEqual(problems, [], "errors on the console and failed requests");
});
