// What the demo promises over a crash of the server and a network that is cut, as two people see it.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Demo } from "./demo.js";
import { DEADLINE } from "../lib/wait.js";
import { LATE_PROBE, launch, OUTAGE, Person } from "./person.js";

let browser;
let demo;
let people = [];

process.on("SIGTERM", () => process.exit(1));

before(async () => (browser = await launch()));
after(async () => {
  await browser?.close();
  setTimeout(() => process.exit(), 1_000).unref();
});
afterEach(async () => {
  const problems = people.flatMap((person) => person.problems);
  await Promise.all(people.map((person) => person.leave()));
  people = [];
  await demo.kill();
  assert.deepEqual(problems, [], "errors on the console and failed requests");
});

/** People with these names in a room of a demo of their own. What a browser says of an outage is expected. */
async function meet(names, { query, clock = false, ...options } = {}) {
  demo = new Demo();
  await demo.start();
  const met = [];
  for (const name of names) met.push(await arrives(name, { query, clock, ...options }));
  return met;
}

async function arrives(name, { query = "", clock = false, room = "choir", url = demo.url, ...options } = {}) {
  const person = await Person.arrive(browser, options);
  person.expected = new RegExp(`${OUTAGE.source}|${LATE_PROBE.source}`);
  people.push(person);
  if (clock) await person.page.clock.install();
  await person.open({ url }, "lobby", query);
  await person.enter(name);
  await person.get("room-title").filter({ hasText: "#lobby" }).waitFor();
  if (room !== "lobby") await enters(person, room);
  return person;
}

/** Into another room, which is made if it isn't there. On a phone the list of rooms is behind a button. */
async function enters(person, room) {
  const list = person.page.getByRole("button", { name: "Rooms", exact: true });
  if (await list.isVisible()) await list.click();
  await person.get("create-room-input").fill(room);
  await person.get("create-room").click();
  await person.get("room-title").filter({ hasText: `#${room}` }).waitFor();
}

const socket = (person) => person.get("socket").textContent(); // in the panel behind the badge
const count = (person, testId, wanted) =>
  person.page.waitForFunction(([id, wanted]) => document.querySelectorAll(`[data-testid="${id}"]`).length === wanted, [testId, wanted]);
const allSent = (person) => person.page.waitForFunction(() => !document.querySelector('[data-state="pending"], [data-state="failed"]'));
const notes = (person) => person.get("note").allTextContents();

/** The bar above the messages, once it says how the page came back. */
async function cameBack(person, how) {
  const status = person.page.locator(`[data-testid="status"][data-state="online"][data-comeback="${how}"]`);
  // It waits up to 7.5 s between two tries.
  await status.filter({ hasText: "Back after" }).waitFor({ timeout: 2 * DEADLINE });
  return status.locator("#status-text").textContent();
}

const away = (person) => person.sees("status", { "data-state": "reconnecting" });

const phone = { viewport: { width: 360, height: 740 } };
for (const [transport, query, options] of [["websocket", "", {}], ["polling", "?transport=polling", phone]]) {
  test(`kill -9 (${transport}): a page that is open comes back as the same, and has missed nothing`, async () => {
    const [ada, ben] = await meet(["Ada", "Ben"], { query, clock: true, ...options });
    await Promise.all([ada.online(transport), ben.online(transport)]);
    await ben.say("before");
    await ada.hears("before", "Ben");
    await enters(ada, "listening");
    await enters(ben, "listening");
    await ben.say("in the other room");
    await ada.hears("in the other room", "Ben");
    await enters(ada, "choir");
    await enters(ben, "choir");
    const before = [await socket(ada), await socket(ben)];
    await ada.screenshot(`20-before-${transport}`);

    await demo.kill();
    await Promise.all([away(ada), away(ben)]);
    // Time stands still for Ada: her page doesn't try again, until it goes on.
    await ada.page.clock.pauseAt(Date.now() + 500);
    await ada.screenshot(`21-away-${transport}`);
    await demo.start();
    assert.match(await cameBack(ben, "recovered"), /You missed nothing\.$/);
    await count(ben, "person", 1);
    const said = ["one", "two", "three"];
    for (const text of said) await ben.say(text);
    await allSent(ben);
    await enters(ben, "listening");
    await ben.say("four");
    await allSent(ben);
    await enters(ben, "choir");

    await ada.page.clock.resume();
    assert.match(await cameBack(ada, "recovered"), /^Back after .*, with the 4 messages you missed\.$/);
    await ada.screenshot(`22-back-${transport}`);
    await ada.page.emulateMedia({ colorScheme: "dark" });
    await ada.screenshot(`22-back-${transport}-dark`);
    assert.equal(await ada.overflow(), 0);
    await ada.hears("three", "Ben");
    assert.deepEqual(await ada.texts(), ["before", ...said]);
    assert.deepEqual(await ada.get("missed").allTextContents(), ["3 messages while you were away"]);
    assert.deepEqual([await socket(ada), await socket(ben)], before, "the same sockets");
    assert.match(await ada.get("timeline").textContent(), /The same socket again after .*, with 4 messages that were missed/);
    assert.equal(await ada.get("you").textContent(), "Ada");
    await Promise.all([ada, ben].map((person) => count(person, "person", 2)));
    await ada.get("room-listening").filter({ hasText: "1 unread" }).waitFor({ state: "attached" });
    await ada.say("heard all of it");
    await ben.hears("heard all of it", "Ada");

    // Who is new, too.
    const cy = await arrives("Cy", options);
    await cy.hears("heard all of it", "Ada");
    assert.deepEqual(await cy.texts(), ["before", ...said, "heard all of it"]);
    assert.equal(await cy.get("missed").count(), 0);
    await Promise.all([ada, ben, cy].map((person) => count(person, "person", 3)));
    await enters(ada, "listening");
    assert.deepEqual(await ada.texts(), ["in the other room", "four"]);
    // Time enough to say that someone left.
    for (const person of [ada, ben]) await person.page.clock.runFor(10_000);
    for (const person of [ada, ben]) assert.ok(!(await notes(person)).some((note) => note.endsWith(" left")), await notes(person));
    await ada.page.locator('[data-testid="status"][data-comeback=""]').waitFor({ state: "attached" });
  });
}

