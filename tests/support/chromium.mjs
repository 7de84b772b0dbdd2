// A page in a real browser, operated as by who sits in front of it: keys, the size of the window, and
// what is to be seen. Chromium's DevTools protocol, over a pipe that ends the browser with this process.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { atExit, forget } from "./cleanup.mjs";
import { Picture } from "./png.mjs";

const LIMIT_MS = 120_000;
const OPTIONS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--no-startup-window"],
  "--remote-debugging-pipe",
  // Colours are to be compared.
  "--force-color-profile=srgb",
];

/** Keys that write nothing, or something other than their name. */
const KEYS = {
  Enter: { code: "Enter", windowsVirtualKeyCode: 13, text: "\r" },
  "Control+c": { key: "c", code: "KeyC", windowsVirtualKeyCode: 67, modifiers: 2 },
};

/** Starts a web server for pages; `files` are the type and the text at each path. */
export async function startServer(files) {
  const server = createServer((request, response) => {
    const [type, text] = files[request.url.split("?")[0]] ?? ["text/plain", ""];
    response.setHeader("content-type", type);
    response.end(text);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { server, url: `http://127.0.0.1:${server.address().port}/`, stop };
}

export class Page {
  #last = 0;
  #pending = new Map();
  #received = "";

  /** Opens a page in a browser of its own, and waits until it has loaded. */
  static async open(url, size = { width: 800, height: 600 }) {
    const page = new Page();
    try {
      await page.#attach();
      await page.resize(size);
      const { errorText } = await page.#send("Page.navigate", { url });
      if (errorText) throw new Error(`${url}: ${errorText}`);
      await page.evaluate(`new Promise((done) => {
        if (document.readyState === "complete") done();
        else addEventListener("load", () => done());
      })`);
    } catch (error) {
      await page.close();
      throw error;
    }
    return page;
  }

  constructor() {
    this.profile = mkdtempSync(join(tmpdir(), "fse2e-browser-"));
    const args = [...OPTIONS, `--user-data-dir=${this.profile}`];
    const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
    this.process = spawn("chromium", args, { stdio, detached: true });
    atExit(this.#destroy);
    const over = ({ message = "the browser has ended" }) => this.#fail(message);
    this.exited = once(this.process, "exit").then(over, over);
    [, , , this.commands, this.answers] = this.process.stdio;
    this.commands.on("error", () => {}); // It has ended, which is told.
    this.answers.setEncoding("utf8").on("data", (text) => this.#receive(text));
  }

  async #attach() {
    const { targetId } = await this.#send("Target.createTarget", { url: "about:blank" });
    const attached = await this.#send("Target.attachToTarget", { targetId, flatten: true });
    this.sessionId = attached.sessionId;
  }

  #send(method, params = {}) {
    const id = ++this.#last;
    const { promise, resolve, reject } = Promise.withResolvers();
    const late = () => reject(new Error(`the browser does not answer: ${JSON.stringify(params)}`));
    const timer = setTimeout(late, LIMIT_MS);
    this.#pending.set(id, { resolve, reject, timer });
    this.commands.write(`${JSON.stringify({ id, method, params, sessionId: this.sessionId })}\0`);
    return promise;
  }

  #receive(text) {
    const messages = (this.#received + text).split("\0");
    this.#received = messages.pop();
    for (const { id, result, error } of messages.map((message) => JSON.parse(message))) {
      const asked = this.#pending.get(id);
      if (!asked) continue; // An event, or an answer that came too late.
      this.#pending.delete(id);
      clearTimeout(asked.timer);
      if (error) asked.reject(new Error(error.message));
      else asked.resolve(result);
    }
  }

  #fail(message) {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new Error(message));
    }
    this.#pending.clear();
  }

  /** The value of an expression in the page, once it is there if it is a promise. */
  async evaluate(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate", params);
    if (!exceptionDetails) return result.value;
    throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }

  /** Gives the window another size. */
  async resize({ width, height }) {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.#send("Emulation.setDeviceMetricsOverride", metrics);
  }

  /** Presses keys, one for each character. */
  async type(text) {
    for (const key of text) await this.press(key);
  }

  /** Presses a key: a character, or one of those that have names. */
  async press(name) {
    const key = { key: name, ...(KEYS[name] ?? { text: name }) };
    await this.#send("Input.dispatchKeyEvent", { type: key.text ? "keyDown" : "rawKeyDown", ...key });
    await this.#send("Input.dispatchKeyEvent", { type: "keyUp", ...key, text: undefined });
  }

  /** What is to be seen. */
  async screenshot() {
    const { data } = await this.#send("Page.captureScreenshot", { format: "png" });
    return new Picture(Buffer.from(data, "base64"));
  }

  async close() {
    this.process.kill();
    await this.exited;
    this.#destroy();
  }

  /** Synchronous. */
  #destroy = () => {
    try {
      process.kill(-this.process.pid, "SIGKILL"); // All of its processes write into the profile.
    } catch {
      // None of them is left, or there never was one.
    }
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
    forget(this.#destroy);
  };
}
