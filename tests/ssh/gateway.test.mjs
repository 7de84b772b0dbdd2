// SSH into real guests, with OpenSSH's own clients. What passes through the gateway in general is
// tested without guests, in `crates/ssh`; here it is about VMs.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { test } from "node:test";

import { run } from "../support/process.mjs";
import { eventually, fileAccount, sh, SMALL } from "../support/sdk.mjs";
import { SshClient, withoutSystemdSessions } from "../support/ssh.mjs";

const { freestyle, key } = await fileAccount("ssh");
const ssh = await SshClient.create(key.secret);
const { vm, vmId } = await freestyle.vms.create({ ...SMALL, idleTimeoutSeconds: null });

/** An identity that may use a VM. */
async function someone(allowedUsers, id = vmId) {
  const { identity } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId: id, allowedUsers });
  const { token } = await identity.tokens.create();
  return { identity, token, login: `${id}:${token}` };
}

const { login, token } = await someone();

/** A session that is in the VM and stays, as root. */
async function session(as) {
  const child = ssh.start(as, ["vm", "echo in; cat"]);
  const [said] = await once(child.stdout, "data");
  assert.equal(`${said}`, "in\n");
  child.ended = once(child, "exit").then(async ([code]) => ({ code, stderr: await child.messages }));
  return child;
}

test("a command runs in the VM, as root, with its streams and exit code", async () => {
  const command = "id -un; hostname; echo $SHELL; echo err >&2; exit 7";
  const { code, stdout, stderr } = await ssh.run("ssh", login, ["vm", command]);
  assert.equal(stdout, `root\n${vmId}\n/bin/bash\n`);
  assert.equal(stderr, "err\n");
  assert.equal(code, 7);
  await withoutSystemdSessions(vm);
});

test("as a Linux user, as the documentation has it", async () => {
  await sh(
    vm,
    `useradd --create-home --shell /bin/bash developer
     usermod --append --groups sudo developer
     mkdir -p /home/developer/workspace
     chown -R developer:developer /home/developer`,
  );
  const { token: limited } = await someone(["developer"]);
  for (const separator of [":", ","]) {
    const name = `${vmId}+developer${separator}${limited}`;
    assert.equal(await ssh.sh(name, "id -un; cd workspace && pwd"), "developer\n/home/developer/workspace\n");
  }
  const refused = await ssh.run("ssh", `${vmId}:${limited}`, ["vm", "true"]);
  assert.equal(refused.code, 255);
  assert.match(refused.stderr, /name one of them \(<vmId>\+<linuxUser>\)/);
  const missing = await ssh.run("ssh", `${vmId}+nobodyhere:${token}`, ["vm", "true"]);
  assert.match(missing.stderr, /did not let nobodyhere in/);
});

test("the credential never enters the guest, and the key that does is this run's", async () => {
  assert.doesNotMatch(await ssh.sh(login, "env; cat /proc/*/environ | tr '\\0' '\\n'"), /fsi_/);
  const keys = await sh(vm, "/usr/local/bin/fetch-ssh-keys root");
  assert.match(keys, /^ssh-ed25519 \S+ freestyle\n$/);
  assert.equal(await sh(vm, "grep -rl fsi_ /run /etc /root /var/log || true"), "");
});

test("files by sftp, scp in both protocols, and rsync", async () => {
  const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i) % 251));
  writeFileSync(ssh.file("data"), data);
  writeFileSync(ssh.file("batch"), `put ${ssh.file("data")} /srv/a\nrename /srv/a /srv/b\nls /srv\n`);
  const listing = await ssh.succeeds("sftp", login, ["-b", ssh.file("batch"), "vm"]);
  assert.match(listing, /\/srv\/b/);
  for (const protocol of ["-s", "-O"]) {
    const back = ssh.file(`back${protocol}`);
    const comma = login.replace(":", ",");
    await ssh.succeeds("scp", comma, [protocol, "vm:/srv/b", back]);
    assert(readFileSync(back).equals(data));
  }
  const shell = ["ssh", ...ssh.options(login)].join(" ");
  const rsync = ["-a", "-e", shell, ssh.file("data"), "vm:/srv/c"];
  const { code, stderr } = await run("rsync", rsync, { timeoutMs: 300_000 });
  assert.equal(code, 0, stderr);
  const sums = (await sh(vm, "sha256sum < /srv/b; sha256sum < /srv/c")).trim().split("\n");
  assert.equal(new Set(sums).size, 1);
});

test("an editor: one connection with commands, a forwarded port of the guest, and sftp", async () => {
  const mux = ssh.file("mux");
  const local = ssh.file("forwarded.sock");
  await sh(vm, "echo hello > /srv/index");
  await startWeb();
  const master = ssh.start(login, ["-M", "-N", "-S", mux, "-L", `${local}:localhost:3000`, "vm"]);
  await eventually("the connection", () => existsSync(mux));
  const through = (program, args) => ssh.succeeds(program, login, ["-o", `ControlPath=${mux}`, ...args]);
  writeFileSync(ssh.file("batch"), "ls /srv\n");
  const [first, second, listing, page] = await Promise.all([
    through("ssh", ["vm", "seq 20000 | tail -1"]),
    through("ssh", ["vm", "uname -s"]),
    through("sftp", ["-b", ssh.file("batch"), "vm"]),
    fetchUnix(local),
  ]);
  assert.deepEqual([first, second, page], ["20000\n", "Linux\n", "hello\n"]);
  assert.match(listing, /\/srv\/index/);
  master.kill();
});

