//! Brings a database of any released version to the schema of this build.
//!
//! A migration that was released never changes: a database out there has run it. A change of the
//! schema is a new file and a new entry at the end of [`MIGRATIONS`].

use sqlx::sqlite::SqlitePool;

use crate::error::StoreError;
use crate::store::now;

/// SQL that takes a database from one version to the next.
struct Migration {
    name: &'static str,
    sql: &'static str,
}

/// In order: the first leads to version 1.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "initial", sql: include_str!("../migrations/0001_initial.sql") },
    Migration { name: "identities", sql: include_str!("../migrations/0002_identities.sql") },
    Migration { name: "repositories", sql: include_str!("../migrations/0003_repositories.sql") },
    Migration { name: "triggers", sql: include_str!("../migrations/0004_triggers.sql") },
    Migration { name: "github sync", sql: include_str!("../migrations/0005_github_sync.sql") },
    Migration { name: "domains", sql: include_str!("../migrations/0006_domains.sql") },
    Migration { name: "vpcs", sql: include_str!("../migrations/0007_vpcs.sql") },
    Migration { name: "dns records", sql: include_str!("../migrations/0008_dns_records.sql") },
];

/// Applies what is missing, all of it or nothing.
pub(crate) async fn run(database: &SqlitePool) -> Result<(), StoreError> {
    apply(database, MIGRATIONS).await
}

async fn apply(database: &SqlitePool, migrations: &[Migration]) -> Result<(), StoreError> {
    // The write lock, so that of two servers starting at once one waits for the other.
    let mut tx = database.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
             version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)",
    )
    .execute(&mut *tx)
    .await?;
    let found: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM schema_migrations")
        .fetch_one(&mut *tx)
        .await?;
    let numbered = || (1i64..).zip(migrations);
    let supported = numbered().last().map_or(0, |(version, _)| version);
    if found > supported {
        return Err(StoreError::NewerDatabase { found, supported });
    }
    for (version, migration) in numbered().filter(|(version, _)| *version > found) {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        sqlx::query(
            "INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)",
        )
        .bind(version)
        .bind(migration.name)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        tracing::info!(version, name = migration.name, "migrated the metadata store");
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::{SnapshotState, Store, VmPhase};

    /// A database with the contents of a fixture.
    async fn database(path: &Path, fixture: &'static str) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let database = SqlitePool::connect_with(options).await.unwrap();
        sqlx::raw_sql(fixture).execute(&database).await.unwrap();
        database
    }

    async fn versions(database: &SqlitePool) -> Vec<i64> {
        sqlx::query_scalar("SELECT version FROM schema_migrations ORDER BY version")
            .fetch_all(database)
            .await
            .unwrap()
    }

    /// One such fixture per released version: a dump of a database that it wrote.
    #[tokio::test]
    async fn a_database_of_version_1_opens_with_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        database(&path, include_str!("../migrations/fixtures/version_1.sql")).await.close().await;

        let store = Store::open(&path).await.unwrap();

        let accounts = store.system().list_accounts().await.unwrap();
        assert_eq!(accounts.len(), 1);
        let scope = store.account_scope(&accounts[0].id);
        let phases: Vec<_> = scope.vms(true).await.unwrap().iter().map(|vm| vm.phase).collect();
        let expected = [VmPhase::Suspended, VmPhase::Deleted, VmPhase::Stopped, VmPhase::Running];
        assert_eq!(phases, expected);
        assert_eq!(scope.list_api_keys().await.unwrap().len(), 2);
        let operations = store.system().unfinished_operations().await.unwrap();
        assert_eq!(operations[0].kind, "stop");
        let kept = scope.snapshots(true).await.unwrap();
        let states: Vec<_> = kept.iter().map(|kept| kept.state).collect();
        assert_eq!(states, [SnapshotState::Failed, SnapshotState::Ready]);
        assert_eq!(store.system().live_snapshots().await.unwrap().len(), 2);
        let build = scope.build(kept[1].build_id.as_ref().unwrap()).await.unwrap().unwrap();
        assert_eq!(build.phases[0].snapshot_id.as_ref(), Some(&kept[1].id));
        let key = "fs_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let whose = store.system().authenticate_api_key(key).await.unwrap();
        let key = whose.unwrap();
        assert_eq!(key.account_id, accounts[0].id);
        // What came later works on what was there before.
        let identity = scope.create_identity().await.unwrap().id;
        let running = "aaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        scope.grant_vm(&identity, &running, None, &key.id).await.unwrap();
    }

    #[tokio::test]
    async fn only_missing_migrations_are_applied() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder.path().join("store.db"), "").await;
        let first = Migration { name: "first", sql: "CREATE TABLE t (a TEXT)" };
        let second = Migration { name: "second", sql: "ALTER TABLE t ADD COLUMN b TEXT" };

        apply(&database, &[first]).await.unwrap();
        sqlx::query("INSERT INTO t VALUES ('kept')").execute(&database).await.unwrap();
        let first = Migration { name: "first", sql: "would fail: never run twice" };
        let both = [first, second];
        apply(&database, &both).await.unwrap();
        apply(&database, &both).await.unwrap();

        assert_eq!(versions(&database).await, [1, 2]);
        let row: (String, Option<String>) =
            sqlx::query_as("SELECT a, b FROM t").fetch_one(&database).await.unwrap();
        assert_eq!(row, ("kept".to_owned(), None));
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder.path().join("store.db"), "").await;
        let good = Migration { name: "good", sql: "CREATE TABLE t (a TEXT)" };
        let bad = Migration { name: "bad", sql: "CREATE TABLE u (a TEXT); ALTER TABLE nowhere" };

        apply(&database, &[good, bad]).await.unwrap_err();

        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
            .fetch_one(&database)
            .await
            .unwrap();
        assert_eq!(tables, 0);
    }

    #[tokio::test]
    async fn a_newer_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        Store::open(&path).await.unwrap().close().await;
        let newer = "INSERT INTO schema_migrations VALUES (1000, 'from the future', 0)";
        let database = database(&path, newer).await;

        let refused = Store::open(&path).await.unwrap_err();

        assert!(matches!(refused, StoreError::NewerDatabase { found: 1000, .. }), "{refused}");
        assert_eq!(*versions(&database).await.last().unwrap(), 1000);
    }

    #[tokio::test]
    async fn the_writer_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.db")).await.unwrap();
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(store.writer()).await.unwrap();
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(store.writer()).await.unwrap();
        assert_eq!((synchronous, journal.as_str()), (2, "wal"), "2 is FULL");
    }
}
