//! The calls of the VM service.
// INTERFACE SKETCH: bodies come later.
#![allow(clippy::todo, unused_variables, missing_docs)]

use std::time::Duration;
use freestyle_store::{AccountId, InstanceId, VmId};
use crate::error::VmError;
use crate::model::*;

/// Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct VmService;

impl VmService {
    pub async fn create(&self, account: &AccountId, request: CreateVm) -> Result<VmInfo, VmError> { todo!() }
    pub async fn list(&self, account: &AccountId, filter: ListVms) -> Result<VmList, VmError> { todo!() }
    pub async fn get(&self, account: &AccountId, vm: &VmId) -> Result<VmInfo, VmError> { todo!() }
    /// Boots a stopped VM; a running one only takes the new settings.
    pub async fn start(&self, account: &AccountId, vm: &VmId, request: StartVm) -> Result<VmInfo, VmError> { todo!() }
    /// Shuts the guest down and keeps its disk. Answers the run that ended.
    pub async fn stop(&self, account: &AccountId, vm: &VmId) -> Result<Option<InstanceId>, VmError> { todo!() }
    /// Ends the process at once and keeps the disk as it is.
    pub async fn kill(&self, account: &AccountId, vm: &VmId) -> Result<(), VmError> { todo!() }
    /// Answers the VM as it was.
    pub async fn delete(&self, account: &AccountId, vm: &VmId) -> Result<VmInfo, VmError> { todo!() }
    /// Waits until the VM's process has ended; answers how, in words.
    pub async fn wait_for_exit(&self, account: &AccountId, vm: &VmId) -> Result<String, VmError> { todo!() }
    /// Starts the VM if it is stopped.
    pub async fn exec(&self, account: &AccountId, vm: &VmId, exec: Exec) -> Result<ExecOutput, VmError> { todo!() }
    /// Starts the VM if it is stopped.
    pub async fn read_path(&self, account: &AccountId, vm: &VmId, user: Option<LinuxUser>, path: &str) -> Result<FileOrDir, VmError> { todo!() }
    /// Starts the VM if it is stopped. Makes missing parent directories.
    pub async fn write_file(&self, account: &AccountId, vm: &VmId, user: Option<LinuxUser>, path: &str, content: Vec<u8>) -> Result<(), VmError> { todo!() }
}
