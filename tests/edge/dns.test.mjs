// DNS records, which the server answers itself, and what they prove to an authority. Asked by `kdig`.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { withAuthority } from "../support/authority.mjs";
import { freePort } from "../support/ports.mjs";
import { run } from "../support/process.mjs";
import { account, deleteAll, eventually, failsWith, SMALL } from "../support/sdk.mjs";
import { freestyle as cli, withServer } from "../support/server.mjs";
import { serveIn, visit } from "../support/sites.mjs";

const domain = "example.com";
const HERE = "127.0.0.1";

/** What a DNS server says: its code, and its answers as in a zone file. */
async function ask(address, name, kind, ...options) {
  const [server, port] = address.split(":");
  const { code, stdout, stderr } = await run("kdig", [
    ...[`@${server}`, "-p", port, "+norecurse", "+retry=0", ...options, name, kind],
  ]);
  assert.equal(code, 0, stderr + stdout);
  const section = (title) => {
    const [, rest] = stdout.split(`;; ${title} SECTION:\n`);
    const lines = rest?.split("\n\n")[0].split("\n") ?? [];
    return lines.map((line) => line.trim().replace(/\s+/g, " ")).filter((line) => line);
  };
  return {
    status: stdout.match(/status: (\w+);/)?.[1],
    flags: stdout.match(/Flags: ([^;]*);/)?.[1].split(" "),
    answers: section("ANSWER").sort(),
    authority: section("AUTHORITY"),
  };
}

