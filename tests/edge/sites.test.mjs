// A service in a VM is a web site in one call.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import { account, DATA_DIR, deleteAll, failsWith, fileAccount, SMALL } from "../support/sdk.mjs";
import { freestyle as cli } from "../support/server.mjs";
import { at, CA, curl, preview, serveIn } from "../support/sites.mjs";

const { freestyle } = await fileAccount("sites");
const domain = preview();
const { vm, vmId, domains } = await freestyle.vms.create({
  ...SMALL,
  domains: [{ domain: domain.toUpperCase(), vmPort: 3000 }],
});
await serveIn(vm);

test("the domains of a create are in its answer, and lead to the VM", async () => {
  assert.deepEqual(domains, [domain]);
  for (const [scheme, options, version] of [
    ["http", ["--http1.1"], "1.1"],
    ["https", ["--http1.1"], "1.1"],
    ["https", ["--http2"], "2"],
  ]) {
    const answer = await curl(domain, "/a?b=c", { scheme, options });
    assert.deepEqual([answer.status, answer.version], [200, version], answer.text);
    assert.match(answer.text, /^GET \/a\?b=c\n/);
    assert.match(answer.text, new RegExp(`^x-forwarded-proto: ${scheme}$`, "m"));
    assert.match(answer.text, /^x-forwarded-for: 127\.0\.0\.1$/m);
    assert.match(answer.text, new RegExp(`^host: ${domain}:\\d+$`, "m"));
  }
  assert.deepEqual((await vm.start()).domains, [domain]);
});

test("fetch and WebSocket work as from any program", async () => {
  const response = await fetch(at(domain), { headers: { "x-forwarded-for": "10.0.0.1" } });
  assert.equal(response.status, 200);
  assert.doesNotMatch(await response.text(), /10\.0\.0\.1/);
  const upload = new Uint8Array(8 << 20);
  const sent = await fetch(at(domain, "/length"), { method: "POST", body: upload });
  assert.equal(await sent.text(), `${upload.length}\n`);

  for (const scheme of ["wss", "ws"]) {
    const socket = new WebSocket(at(domain, "/chat", scheme));
    const next = (event) =>
      new Promise((resolve, reject) => {
        socket.addEventListener(event, resolve, { once: true });
        socket.addEventListener("error", (error) => reject(error.error ?? error), { once: true });
      });
    await next("open");
    for (const message of ["hello", "x".repeat(1000)]) {
      socket.send(message);
      assert.equal((await next("message")).data, message);
    }
    socket.close();
    await next("close");
  }
});

test("events arrive as they are sent", async () => {
  const { body } = await fetch(at(domain, "/events"));
  const times = [];
  for await (const _ of body) times.push(performance.now());
  assert(times.length >= 3, `${times.length} pieces`);
  assert(times.at(-1) - times[0] > 500, "they came all at once");
});

test("a request wakes a VM that is suspended and starts one that was stopped", async () => {
  await vm.suspend();
  assert.equal((await vm.getInfo()).state, "suspended");
  assert.equal((await curl(domain)).status, 200);
  assert.equal((await vm.getInfo()).state, "running");
  await vm.stop();
  assert.equal((await curl(domain)).status, 200);
  assert.equal((await vm.getInfo()).state, "running");
});

test("mappings are made, moved, listed and ended", async () => {
  const name = preview();
  assert.equal((await curl(name)).status, 404);
  const mapped = await freestyle.domains.mappings.create({ domain: name, vmId, vmPort: 4000 });
  assert.deepEqual([mapped.domain, mapped.vmId, mapped.vmPort], [name, vmId, 4000]);
  const closed = await curl(name);
  assert.equal(closed.status, 502);
  assert.match(closed.text, /nothing listens on port 4000/);

  await freestyle.domains.mappings.create({ domain: name, vmId, vmPort: 3000 });
  assert.equal((await curl(name)).status, 200);
  const listed = await freestyle.domains.mappings.list({ domain: name, limit: 50 });
  assert.deepEqual(
    listed.mappings.map((mapping) => [mapping.domain, mapping.vmId, mapping.vmPort]),
    [[name, vmId, 3000]],
  );
  assert.equal((await freestyle.domains.mappings.list()).mappings.length, 2);

  await freestyle.domains.mappings.delete({ domain: name });
  const gone = await curl(name);
  assert.equal(gone.status, 404);
  assert.match(gone.text, new RegExp(`Nothing is mapped to ${name}`));
  await assert.rejects(
    freestyle.domains.mappings.delete({ domain: name }),
    failsWith("FAILED_PERMISSIONS_CHECK", { domain: name }),
  );
});

