// What the demo's page looks like where it is easily spoiled: narrow screens, notices, pictures, the days of what was said.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gathering } from "./gathering.js";
import { OUTAGE } from "./person.js";

const { demo, arrives, meet } = gathering();

const box = (element) => element.evaluate((node) => node.getBoundingClientRect().toJSON());
const isApart = (a, b) => a.bottom <= b.top || b.bottom <= a.top || a.right <= b.left || b.right <= a.left;

const SCREENS = [[1200, 760], [390, 844], [320, 640]];

test("notices cover neither the composer nor the status", async () => {
  for (const [width, height] of SCREENS) {
    const [ada] = await meet(["Ada"], { viewport: { width, height } });
    await ada.online();
    ada.expected = OUTAGE;
    for (let i = 0; i < 6; i++) await ada.attach({ name: `${"long-name-".repeat(3)}${i}.bin`, mimeType: "", buffer: Buffer.from("x") });
    await ada.get("composer").fill("a line\n".repeat(7));
    await demo.kill();
    await ada.sees("status", { "data-state": "reconnecting" });
    for (let times = 0; times < 2; times++) await ada.get("leave").click();
    await ada.get("toast").waitFor();
    await ada.screenshot(`50-notices-${width}`);
    const composer = await box(ada.page.locator("#composer"));
    const status = await box(ada.get("status"));
    const toast = await box(ada.get("toast")); // one, though it was said twice
    assert.ok(isApart(toast, composer), `the composer at ${width}`);
    assert.ok(isApart(toast, status), `the status at ${width}`);
    await demo.start();
    await ada.online();
  }
});

test("what is said of a lost connection fits on one line of a phone", async () => {
  for (const width of [390, 320]) {
    const [ada] = await meet(["Ada"], { viewport: { width, height: 700 } });
    await ada.online();
    ada.expected = OUTAGE;
    await demo.kill();
    const status = await ada.sees("status", { "data-state": "reconnecting" });
    await ada.get("try-now").waitFor();
    await ada.screenshot(`51-status-${width}`);
    const lines = (id) =>
      ada.page.evaluate((id) => {
        const range = document.createRange();
        range.selectNodeContents(document.getElementById(id));
        return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
      }, id);
    assert.deepEqual([await lines("status-text"), await lines("try-now")], [1, 1], `at ${width}`);
    const [{ right, left }, button] = [await box(status), await box(ada.get("try-now"))];
    assert.ok(left <= button.left && button.right <= right, "the button is on the screen");
    assert.equal(await ada.overflow(), 0);
    // The bar above it still has the room's name.
    const isWhole = ({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth;
    assert.ok(await ada.get("room-title").evaluate(isWhole), `the room's name at ${width}`);
    await demo.start();
    await ada.online();
  }
});

const DAY = 24 * 3_600_000;

/** The list of messages as "day", "note" and "message". */
const kinds = (person) => person.get("message-list").evaluate((list) => [...list.children].map(({ dataset }) => dataset.testid));

test("the day stands above the first note", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await ada.get("note").filter({ hasText: "Ben came in" }).waitFor();
  assert.deepEqual(await kinds(ada), ["day", "note"]);
  assert.equal(await ada.get("day").textContent(), "Today");
  await ada.screenshot("52-day-above-a-note");
  await ben.say("Hello");
  await ada.hears("Hello");
  assert.deepEqual(await kinds(ada), ["day", "note", "message"]);
});

test("each day has one line, whatever the page's clock says", async () => {
  const [ada, ben] = await meet(["Ada", "Ben"]);
  await ada.say("one");
  await ben.hears("one");
  // Cy's clock is a day ahead, so notes are of a later day than messages; and Dan's is behind.
  for (const [name, ahead] of [["Cy", DAY], ["Dan", -DAY]]) {
    const visitor = await arrives();
    await visitor.page.clock.install({ time: Date.now() + ahead });
    await visitor.page.goto(ada.page.url());
    await visitor.enter(name);
    await visitor.hears("one");
    await ben.get("leave").click();
    await visitor.page.clock.runFor(10_000); // time enough to say that he left
    await visitor.get("note").filter({ hasText: "Ben left" }).waitFor();
    await ada.say(`for ${name}`);
    await visitor.hears(`for ${name}`);
    await visitor.say(`from ${name}`);
    await ada.hears(`from ${name}`);
    await visitor.hears(`from ${name}`);
    const days = await visitor.get("day").allTextContents();
    assert.equal(days.length, 1, days.join());
    assert.equal((await kinds(visitor))[0], "day");
    await ben.get(`room-${new URL(ada.page.url()).hash.slice(1)}`).click();
    await ben.hears(`from ${name}`);
  }
});

/** Bytes of a picture, a stripe. */
const stripe = (person, width, height) =>
  person.page.evaluate(([width, height]) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").fillRect(0, 0, width, height);
    return canvas.toDataURL("image/png").split(",")[1];
  }, [width, height]);

test("very tall and very wide pictures are cropped in the list, and whole when they are enlarged", async () => {
  for (const [width, height] of SCREENS) {
    const [ada] = await meet(["Ada"], { viewport: { width, height } });
    await ada.online();
    const ratio = async (image) => {
      const { width, height } = await box(image);
      return width / height;
    };
    for (const [i, [wide, high]] of [[200, 4_000], [4_000, 100], [400, 300]].entries()) {
      const buffer = Buffer.from(await stripe(ada, wide, high), "base64");
      await ada.attach({ name: "stripe.png", mimeType: "image/png", buffer });
      await ada.get("send").click();
      const image = ada.get("picture-image").nth(i);
      await image.waitFor();
      const [shown, natural] = [await ratio(image), wide / high];
      const { height: shownHeight } = await box(image);
      assert.ok(shownHeight <= 340, `${shownHeight} px are too high`);
      if (Math.max(natural, 1 / natural) > 3) {
        assert.ok(shown > 1 / 4 && shown < 7, `${wide}x${high} is shown as ${shown}`);
        assert.equal(await image.evaluate((image) => getComputedStyle(image).objectFit), "cover", "not squeezed");
      } else {
        assert.ok(Math.abs(shown / natural - 1) < 0.02, "as it is");
      }
      await image.click();
      const large = ada.page.locator("#lightbox-image");
      const { top, left, bottom, right } = await box(large);
      assert.ok(top >= 0 && left >= 0 && bottom <= height && right <= width, "on the screen");
      assert.ok(Math.abs((await ratio(large)) / natural - 1) < 0.05, "as it is");
      await ada.page.keyboard.press("Escape");
      await large.waitFor({ state: "hidden" });
    }
    assert.equal(await ada.overflow(), 0);
    await ada.screenshot(`53-stripes-${width}`);
  }
});

test("the page has a link to its source", async () => {
  const manifest = await readFile(new URL("../../Cargo.toml", import.meta.url), "utf8");
  const [, repository] = /^repository = "(.*)"$/m.exec(manifest);
  const ada = await arrives();
  await ada.open(demo);
  const href = async (testId) => (await ada.sees(testId)).getAttribute("href");
  assert.equal(await href("source"), `${repository}/tree/main/demo`);
  await ada.enter("Ada");
  await ada.get("transport").click();
  assert.equal(await href("panel-source"), `${repository}/tree/main/demo`);
});
