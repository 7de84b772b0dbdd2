//! The answers to what the operator asks.

use std::collections::HashMap;

use freestyle_store::Store;
use freestyle_vm::VmService;

use crate::operator::{Answer, Question, Storage, StorageItem, StorageKind};

pub(super) async fn answer(question: Question, vms: &VmService, store: &Store) -> Answer {
    match question {
        Question::Storage => match storage(vms, store).await {
            Ok(storage) => Answer::Storage(storage),
            Err(reason) => Answer::Failed(reason),
        },
    }
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
