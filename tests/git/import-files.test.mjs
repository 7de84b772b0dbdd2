// Repositories that begin with files: given, of an archive, or of one commit of another repository.
// The archives come from a server of this test, which the operator of this run has allowed.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";

import { GIT_URL, failsWith, fileAccount } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("import files");

const dir = mkdtempSync(join(tmpdir(), "fse2e-files-"));
after(() => rmSync(dir, { recursive: true }));
mkdirSync(join(dir, "pkg/src"), { recursive: true });
writeFileSync(join(dir, "pkg/README.md"), "# Hello\n");
writeFileSync(join(dir, "pkg/src/run"), "#!/bin/sh\n", { mode: 0o755 });
symlinkSync("src/run", join(dir, "pkg/link"));
execFileSync("tar", ["-cf", "pkg.tar", "pkg"], { cwd: dir });
execFileSync("tar", ["-czf", "pkg.tar.gz", "pkg"], { cwd: dir });

// A zip file as this server makes it.
const begun = await freestyle.git.repos.create({
  public: true,
  import: {
    type: "files",
    files: { "pkg/README.md": "# Hello\n", "pkg/src/run": "#!/bin/sh\n", other: "x" },
    commitMessage: "Begin",
    authorName: "Ada",
    authorEmail: "ada@example.com",
  },
});
writeFileSync(join(dir, "pkg.zip"), Buffer.from(await begun.repo.contents.downloadZip()));

