//! Grants of VMs: which identity may use which VM, as which Linux users. A grant on a VM that was
//! deleted is none.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, SqliteConnection};

use crate::error::StoreError;
use crate::identities;
use crate::ids::{ApiKeyId, IdentityId, VmGrantId, VmId};
use crate::rows::{Page, decoded, integer, json, number, parsed};
use crate::store::{AccountScope, now};

/// How many VMs an identity may be granted.
pub const MAX_VM_GRANTS: u64 = 10_000;

/// An identity's right to use a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmGrant {
    /// Identifier.
    pub id: VmGrantId,
    /// Who may use it.
    pub identity_id: IdentityId,
    /// What it may use.
    pub vm_id: VmId,
    /// The Linux users it may act as; `None` is any.
    pub allowed_users: Option<Vec<String>>,
    /// Unix milliseconds.
    pub granted_at: i64,
    /// The API key that was used.
    pub granted_by: ApiKeyId,
}

impl FromRow<'_, SqliteRow> for VmGrant {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let allowed: Option<&str> = row.try_get("allowed_users")?;
        let allowed = allowed.map(serde_json::from_str).transpose();
        Ok(Self {
            id: parsed(row, "id")?,
            identity_id: parsed(row, "identity_id")?,
            vm_id: parsed(row, "vm_id")?,
            allowed_users: decoded("allowed_users", allowed)?,
            granted_at: row.try_get("granted_at")?,
            granted_by: parsed(row, "granted_by")?,
        })
    }
}

impl AccountScope<'_> {
    /// Lets an identity use a VM; both are the account's. Of what it was granted before, which must
    /// be less than [`MAX_VM_GRANTS`], nothing changes: [`StoreError::GrantExists`].
    pub async fn grant_vm(
        &self,
        identity: &IdentityId,
        vm: &VmId,
        allowed_users: Option<&[String]>,
        by: &ApiKeyId,
    ) -> Result<VmGrant, StoreError> {
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let exists: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT 1 FROM vms WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL)",
        )
        .bind(vm.as_str())
        .bind(self.account.as_str())
        .fetch_one(&mut *tx)
        .await?;
        if !exists {
            return Err(StoreError::NoSuchVm(vm.clone()));
        }
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM vm_grants WHERE identity_id = $1")
                .bind(identity.as_str())
                .fetch_one(&mut *tx)
                .await?;
        if count >= integer(MAX_VM_GRANTS)? {
            return Err(StoreError::LimitReached { limit: MAX_VM_GRANTS });
        }
        let granted: Option<VmGrant> = sqlx::query_as(
            "INSERT INTO vm_grants
                 (id, identity_id, vm_id, allowed_users, granted_at, granted_by)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (identity_id, vm_id) DO NOTHING
             RETURNING *",
        )
        .bind(VmGrantId::random().as_str())
        .bind(identity.as_str())
        .bind(vm.as_str())
        .bind(allowed_users.map(|users| json(&users)).transpose()?)
        .bind(now())
        .bind(by.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let granted = granted.ok_or(StoreError::GrantExists)?;
        tx.commit().await?;
        tracing::info!(account = %self.account, %identity, %vm, ?allowed_users, "granted a VM");
        Ok(granted)
    }

    /// Replaces as which Linux users an identity may use a VM.
    pub async fn update_vm_grant(
        &self,
        identity: &IdentityId,
        vm: &VmId,
        allowed_users: Option<&[String]>,
    ) -> Result<VmGrant, StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let updated: Option<VmGrant> = sqlx::query_as(
            "UPDATE vm_grants SET allowed_users = $3 WHERE identity_id = $1 AND vm_id = $2
             RETURNING *",
        )
        .bind(identity.as_str())
        .bind(vm.as_str())
        .bind(allowed_users.map(|users| json(&users)).transpose()?)
        .fetch_optional(&mut *tx)
        .await?;
        let updated = updated.ok_or(StoreError::NoSuchGrant)?;
        tx.commit().await?;
        tracing::info!(
            account = %self.account, %identity, %vm, ?allowed_users, "changed the grant of a VM",
        );
        Ok(updated)
    }

    /// What lets an identity of this account use a VM; `None` if nothing does.
    pub async fn vm_grant(
        &self,
        identity: &IdentityId,
        vm: &VmId,
    ) -> Result<Option<VmGrant>, StoreError> {
        let granted = sqlx::query_as(
            "SELECT vm_grants.* FROM vm_grants
             JOIN identities ON identities.id = vm_grants.identity_id
             JOIN vms ON vms.id = vm_grants.vm_id
             WHERE vm_grants.identity_id = $1 AND vm_grants.vm_id = $2
                 AND identities.account_id = $3 AND vms.account_id = $3
                 AND vms.deleted_at IS NULL",
        )
        .bind(identity.as_str())
        .bind(vm.as_str())
        .bind(self.account.as_str())
        .fetch_optional(self.store.readers())
        .await?;
        Ok(granted)
    }

    /// The VMs that an identity may use, in the order in which they were granted.
    pub async fn vm_grants(
        &self,
        identity: &IdentityId,
        limit: u64,
        offset: u64,
    ) -> Result<Page<VmGrant>, StoreError> {
        self.identity(identity).await?;
        let items = sqlx::query_as(
            "SELECT * FROM vm_grants WHERE identity_id = $1
             ORDER BY granted_at, id LIMIT $2 OFFSET $3",
        )
        .bind(identity.as_str())
        .bind(integer(limit)?)
        .bind(integer(offset)?)
        .fetch_all(self.store.readers())
        .await?;
        let counted = sqlx::query("SELECT count(*) AS total FROM vm_grants WHERE identity_id = $1")
            .bind(identity.as_str())
            .fetch_one(self.store.readers())
            .await?;
        Ok(Page { items, total: number(&counted, "total")? })
    }

    /// Ends an identity's right to use a VM at once.
    pub async fn revoke_vm_grant(
        &self,
        identity: &IdentityId,
        vm: &VmId,
    ) -> Result<(), StoreError> {
        let _ending = self.store.ending_rights();
        let mut tx = self.store.begin().await?;
        identities::identity(&mut tx, self.account, identity).await?;
        let revoked = sqlx::query("DELETE FROM vm_grants WHERE identity_id = $1 AND vm_id = $2")
            .bind(identity.as_str())
            .bind(vm.as_str())
            .execute(&mut *tx)
            .await?;
        if revoked.rows_affected() == 0 {
            return Err(StoreError::NoSuchGrant);
        }
        tx.commit().await?;
        tracing::info!(account = %self.account, %identity, %vm, "revoked the grant of a VM");
        Ok(())
    }
}

/// For a VM that is being deleted. The caller holds [`crate::Store::ending_rights`].
pub(crate) async fn end_all(database: &mut SqliteConnection, vm: &VmId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM vm_grants WHERE vm_id = $1")
        .bind(vm.as_str())
        .execute(database)
        .await?;
    Ok(())
}
