//! Terminal sessions. They are in the memory of a VM, so a VM that is stopped has none, and of one
//! that is suspended is known what its guest said last.

use freestyle_store::{AccountId, VmId, VmPhase, VmRecord};

use super::{Service, instance};
use crate::engine::Engine;
use crate::error::VmError;
use crate::model::LinuxUser;
use crate::terminal::{OpenPty, PtyFailure, PtyInfo, PtySession, PtySize, SessionId, Terminal};

impl<E: Engine> Service<E> {
    /// Starts a session. Starts the VM if it is stopped.
    pub async fn open_pty(
        &self,
        account: &AccountId,
        vm: &VmId,
        open: OpenPty,
    ) -> Result<Terminal, VmError> {
        self.settled(account, vm).await?;
        let record = self.running(account, vm).await?;
        let opened = self.shared.engine.open_pty(instance(&record)?, open).await;
        self.explain(&record, opened).await
    }

    /// Looks on at a session of `user`, or of anyone. Wakes the VM if it is suspended and has the
    /// session; never boots it.
    pub async fn attach_pty(
        &self,
        account: &AccountId,
        vm: &VmId,
        session: &SessionId,
        user: Option<&LinuxUser>,
        size: PtySize,
    ) -> Result<Terminal, VmError> {
        let record = self.awake_with(account, vm, session, user).await?;
        let engine = &self.shared.engine;
        let attached = engine.attach_pty(instance(&record)?, session, user, size).await;
        self.explain(&record, attached).await
    }

    /// Kills a session's program and forgets the session; answers how the program ended. Wakes the
    /// VM as [`Service::attach_pty`] does.
    pub async fn close_pty(
        &self,
        account: &AccountId,
        vm: &VmId,
        session: &SessionId,
        user: Option<&LinuxUser>,
    ) -> Result<i32, VmError> {
        let record = self.awake_with(account, vm, session, user).await?;
        let closed = self.shared.engine.close_pty(instance(&record)?, session, user).await;
        self.explain(&record, closed).await
    }

    /// The sessions of `user`, or all of them, oldest first. Wakes nothing.
    pub async fn ptys(
        &self,
        account: &AccountId,
        vm: &VmId,
        user: Option<&LinuxUser>,
    ) -> Result<Vec<PtyInfo>, VmError> {
        match self.ptys_now(account, vm, user).await {
            // It was suspended or stopped meanwhile, and then that is the answer.
            Err(VmError::NotRunning(_)) => self.ptys_now(account, vm, user).await,
            answer => answer,
        }
    }

    async fn ptys_now(
        &self,
        account: &AccountId,
        vm: &VmId,
        user: Option<&LinuxUser>,
    ) -> Result<Vec<PtyInfo>, VmError> {
        let record = self.settled(account, vm).await?;
        let (mut sessions, suspended) = match record.phase {
            VmPhase::Running => {
                let listed = self.shared.engine.ptys(instance(&record)?, user).await;
                (self.explain(&record, listed).await?, false)
            }
            VmPhase::Suspended => (self.sleeping(&record).await.unwrap_or_default(), true),
            _ => (Vec::new(), false),
        };
        sessions.retain(|session| session.belongs_to(user.map(LinuxUser::as_str)));
        let info = |session: PtySession| PtyInfo {
            suspended: suspended && session.exit.is_none(),
            session,
        };
        Ok(sessions.into_iter().map(info).collect())
    }

    /// The VM with a guest that has answered and may have the session.
    async fn awake_with(
        &self,
        account: &AccountId,
        vm: &VmId,
        session: &SessionId,
        user: Option<&LinuxUser>,
    ) -> Result<VmRecord, VmError> {
        let record = self.settled(account, vm).await?;
        match record.phase {
            VmPhase::Running => Ok(record),
            VmPhase::Suspended => {
                let known = self.sleeping(&record).await;
                let found = known.as_ref().map(|all| all.iter().find(|one| one.id == *session));
                match found {
                    Some(None) => return Err(PtyFailure::NotFound.into()),
                    Some(Some(found)) if !found.belongs_to(user.map(LinuxUser::as_str)) => {
                        return Err(PtyFailure::OtherUser.into());
                    }
                    // What is not known is for the guest to say.
                    Some(Some(_)) | None => {}
                }
                self.start_if_needed(record).await
            }
            _ => Err(PtyFailure::NotFound.into()),
        }
    }

    /// What the guest of a suspended VM said of its sessions, if it did.
    async fn sleeping(&self, record: &VmRecord) -> Option<Vec<PtySession>> {
        self.shared.engine.sleeping_ptys(record.suspended.as_ref()?).await
    }

    /// The VM, once it is not on its way to sleep or to its end any more, or has not answered this
    /// server yet: whoever would be attached now would be evicted at once, or boot a VM that has just
    /// been stopped.
    async fn settled(&self, account: &AccountId, vm: &VmId) -> Result<VmRecord, VmError> {
        let record = self.record(account, vm).await?;
        if record.phase != VmPhase::Running {
            return Ok(record);
        }
        let machine = self.shared.machine(&record)?;
        let is_leaving = machine.status().busy.is_some_and(|busy| !busy.operation.leaves_running());
        let is_up = |run: &freestyle_store::Instance| self.shared.engine.is_up(&run.id);
        if !is_leaving && record.instance.as_ref().is_some_and(is_up) {
            return Ok(record);
        }
        machine.adopt().await
    }
}
