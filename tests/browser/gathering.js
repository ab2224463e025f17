// The demo that the tests of a file share, and the people who are at it for one test.

import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";
import { Demo } from "./demo.js";
import { launch, Person } from "./person.js";

/** Starts the demo and a browser for this file, and ends them; people leave after each test, and nobody may have had a problem. */
export function gathering() {
  const demo = new Demo();
  let browser;
  let people = [];
  let rooms = 0;

  process.on("SIGTERM", () => process.exit(1));
  before(async () => {
    [browser] = await Promise.all([launch(), demo.start()]);
  });
  after(async () => {
    await browser?.close();
    assert.equal(await demo.stop(), 0, "SIGTERM ends the demo in order");
    setTimeout(() => process.exit(), 1_000).unref();
  });
  afterEach(async () => {
    const problems = people.flatMap((person) => person.problems);
    await Promise.all(people.map((person) => person.leave()));
    people = [];
    assert.deepEqual(problems, [], "errors on the console and failed requests");
  });

  async function arrives(options) {
    const person = await Person.arrive(browser, options);
    people.push(person);
    return person;
  }

  /** People with these names, each in a browser of their own, in a room that is new. With `clock`, their pages' time can be paused. */
  async function meet(names, { chat = demo, query, clock = false, ...options } = {}) {
    const room = `room-${++rooms}`;
    const met = await Promise.all(names.map(() => arrives(options)));
    if (clock) await Promise.all(met.map((person) => person.page.clock.install()));
    await Promise.all(met.map((person) => person.open(chat, room, query)));
    for (const [i, person] of met.entries()) {
      await person.enter(names[i]);
      if (i === 0) await person.get("create-missing").click();
      await person.get("room-title").filter({ hasText: `#${room}` }).waitFor();
    }
    return met;
  }

  return { demo, arrives, meet };
}
