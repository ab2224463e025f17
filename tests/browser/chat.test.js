// The demo's chat in a real browser, as two people use it.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { Demo } from "./demo.js";
import { gathering } from "./gathering.js";
import { EARLY_END, OUTAGE } from "./person.js";

const { demo, arrives, meet } = gathering();
let picture;

test("names: what can't be one is refused in words", async () => {
  const ada = await arrives();
  ada.expected = EARLY_END;
  await ada.open(demo);
  await ada.get("enter").click();
  await ada.get("name-error").filter({ hasText: "choose a name" }).waitFor();
  await ada.get("name-input").fill("A".repeat(33));
  await ada.get("enter").click();
  await ada.get("name-error").filter({ hasText: "1 to 32 characters" }).waitFor();
  await ada.screenshot("01-gate");
  await ada.enter("Ada Lovelace");
  await ada.get("room-title").filter({ hasText: "#lobby" }).waitFor();
  await ada.online();
  assert.match(await ada.get("latency").textContent(), /^(\d.* ms)?$/);
});

test("two people talk: authors, typing, who is here", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await Promise.all([ada.online(), ben.online()]);
  for (const person of [ada, ben]) {
    await person.get("person").nth(1).waitFor();
    const names = await person.get("person").locator(".person-name").allTextContents();
    assert.deepEqual(names.sort(), ["Ada", "Ben"]);
  }

  await ada.get("composer").pressSequentially("Hello");
  await ben.get("typing").filter({ hasText: "Ada is typing…" }).waitFor();
  await ben.sees("person", { "data-typing": "true" });
  await ben.screenshot("02-typing");
  await ada.get("composer").fill("");
  await ben.page.locator('[data-testid="typing"]:empty').waitFor({ state: "attached" });

  await ada.say("Hello, Ben! 🦀 é");
  await ben.hears("Hello, Ben! 🦀 é", "Ada");
  await ben.say("Hello, Ada.");
  await ada.hears("Hello, Ada.", "Ben");
  await ada.get("composer").fill("two");
  await ada.get("composer").press("Shift+Enter");
  await ada.get("composer").pressSequentially("lines, see https://example.com/a?b=c.");
  await ada.get("send").click();
  const lines = await ben.hears("two\nlines, see https://example.com/a?b=c.", "Ada");
  assert.equal(await lines.locator("a").getAttribute("href"), "https://example.com/a?b=c");

  const said = ["Hello, Ben! 🦀 é", "Hello, Ada.", "two\nlines, see https://example.com/a?b=c."];
  for (const person of [ada, ben]) {
    assert.deepEqual(await person.texts(), said);
    await person.page.waitForFunction(() => !document.querySelector('[data-state="pending"]'));
  }
  await ada.screenshot("03-conversation-ada");
  await ben.page.emulateMedia({ colorScheme: "dark" });
  await ben.screenshot("03-conversation-ben-dark");

  await ben.leave();
  await ada.page.waitForFunction(() => document.querySelectorAll('[data-testid="person"]').length === 1);
});

test("rooms: made, found in the list, joined, unread elsewhere, left", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await ada.get("create-room-input").fill("Choir Berlin");
  await ada.get("create-room").click();
  await ada.get("room-title").filter({ hasText: "#choir-berlin" }).waitFor();
  await ben.sees("room-choir-berlin", { "data-joined": "false" });
  await ben.get("room-choir-berlin").click();
  await ben.sees("room-choir-berlin", { "data-joined": "true", "aria-current": "true" });
  await ben.say("in the choir");
  await ada.hears("in the choir", "Ben");

  await ben.get("room-lobby").click();
  await ben.get("room-title").filter({ hasText: "#lobby" }).waitFor();
  await ada.say("are you still there?");
  await ben.get("room-choir-berlin").filter({ hasText: "1 unread" }).waitFor();
  assert.equal(await ben.messages("are you still there?").count(), 0);
  await ben.screenshot("04-rooms-unread");
  await ben.get("room-choir-berlin").click();
  await ben.hears("are you still there?", "Ada");
  await ben.get("leave").click();
  await ben.sees("room-choir-berlin", { "data-joined": "false" });
  await ada.page.waitForFunction(() => document.querySelectorAll('[data-testid="person"]').length === 1);
});

