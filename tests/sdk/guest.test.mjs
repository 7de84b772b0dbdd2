// What a guest is: Debian with systemd, an SSH server, a right clock, and the kernel features that
// container engines need.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("guest");
const { vm } = await freestyle.vms.create();

test("it is Debian 13, with systemd in good order as the first process", async () => {
  assert.match(await sh(vm, "cat /etc/os-release"), /^VERSION_CODENAME=trixie$/m);
  assert.equal(await sh(vm, "cat /proc/1/comm"), "systemd\n");
  assert.equal(
    await sh(vm, "systemctl is-system-running --wait; systemctl --failed --quiet"),
    "running\n",
  );
});

test("its clock is the host's", async () => {
  const before = Date.now();
  const guest = Number(await sh(vm, "date +%s%3N"));
  assert(guest > before - 1000 && guest < Date.now() + 1000, `${guest - before} ms off`);
});

test("its kernel is told what QEMU's emulation does slowly, and what wrong", async () => {
  const isEmulated = (await sh(vm, "systemd-detect-virt --vm")) === "qemu\n";
  const randomised = await sh(vm, "sysctl -n kernel.randomize_va_space");
  assert.equal(randomised, isEmulated ? "0\n" : "2\n");
  const uses16ByteExchange = (await sh(vm, "grep -cw cx16 /proc/cpuinfo || true")) !== "0\n";
  assert.equal(uses16ByteExchange, !isEmulated);
});

test("sshd answers, with its configuration in order", async () => {
  await sh(vm, "sshd -t || { ssh-keygen -A >/dev/null && sshd -t; }");
  const settings = await sh(vm, "sshd -T");
  assert.match(settings, /^authorizedkeyscommand \/usr\/local\/bin\/fetch-ssh-keys$/m);
  assert.match(settings, /^passwordauthentication no$/m);
  // The gateway's, for this run of the VM.
  const keys = await sh(vm, "/usr/local/bin/fetch-ssh-keys root");
  assert.match(keys, /^ssh-ed25519 \S+ freestyle\n$/);
  const banner = await sh(
    vm,
    "exec timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; head -c 8 <&3'",
  );
  assert.equal(banner, "SSH-2.0-");
});

test("tools that scripts take for granted are there", async () => {
  await sh(
    vm,
    "command -v bash git curl sudo less nano ip nft ps tar gzip xz zstd perl apt-get ssh scp",
  );
});

test("container engines find what they need of the kernel", async () => {
  assert.equal(await sh(vm, "stat -fc %T /sys/fs/cgroup"), "cgroup2fs\n");
  const controllers = (await sh(vm, "cat /sys/fs/cgroup/cgroup.controllers")).trim().split(" ");
  for (const needed of ["cpu", "cpuset", "io", "memory", "pids"])
    assert(controllers.includes(needed), needed);

  await sh(
    vm,
    `cd $(mktemp -d) && mkdir lower upper work merged && echo below > lower/file &&
     mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged &&
     echo above > merged/file && grep -q above upper/file && grep -q below lower/file &&
     umount merged`,
  );
  await sh(
    vm,
    `set -e
     ip link add br9 type bridge && ip addr add 172.30.0.1/24 dev br9 && ip link set br9 up
     ip netns add box && ip link add out9 type veth peer name in9 netns box
     ip link set out9 master br9 up
     ip -n box addr add 172.30.0.2/24 dev in9 && ip -n box link set in9 up
     ip netns exec box ping -c 1 -W 5 172.30.0.1`,
  );
  await sh(
    vm,
    `set -e
     nft add table ip docker
     nft 'add chain ip docker post { type nat hook postrouting priority srcnat; }'
     nft add rule ip docker post ip saddr 172.30.0.0/24 masquerade
     nft 'add chain ip docker pre { type nat hook prerouting priority dstnat; }'
     nft add rule ip docker pre tcp dport 8080 dnat to 172.30.0.2:80
     sysctl -qw net.ipv4.ip_forward=1`,
  );
  assert.equal(
    await sh(vm, "unshare --user --map-root-user --mount --pid --fork --net id -u"),
    "0\n",
  );
  await sh(vm, "systemd-run --quiet --wait -p MemoryMax=64M -p CPUQuota=50% -p TasksMax=20 true");
});
