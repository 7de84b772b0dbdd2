// Code of the hosted service's documentation, as it stands there.

import assert from "node:assert/strict";
import { test } from "node:test";

import { run } from "../support/process.mjs";
import { API_URL, fileAccount, session } from "../support/sdk.mjs";

const { freestyle, key } = await fileAccount("documented");

test("the quickstart, run as a program of its own", async () => {
  const program = `${import.meta.dirname}/documented/quickstart.mjs`;
  const env = { FREESTYLE_API_URL: API_URL, FREESTYLE_API_KEY: key.secret };

  const { code, stdout, stderr } = await run(process.execPath, [program], { env });

  assert.equal(stderr, "");
  assert.equal(stdout, "{ stdout: 'hello from freestyle\\n', stderr: '', statusCode: 0 }\n");
  assert.equal(code, 0);
});

test("work with files, common operations", async () => {
  const { vm, vmId } = await freestyle.vms.create();

  await vm.fs.writeTextFile("/tmp/hello.txt", "Hello from Freestyle");
  assert.equal(await vm.fs.readTextFile("/tmp/hello.txt"), "Hello from Freestyle");
  assert.equal((await vm.exec("pwd")).stdout, "/\n");
  await vm.start();
  assert.deepEqual(await freestyle.vms.delete({ vmId }), { id: vmId, recreate: false });
});

test("a handle to an existing VM", async () => {
  const { vmId } = await freestyle.vms.create({ name: "for get" });
  const { vm } = await freestyle.vms.get({ vmId });
  assert.equal((await vm.exec("pwd")).stdout, "/\n");
});

test("client sessions", async () => {
  const { vmId } = await freestyle.vms.create();
  const { identity } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId });
  const { token } = await identity.tokens.create();

  const { vm } = await session(token).vms.get({ vmId });
  assert.equal((await vm.exec("pwd")).stdout, "/\n");
});
