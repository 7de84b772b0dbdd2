//! The network of one VM: made in steps that can each be repeated, removed from any of them.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    address::{GATEWAY_ADDRESS, GATEWAY_MAC, PREFIX_LENGTH, Slot},
    error::{Because, NetworkError},
    instance::{Instance, Records},
    link::{Counters, Netlink},
    namespace,
    rules::{Policy, UPLINK},
    tap,
};

/// Settings of a VM's namespace, made before it has any link.
const NAMESPACE_SETTINGS: [(&str, &str); 9] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    // ARP passes by the packet filter. Without these a guest could learn the namespace's other
    // address, and fill the host's one neighbour table by asking on behalf of made-up senders.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/rp_filter", "1"),
    // Last, as a namespace that forwards should have all of the above.
    ("ipv4/ip_forward", "1"),
];

/// The parts of the network that exist for one VM.
#[derive(Clone, Debug)]
pub(crate) struct Vm {
    pub(crate) instance: Instance,
    pub(crate) slot: Slot,
}

/// What the steps need besides the VM itself.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) records: Records,
    pub(crate) policy: Policy,
}

type Step = fn(&Site, &Vm) -> Result<(), NetworkError>;

/// In order. Settings and rules come before any link: links inherit the settings when they are
/// made, and no packet is ever forwarded unfiltered. The tap, which QEMU needs, comes last.
pub(crate) const STEPS: [(&str, Step); 7] = [
    ("record", |site, vm| site.records.add(&vm.instance, vm.slot)),
    ("namespace", |_, vm| namespace::ensure(&vm.instance.namespace())),
    ("settings", |_, vm| vm.inside(apply_settings)?),
    ("rules", |site, vm| vm.inside(|| site.policy.load_for_vm())?),
    ("veth", |_, vm| vm.ensure_veth()),
    ("uplink", |_, vm| vm.inside(|| vm.configure_uplink())?),
    ("tap", |_, vm| vm.inside(configure_tap)?),
];

impl Vm {
    /// Makes whatever is missing. After an error the rest stays for [`Vm::remove`].
    pub(crate) fn ensure(&self, site: &Site) -> Result<(), NetworkError> {
        STEPS.iter().try_for_each(|(_, step)| step(site, self))
    }

    /// Removes whatever is there, the record last.
    pub(crate) fn remove(&self, site: &Site) -> Result<(), NetworkError> {
        // Freeing a namespace happens later and in the background; the link must not linger till
        // then, as it would hold on to the slot's name and address.
        Netlink::open()?.delete(&self.slot.link_name())?;
        namespace::remove(&self.instance.namespace())?;
        site.records.remove(&self.instance, self.slot)
    }

    pub(crate) fn counters(&self) -> Result<Counters, NetworkError> {
        self.inside(|| Netlink::open()?.counters(tap::NAME))?
    }

    pub(crate) fn inside<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, NetworkError> {
        namespace::enter(namespace::open(&self.instance.namespace())?, work)
    }

    fn ensure_veth(&self) -> Result<(), NetworkError> {
        let name = self.slot.link_name();
        let netlink = Netlink::open()?;
        let namespace = namespace::open(&self.instance.namespace())?;
        let has_uplink = namespace::enter(&namespace, || Netlink::open()?.index(UPLINK))??;
        if has_uplink.is_none() {
            // Left over from a namespace that is gone.
            netlink.delete(&name)?;
            netlink.create_veth(&name, UPLINK, namespace.as_fd(), self.instance.as_str())?;
        }
        set(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
        set(&format!("ipv4/conf/{name}/rp_filter"), "1")?;
        netlink.add_address(&name, self.slot.host_address(), PREFIX_LENGTH)?;
        netlink.set_up(&name, None)
    }

    fn configure_uplink(&self) -> Result<(), NetworkError> {
        let netlink = Netlink::open()?;
        netlink.add_address(UPLINK, self.slot.namespace_address(), PREFIX_LENGTH)?;
        netlink.set_up(UPLINK, None)?;
        netlink.set_default_route(UPLINK, self.slot.host_address())
    }
}

fn apply_settings() -> Result<(), NetworkError> {
    NAMESPACE_SETTINGS.iter().try_for_each(|(key, value)| set(key, value))
}

fn configure_tap() -> Result<(), NetworkError> {
    tap::ensure().because(|| "create a tap".to_owned())?;
    let netlink = Netlink::open()?;
    netlink.add_address(tap::NAME, GATEWAY_ADDRESS, PREFIX_LENGTH)?;
    netlink.set_up(tap::NAME, Some(GATEWAY_MAC))
}

/// Writes a setting of the thread's network namespace.
fn set(key: &str, value: &str) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net").join(key);
    match fs::write(&path, value) {
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => Ok(()),
        result => result.because(|| format!("set {} to {value}", path.display())),
    }
}

/// The finished network of one VM. A description, not a guard: dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct VmNetwork(pub(crate) Vm);

/// How long a tap may be held by children that have not executed their program yet.
const TAP_PATIENCE: Duration = Duration::from_secs(3);
const TAP_RETRY: Duration = Duration::from_millis(1);

impl VmNetwork {
    /// The instance this network is for.
    pub fn instance(&self) -> &str {
        self.0.instance.as_str()
    }

    /// The unprivileged user the VM's processes must run as; unique on the host.
    pub fn uid(&self) -> u32 {
        self.0.slot.uid()
    }

    /// Where the namespace is mounted, for `setns` and `ip netns`.
    pub fn namespace_path(&self) -> PathBuf {
        namespace::path(&self.0.instance.namespace())
    }

    /// A handle to enter the namespace by. While open it keeps the namespace alive.
    ///
    /// # Errors
    /// If the network has been removed.
    pub fn namespace(&self) -> Result<OwnedFd, NetworkError> {
        namespace::open(&self.0.instance.namespace())
    }

    /// Opens the tap for a QEMU to inherit (`-netdev tap,fd=N`): a single queue, with virtio-net
    /// headers, closed on exec. Blocks for well under a millisecond, longer where this process is
    /// just starting others: until such a child executes its program, it has a copy of the
    /// descriptor with which the tap was made.
    ///
    /// # Errors
    /// [`NetworkError::TapBusy`] while an earlier QEMU still has it open.
    pub fn open_tap(&self) -> Result<OwnedFd, NetworkError> {
        let give_up = Instant::now() + TAP_PATIENCE;
        loop {
            match self.0.inside(tap::open)? {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    if Instant::now() > give_up {
                        return Err(NetworkError::TapBusy(self.instance().to_owned()));
                    }
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "nothing tells when another process closes a descriptor, and this \
                                  blocks anyway"
                    )]
                    std::thread::sleep(TAP_RETRY);
                }
                result => return result.because(|| format!("open the tap of {}", self.instance())),
            }
        }
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it. Sockets it makes
    /// and child processes it starts stay in the namespace. Blocks as long as `work` does.
    ///
    /// # Errors
    /// If the network has been removed.
    pub fn run_inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetworkError> {
        self.0.inside(work)
    }
}
