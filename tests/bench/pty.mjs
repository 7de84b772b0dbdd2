// `cargo xtask bench pty`: how a terminal session feels, how fast it prints, how many there may be
// and what they cost. Prints figures, judges none.

import { spawn } from "node:child_process";
import { once } from "node:events";

import { Freestyle } from "freestyle";

import { Server } from "../support/server.mjs";
import { MIB, head, milliseconds, pause, row } from "./report.mjs";
import { benchSsh, sshWays } from "./ssh.mjs";

const KEYSTROKES = Number(process.env.BENCH_KEYSTROKES ?? 300);
const RUNS = Number(process.env.BENCH_RUNS ?? 3);
const PRINTED_MB = Number(process.env.BENCH_PRINTED_MB ?? 50);
const SESSIONS = Number(process.env.BENCH_SESSIONS ?? 128);
/** Between two keystrokes, as of somebody who types fast. */
const BETWEEN_KEYS_MS = 50;
const LINES = 10_000;
const SHELL = "exec bash --norc";
const VM = { vcpuCount: 2, memSizeGb: 2, idleTimeoutSeconds: null };
const AGENT_MEMORY = "awk '/VmRSS/ { print $2 }' /proc/$(pgrep -xo freestyle-guest)/status";

/** A connection to a terminal: what is typed, and what comes back. */
class Line {
  text = "";
  bytes = 0;
  #changed = () => undefined;

  /** Keeps the end of what was shown. */
  heard = (chunk) => {
    this.bytes += chunk.length;
    this.text = (this.text + Buffer.from(chunk).toString("latin1")).slice(-4096);
    this.#changed();
  };

  async until(done) {
    while (!done()) await new Promise((resolve) => (this.#changed = resolve));
  }

  async see(text) {
    await this.until(() => this.text.includes(text));
    this.text = "";
  }
}

/** A shell at a terminal through the API. */
async function throughTheApi(vm) {
  const line = new Line();
  const session = await vm.pty.open({ exec: SHELL, onData: line.heard });
  return Object.assign(line, {
    type: (text) => session.write(text),
    close: () => vm.pty.close(session),
  });
}

/** The same by a way of SSH. */
async function bySsh([program, ...args]) {
  const line = new Line();
  // As of a session through the API, so that the shell prints the same.
  const env = { ...process.env, TERM: "dumb" };
  const client = spawn(program, [...args.slice(0, -1), "-tt", args.at(-1), SHELL], { env });
  client.stdout.on("data", line.heard);
  return Object.assign(line, {
    type: (text) => client.stdin.write(text),
    close: async () => {
      client.kill();
      await once(client, "exit");
    },
  });
}

/** From a key to its echo, by a shell that edits its line. */
async function echo(line) {
  line.type("PS1='ready> '\n");
  await line.see("\nready> ");
  const samples = [];
  for (let count = 0; count < KEYSTROKES; count++) {
    const before = line.bytes;
    samples.push(
      await milliseconds(async () => {
        line.type("x");
        await line.until(() => line.bytes > before);
      }),
    );
    // A line that gets too long would be drawn anew.
    if (count % 40 === 39) line.type("\u0015");
    await pause(BETWEEN_KEYS_MS);
    line.text = "";
  }
  return samples;
}

/** Megabytes of text a second that a program can print. */
async function print(line) {
  const samples = [];
  for (let run = 0; run < RUNS; run++) {
    const before = line.bytes;
    const time = await milliseconds(async () => {
      line.type("cat /srv/text; echo do'ne'\n");
      await line.see("done");
    });
    samples.push((line.bytes - before) / MIB / (time / 1000));
  }
  return samples;
}

const server = await Server.start({ poolSize: 0 });
const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
const { vm, vmId } = await freestyle.vms.create(VM);
const sh = async (command) => {
  const { stdout, stderr, statusCode } = await vm.exec({ command, timeoutMs: 600_000 });
  if (statusCode !== 0) throw new Error(`${command}: ${stderr}`);
  return stdout;
};
await sh(`base64 /dev/urandom | head -c ${PRINTED_MB}M > /srv/text; seq ${LINES} > /srv/lines`);
head();

const byName = await sshWays(server, freestyle, { vm, vmId });
const lines = { "through the API": () => throughTheApi(vm) };
for (const [name, way] of Object.entries(byName)) lines[name] = () => bySsh(way);
for (const [name, open] of Object.entries(lines)) {
  const line = await open();
  row(`keystroke to echo of a shell, ${name}`, await echo(line));
  row(`\`cat\` of ${PRINTED_MB} MB at a terminal, ${name}`, await print(line), "MB/s");
  await line.close();
}
await benchSsh(vm, byName);

const empty = Number(await sh(AGENT_MEMORY));
const sessions = [];
const opening = [];
for (let count = 0; count < SESSIONS; count++) {
  opening.push(
    await milliseconds(async () => {
      const session = await vm.pty.open({ exec: SHELL, reconnect: false });
      session.detach();
      sessions.push(session.sessionId);
    }),
  );
}
row("open a session", opening);
const opened = Number(await sh(AGENT_MEMORY));
row(`memory of the agent for each of ${SESSIONS} sessions`, [(opened - empty) / SESSIONS], "KiB");

const attaching = [];
const screens = [];
for (const sessionId of sessions) {
  const line = new Line();
  const options = { sessionId, onData: line.heard, reconnect: false };
  const writer = await vm.pty.attach(options);
  writer.write("cat /srv/lines; echo do'ne'\n");
  await line.see("done");
  writer.detach();
  const again = new Line();
  attaching.push(
    await milliseconds(async () => {
      const viewer = await vm.pty.attach({ ...options, onData: again.heard });
      await again.until(() => again.bytes > 0);
      viewer.detach();
    }),
  );
  screens.push(again.bytes / 1024);
}
row(`attach to a session with ${LINES} lines, to its screen`, attaching);
row("the screen that is sent", screens, "KiB");
const full = Number(await sh(AGENT_MEMORY));
row(`the same with ${LINES} lines each`, [(full - empty) / SESSIONS], "KiB");

await vm.delete();
await server.stopAndCheckNothingIsLeft();
