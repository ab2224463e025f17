// A person at the chat: a browser of their own, and what they do in it.

import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { DEADLINE } from "../lib/wait.js";

const screenshots = fileURLToPath(new URL("../screenshots/", import.meta.url));

// Without these, Chromium asks for things of its own in the network.
const QUIET = [
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  ...["--disable-gpu", "--disable-quic", "--no-first-run", "--no-default-browser-check"],
];

export function launch() {
  const places = ["/usr/bin", ...process.env.PATH.split(delimiter)].map((place) => join(place, "chromium"));
  const executablePath = process.env.CHROMIUM ?? places.find(existsSync);
  if (!executablePath) throw new Error("there is no chromium: ./dev installs it, or set CHROMIUM");
  return chromium.launch({ executablePath, args: QUIET });
}

/** What a browser says of a server that isn't there, or is about to go. */
export const OUTAGE = /net::ERR_(CONNECTION|EMPTY_RESPONSE|INCOMPLETE|INTERNET|NETWORK|SOCKET_NOT_CONNECTED)|WebSocket connection to|\b503\b/;

/** A client that ends its session early: a poll comes after the end, or a WebSocket has no use any more. */
export const EARLY_END = /\b400\b.*transport=polling.*sid=|closed before the connection is established/;

/** Streaming's probe, 300 ms after the connect, where WebSocket has won just then. */
export const LATE_PROBE = /\b400\b.*transport=streaming.*sid=/;

export class Person {
  /** What shouldn't happen: errors on the console, failed requests, answers of an error. */
  problems = [];
  /** Problems that match are none. */
  expected = null;
  /** Binary WebSocket messages, each a Buffer, and bodies of POSTs. */
  sent = [];
  /** How many WebSockets the page has opened. */
  webSockets = 0;

  static async arrive(browser, options = {}) {
    const { viewport = { width: 1200, height: 760 }, colorScheme = "light", ...more } = options;
    const person = new Person();
    person.context = await browser.newContext({ viewport, colorScheme, locale: "en-GB", ...more });
    person.context.setDefaultTimeout(DEADLINE);
    person.page = await person.context.newPage();
    await person.page.addInitScript(recordBadge);
    person.#watch();
    return person;
  }

  #watch() {
    const { page } = this;
    const problem = (text) => {
      if (!this.expected?.test(text)) this.problems.push(text);
    };
    page.on("console", (message) => {
      const { url } = message.location();
      if (["error", "warning"].includes(message.type())) problem(`console: ${message.text()} (${url})`);
    });
    page.on("pageerror", (error) => problem(`uncaught: ${error.stack}`));
    page.on("requestfailed", (request) => {
      const { errorText } = request.failure();
      // A poll under way when the page leaves, reconnects or changes its transport.
      const isPoll = /transport=(polling|streaming)/.test(request.url()) && errorText === "net::ERR_ABORTED";
      if (!isPoll) problem(`failed: ${request.method()} ${request.url()}: ${errorText}`);
    });
    page.on("response", async (response) => {
      if (response.status() < 400) return;
      const request = `${response.request().method()} ${response.url()}`;
      problem(`${response.status()}: ${request}: ${await response.text().catch(() => "")}`);
    });
    page.on("request", (request) => request.method() === "POST" && this.sent.push(request.postData()));
    page.on("websocket", (socket) => {
      this.webSockets++;
      socket.on("framesent", ({ payload }) => Buffer.isBuffer(payload) && this.sent.push(payload));
    });
  }

  /** Opens the chat at this room. */
  async open(demo, room = "", query = "") {
    await this.page.goto(`${demo.url}/${query}${room && `#${room}`}`);
  }

  async enter(name) {
    await this.get("name-input").fill(name);
    await this.get("enter").click();
    await this.get("you").filter({ hasText: name }).waitFor({ state: "attached" }); // hidden on a phone
  }

  get(testId) {
    return this.page.getByTestId(testId);
  }

  /** The element with this test id and these attributes, once it is there. */
  async sees(testId, attributes = {}) {
    const wanted = Object.entries(attributes).map(([name, value]) => `[${name}=${JSON.stringify(value)}]`);
    const element = this.page.locator(`[data-testid="${testId}"]${wanted.join("")}`);
    await element.waitFor({ state: "visible" });
    return element;
  }

  online(transport = "websocket") {
    return this.sees("transport", { "data-state": "online", "data-transport": transport });
  }

  async say(text) {
    await this.get("composer").fill(text);
    await this.get("composer").press("Enter");
  }

  /** The messages with this text, but for white space. */
  messages(text) {
    const words = text.trim().split(/\s+/).map((word) => word.replace(/[^\p{L}\p{N}]/gu, "\\$&"));
    const hasText = new RegExp(`^\\s*${words.join("\\s+")}\\s*$`);
    return this.get("message").filter({ has: this.page.locator('[data-testid="message-text"]', { hasText }) });
  }

  /** Waits for the one message with this text, known to the server. */
  async hears(text, author) {
    const isBy = author ? `[data-author=${JSON.stringify(author)}]` : "";
    const message = this.messages(text).and(this.page.locator(`[data-state="sent"]${isBy}`));
    await message.waitFor();
    return message;
  }

  async texts() {
    return this.get("message-text").allTextContents();
  }

  /** Attaches files, and waits until they are ready to go. */
  async attach(...files) {
    await this.get("file-input").setInputFiles(files);
    await this.get("attachment").nth(files.length - 1).waitFor();
  }

  /** The bytes that a click on this saves. */
  async saves(button) {
    const [download] = await Promise.all([this.page.waitForEvent("download"), button.click()]);
    return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
  }

  /** States that the badge went through, such as `upgrading polling`. */
  badges() {
    return this.page.evaluate(() => window.badges);
  }

  /** By how many pixels the page or its list of messages is wider than what is seen of it. */
  overflow() {
    return this.page.evaluate(() => {
      const boxes = [document.scrollingElement, document.body, document.getElementById("scroller")];
      return Math.max(...boxes.map((box) => box.scrollWidth - box.clientWidth));
    });
  }

  async screenshot(name) {
    await mkdir(screenshots, { recursive: true });
    await this.page.screenshot({ path: join(screenshots, `${name}.png`), animations: "disabled" });
  }

  leave() {
    return this.context.close();
  }
}

/** Runs in the page. */
function recordBadge() {
  window.badges = [];
  addEventListener("DOMContentLoaded", () => {
    const badge = document.getElementById("transport");
    if (!badge) return; // the browser's own page, which says that there is no server
    const record = () => {
      const shown = `${badge.dataset.state} ${badge.dataset.transport}`;
      if (window.badges.at(-1) !== shown) window.badges.push(shown);
    };
    new MutationObserver(record).observe(badge, { attributes: true });
  });
}
