// The documentation's guides that bake a language's runtime into a snapshot and run programs on one
// long-lived VM made from it, or a server that is reached on a domain; and the one that fans a prepared
// VM out by forks. The runtimes are Debian's packages.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Terminal } from "../support/pty.mjs";
import { bake, fileAccount, sh } from "../support/sdk.mjs";
import { ask, preview, startServer } from "../support/sites.mjs";

const { freestyle } = await fileAccount("guide runtimes");

let snapshotId, vm;

before(async () => {
  snapshotId = await bake(freestyle, "runtimes-builder", (builder) =>
    sh(builder, "apt-get install -y python3 nodejs"),
  );
  ({ vm } = await freestyle.vms.create({ name: "runtimes-sandbox", snapshotId }));
});

async function runPython(vm, code) {
  const file = `/tmp/main-${crypto.randomUUID()}.py`;
  await vm.fs.writeTextFile(file, code);
  return await vm.exec(`/usr/bin/python3 ${file}`);
}

async function runPythonStrict(vm, code, { args = [] } = {}) {
  const file = `/tmp/main-${crypto.randomUUID()}.py`;
  await vm.fs.writeTextFile(file, code);
  const quoted = args.map((a) => `'${String(a).replace(/'/g, "'\\''")}'`).join(" ");
  const result = await vm.exec(`/usr/bin/python3 ${file} ${quoted}`);
  if (result.statusCode !== 0) {
    throw new Error(`Python exited with ${result.statusCode}:\n${result.stderr ?? result.stdout}`);
  }
  return { stdout: result.stdout, stderr: result.stderr };
}

async function runNode(vm, code) {
  const file = `/tmp/main-${crypto.randomUUID()}.mjs`;
  await vm.fs.writeTextFile(file, code);
  return await vm.exec(`node ${file}`);
}

test("Python: many snippets on one VM", async () => {
  const out = await runPython(
    vm,
    ["import sys", "print('python', sys.version_info.major)", "print('sum', sum(range(10)))"].join(
      "\n",
    ),
  );
  assert.equal(out.stdout, "python 3\nsum 45\n");
  assert.equal((await runPython(vm, "print('hello', 2 + 2)")).stdout, "hello 4\n");

  const add = "import sys; print('total:', sum(int(x) for x in sys.argv[1:]))";
  assert.equal((await runPythonStrict(vm, add, { args: [3, 4, 5] })).stdout, "total: 12\n");
  await assert.rejects(
    runPythonStrict(vm, "raise ValueError('boom')"),
    /Python exited with 1:[^]*ValueError: boom/,
  );
  const parallel = await Promise.all(["A", "B"].map((name) => runPython(vm, `print("${name}")`)));
  assert.deepEqual(
    parallel.map(({ stdout }) => stdout),
    ["A\n", "B\n"],
  );
});

test("Node.js: many snippets on one VM", async () => {
  const sum = await runNode(
    vm,
    `const nums = [1, 2, 3, 4, 5];
const sum = nums.reduce((a, b) => a + b, 0);
console.log(\`sum=\${sum}\`);`,
  );
  assert.deepEqual([sum.statusCode, sum.stdout], [0, "sum=15\n"]);
  const upper = await runNode(vm, `console.log("hello".toUpperCase());`);
  assert.equal(upper.stdout.trim(), "HELLO");
  const failed = await runNode(vm, `throw new Error("boom");`);
  assert.equal(failed.statusCode, 1);
  assert.match(failed.stderr, /Error: boom/);
});

test("an agent prepares a VM once and fans it out by forks", async () => {
  await vm.exec("mkdir -p /workspace && git init -q /workspace/app");
  await vm.fs.writeTextFile(
    "/workspace/app/shard.py",
    "import sys; i, n = map(int, sys.argv[1].split('/')); print(sum(range(i - 1, 100, n)))",
  );
  const { forks } = await vm.fork({ count: 5 });
  const results = await Promise.all(
    forks.map(({ vm }, i) =>
      vm.exec({
        command: `cd /workspace/app && python3 shard.py ${i + 1}/${forks.length} | tee result`,
        timeoutMs: 300_000,
      }),
    ),
  );
  const parts = results.map(({ stdout }) => Number(stdout));
  assert.equal(parts.length, 5);
  assert.equal(
    parts.reduce((a, b) => a + b),
    4950,
  );
  assert.equal(await vm.fs.exists("/workspace/app/result"), false);
});

test("Node.js: a server on a domain, and one in every VM made from its snapshot", async () => {
  const nodePath = (await vm.exec("command -v node")).stdout.trim();
  const source = `const http = require("http");
const httpServer = http.createServer((req, res) => {
  res.writeHead(200, { "Content-Type": "text/plain" });
  res.end("Hello from a Node.js server in a sandbox!\\n");
});
httpServer.listen(3000, "0.0.0.0", () => {
  console.log("listening on 0.0.0.0:3000");
});
`;
  const { server, domain } = await startServer(freestyle, snapshotId, {
    name: "node-server",
    file: ["/srv/server.js", source],
    execStart: `${nodePath} /srv/server.js`,
  });
  const hello = [200, "Hello from a Node.js server in a sandbox!\n"];
  assert.deepEqual(await ask(domain), hello);

  const { snapshotId: serving } = await server.snapshot();
  const other = preview();
  await freestyle.vms.create({ snapshotId: serving, domains: [{ domain: other, vmPort: 3000 }] });
  assert.deepEqual(await ask(other), hello);
});

test("Python: a server on a domain, whose log is followed in a terminal", async () => {
  const source = `import http.server, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"Hello from a Python server in a sandbox!\\n")
with socketserver.TCPServer(("0.0.0.0", 3000), Handler) as httpd:
    httpd.serve_forever()
`;
  const { server, domain } = await startServer(freestyle, snapshotId, {
    name: "python-server",
    file: ["/srv/server.py", source],
    execStart: "/usr/bin/python3 /srv/server.py",
  });
  const terminal = await Terminal.open(server, { cols: 120, rows: 30 });
  terminal.type("journalctl -u python-server -f\n");
  await terminal.see(/"GET \/ HTTP\/1\.1" 200/); // That it answers was waited for.
  assert.deepEqual(await ask(domain), [200, "Hello from a Python server in a sandbox!\n"]);
  await terminal.see(/"GET \/ HTTP\/1\.1" 200/);
  await terminal.detach();
});
