//! Claiming an address block, so that servers on one host never share a name, address or uid.
//!
//! ```text
//! <run dir>/blocks/lock           held while choosing
//! <run dir>/blocks/<n>/owner      locked for the owner's life: "<subnet> <state file>"
//! <run dir>/blocks/<n>/vms/       the records of the block's instances
//! <run dir>/blocks/<n>/vpcs/      and of its VPCs
//! <state file>                    the block's number, in the server's data directory
//! ```
//!
//! VMs outlive their server, so a restarted server must get its block back. The registry remembers
//! the owner by its state file's path; the state file remembers the block across reboots, which
//! clear the registry, so that uids (and with them the ownership of files) stay the same.
//!
//! A dead server's block is given to another only when nothing can be using it any more.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;

use crate::{
    address::Block,
    error::{Because, NetworkError},
};

/// The host's registry, locked so that one server chooses at a time. Only while it is held does a
/// block's own lock mean that a live server has the block.
pub(crate) struct Registry {
    blocks: PathBuf,
    _lock: File,
}

/// A claimed block. Dropping it, or the process ending in any way, lets the claim go.
#[derive(Debug)]
pub(crate) struct Claim {
    block: Block,
    owner: File,
    directory: PathBuf,
    /// The block was last used by another server, whose leftovers are still there.
    taken_over: bool,
}

/// What is going on in the host's network and process table, for judging unclaimed blocks.
pub(crate) struct HostUse {
    pub(crate) subnets: Vec<Ipv4Net>,
    pub(crate) uids: Vec<u32>,
}

impl HostUse {
    fn links(&self, block: Block) -> bool {
        self.subnets.iter().any(|subnet| block.subnet().contains(subnet))
    }

    fn processes(&self, block: Block) -> bool {
        self.uids.iter().any(|uid| block.owns_uid(*uid))
    }
}

/// Why a block may be claimed, most welcome first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// This server had it before.
    Own,
    /// Its server's data is gone. Preferred to a fresh one: claiming it cleans it up.
    Abandoned,
    /// Nobody's.
    Fresh,
    /// Another server's, which does not run and has no VM running.
    Idle,
}

impl Registry {
    /// Waits for other servers that are choosing at this moment.
    pub(crate) fn lock(run_dir: &Path) -> Result<Self, NetworkError> {
        let blocks = run_dir.join("blocks");
        let path = blocks.join("lock");
        let action = || format!("lock {}", path.display());
        fs::create_dir_all(&blocks).because(action)?;
        let lock = open_lock_file(&path).because(action)?;
        lock.lock().because(action)?;
        Ok(Self { blocks, _lock: lock })
    }

    /// Claims the most fitting block for the server that keeps its state in `state_file`, whose
    /// directory must exist.
    pub(crate) fn claim(&self, state_file: &Path, in_use: &HostUse) -> Result<Claim, NetworkError> {
        let owner = absolute(state_file)?;
        let remembered = read_state(&owner)?;
        let mut best: Option<((Standing, bool), Claim)> = None;
        for block in Block::all() {
            let Some(mut claim) = Claim::lock(&self.blocks, block)? else { continue };
            let is_remembered = remembered == Some(block);
            let Some(standing) = claim.standing(&owner, is_remembered, in_use)? else { continue };
            claim.taken_over = matches!(standing, Standing::Abandoned | Standing::Idle);
            // Of several equally good ones the remembered: `false` sorts first.
            let rank = (standing, !is_remembered);
            if best.as_ref().is_none_or(|(best, _)| rank < *best) {
                best = Some((rank, claim));
            }
        }
        let (_, mut claim) = best.ok_or(NetworkError::NoFreeBlock)?;
        claim.write_owner(&owner)?;
        if remembered != Some(claim.block) {
            write_state(&owner, claim.block)?;
        }
        Ok(claim)
    }
}

impl Claim {
    pub(crate) fn block(&self) -> Block {
        self.block
    }

    pub(crate) fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// Where the records of the block's instances are.
    pub(crate) fn vm_records(&self) -> PathBuf {
        self.directory.join("vms")
    }

    /// Where the records of the block's VPCs are.
    pub(crate) fn vpc_records(&self) -> PathBuf {
        self.directory.join("vpcs")
    }

