// A domain of one's own, from its verification to a certificate that an authority has made: with a
// real DNS server and a real authority.

import assert from "node:assert/strict";
import { test } from "node:test";

import { withAuthority } from "../support/authority.mjs";
import { account, deleteAll, failsWith, SMALL } from "../support/sdk.mjs";
import { serveIn, visit } from "../support/sites.mjs";

const HOSTS = "@ A 127.0.0.1\n* A 127.0.0.1\n";

test("a verified domain is a web site with a certificate of an authority", async (t) => {
  const given = { zone: "example.com", records: HOSTS };
  await withAuthority(t, given, async ({ server, knot, ca, http, https }) => {
    assert.equal(server.caCertificate, null);
    const see = (host, options = {}) => visit(https, host, { ca, ...options });

    const { dataDir, url: baseUrl } = server;
    const [{ freestyle }, other] = [
      await account("owner", { dataDir, baseUrl }),
      await account("other", { dataDir, baseUrl }),
    ];
    const { domains } = freestyle;
    const domain = "example.com";
    const { verificationId, record } = await domains.verifications.create({ domain });
    await assert.rejects(
      domains.verifications.complete({ verificationId }),
      failsWith("DOMAIN_OWNERSHIP_VERIFICATION_FAILED"),
    );
    const label = record.name.slice(0, -`.${domain}`.length);
    await knot.replace(`${HOSTS}${label} TXT "${record.value}"\n`);
    assert.equal((await domains.verifications.complete({ verificationId })).domain, domain);
    assert.deepEqual(
      (await domains.list({ limit: 5 })).map((it) => [it.domain, it.verifiedDns]),
      [[domain, true]],
    );
    assert.deepEqual(await domains.verifications.list(), []);

    const { vm, vmId } = await freestyle.vms.create({
      ...SMALL,
      domains: [{ domain: "app.example.com", vmPort: 3000 }],
    });
    await serveIn(vm);
    const first = await see("app.example.com", { path: "/first" });
    assert.deepEqual([first.status, first.version], [200, "2"], first.text);
    assert.match(first.text, /^GET \/first\n/);

    // Below it is theirs as well, also by a star; what is more exact leads elsewhere.
    await domains.mappings.create({ domain: "*.example.com", vmId, vmPort: 3000 });
    assert.equal((await see("any.example.com")).status, 200);
    // Nobody has mapped the domain itself: no certificate is asked for.
    assert.equal((await see("example.com")).status, 0);
    await domains.mappings.create({ domain, vmId, vmPort: 3000 });
    assert.equal((await see(domain)).status, 200);
    await assert.rejects(
      domains.certificates.createWildcard({ domain }),
      failsWith("FAILED_TO_PROVISION_CERTIFICATE"),
    );

    // The newest proof counts.
    const { mappings, verifications } = other.freestyle.domains;
    const taken = await verifications.create({ domain });
    await assert.rejects(
      verifications.complete({ domain }),
      failsWith("DOMAIN_OWNERSHIP_VERIFICATION_FAILED"),
    );
    await knot.replace(`${HOSTS}${label} TXT "${taken.record.value}"\n`);
    await verifications.complete({ domain });
    assert.deepEqual((await domains.mappings.list()).mappings, []);
    assert.deepEqual((await mappings.list()).mappings, []);
    assert.equal((await visit(http, domain, { scheme: "http", ca })).status, 404);
    await assert.rejects(
      domains.mappings.create({ domain, vmId, vmPort: 3000 }),
      failsWith("DOMAIN_OWNERSHIP_NOT_VERIFIED"),
    );
    await deleteAll(freestyle);
  });
});
