// The documentation's guide that brings a VM's terminal into a web page ("How to Run a Web Terminal in
// a Sandbox"): xterm.js in a real browser, and the proxy between it and the VM.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { WebSocketServer } from "ws";

import { Page, startServer } from "../support/chromium.mjs";
import { eventually, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("guide web terminal");
const LARGE = { width: 900, height: 500 };
const SMALL = { width: 600, height: 400 };
/** At the end of what is on the screen. */
const PROMPT = /#\s*$/;

/** What is printed, and what it looks like: of both of xterm's palettes, and of none. */
const COLOURS = { 41: "#cc0000", "48;5;208": "#ff8700", "48;2;10;200;30": "#0ac81e" };
const PROGRAM = Object.keys(COLOURS)
  .map((sgr) => `printf '\\033[${sgr}m    \\033[m ${sgr}\\n'\n`)
  .join("");

const installed = (module) => readFileSync(fileURLToPath(import.meta.resolve(module)));
const FILES = {
  "/": ["text/html", readFileSync(new URL("guide-web-terminal.html", import.meta.url))],
  "/xterm.css": ["text/css", installed("@xterm/xterm/css/xterm.css")],
  "/xterm.mjs": ["text/javascript", installed("@xterm/xterm/lib/xterm.mjs")],
  "/addon-fit.mjs": ["text/javascript", installed("@xterm/addon-fit/lib/addon-fit.mjs")],
};

const { vm } = await freestyle.vms.create({
  name: "web-terminal-server",
  idleTimeoutSeconds: null,
});
await vm.fs.writeTextFile("/srv/colours", PROGRAM);
await sh(vm, "touch /srv/setuid && chmod u+s /srv/setuid");
const { server, url, stop } = await startServer(FILES);
after(stop);

/** The sessions of those who type, in order. */
const sessionIds = [];
/** What those have typed who only watch. */
let dropped = "";

// The guide's proxy, which also lets others watch a session. What a page says before its session is
// open is lost, also in the guide: its first size.
const wss = new WebSocketServer({ server });
wss.on("connection", async (browser, request) => {
  const watched = new URL(request.url, url).searchParams.get("watch");
  const WRITABLE = watched === null;
  const options = {
    cols: 80,
    rows: 24,
    onData: (bytes) => browser.readyState === browser.OPEN && browser.send(bytes),
    onExit: () => browser.close(),
  };
  const session = await (WRITABLE
    ? vm.pty.open(options)
    : vm.pty.attach({ sessionId: watched, ...options }));
  if (WRITABLE) sessionIds.push(session.sessionId);
  browser.on("message", (data, isBinary) => {
    if (!isBinary) {
      // Text frames are control messages (resize). Resizing is safe in read-only.
      try {
        const msg = JSON.parse(data.toString());
        if (msg.type === "resize") session.resize({ cols: msg.cols, rows: msg.rows });
      } catch {}
      return;
    }
    // Binary frames are keystrokes.
    if (WRITABLE) session.write(new Uint8Array(data));
    else dropped += data;
  });
  browser.on("close", () => session.detach());
});

/** Opens the page, and waits for the shell. */
async function openTerminal(query = "") {
  const page = await Page.open(`${url}${query}`, LARGE);
  after(() => page.close());
  await page.evaluate(`shown(${PROMPT})`);
  return page;
}

/** Types a command; answers the lines on the screen when the shell has its prompt again. */
async function run(page, command) {
  await page.type(command);
  await page.press("Enter");
  const over = new RegExp(`${command.replaceAll(/\W/g, "\\$&")}\n[^]*${PROMPT.source}`);
  return await page.evaluate(`shown(${over})`);
}

/** How many pixels of the cells have which colour, but for the edges, where neighbours begin. */
async function coloursOf(page, row, from, to) {
  const { width, height } = await page.evaluate(`(() => {
    const { width, height } = document.querySelector(".xterm-screen").getBoundingClientRect();
    return { width: width / term.cols, height: height / term.rows };
  })()`);
  const picture = await page.screenshot();
  const x = Math.ceil(from * width) + 1;
  const y = Math.ceil(row * height) + 1;
  const right = Math.floor(to * width) - 1;
  const bottom = Math.floor((row + 1) * height) - 1;
  return picture.colours({ x, y, width: right - x, height: bottom - y });
}

/** Checks that what the programs have printed is what is to be seen. */
async function looksRight(page, lines) {
  for (const [sgr, colour] of Object.entries(COLOURS)) {
    const row = lines.indexOf(`     ${sgr}`);
    assert.notEqual(row, -1, lines.join("\n"));
    assert.deepEqual(Object.keys(await coloursOf(page, row, 0, 4)), [colour]);
    const { "#000000": background, "#ffffff": text } = await coloursOf(page, row, 4, 5 + sgr.length);
    assert(background > text && text > 0, `${sgr}: ${background} ${text}`);
  }
  const row = lines.indexOf("/srv/setuid");
  const { "#cc0000": background, "#d3d7cf": text } = await coloursOf(page, row, 0, 11);
  assert(background > text && text > 0, `ls: ${background} ${text}`);
}

test("keys that are pressed in a page reach the VM, and what programs print is seen there", async () => {
  const page = await openTerminal();
  assert((await run(page, "whoami")).includes("root"));
  await run(page, "sh /srv/colours");
  const lines = await run(page, "TERM=xterm-256color ls --color /srv/setuid");
  await looksRight(page, lines);

  // Whoever comes to watch sees the same, and nothing of what they type arrives.
  const watching = await openTerminal(`?watch=${sessionIds.at(-1)}`);
  const seen = await watching.evaluate("shown(/^.srv.setuid\\n/m)");
  assert.deepEqual(seen, lines);
  await looksRight(watching, seen);
  await watching.type("echo intruder");
  await eventually("it arrives at the proxy", async () => dropped === "echo intruder");
  const last = await run(page, "echo by whom");
  assert.equal(last.at(last.findLastIndex(Boolean) - 1), "by whom");
  await watching.evaluate("shown(/^by whom\\n/m)");
  assert.doesNotMatch(last.join("\n"), /intruder/);

  await page.type("exit");
  await page.press("Enter");
  assert.deepEqual([await page.evaluate("ended"), await watching.evaluate("ended")], [true, true]);
});

test("the terminal is as large as the window", async () => {
  const page = await openTerminal();
  const sizes = [];
  for (const window of [SMALL, LARGE]) {
    const resized = page.evaluate("new Promise((done) => term.onResize(done))");
    await page.resize(window);
    const { cols, rows } = await resized;
    const isFollowed = async () => {
      await page.evaluate("term.clear()"); // But for the prompt.
      return (await run(page, "stty size")).includes(`${rows} ${cols}`);
    };
    await eventually(`it has ${rows} rows and ${cols} columns`, isFollowed);
    sizes.push({ cols, rows });
  }
  const [small, large] = sizes;
  assert(small.cols < large.cols && small.rows < large.rows, JSON.stringify(sizes));
});

test("Control+C ends the program, and closing the page nothing", async () => {
  const page = await openTerminal();
  await page.type("sleep 1000");
  await page.press("Enter");
  const isThere = async () => (await vm.exec("pgrep -x sleep")).statusCode === 0;
  await eventually("it runs", isThere);
  await page.press("Control+c");
  await page.evaluate(`shown(/\\^C\\n.*${PROMPT.source}/)`);
  await eventually("it runs no more", async () => !(await isThere()));

  await run(page, "VALUE=remembered");
  await page.close();
  const sessionId = sessionIds.at(-1);
  const isAlone = async () => {
    const { sessions } = await vm.pty.list();
    return sessions.find((session) => session.sessionId === sessionId).attachedCount === 0;
  };
  await eventually("the page's end is noticed", isAlone);
  const { promise: seen, resolve } = Promise.withResolvers();
  let shown = "";
  const session = await vm.pty.attach({
    sessionId,
    onData: (bytes) => (shown += new TextDecoder().decode(bytes)).includes("was remembered") && resolve(),
  });
  session.write('echo "was $VALUE"\n');
  await seen;
  session.detach();
});
