// The documentation's guide that puts a running PostgreSQL into a snapshot.

import assert from "node:assert/strict";
import { test } from "node:test";

import { bake, eventually, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("guide postgres");

test("PostgreSQL runs in every VM made from its snapshot", async () => {
  const snapshotId = await bake(freestyle, "postgres-builder", async (builder) => {
    await sh(builder, "apt-get install -y postgresql");
    await builder.exec("systemctl start postgresql");
    await eventually("PostgreSQL accepts connections", async () => {
      const probe = await builder.exec('su postgres -c "pg_isready" || true');
      return probe.stdout?.includes("accepting connections");
    });
  });

  const { vm } = await freestyle.vms.create({
    name: "postgres-sandbox",
    snapshotId,
    idleTimeoutSeconds: null,
  });
  await vm.exec(
    `su postgres -c "psql -c 'CREATE TABLE fruits (id serial PRIMARY KEY, name text);'"`,
  );
  await vm.exec(
    `su postgres -c "psql -c \\"INSERT INTO fruits (name) VALUES ('apple'), ('banana');\\""`,
  );
  const rows = await vm.exec(
    `su postgres -c "psql -c 'SELECT id, name FROM fruits ORDER BY id;'"`,
  );
  assert.equal(
    rows.stdout.trim(),
    " id |  name  \n----+--------\n  1 | apple\n  2 | banana\n(2 rows)".trim(),
  );

  // Beyond the guide: a fork of the running database has its rows, and each goes its own way.
  const insert = `su postgres -c "psql -qc \\"INSERT INTO fruits (name) VALUES ('cherry')\\""`;
  const count = `su postgres -c "psql -Atc 'SELECT count(*) FROM fruits'"`;
  const { forks } = await vm.fork({ count: 1 });
  const [{ vm: child }] = forks;
  await child.exec(insert);
  assert.equal((await child.exec(count)).stdout, "3\n");
  assert.equal((await vm.exec(count)).stdout, "2\n");
});
