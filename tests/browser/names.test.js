// Who people are at the demo's chat: over a change of name, a restart of the server, and in two tabs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gathering } from "./gathering.js";
import { OUTAGE } from "./person.js";

const { demo, meet } = gathering();
const phone = { viewport: { width: 390, height: 844 } };

const note = (person, text) => person.get("note").filter({ hasText: text }).waitFor();
const called = (person, name) => person.get("you").filter({ hasText: new RegExp(`^${name}$`) }).waitFor();
const listed = (person, name) => person.get("person").filter({ hasText: name }).waitFor();
const socket = (person) => person.get("socket").textContent(); // in the panel behind the badge

async function rename(person, name) {
  await person.get("rename").click();
  await person.get("rename-input").fill(name);
  await person.get("rename-save").click();
  await person.get("rename-input").waitFor({ state: "hidden" });
}

/** What is wrong is said at the field, and goes when one types. */
async function assertError(person, field, error, text) {
  await person.get(error).filter({ hasText: text }).waitFor();
  const state = (input) => [input.getAttribute("aria-invalid"), document.getElementById(input.getAttribute("aria-describedby")).dataset.testid];
  assert.deepEqual(await person.get(field).evaluate(state), ["true", error]);
  assert.equal(await person.get(field).evaluate((input) => input === document.activeElement), true, "one can correct it at once");
  assert.equal(await person.get("toast").count(), 0);
  await person.screenshot(`40-${error}`);
  await person.get(field).press("End");
  await person.get(field).pressSequentially("x");
  assert.deepEqual(await person.get(field).evaluate(state), ["false", error]);
  assert.equal(await person.get(error).textContent(), "");
}

test("another name is told to the others; the connection stays, and old messages keep the old name", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await Promise.all([ada.online(), ben.online()]);
  await ada.say("said as Ada");
  await ben.hears("said as Ada", "Ada");
  const before = await socket(ada);

  await rename(ada, " Augusta  King ");
  await called(ada, "Augusta King");
  await note(ben, "Ada is now Augusta King");
  for (const person of [ada, ben]) await listed(person, "Augusta King");
  await ben.screenshot("41-renamed");
  assert.equal(await socket(ada), before);
  assert.doesNotMatch(await ada.get("timeline").textContent(), /ended/, "the same connection");
  await ada.get("composer").pressSequentially("said");
  await ben.get("typing").filter({ hasText: "Augusta King is typing…" }).waitFor();
  await ada.say("said as Augusta");
  await ben.hears("said as Augusta", "Augusta King");

  // Also for newcomers and after a reload, where no note stands between the two.
  await ben.page.reload();
  await ben.hears("said as Ada", "Ada");
  const second = await ben.hears("said as Augusta", "Augusta King");
  await second.getByText("Augusta King", { exact: true }).waitFor();
  assert.equal(await ben.get("person").count(), 2);
  await listed(ben, "Augusta King");
  await ada.page.reload();
  await ada.hears("said as Augusta", "Augusta King");
  await called(ada, "Augusta King");
  assert.equal(await ada.page.locator(".message.mine").count(), 2);
});

test("a change of name has a way back", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"], phone);
  await ada.page.getByRole("button", { name: "Rooms", exact: true }).click();
  for (const back of [() => ada.get("rename-cancel").click(), () => ada.page.keyboard.press("Escape")]) {
    await ada.get("rename").click();
    assert.equal(await ada.get("rename-input").inputValue(), "Ada");
    await ada.get("rename-input").fill("Augusta");
    await ada.screenshot("42-rename-phone");
    await back();
    await ada.get("rename-input").waitFor({ state: "hidden" });
    assert.equal(await ada.get("rename").evaluate((button) => button === document.activeElement), true, "back where one was");
    assert.equal(await ada.page.locator("#backdrop").isVisible(), true, "the panel is still open");
    assert.equal(await ada.get("you").textContent(), "Ada");
  }
  await ada.page.keyboard.press("Escape");
  await ada.get("you").waitFor({ state: "hidden" });
  await ada.say("still Ada");
  await ben.hears("still Ada", "Ada");
  assert.equal(await ben.get("note").filter({ hasText: "Augusta" }).count(), 0);
});