    /// Gives the block back to everyone. The state file keeps preferring it.
    pub(crate) fn release(&self) -> Result<(), NetworkError> {
        self.owner.set_len(0).because(|| format!("release block {}", self.block))
    }

    /// Locks the block's owner file; `None` if a live server has it.
    fn lock(blocks: &Path, block: Block) -> Result<Option<Self>, NetworkError> {
        let directory = blocks.join(block.to_string());
        let path = directory.join("owner");
        let action = || format!("open {}", path.display());
        fs::create_dir_all(&directory).because(action)?;
        let owner = open_lock_file(&path).because(action)?;
        match owner.try_lock() {
            Ok(()) => Ok(Some(Self { block, owner, directory, taken_over: false })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).because(|| format!("lock {}", path.display()))
            }
        }
    }

    /// Whether and why `owner` may claim this block.
    fn standing(
        &mut self,
        owner: &Path,
        is_remembered: bool,
        in_use: &HostUse,
    ) -> Result<Option<Standing>, NetworkError> {
        let recorded = self.read_owner()?;
        if recorded.as_deref() == Some(owner) {
            return Ok(Some(Standing::Own));
        }
        let links = in_use.links(self.block);
        let processes = in_use.processes(self.block);
        Ok(match recorded {
            // The registry is gone, as after a reboot, but this server knows the block is its own.
            None if is_remembered => Some(Standing::Own),
            None if !links && !processes => Some(Standing::Fresh),
            Some(recorded) if !processes && !recorded.exists() => Some(Standing::Abandoned),
            Some(_) if !processes && !links => Some(Standing::Idle),
            _ => None,
        })
    }

    fn read_owner(&mut self) -> Result<Option<PathBuf>, NetworkError> {
        let mut content = Vec::new();
        self.owner
            .rewind()
            .and_then(|()| self.owner.read_to_end(&mut content))
            .because(|| format!("read the owner of block {}", self.block))?;
        // The path comes last because it may contain anything but a newline at its end.
        let line = content.strip_suffix(b"\n").unwrap_or(&content);
        let path = line.iter().position(|byte| *byte == b' ').map(|space| &line[space + 1..]);
        Ok(path.map(|path| PathBuf::from(OsStr::from_bytes(path))))
    }

    fn write_owner(&mut self, owner: &Path) -> Result<(), NetworkError> {
        let mut line = format!("{} ", self.block.subnet()).into_bytes();
        line.extend_from_slice(owner.as_os_str().as_bytes());
        line.push(b'\n');
        self.owner
            .set_len(0)
            .and_then(|()| self.owner.rewind())
            .and_then(|()| self.owner.write_all(&line))
            .because(|| format!("write the owner of block {}", self.block))
    }
}

/// Real uids of all processes. A process that ends meanwhile is skipped.
pub(crate) fn process_uids() -> Result<Vec<u32>, NetworkError> {
    let mut uids = Vec::new();
    for entry in fs::read_dir("/proc").because(|| "list processes".to_owned())?.flatten() {
        let is_process = entry.file_name().as_bytes().iter().all(u8::is_ascii_digit);
        if !is_process {
            continue;
        }
        // Not the directory's owner: that is root for a process that forbids core dumps.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.extend(line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok()));
    }
    Ok(uids)
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// The path that names this server in the registry: the same whatever directory it starts in.
fn absolute(state_file: &Path) -> Result<PathBuf, NetworkError> {
    let action = || format!("resolve {}", state_file.display());
    let name = state_file.file_name().ok_or(io::ErrorKind::InvalidInput).because(action)?;
    let parent = state_file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).because(action)?;
    Ok(parent.join(name))
}

/// The remembered block; none if there is no state file, or a damaged one, which is then replaced.
fn read_state(path: &Path) -> Result<Option<Block>, NetworkError> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(content.trim().parse().ok().and_then(Block::from_number)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).because(|| format!("read {}", path.display())),
    }
}

