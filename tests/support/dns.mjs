// An authoritative DNS server of a zone of its own: `knotd`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { atExit, forget } from "./cleanup.mjs";
import { freePort } from "./ports.mjs";
import { run } from "./process.mjs";

export class Knot {
  /** Serves `zone` with these records, in the form of a zone file, besides those that all have. */
  static async start(zone, records) {
    const knot = new Knot();
    const port = await freePort();
    Object.assign(knot, { zone, serial: 0, address: `127.0.0.1:${port}` });
    knot.dir = mkdtempSync(join(tmpdir(), "fse2e-dns-"));
    atExit(knot.stop);
    writeFileSync(
      knot.config,
      `server:
    rundir: ${knot.dir}
    listen: 127.0.0.1@${port}
database:
    storage: ${knot.dir}/db
log:
  - target: stderr
    any: info
zone:
  - domain: ${zone}
    storage: ${knot.dir}
    file: zone
`,
    );
    knot.write(records);
    knot.process = spawn("knotd", ["--config", knot.config], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = once(knot.process, "exit").then(() => assert.fail("knotd ended"));
    ended.catch(() => {});
    const log = createInterface(knot.process.stderr);
    const loaded = (async () => {
      for await (const line of log) if (/zone loaded|loaded, serial/.test(line)) return;
    })();
    await Promise.race([loaded, ended]);
    knot.process.stderr.resume();
    return knot;
  }

  get config() {
    return join(this.dir, "knot.conf");
  }

  write(records) {
    this.serial += 1;
    writeFileSync(
      join(this.dir, "zone"),
      `$ORIGIN ${this.zone}.\n$TTL 3600\n@ SOA ns admin ${this.serial} 3600 600 86400 3600\n` +
        `@ NS ns\nns A 127.0.0.1\n${records}\n`,
    );
  }

  /** Replaces the records. Answers have changed when this resolves. */
  async replace(records) {
    this.write(records);
    const args = ["--config", this.config, "--blocking", "zone-reload", this.zone];
    const { code, stderr } = await run("knotc", args);
    assert.equal(code, 0, stderr);
  }

  stop = () => {
    this.process?.kill("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.stop);
  };
}
