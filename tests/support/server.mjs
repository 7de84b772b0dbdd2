// A `freestyle serve` with a data directory of its own. Whatever becomes of the test, nothing of it
// outlives this process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, watch } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { atExit, forget } from "./cleanup.mjs";
import * as host from "./host.mjs";
import { run } from "./process.mjs";

const ROOT = resolve(import.meta.dirname, "../..");
/** A line of the log that somebody should look at. */
const WARNING = /^\S+ +(WARN|ERROR) /;
const LOG_LINES_SHOWN = 60;
/** The first start may have to build a base image and boot it once. */
const START_LIMIT_MS = 30 * 60_000;
/** A server gives requests ten seconds, and the pool's VMs have to go. */
const STOP_LIMIT_MS = 30_000;
const SWEEP_LIMIT_MS = 10_000;

const targetDir = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");
/** The binary under test. */
export const FREESTYLE = resolve(process.env.FREESTYLE_BIN ?? join(targetDir, "release/freestyle"));

/** Runs `freestyle` with the given arguments, away from any configuration of the developer's. */
export function freestyle(args, options = {}) {
  return run(FREESTYLE, args, { cwd: tmpdir(), ...options });
}

export class Server {
  /** Starts a server on a new data directory. */
  static async start(options) {
    const server = new Server();
    await server.launch(options);
    return server;
  }

  /** A data directory without a server. */
  constructor() {
    assert(existsSync(FREESTYLE), `${FREESTYLE} is not there: build it, or set FREESTYLE_BIN`);
    // Short: the data directory's path is limited by the sockets in it.
    this.dir = mkdtempSync(join(tmpdir(), "fse2e-"));
    this.dataDir = join(this.dir, "data");
    this.log = join(this.dir, "server.log");
    this.readyFile = join(this.dir, "ready.json");
    /** Every instance that was seen on the host. */
    this.seen = new Set();
    atExit(this.destroy);
  }

  /** Starts the process (again, on the same data) and waits until it is ready. */
  async launch(options) {
    this.spawn(options);
    try {
      await appears(this.readyFile, this.exited);
    } catch (error) {
      throw new Error(`the server did not get ready: ${error.message}\n${this.logTail()}`);
    }
    const { apiUrl: url, ...ready } = JSON.parse(readFileSync(this.readyFile, "utf8"));
    Object.assign(this, { url, ...ready });
  }

  /** Starts the process and waits for nothing. */
  spawn({ poolSize = 2, listen = "127.0.0.1:0", wireguard = "0.0.0.0:0", env } = {}) {
    rmSync(this.readyFile, { force: true });
    const log = openSync(this.log, "a");
    const args = ["serve", "--data-dir", this.dataDir, "--ready-file", this.readyFile];
    args.push("--api-listen", listen, "--git-listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0");
    args.push("--edge-http-listen", "127.0.0.1:0", "--edge-https-listen", "127.0.0.1:0");
    args.push("--wireguard-listen", wireguard, "--pool-size", `${poolSize}`);
    // Away from a `.env` or `freestyle.toml` of the developer's.
    this.process = spawn(FREESTYLE, args, {
      cwd: this.dir,
      env: { ...process.env, ...env },
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.exited = once(this.process, "exit");
  }

  get isRunning() {
    return this.process?.exitCode === null && this.process.signalCode === null;
  }

  /** Ends the server in order. */
  async stop() {
    this.look();
    this.process.kill("SIGTERM");
    const kill = setTimeout(() => this.process.kill("SIGKILL"), STOP_LIMIT_MS);
    const [code, signal] = await this.exited;
    clearTimeout(kill);
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `stopping\n${this.logTail()}`);
  }

  /** Ends the server without warning. Its VMs do not notice. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.exited;
    this.look();
  }

  /**
   * Stops the server, whose VMs and snapshots were all deleted, and checks that the host is as it
   * was.
   */
  async stopAndCheckNothingIsLeft() {
    this.look();
    await this.swept();
    await this.stop();
    const left = host.leftovers(this.dataDir, this.seen);
    assert.deepEqual(left, [], `left on the host\n${this.logTail()}`);
    this.destroy();
  }

  /** Waits a while for what deleted snapshots leave behind, which goes a moment later. */
  async swept() {
    const limit = Date.now() + SWEEP_LIMIT_MS;
    while (host.snapshotFiles(this.dataDir).length > 0 && Date.now() < limit) await delay(100);
  }

  /** Notes which instances are on the host. */
  look() {
    for (const instance of host.instances(this.dataDir)) this.seen.add(instance);
  }

  /** Removes the server and all that it has on the host, from whatever state. Synchronous. */
  destroy = () => {
    if (this.isRunning) this.process.kill("SIGKILL");
    host.destroy(this.dataDir);
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.destroy);
  };

  /** The end of the server's log, and what it warned of before. */
  logTail() {
    const lines = readFileSync(this.log, "utf8").trimEnd().split("\n");
    const end = lines.splice(-LOG_LINES_SHOWN);
    const warnings = lines.filter((line) => WARNING.test(line)).slice(-LOG_LINES_SHOWN);
    return [
      "--- the server's warnings ---",
      ...warnings,
      "--- the end of the server's log ---",
      ...end,
      "---",
    ].join("\n");
  }
}

/**
 * Runs a test on a server of its own, which is stopped and checked for leaks afterwards. When the
 * test fails, the server's log is shown instead.
 */
export function withServer(options, test) {
  return withDataDir(async (server) => {
    await server.launch(options);
    await test(server);
  });
}

/** The same for a test that starts the server itself. */
export async function withDataDir(test) {
  const server = new Server();
  try {
    await test(server);
    await server.stopAndCheckNothingIsLeft();
  } catch (error) {
    console.error(server.logTail());
    throw error;
  } finally {
    server.destroy();
  }
}

/** Resolves when the file is there; rejects when the process that is to make it ends before. */
async function appears(file, exited) {
  const watching = new AbortController();
  const limit = AbortSignal.timeout(START_LIMIT_MS);
  const watcher = watch(resolve(file, ".."));
  try {
    const over = exited.then(([code, signal]) => {
      throw new Error(`it ended with ${signal ?? code}`);
    });
    while (!existsSync(file)) {
      const signal = AbortSignal.any([limit, watching.signal]);
      await Promise.race([once(watcher, "change", { signal }), over]);
    }
  } finally {
    watching.abort();
    watcher.close();
  }
}
