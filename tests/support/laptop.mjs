// A computer somewhere else: a network namespace that reaches the host over a network of its own and
// joins VPCs as people do, with `wg-quick`. Where the kernel has no WireGuard that takes `wireguard-go`.

import { spawnSync } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { atExit, forget } from "./cleanup.mjs";
import { run } from "./process.mjs";

const NAME = `fse2e-laptop-${process.pid}`;
const LINK = `fse2l${process.pid % 100_000}`;
/** One of the /30s of 100.127.0.0/16: tests run side by side. */
const address = (last) => {
  const number = ((process.pid % 16_384) << 2) + last;
  return `100.127.${number >> 8}.${number & 255}`;
};

export class Laptop {
  /** The host, as the laptop knows it. */
  host = address(1);

  static async start() {
    const laptop = new Laptop();
    laptop.dir = mkdtempSync(join(tmpdir(), "fse2e-"));
    atExit(laptop.stop);
    await ip("netns", "add", NAME);
    await ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAME);
    await ip("address", "add", `${laptop.host}/30`, "dev", LINK);
    await ip("link", "set", LINK, "up");
    await ip("-n", NAME, "link", "set", "lo", "up");
    await ip("-n", NAME, "address", "add", `${address(2)}/30`, "dev", "eth0");
    await ip("-n", NAME, "link", "set", "eth0", "up");
    await ip("-n", NAME, "route", "add", "default", "via", laptop.host);
    return laptop;
  }

  /**
   * Brings a tunnel up. The API was called by an address of the host's that only the host has, so
   * the endpoint is replaced by one that the laptop reaches.
   */
  async up(config) {
    this.config = join(this.dir, `${LINK}w.conf`);
    const reachable = config.replace(/^Endpoint = .*:(\d+)$/m, `Endpoint = ${this.host}:$1`);
    writeFileSync(this.config, reachable, { mode: 0o600 });
    this.#wgQuick("up");
  }

  async down() {
    this.#wgQuick("down");
    this.config = undefined;
  }

  #wgQuick(action) {
    // To a file: wireguard-go goes on in the background and would keep a pipe open.
    const log = join(this.dir, "wg-quick.log");
    const output = openSync(log, "w");
    const args = ["netns", "exec", NAME, "wg-quick", action, this.config];
    const { status } = spawnSync("ip", args, { stdio: ["ignore", output, output] });
    if (status !== 0) throw new Error(`wg-quick ${action}: ${readFileSync(log, "utf8")}`);
  }

  /** Runs a program on the laptop. */
  run(program, ...args) {
    return run("ip", ["netns", "exec", NAME, program, ...args]);
  }

  /** Asks an HTTP server; answers its text, or undefined if it does not answer. */
  async ask(url, timeoutMs = 20_000) {
    const script = `
      const answer = await fetch("${url}", { signal: AbortSignal.timeout(${timeoutMs}) });
      process.stdout.write(await answer.text());`;
    const { code, stdout } = await this.run(process.execPath, "--input-type=module", "-e", script);
    return code === 0 ? stdout : undefined;
  }

  /** What a TCP server says first, or undefined if it says nothing. */
  async greeting(address, port, timeoutMs = 20_000) {
    const script = `
      const socket = require("node:net").connect(${port}, "${address}");
      setTimeout(() => process.exit(1), ${timeoutMs});
      socket.once("data", (data) => process.stdout.write(data, () => process.exit(0)));`;
    const { code, stdout } = await this.run(process.execPath, "-e", script);
    return code === 0 ? stdout : undefined;
  }

  /** Synchronous. */
  stop = () => {
    try {
      if (this.config) this.#wgQuick("down");
    } catch {
      // It was not up.
    }
    spawnSync("ip", ["-n", NAME, "link", "delete", `${LINK}w`]);
    spawnSync("ip", ["link", "delete", LINK]);
    spawnSync("ip", ["netns", "delete", NAME]);
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.stop);
  };
}

async function ip(...args) {
  const { code, stderr } = await run("ip", args);
  if (code !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
}