test("kill -9 before anyone is back: a visitor finds the room, its messages and its file", async () => {
  const [ada] = await meet(["Ada"]);
  await ada.say("kept");
  await ada.attach({ name: "notes.bin", mimeType: "application/octet-stream", buffer: Buffer.from("kept, too") });
  await ada.get("send").click();
  await ada.get("file").waitFor();
  await allSent(ada);
  await ada.leave();
  await demo.kill();
  await demo.start();
  const ben = await arrives("Ben", { room: "lobby" });
  await ben.get("room-choir").click();
  await ben.hears("kept", "Ada");
  const { bytes } = await ben.saves(ben.get("download"));
  assert.equal(bytes.toString(), "kept, too");
  await count(ben, "person", 1);
});

test("kill -9 while someone writes, again and again: each message once, in one order", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  const both = [ada, ben];
  await Promise.all(both.map((person) => person.online()));
  const said = [];
  for (let kill = 0; kill < 4; kill++) {
    for (let i = 0; i < 5; i++) {
      for (const [person, name] of [[ada, "Ada"], [ben, "Ben"]]) {
        said.push(`${name} ${kill}.${i}`);
        await person.say(said.at(-1));
      }
    }
    await demo.kill(); // some of it is on its way
    await Promise.all(both.map(away));
    await demo.start();
    await Promise.all(both.map((person) => cameBack(person, "recovered")));
  }
  for (const person of both) await person.page.waitForFunction((all) => document.querySelectorAll('[data-testid="message"][data-state="sent"]').length >= all, said.length);
  const texts = await ada.texts();
  for (const name of ["Ada", "Ben"]) {
    const of = (all) => all.filter((text) => text.startsWith(name));
    assert.deepEqual(of(texts), of(said), "each once");
  }
  assert.deepEqual(await ben.texts(), texts, "in one order");
  await ben.page.reload();
  await ben.hears(said.at(-1));
  assert.deepEqual(await ben.texts(), texts, "that of the log");
});

test("the server is stopped in order and started: pages come back as the same", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await Promise.all([ada.online(), ben.online()]);
  await ben.say("before");
  await ada.hears("before");
  const before = [await socket(ada), await socket(ben)];
  assert.equal(await demo.stop(), 0);
  await Promise.all([away(ada), away(ben)]);
  await demo.start();
  await Promise.all([ada, ben].map((person) => cameBack(person, "recovered")));
  assert.deepEqual([await socket(ada), await socket(ben)], before);
  for (const person of [ada, ben]) await count(person, "person", 2);
  await ben.say("after");
  await ada.hears("after", "Ben");
  assert.deepEqual(await ada.texts(), ["before", "after"]);
});

test("the network is cut while the server runs: what was said meanwhile comes, and what was written goes out once", async () => {
  const [ben] = await meet(["Ben"]);
  // The client takes it that no network is needed for "localhost".
  const ada = await arrives("Ada", { url: demo.url.replace("localhost", "127.0.0.1") });
  await Promise.all([ada.online(), ben.online()]);
  const before = await socket(ada);
  await ben.say("before");
  await ada.hears("before");
  await ada.context.setOffline(true);
  await (await away(ada)).filter({ hasText: "This device is offline." }).waitFor();
  await ada.say("from Ada");
  await ada.sees("message", { "data-state": "pending" });
  await ada.screenshot("23-offline");
  await ben.say("one");
  await ben.say("two");
  await allSent(ben);
  await ada.context.setOffline(false);
  assert.match(await cameBack(ada, "recovered"), /with the 2 messages you missed\.$/);
  await ben.hears("from Ada", "Ada");
  await allSent(ada);
  for (const person of [ada, ben]) assert.deepEqual(await person.texts(), ["before", "one", "two", "from Ada"]);
  assert.equal(await socket(ada), before);
  for (const person of [ada, ben]) await count(person, "person", 2);
});

test("a server that has lost its log: the page says that it isn't recovered, and why", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"], { clock: true, ...phone });
  await Promise.all([ada.online(), ben.online()]);
  await ben.say("before");
  await ada.hears("before");
  const before = await socket(ada);
  await demo.kill();
  await Promise.all([away(ada), away(ben)]);
  await ada.page.clock.pauseAt(Date.now() + 500);
  demo.forget();
  await demo.start();
  assert.match(await cameBack(ben, "new"), /new socket/);
  await ben.say("meanwhile");
  await allSent(ben);
  await ada.page.clock.resume();
  assert.match(await cameBack(ada, "new"), /new socket.*may be lost\.$/);
  await ada.hears("meanwhile", "Ben");
  assert.deepEqual(await ada.texts(), ["before", "meanwhile"]);
  assert.notEqual(await socket(ada), before);
  await ada.screenshot("24-not-recovered");
  assert.equal(await ada.overflow(), 0);
  await ada.get("transport").click();
  await ada.get("timeline").getByText(/^A new socket after .*no such session/).waitFor();
  await ada.screenshot("25-not-recovered-panel");
  for (const person of [ada, ben]) await count(person, "person", 2);
});