test("a domain that is delegated here has the records that its owner makes", async (t) => {
  const env = {
    FREESTYLE_DNS_LISTEN: `${HERE}:${await freePort()}`,
    FREESTYLE_DNS_NAME: "ns1.example.net,ns2.example.net",
    FREESTYLE_PUBLIC_ADDRESS: HERE,
  };
  const given = { zone: domain, records: `@ A ${HERE}\n`, env };
  await withAuthority(t, given, async ({ server, knot, ca, https }) => {
    const { dataDir, url: baseUrl, dnsAddress } = server;
    assert.equal(dnsAddress, env.FREESTYLE_DNS_LISTEN);
    const [{ freestyle, id, key }, other] = [
      await account("dns", { dataDir, baseUrl }),
      await account("other", { dataDir, baseUrl }),
    ];
    const { domains, dns } = freestyle;
    const asked = (name, kind, ...options) => ask(dnsAddress, name, kind, ...options);

    // Not before the domain is theirs.
    const record = { kind: "A", name: "app", value: "192.0.2.1" };
    const notYours = failsWith("DOMAIN_OWNERSHIP_ERROR", { domain, accountId: id });
    await assert.rejects(dns.records.create({ domain, record }), notYours);
    assert.equal((await asked(domain, "SOA")).status, "REFUSED");
    const { record: proof } = await domains.verifications.create({ domain });
    await knot.replace(`${proof.name.replace(`.${domain}`, "")} TXT "${proof.value}"\n`);
    await domains.verifications.complete({ domain });

    const made = await dns.records.create({ domain, record });
    assert.deepEqual(made.record, { ...record, ttl: "300", priority: null, managed: false });
    const records = [
      { kind: "A", name: "app", value: "192.0.2.2", ttl: "60" },
      { kind: "AAAA", name: "app.example.com", value: "2001:DB8::1" },
      { kind: "CNAME", name: "www", value: "app.example.com." },
      { kind: "TXT", name: "@", value: `v=spf1 "quoted" ${"x".repeat(300)}` },
      { kind: "MX", name: "@", value: "mail.example.com", priority: 10 },
      { kind: "A", name: "*", value: "192.0.2.9" },
      { kind: "NS", name: "sub", value: "ns.example.org" },
    ];
    for (const record of records) await dns.records.create({ domain, record });

    for (const transport of ["+notcp", "+tcp"]) {
      const both = await asked("app.example.com", "A", transport);
      assert.deepEqual(both.answers, [
        "app.example.com. 60 IN A 192.0.2.1",
        "app.example.com. 60 IN A 192.0.2.2",
      ]);
      assert.deepEqual([both.status, both.flags.includes("aa"), both.flags.includes("ra")], [
        "NOERROR",
        true,
        false,
      ]);
      const chased = await asked("www.example.com", "AAAA", transport);
      assert.deepEqual(chased.answers, [
        "app.example.com. 300 IN AAAA 2001:db8::1",
        "www.example.com. 300 IN CNAME app.example.com.",
      ]);
    }
    const mail = (await asked(domain, "MX")).answers;
    assert.deepEqual(mail, ["example.com. 300 IN MX 10 mail.example.com."]);
    const [text] = (await asked(domain, "TXT")).answers;
    assert.match(text, /IN TXT "v=spf1 \\"quoted\\" x+" "x+"$/);
    const servers = (await asked(domain, "NS")).answers;
    assert.deepEqual(servers, [
      "example.com. 60 IN NS ns1.example.net.",
      "example.com. 60 IN NS ns2.example.net.",
    ]);
    assert.match((await asked("any.example.com", "A")).answers[0], / A 192\.0\.2\.9$/);
    const delegated = await asked("x.sub.example.com", "A");
    assert.deepEqual(delegated.authority, ["sub.example.com. 300 IN NS ns.example.org."]);
    const missing = await asked("x.app.example.com", "A");
    assert.equal(missing.status, "NXDOMAIN");
    assert.match(missing.authority[0], /^example\.com\. 60 IN SOA ns1\.example\.net\. hostmaster\./);
    assert.equal((await asked("app.example.com", "TXT")).status, "NOERROR");
    // Nothing is resolved for anybody.
    assert.equal((await asked("example.org", "A")).status, "REFUSED");

    // What cannot be is refused with what is wrong.
    for (const record of [
      { kind: "A", name: "x", value: "app.example.com" },
      { kind: "SRV", name: "x", value: "0 0 1 a.example.com" },
      { kind: "A", name: "x", value: "192.0.2.1", ttl: "1e3" },
      { kind: "A", name: "x", value: "192.0.2.1", ttl: "999999999" },
      { kind: "A", name: "x y", value: "192.0.2.1" },
      { kind: "CNAME", name: "app", value: "example.org" },
      { kind: "CNAME", name: "@", value: "example.org" },
    ])
      await assert.rejects(dns.records.create({ domain, record }), failsWith("INVALID_REQUEST"));

    // Listing is in the order of names, and shows what the server says by itself.
    const listed = (await dns.records.list({ domain })).records;
    assert.equal(listed.length, 2 + 1 + records.length);
    assert.deepEqual(
      listed.filter((it) => it.managed).map((it) => `${it.name} ${it.kind} ${it.value}`),
      ["@ NS ns1.example.net", "@ NS ns2.example.net"],
    );
    await assert.rejects(
      other.freestyle.dns.records.list({ domain }),
      failsWith("DOMAIN_OWNERSHIP_ERROR", { domain, accountId: other.id }),
    );

    // The SDK loses the record unless it is a string.
    const gone = listed.find((it) => it.value === "192.0.2.2");
    await assert.rejects(dns.records.delete({ domain, record: gone }), (error) => {
      assert.match(error.message, /JSON\.stringify/);
      return failsWith("INVALID_REQUEST")(error);
    });
    await dns.records.delete({ domain, record: JSON.stringify(gone) });
    await assert.rejects(
      dns.records.delete({ domain, record: JSON.stringify(gone) }),
      failsWith("RECORD_OWNERSHIP_ERROR", { accountId: id }),
    );
    const left = (await asked("app.example.com", "A")).answers;
    assert.deepEqual(left, ["app.example.com. 300 IN A 192.0.2.1"]);

    // The same by the command line.
    const ours = async (...args) => {
      const env = { FREESTYLE_API_URL: baseUrl, FREESTYLE_API_KEY: key.secret };
      const { code, stdout, stderr } = await cli(["dns", ...args], { env });
      assert.equal(code, 0, stderr || stdout);
      return stdout;
    };
    await ours("create", domain, "cli", "TXT", "by hand", "--ttl", "30");
    assert.match((await asked("cli.example.com", "TXT")).answers[0], / 30 IN TXT "by hand"$/);
    assert.match(await ours("list", domain), /^cli +30 +TXT +by hand$/m);
    await ours("delete", domain, "cli", "TXT", "by hand");
    // The wildcard's again, of which there is no text.
    assert.equal((await asked("cli.example.com", "TXT")).answers.length, 0);

    // A host that is mapped is here, unless a record says something else.
    const star = JSON.stringify({ kind: "A", name: "*", value: "192.0.2.9" });
    await dns.records.delete({ domain, record: star });
    const { vm, vmId } = await freestyle.vms.create({
      ...SMALL,
      domains: [{ domain: "site.example.com", vmPort: 3000 }],
    });
    const site = (await asked("site.example.com", "A")).answers;
    assert.deepEqual(site, [`site.example.com. 60 IN A ${HERE}`]);
    assert.equal((await asked("nobody.example.com", "A")).status, "NXDOMAIN");
    await serveIn(vm);

    // A certificate for all hosts needs the DNS to be here.
    const wildcard = () => domains.certificates.createWildcard({ domain });
    await assert.rejects(wildcard(), (error) => {
      assert.match(error.message, /ns1\.example\.net/);
      return failsWith("FAILED_TO_PROVISION_CERTIFICATE")(error);
    });
    await knot.delegate(dnsAddress);
    assert.deepEqual(await wildcard(), { domain });
    const seen = await visit(https, "site.example.com", { ca, options: ["--verbose"] });
    assert.equal(seen.status, 200, seen.error);
    assert.match(seen.error, /subjectAltName: .*\*\.example\.com|CN=\*\.example\.com|"\*\.example\.com"/);
    // Which is kept, and what proved it is gone.
    assert.ok(readFileSync(`${dataDir}/edge/certificates/*.${domain}.pem`, "utf8"));
    assert.equal((await asked(`_acme-challenge.${domain}`, "TXT")).answers.length, 0);

    // Whoever has the domain from now on finds nothing of this in it.
    const { record: taken } = await other.freestyle.domains.verifications.create({ domain });
    const name = taken.name.replace(`.${domain}`, "");
    await dns.records.create({ domain, record: { kind: "TXT", name, value: taken.value } });
    await other.freestyle.domains.verifications.complete({ domain });
    assert.equal((await asked("app.example.com", "A")).status, "NXDOMAIN");
    assert.deepEqual(
      (await other.freestyle.dns.records.list({ domain })).records.filter((it) => !it.managed),
      [],
    );
    await assert.rejects(dns.records.create({ domain, record }), notYours);
    assert.ok(vmId);
    await deleteAll(freestyle);
  });
});

