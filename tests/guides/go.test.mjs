// The documentation's guide that bakes the Go toolchain into a snapshot and runs programs on one VM.
// The toolchain is Debian's gccgo, which comes with its standard library compiled: compiling that
// first, as the other one does, takes an emulated guest many minutes.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { bake, fileAccount, sh } from "../support/sdk.mjs";
import { ask, startServer } from "../support/sites.mjs";

const { freestyle } = await fileAccount("guide go");

const go = "export HOME=/root GOCACHE=/root/.cache/go-build && /usr/local/go/bin/go";
let snapshotId, vm;

before(async () => {
  snapshotId = await bake(freestyle, "go-builder", async (builder) => {
    await sh(builder, "apt-get install -y gccgo");
    const link = "mkdir -p /usr/local/go/bin && ln -s /usr/bin/go-[0-9]* /usr/local/go/bin/go";
    assert.equal((await builder.exec(link)).statusCode, 0);
    const version = await builder.exec("/usr/local/go/bin/go version");
    assert.match(version.stdout, /^go version go1\..* linux\/amd64$/m);
  });
  ({ vm } = await freestyle.vms.create({ name: "go-sandbox", snapshotId }));
});

async function runGo(vm, code) {
  const file = `/tmp/main-${crypto.randomUUID()}.go`;
  await vm.fs.writeTextFile(file, code);
  return await vm.exec(`${go} run ${file}`);
}

async function runGoStrict(vm, code, opts = {}) {
  const { args = [], stdin = "" } = opts;
  const file = `/tmp/main-${crypto.randomUUID()}.go`;
  await vm.fs.writeTextFile(file, code);
  const stdinFile = `/tmp/stdin-${crypto.randomUUID()}.txt`;
  await vm.fs.writeTextFile(stdinFile, stdin);
  const argv = args.map((a) => `'${String(a).replace(/'/g, "'\\''")}'`).join(" ");
  const result = await vm.exec(`${go} run ${file} ${argv} < ${stdinFile}`);
  if (result.statusCode !== 0) {
    throw new Error(`go exited with status ${result.statusCode}: ${result.stderr ?? ""}`);
  }
  return { stdout: result.stdout ?? "", stderr: result.stderr ?? "" };
}

test("programs are compiled and run, one after another on one VM", async () => {
  const sum = await runGo(
    vm,
    `package main

import "fmt"

func main() {
	nums := []int{1, 2, 3, 4, 5}
	sum := 0
	for _, n := range nums {
		sum += n
	}
	fmt.Println("sum=", sum)
}`,
  );
  assert.deepEqual([sum.statusCode, sum.stdout.trim()], [0, "sum= 15"], sum.stderr);
});

test("arguments, standard input and failure", async () => {
  const product = await runGoStrict(
    vm,
    `package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	a, _ := strconv.Atoi(os.Args[1])
	b, _ := strconv.Atoi(os.Args[2])
	fmt.Printf("product=%d\\n", a*b)
}`,
    { args: ["6", "7"] },
  );
  assert.equal(product.stdout.trim(), "product=42");

  const piped = await runGoStrict(
    vm,
    `package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

func main() {
	s := bufio.NewScanner(os.Stdin)
	var out []string
	for s.Scan() {
		out = append(out, strings.ToUpper(s.Text()))
	}
	fmt.Println(strings.Join(out, "|"))
}`,
    { stdin: "one\ntwo\nthree\n" },
  );
  assert.equal(piped.stdout.trim(), "ONE|TWO|THREE");

  await assert.rejects(
    runGoStrict(vm, `package main\nimport "os"\nfunc main() { os.Exit(3) }`),
    /go exited with status 1: .*exit status 3/s,
  );
});

test("programs run side by side", async () => {
  const program = (name, n) =>
    `package main\nimport "fmt"\nfunc main() { fmt.Println("${name}=", ${n}*${n}) }`;
  const results = await Promise.all([
    runGo(vm, program("A", 10)),
    runGo(vm, program("B", 20)),
    runGo(vm, program("C", 30)),
  ]);
  assert.deepEqual(
    results.map(({ stdout }) => stdout.trim()),
    ["A= 100", "B= 400", "C= 900"],
  );
});

test("a server is compiled, run by systemd and reached on a domain", async () => {
  const source = `package main
import (
	"fmt"
	"net/http"
)
func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "Hello from a Go server in a sandbox!")
	})
	http.ListenAndServe("0.0.0.0:3000", nil)
}
`;
  const { domain } = await startServer(freestyle, snapshotId, {
    name: "go-server",
    file: ["/srv/server.go", source],
    prepare: `${go} build -o /srv/server /srv/server.go`,
    execStart: "/srv/server",
  });
  assert.deepEqual(await ask(domain), [200, "Hello from a Go server in a sandbox!\n"]);
});
