//! The answers to what the operator asks.

use std::collections::HashMap;

use freestyle_git::RepositoryId;
use freestyle_repos::Repos;
use freestyle_store::Store;
use freestyle_vm::VmService;

use crate::operator::{Answer, Question, Storage, StorageItem, StorageKind};

/// Who knows the answers.
#[derive(Clone)]
pub(super) struct Witnesses {
    pub(super) vms: VmService,
    pub(super) repos: Repos,
    pub(super) store: Store,
}

impl Witnesses {
    pub(super) async fn answer(&self, question: Question) -> Answer {
        let answered = match question {
            Question::Storage => storage(&self.vms, &self.store).await.map(Answer::Storage),
            Question::Repositories => repositories(&self.store).await.map(Answer::Repositories),
            Question::GitFsck { repository } => {
                fsck(&self.repos, &repository).await.map(Answer::GitFsck)
            }
        };
        answered.unwrap_or_else(Answer::Failed)
    }
}

async fn repositories(store: &Store) -> Result<Vec<String>, String> {
    let all = store.system().all_repositories().await.map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(|repository| repository.id).collect())
}

async fn fsck(repos: &Repos, repository: &str) -> Result<Vec<String>, String> {
    let id = repository.parse::<RepositoryId>().map_err(|error| error.to_string())?;
    repos.fsck(&id).await.map_err(|error| error.to_string())
}

async fn storage(vms: &VmService, store: &Store) -> Result<Storage, String> {
    let report = vms.storage().await.map_err(|error| error.to_string())?;
    let accounts = store.system().list_accounts().await.map_err(|error| error.to_string())?;
    let names: HashMap<_, _> =
        accounts.into_iter().map(|account| (account.id, account.name)).collect();
    let items = report.items.into_iter().map(|item| StorageItem {
        kind: match item.kind {
            freestyle_vm::StorageKind::Vm => StorageKind::Vm,
            freestyle_vm::StorageKind::Snapshot => StorageKind::Snapshot,
            freestyle_vm::StorageKind::SuspendedMemory => StorageKind::SuspendedMemory,
            freestyle_vm::StorageKind::SharedLayer => StorageKind::SharedLayer,
            freestyle_vm::StorageKind::BaseImage => StorageKind::BaseImage,
        },
        id: item.id,
        name: item.name,
        account_name: item.account.as_ref().and_then(|id| names.get(id)).cloned(),
        account_id: item.account.map(Into::into),
        memory_bytes: item.memory,
        disk_bytes: item.disk,
        users: item.users,
    });
    let mut items: Vec<_> = items.collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.memory_bytes + item.disk_bytes));
    Ok(Storage {
        data_bytes: report.total,
        free_bytes: report.free,
        cache_bytes: report.cache,
        items,
    })
}
