// What VMs have without asking where the operator wants it: a host of their own, and SSH by the
// listener of all sites.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";

import { account, deleteAll, failsWith, SMALL } from "../support/sdk.mjs";
import { freestyle as cli, withServer } from "../support/server.mjs";
import { serveIn, visit } from "../support/sites.mjs";
import { SshClient } from "../support/ssh.mjs";

test("every VM has a host of its own, and SSH comes by port 443 too", async () => {
  const env = {
    FREESTYLE_PLATFORM_DOMAIN: "platform.localhost",
    FREESTYLE_VM_DOMAIN: "VM.platform.localhost",
  };
  await withServer({ poolSize: 1, env }, async (server) => {
    const { dataDir, url: baseUrl, caCertificate: ca } = server;
    const { host: address, port } = new URL(server.edgeHttpsUrl);
    const { freestyle, key } = await account("hosts", { dataDir, baseUrl });
    const preview = "asked-for.style.localhost";
    const { vm, vmId, domains } = await freestyle.vms.create({
      ...SMALL,
      domains: [{ domain: preview, vmPort: 3000 }],
    });
    const own = `${vmId}.vm.platform.localhost`;
    assert.deepEqual(domains, [preview, own]);
    assert.deepEqual((await vm.start()).domains, [preview, own]);
    await serveIn(vm);
    for (const host of [own, own.toUpperCase(), preview]) {
      const seen = await visit(port, host, { ca, path: "/here" });
      assert.match(seen.text, /^GET \/here\n/, seen.error);
    }
    // The SDK keeps no more of a fork's answer than the ids.
    const headers = { authorization: `Bearer ${key.secret}` };
    const forked = await fetch(`${baseUrl}/v1/vms/${vmId}/fork`, { method: "POST", headers });
    const [{ id: child, domains: domainsOfChild }] = (await forked.json()).forks;
    const ofChild = `${child}.vm.platform.localhost`;
    assert.deepEqual(domainsOfChild, [ofChild]);
    assert.match((await visit(port, ofChild, { ca })).text, /^GET \/\n/);

    // Nobody else has a host there, nor a certificate, and nobody can map one.
    for (const nobody of ["x", "abcdefghij0123456789"].map((it) => `${it}.vm.platform.localhost`))
      assert.equal((await visit(port, nobody, { ca })).status, 0);
    for (const domain of [own, "x.vm.platform.localhost", "ssh.platform.localhost"])
      await assert.rejects(
        freestyle.domains.mappings.create({ domain, vmId, vmPort: 80 }),
        failsWith("INVALID_DOMAIN", { domain }),
      );
    await freestyle.vms.delete({ vmId: child });
    assert.equal((await visit(port, ofChild, { ca })).status, 0);

    // SSH, with the gateway's key, where HTTPS is.
    const { hostKey } = await (await fetch(`${baseUrl}/v1/ssh`, { headers })).json();
    const ssh = new SshClient(address, hostKey);
    const { identity } = await freestyle.identities.create();
    await identity.permissions.vms.grant({ vmId });
    const { token } = await identity.tokens.create();
    const login = `${vmId}:${token}`;
    assert.equal(await ssh.sh(login, "hostname"), `${vmId}\n`);
    const copied = await ssh.sh(login, "cat > /root/x; sha256sum < /root/x", {
      input: "x".repeat(1 << 20),
    });
    assert.match(copied, /^[0-9a-f]{64} /);
    const refused = await ssh.run("ssh", `${vmId}:fst_wrong`, ["vm", "true"]);
    assert.equal(refused.code, 255);
    // Meanwhile, and after one that only begins with it, sites are served.
    const odd = connect(Number(port), "127.0.0.1");
    odd.write("SQL?\r\n");
    odd.resume();
    await once(odd, "close");
    assert.equal((await visit(port, own, { ca })).status, 200);
    await deleteAll(freestyle);
  });
});

test("without a domain for VMs none has a host that was not asked for", async () => {
  const { code, stderr } = await cli(["serve", "--vm-domain", "style.localhost"]);
  assert.equal(code, 1);
  assert.match(stderr, /vm-domain: previews are below style\.localhost/);
});