test("a picture and a file go as binary, and come out with the same bytes, also after a reload", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await Promise.all([ada.online(), ben.online()]);
  picture = await ada.page.screenshot({ clip: { x: 0, y: 0, width: 480, height: 300 } });
  const bytes = randomBytes(200_000);
  await ada.attach(
    { name: "screen.png", mimeType: "image/png", buffer: picture },
    { name: "score <b>1</b>.bin", mimeType: "application/octet-stream", buffer: bytes },
  );
  await ada.screenshot("05-attachments");
  await ada.say("look");
  await ben.hears("look", "Ada");
  const binary = ada.sent.filter(Buffer.isBuffer);
  assert.ok(binary.some((sent) => sent.equals(picture)), "the picture is a binary message");
  assert.ok(binary.some((sent) => sent.equals(bytes)), "the file is a binary message");

  const assertShown = async (person) => {
    const image = person.get("picture-image");
    await image.waitFor();
    const size = await image.evaluate(({ naturalWidth, naturalHeight }) => [naturalWidth, naturalHeight]);
    assert.deepEqual(size, [480, 300]);
    await image.click();
    const shown = await person.saves(person.page.locator("#lightbox-download"));
    assert.equal(shown.name, "screen.png");
    assert.ok(shown.bytes.equals(picture), "the picture's bytes");
    await person.page.keyboard.press("Escape");
    await person.page.locator("#lightbox").waitFor({ state: "hidden" });
    const saved = await person.saves(person.get("download"));
    assert.match(saved.name, /^score .*1.*\.bin$/);
    assert.ok(saved.bytes.equals(bytes), "the file's bytes");
    await person.get("file").getByText("score <b>1</b>.bin").waitFor();
  };
  await assertShown(ben);
  await ben.screenshot("06-picture-and-file");
  await ben.page.reload();
  await ben.hears("look", "Ada");
  await assertShown(ben);
  await ada.page.reload();
  await ada.hears("look", "Ada");
  await assertShown(ada);

  await ada.get("file-input").setInputFiles({ name: "big.bin", mimeType: "", buffer: Buffer.alloc(700_001) });
  await ada.get("composer-error").filter({ hasText: "big.bin" }).waitFor();
});

test("messages are kept across a reload, and one stays the same person", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await ada.say("before");
  await ben.hears("before");
  await ben.say("from Ben");
  await ada.hears("from Ben");
  await ada.page.reload();
  await ada.hears("before", "Ada");
  await ada.hears("from Ben", "Ben");
  assert.deepEqual(await ada.texts(), ["before", "from Ben"]);
  assert.equal(await ada.page.locator(".message.mine").count(), 1);
  await ada.online();
  await ada.say("after");
  await ben.hears("after", "Ada");
  assert.deepEqual(await ben.texts(), ["before", "from Ben", "after"]);
  assert.equal(await ben.get("person").count(), 2);
});

