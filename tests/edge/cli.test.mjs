// Domains by the command line: the own one and that of the npm package.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { run } from "../support/process.mjs";
import { API_URL, fileAccount } from "../support/sdk.mjs";
import { freestyle as own } from "../support/server.mjs";
import { curl, preview } from "../support/sites.mjs";

const { key } = await fileAccount("domains cli");
const PROGRAM = join(import.meta.dirname, "../node_modules/freestyle/cli.mjs");
const dir = mkdtempSync(join(tmpdir(), "fse2e-cli-"));
after(() => rmSync(dir, { recursive: true }));
const env = { HOME: dir, FREESTYLE_API_URL: API_URL, FREESTYLE_API_KEY: key.secret };

async function succeeds(run, ...args) {
  const { code, stdout, stderr } = await run(args, { cwd: dir, env });
  assert.equal(code, 0, stderr || stdout);
  return stdout;
}

const ours = (...args) => succeeds(own, ...args);
const npm = (...args) =>
  succeeds((args, options) => run(process.execPath, [PROGRAM, ...args], options), ...args);

test("a VM is created with a domain, which is listed, mapped elsewhere and unmapped", async () => {
  const [first, second] = [preview(), preview()];
  const small = ["--vcpus", "1", "--memory", "1"];
  const vm = (await ours("vm", "create", ...small, "--domain", first, "--port", "8080")).trim();
  assert.equal(await ours("domains", "map", second, "--vm-id", vm, "--vm-port", "80"),
    `${second} leads to port 80 of VM ${vm}\n`);
  const table = await ours("domains", "mappings");
  assert.match(table, /^DOMAIN +VM +PORT +SINCE\n/);
  assert.match(table, new RegExp(`^${first} +${vm} +8080 `, "m"));
  const [{ domain, vmPort }] = JSON.parse(
    await ours("domains", "mappings", "--domain", second, "--json"),
  );
  assert.deepEqual([domain, vmPort], [second, 80]);
  assert.match(await ours("domains", "list", "--previews"), new RegExp(`^${first} +preview `, "m"));

  // The other program sees the same.
  assert.match(await npm("domains", "mappings"), new RegExp(first));
  await npm("domains", "map", first, "--vm-id", vm, "--vm-port", "81");
  await npm("domains", "unmap", second);
  assert.equal(await ours("domains", "unmap", first), `unmapped ${first}\n`);
  assert.equal((await curl(first)).status, 404);
  assert.deepEqual(JSON.parse(await ours("domains", "mappings", "--json")), []);
});

test("a verification is begun, shown and not completed before the record is there", async () => {
  const begun = JSON.parse(await ours("domains", "verify", "example.com", "--json"));
  assert.match(begun.verificationCode, /^[a-z0-9]{40}$/);
  const shown = await npm("domains", "verify", "example.com");
  assert.match(shown, new RegExp(begun.verificationCode), "the code is the same");
  assert.match(shown, /_freestyle_custom_hostname\.example\.com/);
  const table = await ours("domains", "verifications");
  assert.match(table, new RegExp(`^example\\.com +${begun.verificationCode} `, "m"));
  assert.match(await npm("domains", "verifications"), /example\.com/);
  for (const which of [["--domain", "example.com"], ["--verification-id", begun.id]]) {
    const { code, stderr } = await own(["domains", "complete", ...which], { cwd: dir, env });
    assert.equal(code, 1);
    assert.match(stderr, /^error: .*_freestyle_custom_hostname\.example\.com/);
  }
});
