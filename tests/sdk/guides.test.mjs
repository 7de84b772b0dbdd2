// How the documentation's guides work with a VM: helpers that write a program and run it, programs
// side by side, servers under systemd. The guides' languages have to be installed first; Perl and
// the shell, which are there, stand in for them.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("guides");
const { vm } = await freestyle.vms.create({ name: "guide-sandbox" });

async function runPerl(code) {
  const file = `/tmp/main-${randomUUID()}.pl`;
  await vm.fs.writeTextFile(file, code);
  return await vm.exec(`/usr/bin/perl ${file}`);
}

async function runPerlStrict(code, { args = [], stdin = "" } = {}) {
  const file = `/tmp/main-${randomUUID()}.pl`;
  await vm.fs.writeTextFile(file, code);
  const stdinFile = `/tmp/stdin-${randomUUID()}.txt`;
  await vm.fs.writeTextFile(stdinFile, stdin);
  const argv = args.map((a) => `'${String(a).replace(/'/g, "'\\''")}'`).join(" ");
  const result = await vm.exec(`/usr/bin/perl ${file} ${argv} < ${stdinFile}`);
  if (result.statusCode !== 0) {
    throw new Error(`perl exited with status ${result.statusCode}: ${result.stderr ?? ""}`);
  }
  return { stdout: result.stdout ?? "", stderr: result.stderr ?? "" };
}

test("a snippet runs and its result comes back", async () => {
  const { stdout, statusCode } = await runPerl('my $s; $s += $_ for 0..9; print "sum $s\\n";');
  assert.deepEqual([stdout, statusCode], ["sum 45\n", 0]);
});

test("arguments and standard input arrive intact", async () => {
  const args = ["6", "it's", "a b", "$HOME", "*"];
  const { stdout } = await runPerlStrict('print join("|", @ARGV), "\\n";', { args });
  assert.equal(stdout, "6|it's|a b|$HOME|*\n");
  const upper = await runPerlStrict("print uc while <STDIN>;", { stdin: "one\ntwo\nthree\n" });
  assert.equal(upper.stdout, "ONE\nTWO\nTHREE\n");
});

test("a failing program rejects with what it said", async () => {
  await assert.rejects(runPerlStrict('die "boom\\n"'), /perl exited with status 255: boom/);
});

test("programs run side by side on one VM", async () => {
  const results = await Promise.all(
    ["A", "B", "C"].map((name) => runPerl(`print "${name}=", 10 * 10`)),
  );
  assert.deepEqual(
    results.map((r) => r.stdout),
    ["A=100", "B=100", "C=100"],
  );
});

test("a command in a working directory, with HOME set for those who need it", async () => {
  await vm.exec("mkdir -p '/workspace'");
  const command =
    "cd '/workspace' && export HOME=/root && git init -q repo && cd ~ && pwd && ls /workspace";
  assert.equal((await vm.exec({ command, timeoutMs: 120_000 })).stdout, "/root\nrepo\n");
});

test("a server under systemd answers, is supervised, and logs to the journal", async () => {
  await vm.fs.writeTextFile(
    "/srv/server.pl",
    `use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "0.0.0.0:3000", Listen => 5, ReuseAddr => 1) or die;
print STDERR "listening on 3000\\n";
while (my $client = $server->accept) {
  exit 1 if <$client> =~ /crash/;
  print $client "HTTP/1.0 200 OK\\r\\n\\r\\nHello from a sandbox!\\n";
}
`,
  );
  await vm.fs.writeTextFile(
    "/etc/systemd/system/hello.service",
    `[Unit]
Description=A server
[Service]
ExecStart=/usr/bin/perl /srv/server.pl
Restart=always
RestartSec=0
[Install]
WantedBy=multi-user.target
`,
  );
  await sh(vm, "systemctl daemon-reload && systemctl enable --quiet --now hello");
  const ask = "curl -sS --retry 99 --retry-all-errors --retry-max-time 30 http://127.0.0.1:3000/";

  assert.equal(await sh(vm, ask), "Hello from a sandbox!\n");
  await vm.exec("curl -s http://127.0.0.1:3000/crash");
  assert.equal(await sh(vm, ask), "Hello from a sandbox!\n");

  assert.equal(await sh(vm, "systemctl show -p NRestarts hello"), "NRestarts=1\n");
  const journal = await sh(vm, "journalctl -q -u hello -o cat");
  assert.equal(journal.match(/^listening on 3000$/gm)?.length, 2, journal);
});