/** A tar file with one entry, as no tar would make it. */
function tarOf(path, { type = "0", target = "", content = "" } = {}) {
  const header = Buffer.alloc(512);
  const put = (at, text) => header.write(text, at, "latin1");
  put(0, path);
  put(100, "0000644\0");
  put(124, `${content.length.toString(8).padStart(11, "0")}\0`);
  put(148, "        ");
  put(156, type);
  put(157, target);
  put(257, "ustar\x0000");
  const sum = header.reduce((sum, byte) => sum + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  const filled = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  filled.set(content);
  return Buffer.concat([header, filled, Buffer.alloc(1024)]);
}

const evil = {
  "/up.tar": tarOf("../up"),
  "/root.tar": tarOf("/etc/cron.d/x"),
  "/hook.tar": tarOf("a/.git/hooks/post-receive"),
  "/device.tar": tarOf("sda", { type: "3" }),
  "/fifo.tar": tarOf("fifo", { type: "6" }),
  "/hard.tar": tarOf("hard", { type: "1", target: "/etc/passwd" }),
  "/cut.tar.gz": gzipSync(tarOf("a", { content: randomBytes(100_000) })).subarray(0, 50_000),
  "/bomb.tar.gz": gzipSync(tarOf("zeros", { content: Buffer.alloc(160 << 20) })),
  "/empty.tar": Buffer.alloc(1024),
};
const archives = createServer((request, response) => {
  if (request.url in evil) return response.end(evil[request.url]);
  if (request.url.startsWith("/redirect")) {
    response.writeHead(302, { location: request.url.slice("/redirect".length) }).end();
  } else if (request.url === "/private.tar") {
    response.writeHead(401).end("who are you?");
  } else if (request.url === "/away") {
    response.writeHead(302, { location: "http://169.254.169.254/latest/meta-data" }).end();
  } else if (request.url === "/page.tar") {
    response.end("<html>not an archive</html>");
  } else {
    try {
      response.end(readFileSync(join(dir, request.url)));
    } catch {
      response.writeHead(404).end();
    }
  }
}).listen(0, "127.0.0.1");
await once(archives, "listening");
after(() => archives.close());
const host = `http://127.0.0.1:${archives.address().port}`;

const create = async (imported) => {
  const { repo } = await freestyle.git.repos.create({
    import: { commitMessage: "Import", ...imported },
  });
  return repo;
};
const names = async (repo, path = "") =>
  (await repo.contents.get({ path })).entries.map((entry) => entry.name);

test("files that are given", async () => {
  const { commits } = await begun.repo.commits.list();
  assert.equal(commits.length, 1);
  assert.deepEqual([commits[0].message, commits[0].author.name], ["Begin\n", "Ada"]);
});

test("the files of a tar file, compressed or not, behind a redirect or not", async () => {
  for (const path of ["/pkg.tar", "/pkg.tar.gz", "/redirect/pkg.tar.gz"]) {
    const repo = await create({ type: "tar", url: host + path });
    assert.deepEqual(await names(repo, "pkg"), ["README.md", "link", "src"], path);
    const { files } = await repo.searchFiles({ query: "README.md" });
    assert.equal(files[0].path, "pkg/README.md");
  }
  const repo = await create({ type: "tar", url: `${host}/pkg.tar`, dir: "pkg" });
  assert.deepEqual(await names(repo), ["README.md", "link", "src"]);
  const link = await repo.contents.get({ path: "link" });
  assert.equal(Buffer.from(link.content, "base64").toString(), "src/run");
});

test("the files of a zip file", async () => {
  const repo = await create({ type: "zip", url: `${host}/pkg.zip`, dir: "pkg" });
  assert.deepEqual(await names(repo), ["README.md", "src"]);
});

test("the files of a commit of another repository", async () => {
  const url = `${GIT_URL}/${begun.repoId}`;
  const repo = await create({ type: "git", url, rev: "main", dir: "pkg" });
  assert.deepEqual(await names(repo), ["README.md", "src"]);
  const { commits } = await repo.commits.list();
  assert.deepEqual([commits.length, commits[0].message], [1, "Import\n"]);
  await assert.rejects(
    create({ type: "git", url, dir: "nowhere" }),
    failsWith("IMPORT_SUBDIR_NOT_FOUND", { source: url, dir: "nowhere" }),
  );
  await assert.rejects(
    create({ type: "git", url, rev: "nothing" }),
    failsWith("INVALID_REVISION", { revision: "nothing" }),
  );
});

test("a hostile archive is refused whole", async () => {
  const { total } = await freestyle.git.repos.list();
  for (const name of Object.keys(evil)) {
    const code = /^.(up|root|hook)/.test(name) ? "INVALID_FILE_PATH" : "GIT_INVALID_REQUEST";
    await assert.rejects(create({ type: "tar", url: host + name }), failsWith(code), name);
  }
  assert.equal((await freestyle.git.repos.list()).total, total);
  // A link is content, wherever it points to.
  evil["/link.tar"] = tarOf("link", { type: "2", target: "/etc/passwd" });
  const repo = await create({ type: "tar", url: `${host}/link.tar` });
  const link = await repo.contents.get({ path: "link" });
  assert.equal(Buffer.from(link.content, "base64").toString(), "/etc/passwd");
});

test("what cannot be imported is told apart, and leaves nothing", async () => {
  const { total } = await freestyle.git.repos.list();
  for (const [imported, code, fields] of [
    [{ type: "tar", url: `${host}/no.tar` }, "SOURCE_NOT_FOUND", { url: `${host}/no.tar` }],
    [{ type: "tar", url: `${host}/private.tar` }, "SOURCE_UNAUTHORIZED"],
    [{ type: "tar", url: `${host}/page.tar` }, "GIT_INVALID_REQUEST"],
    [{ type: "zip", url: `${host}/pkg.tar` }, "GIT_INVALID_REQUEST"],
    [{ type: "tar", url: `${host}/pkg.tar`, dir: "x" }, "IMPORT_SUBDIR_NOT_FOUND", { dir: "x" }],
    [{ type: "tar", url: `${host}/away` }, "GIT_INVALID_REQUEST"],
    [{ type: "tar", url: "http://10.0.0.1/x.tar" }, "GIT_INVALID_REQUEST"],
    [{ type: "zip", url: "file:///etc/passwd" }, "GIT_INVALID_REQUEST"],
    [{ type: "git", url: "ext::sh -c id" }, "GIT_INVALID_REQUEST"],
  ]) {
    await assert.rejects(create(imported), failsWith(code, fields), JSON.stringify(imported));
  }
  assert.equal((await freestyle.git.repos.list()).total, total);
});