test("another account cannot take what is mapped, nor map to what is not its own", async () => {
  const other = await account("sites of others");
  after(() => deleteAll(other.freestyle));
  const { mappings } = other.freestyle.domains;
  await assert.rejects(
    mappings.create({ domain, vmId, vmPort: 3000 }),
    failsWith("VM_ACCESS_DENIED_FOR_MAPPING", { vmId }),
  );
  const { vmId: own } = await other.freestyle.vms.create(SMALL);
  await assert.rejects(
    mappings.create({ domain, vmId: own, vmPort: 3000 }),
    failsWith("DOMAIN_ALREADY_EXISTS", { domain }),
  );
  await assert.rejects(
    other.freestyle.vms.create({ ...SMALL, domains: [{ domain }] }),
    failsWith("DOMAIN_ALREADY_EXISTS", { domain }),
  );
  assert.equal((await other.freestyle.vms.list()).totalCount, 1);
  await assert.rejects(mappings.delete({ domain }), failsWith("FAILED_PERMISSIONS_CHECK"));
  assert.deepEqual((await mappings.list()).mappings, []);
  const { text } = await curl(domain);
  assert.match(text, /^GET \/\n/);
});

test("what is no domain, or not verified, is refused", async () => {
  const map = (name) => freestyle.domains.mappings.create({ domain: name, vmId, vmPort: 80 });
  await assert.rejects(map("app.example.com"), failsWith("DOMAIN_OWNERSHIP_NOT_VERIFIED"));
  for (const name of ["localhost", "a b.style.localhost", "a.b.style.localhost", "style.localhost"])
    await assert.rejects(map(name), failsWith("INVALID_DOMAIN"));
  await assert.rejects(
    freestyle.domains.mappings.create({ domain: preview(), deploymentId: "x" }),
    failsWith("DEPLOYMENT_ACCESS_DENIED"),
  );
});

test("domains are verified by DNS", async () => {
  const { verificationId, record } = await freestyle.domains.verifications.create({
    domain: "Example.com",
  });
  // The SDK makes the record's name of what it was given.
  const name = record.name.toLowerCase();
  assert.deepEqual([record.type, name], ["TXT", "_freestyle_custom_hostname.example.com"]);
  const pending = await freestyle.domains.verifications.list();
  assert.deepEqual(
    pending.map((it) => [it.domain, it.verificationCode]),
    [["example.com", record.value]],
  );
  // Nobody has put the code there. Where no DNS can be asked, it is another failure.
  for (const which of [{ domain: "example.com" }, { verificationId }]) {
    await assert.rejects(freestyle.domains.verifications.complete(which), (error) =>
      ["DOMAIN_OWNERSHIP_VERIFICATION_FAILED", "VERIFICATION_FAILED"].includes(error.body.code),
    );
  }
  assert.deepEqual(await freestyle.domains.list({ limit: 50 }), []);
  const cancel = { domain: "example.com", verificationCode: record.value };
  await freestyle.domains.verifications.cancel(cancel);
  await assert.rejects(
    freestyle.domains.verifications.cancel(cancel),
    failsWith("VERIFICATION_NOT_FOUND", { domain: "example.com" }),
  );
});

test("a VM that is deleted is reached no more, and its previews are free", async () => {
  const name = preview();
  const { vm: short } = await freestyle.vms.create({ ...SMALL, domains: [{ domain: name }] });
  await serveIn(short);
  assert.equal((await curl(name)).status, 200, "3000 is where a domain leads that names no port");
  const { body } = await fetch(at(name, "/ticks"));
  const events = body.getReader();
  await events.read();
  await short.delete();
  // Whoever was in the middle of something is told at once, and not by silence.
  await assert.rejects(async () => {
    while (!(await events.read()).done);
    throw new Error("it ended as if all had been said");
  }, /terminated|socket|other side closed/);
  assert.equal((await curl(name)).status, 404);
  const { mappings } = await freestyle.domains.mappings.list({ domain: name });
  assert.deepEqual(mappings, []);
});

test("the root certificate is the CLI's to print", async () => {
  const printed = await cli(["ca", "--data-dir", DATA_DIR]);
  assert.equal(printed.stdout, readFileSync(CA, "utf8"));
});
