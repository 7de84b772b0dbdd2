// The API and the git host below a domain of the platform, through the same listener as all sites.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Git, cloneUrl } from "../support/git.mjs";
import { account, failsWith } from "../support/sdk.mjs";
import { withServer } from "../support/server.mjs";
import { visit } from "../support/sites.mjs";

test("the server itself is reached by its platform domain, which nobody can map", async (t) => {
  const env = { FREESTYLE_PLATFORM_DOMAIN: "style.localhost" };
  await withServer({ poolSize: 0, env }, async (server) => {
    const { dataDir, url: baseUrl, caCertificate: ca, gitUrl } = server;
    const { port } = new URL(server.edgeHttpsUrl);
    const { key, id, freestyle } = await account("platform", { dataDir, baseUrl });
    const options = ["-H", `Authorization: Bearer ${key.secret}`];
    const who = await visit(port, "api.style.localhost", { ca, path: "/auth/v1/whoami", options });
    assert.equal(who.status, 200, who.text);
    assert.equal(JSON.parse(who.text).accountId, id);
    const stranger = await visit(port, "api.style.localhost", { ca, path: "/auth/v1/whoami" });
    assert.equal(stranger.status, 401);

    assert.equal(gitUrl, `https://git.style.localhost:${port}`);
    const { repoId } = await freestyle.git.repos.create({ name: "site" });
    const git = new Git();
    t.after(git.remove);
    Object.assign(git.env, { GIT_SSL_CAINFO: ca, https_proxy: "", HTTPS_PROXY: "" });
    const secure = ["-c", `http.curloptResolve=git.style.localhost:${port}:127.0.0.1`];
    const remote = cloneUrl(gitUrl, key.secret, repoId);
    await git.ok(".", ...secure, "clone", "-q", remote, "work");
    const pushed = await git.commit("work", "large", "x".repeat(3 << 20));
    await git.ok("work", ...secure, "push", "-q", "origin", "HEAD:main");
    const listed = await git.ok(".", ...secure, "ls-remote", remote, "refs/heads/main");
    assert.match(listed, new RegExp(`^${pushed}`));

    for (const domain of ["api.style.localhost", "git.style.localhost"]) {
      const vmId = "abcdefghij0123456789";
      await assert.rejects(
        freestyle.domains.mappings.create({ domain, vmId, vmPort: 80 }),
        failsWith("INVALID_DOMAIN", { domain }),
      );
    }
    await freestyle.git.repos.delete({ repoId });
  });
});