test("the badge shows the upgrade live, and a transport can be forced", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await ada.online();
  const badges = await ada.badges();
  const [polling, upgrading, websocket] = [/^(connecting|online) polling$/, /^upgrading polling$/, /^online websocket$/]
    .map((wanted) => badges.findIndex((badge) => wanted.test(badge)));
  assert.ok(polling >= 0 && polling < upgrading && upgrading < websocket, badges.join(", "));

  await ada.get("transport").click();
  await ada.get("timeline").getByText("Connected by long-polling").waitFor();
  await ada.get("timeline").getByText(/^Upgraded to WebSocket after \d+ ms$/).waitFor();
  await ada.get("latency").filter({ hasText: /\d ms/ }).waitFor();
  await ada.screenshot("07-connection-panel");

  ada.expected = EARLY_END;
  const { webSockets } = ada;
  await ada.get("way-polling").check();
  await ada.online("polling");
  await ada.screenshot("08-forced-polling");
  await ada.page.keyboard.press("Escape");
  assert.match(ada.page.url(), /\?transport=polling/);
  await ada.say("by polling");
  await ben.hears("by polling", "Ada");
  await ben.say("heard");
  await ada.hears("heard", "Ben");
  const bytes = randomBytes(100_000);
  ada.sent = [];
  await ada.attach({ name: "notes.bin", mimeType: "application/octet-stream", buffer: bytes });
  await ada.get("send").click();
  const { bytes: saved } = await ben.saves(ben.get("download"));
  assert.ok(saved.equals(bytes));
  const base64 = `b${bytes.toString("base64")}`;
  assert.ok(ada.sent.some((body) => body.includes(base64)), "an attachment of a polling payload");
  await ada.page.reload();
  await ada.online("polling");
  await ada.hears("heard", "Ben");
  assert.equal(ada.webSockets, webSockets, "no WebSocket was tried");

  await ada.get("transport").click();
  await ada.get("way-websocket").check();
  await ada.online("websocket");
  const since = (await ada.badges()).slice(-3);
  assert.ok(!since.some((badge) => badge.startsWith("upgrading")), since.join(", "));
  await ada.get("way-auto").check();
  await ada.page.waitForFunction(() => window.badges.includes("upgrading polling"));
  await ada.online("websocket");
  await ada.page.keyboard.press("Escape");
  await ben.say("still there?");
  await ada.hears("still there?", "Ben");
  assert.equal(await ben.get("person").count(), 2);
});

test("each transport can be forced, and is shown", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  ada.expected = EARLY_END;
  for (const way of ["streaming", "short-polling", "polling", "websocket"]) {
    await ada.get("transport").click();
    await ada.get(`way-${way}`).check();
    await ada.online(way);
    await ada.screenshot(`11-forced-${way}`);
    await ada.page.keyboard.press("Escape");
    await ada.say(`by ${way}`);
    await ben.hears(`by ${way}`, "Ada");
    await ben.say(`heard ${way}`);
    await ada.hears(`heard ${way}`, "Ben");
  }
  assert.equal(await ben.get("person").count(), 2);
});

for (const [transport, query] of [["websocket", ""], ["polling", "?transport=polling"]]) {
  test(`the server is killed and comes back (${transport}): what was written meanwhile arrives once`, async () => {
    const [ada, ben] = await meet(["Ada", "Ben"], { query, clock: true });
    const both = [ada, ben];
    await Promise.all(both.map((person) => person.online(transport)));
    await ada.say("before");
    await ben.hears("before");
    both.forEach((person) => (person.expected = OUTAGE));

    await demo.kill();
    for (const person of both) await person.sees("status", { "data-state": "reconnecting" });
    await ada.say("written meanwhile");
    await ada.sees("message", { "data-state": "pending" });
    await ada.screenshot(`09-server-away-${transport}`);
    // Time stands still for Ben: his page won't try again by itself.
    await ben.page.clock.pauseAt(Date.now() + 1_000);
    await demo.start();
    // An attempt that was under way when his time stopped may have brought him back: no button then.
    const clicked = ben.get("try-now").click().catch(() => {});
    await Promise.race([clicked, ben.online(transport)]);
    await Promise.all(both.map((person) => person.online(transport)));
    await ben.page.clock.resume();
    await ben.hears("written meanwhile", "Ada");
    await ada.page.waitForFunction(() => !document.querySelector('[data-state="pending"]'));
    both.forEach((person) => (person.expected = null));
    await ben.say("after");
    await ada.hears("after", "Ben");
    await ada.screenshot(`10-server-back-${transport}`);
    for (const person of both) assert.deepEqual(await person.texts(), ["before", "written meanwhile", "after"]);
    for (const person of both) assert.equal(await person.get("person").count(), 2);
    // Also in the server's own account.
    await ben.page.reload();
    await ben.hears("after");
    assert.deepEqual(await ben.texts(), ["before", "written meanwhile", "after"]);
  });
}