/** A service on port 3000 of the guest's localhost that answers each line with /srv/index. */
async function startWeb() {
  const serve = `my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:3000", Listen => 9) or die;
    while (my $c = $s->accept) { <$c>; open my $f, "<", "/srv/index"; print {$c} <$f>; close $c }`;
  await vm.fs.writeTextFile("/srv/serve.pl", `use IO::Socket::INET; ${serve}`);
  const listens = "until (exec 3<>/dev/tcp/127.0.0.1/3000) 2>/dev/null; do sleep 0.2; done";
  await sh(vm, `systemd-run --quiet --unit=web /usr/bin/perl /srv/serve.pl && bash -c '${listens}'`);
}

/** Says a line to a socket; answers what it says. */
async function fetchUnix(path) {
  const socket = connect(path);
  socket.write("GET\n");
  return `${Buffer.concat(await socket.toArray())}`;
}

test("a port of the client is one of the guest's", async () => {
  const server = createServer((socket) => socket.end("from outside\n")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const forward = ["-o", "ExitOnForwardFailure=yes", "-R", `4000:localhost:${port}`];
  const command = "exec 3<>/dev/tcp/127.0.0.1/4000; cat <&3";
  assert.equal(await ssh.succeeds("ssh", login, [...forward, "vm", command]), "from outside\n");
  server.close();
});

test("the OpenSSH of today agrees on a key that withstands quantum computers", async () => {
  // That of the guest is newer than this host's; it reaches the gateway by way of this client.
  const forward = ["-R", `4001:${process.env.E2E_SSH_ADDRESS}`];
  const options = "-p 4001 -o KexAlgorithms=mlkem768x25519-sha256 -o BatchMode=yes";
  const trust = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
  const command = `ssh -v ${options} ${trust} ${login}@localhost hostname`;
  const { stdout, stderr } = await ssh.run("ssh", login, [...forward, "vm", command]);
  assert.equal(stdout, `${vmId}\n`, stderr);
  assert.match(stderr, /kex: algorithm: mlkem768x25519-sha256/);
});

test("a session ends when its right does, and another's goes on", async () => {
  const { identity, login: theirs } = await someone();
  const [first, second] = [await session(theirs), await session(login)];
  await identity.permissions.vms.revoke({ vmId });
  const { code, stderr } = await first.ended;
  assert.equal(code, 255);
  assert.match(stderr, /the right to use this VM has ended/);
  assert.equal(second.exitCode, null);
  second.kill();
  const refused = await ssh.run("ssh", theirs, ["vm", "true"]);
  assert.match(refused.stderr, /this token does not open this VM/);
});

test("a fork lets in who may use it, with a key of its own", async () => {
  const { forks } = await vm.fork({ count: 1 });
  const { vm: fork, vmId: forkId } = forks[0];
  const keys = (machine) => sh(machine, "cat /run/freestyle/authorized_keys");
  assert.notEqual(await keys(fork), await keys(vm));
  const refused = await ssh.run("ssh", `${forkId}:${token}`, ["vm", "true"]);
  assert.match(refused.stderr, /this token does not open this VM/);
  const { login: granted } = await someone(undefined, forkId);
  assert.equal(await ssh.sh(granted, "hostname"), `${forkId}\n`);
  await freestyle.vms.delete({ vmId: forkId });
});

test("suspending a VM ends its sessions; the next one wakes it", async () => {
  const child = await session(login);
  await ssh.sh(login, "echo kept > /run/note");
  await vm.suspend();
  const { code, stderr } = await child.ended;
  assert.equal(code, 255);
  assert.match(stderr, /the VM was stopped or suspended/);
  assert.equal(await ssh.sh(login, "cat /run/note"), "kept\n");
  assert.equal((await vm.getInfo()).state, "running");
});

test("a session starts a stopped VM", async () => {
  await sh(vm, "echo kept > /srv/note");
  await vm.stop();
  assert.equal(await ssh.sh(login, "cat /srv/note"), "kept\n");
});

test("an sshd that its owner broke is explained, and soon", async () => {
  const hide = "mv /usr/local/bin/fetch-ssh-keys /srv/";
  await sh(vm, hide);
  const refused = await ssh.run("ssh", login, ["vm", "true"]);
  assert.equal(refused.code, 255);
  assert.match(refused.stderr, /the VM's sshd did not let root in.*fetch-ssh-keys/);
  await sh(vm, "mv /srv/fetch-ssh-keys /usr/local/bin/ && systemctl stop ssh.socket ssh.service");
  const closed = await ssh.run("ssh", login, ["vm", "true"]);
  assert.equal(closed.code, 255);
  assert.match(closed.stderr, /port 22 of the VM takes no connections: Connection refused/);
  await sh(vm, "systemctl start ssh.socket");
  assert.equal(await ssh.sh(login, "echo well"), "well\n");
});
