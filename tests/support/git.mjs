// Native git as a user has it, with a home of its own.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { run } from "./process.mjs";

const CONFIG = `[user]
	name = Ada
	email = ada@example.com
[init]
	defaultBranch = main
[advice]
	detachedHead = false
`;

/** A directory in which git runs, removed with `remove`. */
export class Git {
  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), "fse2e-git-"));
    this.home = join(this.dir, "home");
    mkdirSync(this.home);
    writeFileSync(join(this.home, ".gitconfig"), CONFIG);
    /** Variables for every command. */
    this.env = {
      HOME: this.home,
      XDG_CONFIG_HOME: join(this.home, ".config"),
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_TERMINAL_PROMPT: "0",
      LC_ALL: "C",
    };
  }

  remove = () => rmSync(this.dir, { recursive: true, force: true });

  path(...names) {
    return join(this.dir, ...names);
  }

  /** Runs git below the directory, whatever comes of it. */
  run(cwd, ...args) {
    return run("git", args, { cwd: this.path(cwd), env: this.env });
  }

  /** Runs git, which must succeed; answers what it printed. */
  async ok(cwd, ...args) {
    const { code, stdout, stderr } = await this.run(cwd, ...args);
    assert.equal(code, 0, `git ${args.join(" ")}: ${stderr}`);
    return stdout.trim();
  }

  /** Runs git, which must fail; answers what it said. */
  async refused(cwd, ...args) {
    const { code, stderr } = await this.run(cwd, ...args);
    assert.notEqual(code, 0, `git ${args.join(" ")} succeeded`);
    return stderr;
  }

  /** Writes a file and commits it; answers the commit. */
  async commit(cwd, path, content) {
    writeFileSync(this.path(cwd, path), content);
    await this.ok(cwd, "add", "-A");
    await this.ok(cwd, "commit", "-q", "-m", `change ${path}`);
    return this.ok(cwd, "rev-parse", "HEAD");
  }
}

/** A URL of a repository with a credential in it. */
export function cloneUrl(gitUrl, secret, repoId) {
  const url = new URL(`${gitUrl}/${repoId}`);
  url.username = "x-access-token";
  url.password = secret;
  return url.href;
}