test("the server is restarted in order: the page comes back by itself", async () => {
  const chat = new Demo();
  await chat.start();
  const both = await meet(["Ada", "Ben"], { chat });
  const [ada, ben] = both;
  await Promise.all(both.map((person) => person.online()));
  both.forEach((person) => (person.expected = OUTAGE));
  assert.equal(await chat.stop(), 0);
  for (const person of both) await person.sees("status", { "data-state": "reconnecting" });
  await chat.start();
  await Promise.all(both.map((person) => person.online()));
  await ada.say("back");
  await ben.hears("back", "Ada");
  assert.equal(await chat.stop(), 0);
});

test("what people write is never markup", async () => {
  const evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
  const [eve, ben] = await meet(['<b onclick="1">Eve</b>', "Ben"]);
  await eve.say(evil);
  const heard = await ben.hears(evil, '<b onclick="1">Eve</b>');
  await eve.say("javascript:alert(1) <a href=javascript:alert(1)>x</a>");
  await ben.hears("javascript:alert(1) <a href=javascript:alert(1)>x</a>");
  await eve.attach({ name: "<img src=x onerror=alert(1)>.txt", mimeType: "text/html", buffer: Buffer.from("<script>") });
  await eve.get("send").click();
  await ben.get("file").getByText("<img src=x onerror=alert(1)>.txt").waitFor();
  assert.equal(await heard.locator("p img, p script, p b, .meta b").count(), 0);
  for (const person of [eve, ben]) {
    assert.equal(await person.page.evaluate(() => window.hacked), undefined);
    assert.equal(await person.page.locator('img[src="x"], [onerror], [onclick]').count(), 0);
    assert.equal(await person.page.locator('a[href^="javascript"]').count(), 0);
  }
  await ben.screenshot("11-markup-stays-text");
});

test("a phone's 360 pixels are enough", async () => {
  const viewport = { width: 360, height: 740 };
  const ada = await arrives({ viewport });
  await ada.open(demo);
  assert.equal(await ada.overflow(), 0, "the gate");
  await ada.screenshot("12-phone-gate");

  const [wolf, ben] = await meet(["W".repeat(32), "Ben"], { viewport });
  await Promise.all([wolf.online(), ben.online()]);
  await wolf.say("A message of several words, which are more than a line of a small screen holds.");
  await wolf.say("W".repeat(300));
  await wolf.say(`https://example.com/${"a".repeat(200)}`);
  await wolf.attach(
    { name: "screen.png", mimeType: "image/png", buffer: picture ?? (await ben.page.screenshot()) },
    { name: `${"long-name-".repeat(12)}.bin`, mimeType: "", buffer: Buffer.from("x") },
  );
  assert.equal(await wolf.overflow(), 0, "with attachments");
  await wolf.screenshot("13-phone-attachments");
  await wolf.get("send").click();
  await ben.get("file").waitFor();
  await ben.get("picture-image").waitFor();
  await ben.say("Heard.");
  for (const person of [wolf, ben]) assert.equal(await person.overflow(), 0, "the conversation");
  await ben.screenshot("14-phone-conversation");

  await ben.page.getByRole("button", { name: "Rooms", exact: true }).click();
  await ben.get("room-lobby").waitFor();
  assert.equal(await ben.overflow(), 0, "the rooms");
  await ben.screenshot("15-phone-rooms");
  await ben.get("room-lobby").click();
  await ben.get("room-title").filter({ hasText: "#lobby" }).waitFor();
  await ben.page.getByRole("button", { name: "People here" }).click();
  await ben.get("person").first().waitFor();
  assert.equal(await ben.overflow(), 0, "the people");
  await ben.screenshot("16-phone-people");
  await ben.page.keyboard.press("Escape");
  await ben.get("transport").click();
  await ben.get("timeline").waitFor();
  assert.equal(await ben.overflow(), 0, "the connection");
  await ben.screenshot("17-phone-connection");
});
