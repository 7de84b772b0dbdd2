// Terminal sessions as a test sees them: what they have shown, and how they end.

import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";

const LIMIT_MS = 60_000;
/** What the first frame of a session that is attached to begins with. */
const RESET = "\x1bc\x1b[3J";

/** What was shown, to be waited for. */
export class Shown {
  /** All of it. */
  shown = "";
  #seen = 0;
  #changed = () => undefined;

  add(text) {
    this.shown += text;
    this.#changed();
  }

  /** Waits for something that was shown since the last time; answers what matches. */
  async see(pattern) {
    const found = () => pattern.exec(this.shown.slice(this.#seen));
    await this.until(`${pattern}`, found);
    const match = found();
    this.#seen += match.index + match[0].length;
    return match;
  }

  /** What was shown so far is not waited for any more. */
  passOver() {
    this.#seen = this.shown.length;
  }

  /** Waits until `done` answers something true, which it may after anything was added. */
  async until(what, done) {
    const deadline = Date.now() + LIMIT_MS;
    while (!done()) {
      const late = () => new Error(`not seen: ${what}\n${JSON.stringify(this.shown.slice(-2000))}`);
      await new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(late()), deadline - Date.now());
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

/** A session of the SDK's. */
export class Terminal extends Shown {
  /** Binary frames, as text. */
  frames = [];
  reconnects = 0;
  /** The next frame draws again what was seen before. */
  #isDrawnAgain = false;
  #decoder = new TextDecoder();

  /** Opens a session; `options` are those of the SDK. */
  static async open(vm, options = {}) {
    const terminal = new Terminal();
    terminal.session = await vm.pty.open({ ...terminal.#events(), ...options });
    return terminal;
  }

  /** Attaches to a session, and waits for its screen. */
  static async attach(vm, sessionId, options = {}) {
    const terminal = new Terminal();
    terminal.session = await vm.pty.attach({ sessionId, ...terminal.#events(), ...options });
    await terminal.until("the screen", () => terminal.frames.length > 0);
    assert(terminal.frames[0].startsWith(RESET), JSON.stringify(terminal.frames[0].slice(0, 80)));
    return terminal;
  }

  #events() {
    this.exited = new Promise((resolve) => (this.onExit = resolve));
    this.closed = new Promise((resolve) => (this.onClose = resolve));
    return {
      onData: (bytes) => {
        const text = this.#decoder.decode(bytes, { stream: true });
        this.frames.push(text);
        this.add(text);
        if (this.#isDrawnAgain) this.passOver();
        this.#isDrawnAgain = false;
      },
      onExit: this.onExit,
      onClose: this.onClose,
      onReconnect: () => {
        this.reconnects += 1;
        this.#isDrawnAgain = true;
        this.add("");
      },
    };
  }

  get id() {
    return this.session.sessionId;
  }

  /** What is on the screen, and above it, at the moment of attaching. */
  get screen() {
    return this.frames[0].slice(RESET.length);
  }

  /** Types. */
  type(text) {
    this.session.write(text);
  }

  /** Types a command for the shell; answers what it prints. The shell's own echo does not count. */
  async run(command) {
    this.type(`echo 'be''gin'; ${command}; echo 'en''d'\n`);
    const [, printed] = await this.see(/begin\r\n([^]*?)end\r\n/);
    return printed.replaceAll("\r\n", "\n");
  }

  /** Waits until the client has attached again by itself this many times, and has the screen. */
  async reconnected(times = 1) {
    const isBack = () => this.reconnects >= times && !this.#isDrawnAgain;
    await this.until(`reconnect ${times}`, isBack);
  }

  /** Lets go of the session. */
  async detach() {
    this.session.detach();
    await this.closed;
  }
}

/**
 * Asks for a WebSocket as the SDK does, which cannot tell how it was refused. Answers status and body
 * of the refusal.
 */
export async function refusal(url, headers) {
  const asked = request(url, {
    headers: {
      connection: "upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
      ...headers,
    },
  }).end();
  const [answer] = await Promise.race([
    once(asked, "response"),
    once(asked, "upgrade").then(([, socket]) => {
      socket.destroy();
      assert.fail(`${url} was not refused`);
    }),
  ]);
  const chunks = await answer.toArray();
  return { status: answer.statusCode, body: JSON.parse(Buffer.concat(chunks).toString()) };
}