test("what is wrong with a new name is said at its field", async () => {
  const [ada] = await meet(["Ada"]);
  await ada.get("rename").click();
  await ada.get("rename-input").fill(" ");
  await ada.get("rename-save").click();
  await assertError(ada, "rename-input", "rename-error", "Please choose a name.");
  await ada.get("rename-input").fill("A".repeat(33));
  await ada.get("rename-save").click();
  await assertError(ada, "rename-input", "rename-error", "1 to 32 characters");
  await ada.get("rename-input").fill("Augusta");
  await ada.get("rename-save").click();
  await called(ada, "Augusta");
});

test("what is wrong with the name of a room is said at its field", async () => {
  const [ada] = await meet(["Ada"]);
  await ada.get("create-room-input").fill("choir/berlin");
  await ada.get("create-room").click();
  await assertError(ada, "create-room-input", "create-room-error", "letters, digits and dashes");
  await ada.get("create-room-input").fill("choir");
  await ada.get("create-room").click();
  await ada.get("room-title").filter({ hasText: "#choir" }).waitFor();
});

test("someone who comes back after a crash keeps the new name, and is the same socket", async () => {
  const both = await meet(["Ada", "Ben"]);
  const [ada, ben] = both;
  await Promise.all(both.map((person) => person.online()));
  await rename(ada, "Augusta");
  await note(ben, "Ada is now Augusta");
  const before = await socket(ada);
  both.forEach((person) => (person.expected = OUTAGE));
  await demo.kill();
  for (const person of both) await person.sees("status", { "data-state": "reconnecting" });
  await demo.start();
  await Promise.all(both.map((person) => person.online()));
  await ada.sees("status", { "data-comeback": "recovered" });
  assert.equal(await socket(ada), before);
  await ada.say("back");
  await ben.hears("back", "Augusta");
  await called(ada, "Augusta");
  // By the server's account, too.
  await ben.page.reload();
  await listed(ben, "Augusta");
  assert.equal(await ben.get("person").count(), 2);
});

test("a person stays the same over a restart of the server and a reload of the page", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await Promise.all([ada.online(), ben.online()]);
  await ada.say("before");
  await ben.hears("before", "Ada");
  const idOf = () => ada.get("person").filter({ hasText: "Ada" }).getAttribute("data-person");
  const before = await idOf();
  for (const person of [ada, ben]) person.expected = OUTAGE;
  for (const end of [() => demo.stop(), () => demo.kill()]) {
    await end();
    await ada.sees("status", { "data-state": "reconnecting" });
    await assert.rejects(ada.page.reload(), /ERR_CONNECTION_REFUSED/);
    await demo.start();
    await ada.page.reload();
    await ada.hears("before", "Ada");
    assert.equal(await ada.get("name-input").isVisible(), false, "nobody asks for a name");
    await called(ada, "Ada");
    assert.equal(await ada.page.locator(".message.mine").count(), 1, "it is still theirs");
    assert.equal(await idOf(), before);
    await ben.online();
    assert.equal(await ben.get("person").count(), 2);
  }
});

test("two tabs of a person have one name", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await ada.online();
  // A tab that is opened by another one has what that remembers.
  const [tab] = await Promise.all([ada.page.waitForEvent("popup"), ada.page.evaluate(() => void window.open(location.href))]);
  await tab.getByTestId("you").filter({ hasText: "Ada" }).waitFor();
  await tab.locator('[data-testid="transport"][data-transport="websocket"]').waitFor();
  await rename(ada, "Augusta");
  await tab.getByTestId("you").filter({ hasText: "Augusta" }).waitFor();
  await tab.getByTestId("composer").fill("from the other tab");
  await tab.getByTestId("composer").press("Enter");
  await ben.hears("from the other tab", "Augusta");
  assert.equal(await ben.get("note").filter({ hasText: "is now" }).count(), 1);
  assert.equal(await ben.get("person").count(), 2);
  await tab.close();
});
