// A machine outside of the host, for guests to try to reach: a network namespace of this process's
// own, routed to like any other network, with an HTTP server that counts who comes. Nothing that is
// sent to its addresses leaves the host.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { atExit, forget } from "./cleanup.mjs";
import { run } from "./process.mjs";

const NAME = `fse2e-${process.pid}`;
const LINK = `fse2e${process.pid % 100_000}`;
const HOST_ADDRESS = "198.51.100.193";

const SERVER = `
  import { createServer } from "node:http";
  createServer((request, response) => {
    console.log(request.socket.localAddress);
    response.end("outside");
  }).listen(80, "0.0.0.0", () => console.log("listening"));
`;

export class Outside {
  /** Where a guest may go: a public address (RFC 5737 reserves it for documentation). */
  address = "198.51.100.194";

  /** `others` are further addresses of it, to which the host has routes as well. */
  static async start(others) {
    const outside = new Outside();
    atExit(outside.stop);
    await outside.#connect(others);
    await outside.#listen();
    return outside;
  }

  /** The addresses at which it was reached, in order. */
  visits = [];

  async #connect(others) {
    await ip("netns", "add", NAME);
    await ip("link", "add", LINK, "type", "veth", "peer", "name", "uplink", "netns", NAME);
    await ip("address", "add", `${HOST_ADDRESS}/30`, "dev", LINK);
    await ip("link", "set", LINK, "up");
    await ip("-n", NAME, "address", "add", `${this.address}/30`, "dev", "uplink");
    await ip("-n", NAME, "link", "set", "uplink", "up");
    for (const address of others) {
      await ip("-n", NAME, "address", "add", `${address}/32`, "dev", "uplink");
      await ip("route", "add", `${address}/32`, "via", this.address);
    }
  }

  async #listen() {
    const args = ["netns", "exec", NAME, process.execPath, "--input-type=module", "-e", SERVER];
    this.server = spawn("ip", args, { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: this.server.stdout });
    await once(lines, "line");
    lines.on("line", (address) => this.visits.push(address));
  }

  /** Synchronous. */
  stop = () => {
    this.server?.kill();
    // The routes go with the link.
    spawnSync("ip", ["link", "delete", LINK]);
    spawnSync("ip", ["netns", "delete", NAME]);
    forget(this.stop);
  };
}

async function ip(...args) {
  const { code, stderr } = await run("ip", args);
  if (code !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
}