test("a server that answers no DNS makes no records", async () => {
  await withServer({ poolSize: 0 }, async (server) => {
    assert.equal(server.dnsAddress, null);
    const { freestyle } = await account("none", { dataDir: server.dataDir, baseUrl: server.url });
    const record = { kind: "A", name: "@", value: "192.0.2.1" };
    await assert.rejects(freestyle.dns.records.create({ domain, record }), failsWith("INVALID_REQUEST"));
  });
});

test("previews share a certificate as soon as their DNS is answered here", async (t) => {
  const suffix = "apps.example.net";
  const env = {
    FREESTYLE_PREVIEW_DOMAIN: suffix,
    FREESTYLE_DNS_LISTEN: `${HERE}:${await freePort()}`,
    FREESTYLE_DNS_NAME: "ns1.example.net",
    FREESTYLE_PUBLIC_ADDRESS: HERE,
  };
  await withAuthority(t, { zone: suffix, env }, async ({ server, knot, ca, https }) => {
    const { dataDir, url: baseUrl, dnsAddress } = server;
    const { answers } = await ask(dnsAddress, `any.${suffix}`, "A");
    assert.deepEqual(answers, [`any.${suffix}. 300 IN A ${HERE}`]);
    const kept = `${dataDir}/edge/certificates/*.${suffix}.pem`;
    assert(!existsSync(kept));
    await knot.delegate(dnsAddress);
    await eventually("the certificate is there", () => existsSync(kept));

    const { freestyle } = await account("previews", { dataDir, baseUrl });
    const domain = `one.${suffix}`;
    const domains = [{ domain, vmPort: 3000 }];
    const { vm } = await freestyle.vms.create({ ...SMALL, domains });
    await serveIn(vm);
    const seen = await visit(https, domain, { ca, options: ["--verbose"] });
    assert.equal(seen.status, 200, seen.error);
    assert.match(seen.error, /subjectAltName: .*"\*\.apps\.example\.net"/);
    assert(!existsSync(`${dataDir}/edge/certificates/${domain}.pem`));
    await deleteAll(freestyle);
  });
});
