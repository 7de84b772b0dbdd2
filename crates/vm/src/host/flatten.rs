//! Shortening the chain of layers that a disk stands on.
//!
//! Every snapshot and fork adds a layer, and every layer makes reads a little slower. QEMU copies
//! what the layers above the base image hold into the disk's own file, while the guest runs. The
//! manifest changes last: until then it names more layers than are needed, and that is the same disk.

use freestyle_qemu::Qmp;
use freestyle_store::{Instance, VmRecord};

use super::files::write_json;
use super::{Inner, blocking, qemu_error};
use crate::error::VmError;

/// The layers of the base image, which all disks share and which are never copied.
const SHARED_LAYERS: usize = 2;

impl Inner {
    pub(super) async fn flatten(&self, vm: &VmRecord, instance: &Instance) -> Result<(), VmError> {
        let manifest = self.files.read_manifest(&vm.id)?;
        let Some(above) = manifest.layers.len().checked_sub(SHARED_LAYERS).filter(|n| *n > 0)
        else {
            return Ok(());
        };
        let qmp = self.process_of(vm, instance)?.monitor().await?;
        let base = manifest.layers[above].node();
        let stream = match qmp.running_stream().await.map_err(qemu_error)? {
            Some(stream) => stream,
            None => qmp.stream(&manifest.disk, &base, 0).await.map_err(qemu_error)?,
        };
        stream.finish().await.map_err(qemu_error)?;
        self.forget_layers(vm).await
    }

    /// Ends a copy that was given up. If it was done by then, so be it.
    pub(super) async fn stop_flattening(
        &self,
        vm: &VmRecord,
        instance: &Instance,
    ) -> Result<(), VmError> {
        let running = self.running().get(&instance.id).cloned();
        let Some(running) = running.filter(|running| running.process.is_alive()) else {
            return Ok(());
        };
        let qmp: Qmp = running.monitor().await?;
        let Some(stream) = qmp.running_stream().await.map_err(qemu_error)? else { return Ok(()) };
        if stream.cancel().await.map_err(qemu_error)? {
            self.forget_layers(vm).await?;
        }
        Ok(())
    }

    /// The disk holds all that the layers above the base image do.
    async fn forget_layers(&self, vm: &VmRecord) -> Result<(), VmError> {
        let mut manifest = self.files.read_manifest(&vm.id)?;
        let above = manifest.layers.len().saturating_sub(SHARED_LAYERS);
        manifest.layers.drain(..above);
        let path = self.files.manifest(&vm.id);
        blocking(move || write_json(&path, &manifest)).await
    }
}
