// The documentation's guide that serves notebooks ("How to Run a Jupyter Notebook Server in a
// Sandbox"): an application of HTTP and WebSockets on a preview domain, whose kernels keep what they
// have computed for as long as the VM lives.

import assert from "node:assert/strict";
import { on, once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { WebSocket } from "ws";

import { Shown } from "../support/pty.mjs";
import { bake, eventually, fileAccount, sh } from "../support/sdk.mjs";
import { at, preview } from "../support/sites.mjs";

const { freestyle } = await fileAccount("guide jupyter");
const SERVER = readFileSync(new URL("jupyter.py", import.meta.url), "utf8");
const token = crypto.randomUUID();
const domain = preview();

let vm;

before(async () => {
  const snapshotId = await bake(freestyle, "jupyter-builder", async (builder) => {
    await sh(builder, "apt-get install -y python3-terminado");
    await builder.fs.writeTextFile("/srv/notebooks.py", SERVER);
    await builder.fs.writeTextFile(
      "/etc/systemd/system/jupyter.service",
      `[Service]
Environment=HOME=/root
Environment=JUPYTER_TOKEN=${token}
ExecStart=/usr/bin/python3 /srv/notebooks.py
WorkingDirectory=/root
Restart=always
[Install]
WantedBy=multi-user.target
`,
    );
    await builder.exec("systemctl daemon-reload && systemctl enable --now jupyter");
    await eventually("the server listens", async () => {
      const probe = "curl -s -o /dev/null -w '%{http_code}' http://localhost:8888/";
      return (await builder.exec(probe)).stdout.trim() !== "000";
    });
  });

  const created = await freestyle.vms.create({
    name: "jupyter-server",
    snapshotId,
    idleTimeoutSeconds: null,
  });
  vm = created.vm;
  await freestyle.domains.mappings.create({ domain, vmId: created.vmId, vmPort: 8888 });
});

/** Opens a WebSocket as a page of the domain does. Tornado refuses the pages of any other. */
async function connect(path, origin = at(domain, "")) {
  const socket = new WebSocket(at(domain, `${path}?token=${token}`, "wss"), { origin });
  after(() => socket.terminate());
  await once(socket, "open");
  return socket;
}

async function startKernel() {
  const started = await fetch(at(domain, `/api/kernels?token=${token}`), { method: "POST" });
  assert.equal(started.status, 201);
  return `/api/kernels/${(await started.json()).id}/channels`;
}

/** Runs a cell; tells all that the kernel says of it, until it is idle. */
async function* execute(socket, code) {
  const header = { msg_id: crypto.randomUUID(), msg_type: "execute_request" };
  const messages = on(socket, "message");
  socket.send(JSON.stringify({ header, content: { code } }));
  for await (const [message] of messages) {
    const { parent_header, msg_type, content } = JSON.parse(message);
    assert.deepEqual(parent_header, header);
    if (content.execution_state === "idle") return;
    if (msg_type !== "status") yield { msg_type, ...content };
  }
}

/** The value of a cell. */
async function valueOf(socket, code) {
  const [{ data }, ...others] = await Array.fromAsync(execute(socket, code));
  assert.deepEqual(others, []);
  return data["text/plain"];
}

test("every VM of the snapshot serves notebooks, to who has the token and to pages of its domain", async () => {
  const answer = await fetch(at(domain, `/lab?token=${token}`));
  assert.deepEqual(
    [answer.status, await answer.text()],
    [200, "<!doctype html><title>A notebook</title>"],
  );
  assert.equal((await fetch(at(domain, "/lab"))).status, 403);
  const channels = await startKernel();
  await assert.rejects(connect(channels, at(preview(), "")), /Unexpected server response: 403/);
});

test("cells run in a kernel, and what they print arrives while they do", async () => {
  const socket = await connect(await startKernel());
  assert.deepEqual(await Array.fromAsync(execute(socket, "x = 6 * 7")), []);
  assert.equal(await valueOf(socket, "x"), "42");
  const [error] = await Array.fromAsync(execute(socket, "1 / 0"));
  assert.deepEqual([error.msg_type, error.ename], ["error", "ZeroDivisionError"]);
  const large = await valueOf(socket, "'x' * 3_000_000");
  assert.equal(large.length, 3_000_002);

  const cell = `import os, time
print("before")
while not os.path.exists("/run/go-on"): time.sleep(0.1)
print("after")`;
  let printed = "";
  for await (const { text } of execute(socket, cell)) {
    printed += text;
    if (printed === "before\n") await vm.fs.writeTextFile("/run/go-on", "");
  }
  assert.equal(printed, "before\nafter\n");
});

test("a terminal of the application's own", async () => {
  const socket = await connect("/terminals/websocket/1");
  const terminal = new Shown();
  socket.on("message", (data) => {
    const [kind, text] = JSON.parse(data);
    if (kind === "stdout") terminal.add(text);
  });
  const type = (text) => socket.send(JSON.stringify(["stdin", text]));
  socket.send(JSON.stringify(["set_size", 33, 111, 500, 900]));
  type("stty size; echo $((6 * 7))\r");
  await terminal.see(/33 111\r\n42\r\n/);
  type("exit\r");
  await once(socket, "close");
});

test("a kernel outlives the suspend of its VM, which whoever comes back wakes", async () => {
  const channels = await startKernel();
  const socket = await connect(channels);
  assert.deepEqual(await Array.fromAsync(execute(socket, "kept = [1, 2, 3]")), []);
  const closed = once(socket, "close");
  await vm.suspend();
  await closed;
  assert.equal((await vm.getInfo()).state, "suspended");

  const again = await connect(channels);
  assert.equal((await vm.getInfo()).state, "running");
  assert.equal(await valueOf(again, "sum(kept)"), "6");
});