fn write_state(path: &Path, block: Block) -> Result<(), NetworkError> {
    let action = || format!("write {}", path.display());
    let temporary = path.with_added_extension("new");
    let mut file = File::create(&temporary).because(action)?;
    file.write_all(format!("{block}\n").as_bytes()).because(action)?;
    file.sync_all().because(action)?;
    fs::rename(&temporary, path).because(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A registry of its own and a host on which nothing runs, unless a test says otherwise.
    struct Host {
        directory: tempfile::TempDir,
        in_use: HostUse,
    }

    impl Host {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self { directory, in_use: HostUse { subnets: vec![], uids: vec![] } }
        }

        fn data(&self, server: &str) -> PathBuf {
            let data = self.directory.path().join(server);
            fs::create_dir_all(&data).unwrap();
            data
        }

        fn claim(&self, server: &str) -> Result<Claim, NetworkError> {
            let state = self.data(server).join("network");
            Registry::lock(&self.directory.path().join("run"))?.claim(&state, &self.in_use)
        }
    }

    #[test]
    fn live_servers_get_different_blocks_until_none_is_left() {
        let host = Host::new();
        let claims: Vec<_> = (0..32).map(|n| host.claim(&n.to_string()).unwrap()).collect();
        let blocks: Vec<_> = claims.iter().map(Claim::block).collect();
        assert_eq!(blocks, Block::all().collect::<Vec<_>>());
        assert!(matches!(host.claim("one too many"), Err(NetworkError::NoFreeBlock)));
    }

    #[test]
    fn a_restarted_server_gets_its_block_back_even_if_others_are_free() {
        let host = Host::new();
        let first = host.claim("first").unwrap();
        let second = host.claim("second").unwrap().block();
        drop(first);
        let again = host.claim("second").unwrap();
        assert_eq!(again.block(), second);
        assert!(!again.taken_over());
    }

    #[test]
    fn a_lost_state_file_or_a_cleared_registry_alone_does_not_lose_the_block() {
        let host = Host::new();
        let _other = host.claim("other").unwrap();
        let block = host.claim("server").unwrap().block();
        fs::remove_file(host.data("server").join("network")).unwrap();
        assert_eq!(host.claim("server").unwrap().block(), block);
        fs::remove_dir_all(host.directory.path().join("run")).unwrap();
        assert_eq!(host.claim("server").unwrap().block(), block);
    }

    #[test]
    fn a_block_whose_data_is_gone_is_taken_over_for_cleaning() {
        let host = Host::new();
        let block = host.claim("gone").unwrap().block();
        fs::remove_dir_all(host.data("gone")).unwrap();
        let heir = host.claim("heir").unwrap();
        assert_eq!((heir.block(), heir.taken_over()), (block, true));
    }

    #[test]
    fn a_dead_servers_block_with_a_running_vm_is_never_taken_over() {
        let mut host = Host::new();
        let block = host.claim("dead").unwrap().block();
        let slot = block.slot(5).unwrap();

        host.in_use.subnets = vec![Ipv4Net::new(slot.host_address(), 30).unwrap().trunc()];
        let others: Vec<_> = (0..31).map(|n| host.claim(&n.to_string()).unwrap()).collect();
        assert!(others.iter().all(|claim| claim.block() != block));
        assert!(matches!(host.claim("heir"), Err(NetworkError::NoFreeBlock)));

        fs::remove_dir_all(host.data("dead")).unwrap();
        host.in_use.uids = vec![slot.uid()];
        assert!(matches!(host.claim("heir"), Err(NetworkError::NoFreeBlock)));
    }

    #[test]
    fn an_idle_servers_block_is_taken_over_last() {
        let host = Host::new();
        let block = host.claim("idle").unwrap().block();
        let others: Vec<_> = (0..31).map(|n| host.claim(&n.to_string()).unwrap()).collect();
        assert!(others.iter().all(|claim| claim.block() != block));
        let heir = host.claim("heir").unwrap();
        assert_eq!((heir.block(), heir.taken_over()), (block, true));
        assert!(matches!(host.claim("idle"), Err(NetworkError::NoFreeBlock)));
    }

    #[test]
    fn a_released_block_is_nobodys() {
        let host = Host::new();
        let first = host.claim("first").unwrap();
        let number = first.block();
        first.release().unwrap();
        // Until its server has ended, the block stays locked.
        drop(first);
        let next = host.claim("second").unwrap();
        assert_eq!((next.block(), next.taken_over()), (number, false));
    }

    #[test]
    fn own_processes_are_seen_with_their_uid() {
        let own = rustix::process::getuid().as_raw();
        assert!(process_uids().unwrap().contains(&own));
    }
}
