// The documentation's guide that puts a running Redis into a snapshot.

import assert from "node:assert/strict";
import { test } from "node:test";

import { bake, eventually, fileAccount } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("guide redis");

test("Redis runs in every VM made from its snapshot", async () => {
  const snapshotId = await bake(freestyle, "redis-builder", async (builder) => {
    const install = await builder.exec(
      "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server",
    );
    assert.equal(install.statusCode, 0, install.stderr);
    await builder.exec("systemctl start redis-server");
    await eventually("Redis answers", async () => {
      const ping = await builder.exec("redis-cli PING");
      return ping.stdout?.includes("PONG");
    });
    // Beyond the guide: what it holds in memory, and has not saved, is in the snapshot, too.
    await builder.exec("redis-cli CONFIG SET save ''; redis-cli SET builder 'was here'");
  });

  const { vm } = await freestyle.vms.create({
    name: "redis-sandbox",
    snapshotId,
    idleTimeoutSeconds: null,
  });
  const ping = await vm.exec("redis-cli PING");
  assert.equal(ping.stdout, "PONG\n");
  await vm.exec("redis-cli SET greeting 'hello'");
  const get = await vm.exec("redis-cli GET greeting");
  assert.equal(get.stdout, "hello\n");
  const incr = await vm.exec("redis-cli INCR counter");
  assert.equal(incr.stdout, "1\n");
  assert.equal((await vm.exec("redis-cli GET builder")).stdout, "was here\n");
  assert.equal((await vm.exec("systemctl is-active redis-server")).stdout, "active\n");

  // Another VM has the builder's data and none of the sandbox's.
  const { vm: other } = await freestyle.vms.create({ snapshotId });
  const keys = await other.exec("redis-cli --raw KEYS '*'");
  assert.equal(keys.stdout, "builder\n");
});
