//! The network of one VM: made in steps that can each be repeated, removed from any of them.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use crate::{
    address::{Block, GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_ADDRESS, PREFIX_LENGTH, Slot},
    error::{Because, NetworkError},
    instance::Instance,
    link::{Counters, Netlink},
    namespace,
    records::Records,
    rules::{Policy, UPLINK, VPC_LINK},
    settings, tap,
    vpc::Nic,
};

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

type Step = fn(&Site, &Vm, Option<&Nic>) -> Result<(), NetworkError>;

/// In order. Settings and rules come before any link: links inherit the settings when they are
/// made, and no packet is ever forwarded unfiltered. The tap, which QEMU needs, comes last, but for
/// the link to the VPC, whose routes lead over it.
pub(crate) const STEPS: [(&str, Step); 9] = [
    ("record", |site, vm, _| site.records.add(&vm.record())),
    ("namespace", |_, vm, _| namespace::ensure(&vm.instance.namespace())),
    ("settings", |_, vm, _| vm.inside(settings::apply)?),
    ("rules", |site, vm, nic| vm.inside(|| site.policy.load_for_vm(vm.slot, nic))?),
    ("veth", |_, vm, _| vm.ensure_veth()),
    ("uplink", |_, vm, _| vm.inside(|| vm.configure_uplink())?),
    ("tap", |_, vm, _| vm.inside(configure_tap)?),
    ("link to the VPC", |_, vm, nic| nic.map_or(Ok(()), |nic| vm.ensure_vpc_link(nic))),
    ("routes to the VPC", |site, vm, nic| match nic {
        Some(nic) => vm.inside(|| vm.configure_vpc_link(nic, site.policy.resolver()))?,
        None => Ok(()),
    }),
];

impl Vm {
    /// The name of its record.
    pub(crate) fn record(&self) -> String {
        format!("{}-{}", self.slot.index(), self.instance)
    }

    /// The VM of a record in this block.
    pub(crate) fn from_record(block: Block, name: &str) -> Option<Self> {
        let (slot, instance) = name.split_once('-')?;
        Some(Self { instance: instance.parse().ok()?, slot: block.slot(slot.parse().ok()?)? })
    }

    /// Makes whatever is missing; the namespace of the VPC must be there. After an error the rest
    /// stays for [`Vm::remove`].
    pub(crate) fn ensure(&self, site: &Site, nic: Option<&Nic>) -> Result<(), NetworkError> {
        STEPS.iter().try_for_each(|(_, step)| step(site, self, nic))
    }

    /// Removes whatever is there, the record last.
    pub(crate) fn remove(&self, site: &Site) -> Result<(), NetworkError> {
        // Freeing a namespace happens later and in the background; the links must not linger till
        // then, as they would hold on to the slot's names and addresses.
        let namespace = self.instance.namespace();
        if namespace::exists(&namespace) {
            self.inside(|| Netlink::open()?.delete(VPC_LINK))??;
        }
        Netlink::open()?.delete(&self.slot.link_name())?;
        namespace::remove(&namespace)?;
        site.records.remove(&self.record())
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
        settings::set(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
        settings::set(&format!("ipv4/conf/{name}/rp_filter"), "1")?;
        netlink.add_address(&name, self.slot.host_address(), PREFIX_LENGTH)?;
        netlink.set_up(&name, None)
    }

    fn configure_uplink(&self) -> Result<(), NetworkError> {
        let netlink = Netlink::open()?;
        netlink.add_address(UPLINK, self.slot.namespace_address(), PREFIX_LENGTH)?;
        netlink.set_up(UPLINK, None)?;
        netlink.set_route(Ipv4Net::default(), UPLINK, self.slot.host_address())
    }

    /// The pair of links between the VM and its VPC, and the VPC's route to the VM.
    fn ensure_vpc_link(&self, nic: &Nic) -> Result<(), NetworkError> {
        let own = namespace::open(&self.instance.namespace())?;
        let is_plugged = namespace::enter(&own, || Netlink::open()?.index(VPC_LINK))??.is_some();
        nic.vpc.inside(|| {
            let name = self.slot.vpc_link_name();
            let netlink = Netlink::open()?;
            if !is_plugged {
                // Left over from a namespace that is gone.
                netlink.delete(&name)?;
                netlink.create_veth(&name, VPC_LINK, own.as_fd(), self.instance.as_str())?;
            }
            netlink.add_address(&name, self.slot.vpc_gateway(), PREFIX_LENGTH)?;
            netlink.set_up(&name, None)?;
            netlink.set_route(nic.address.into(), &name, self.slot.vpc_address())
        })?
    }

    /// The VM's end of the link and its routes. DNS goes out over the uplink in any case, even if
    /// the resolver has an address of the VPC's range.
    fn configure_vpc_link(
        &self,
        nic: &Nic,
        resolver: Option<Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let netlink = Netlink::open()?;
        netlink.add_address(VPC_LINK, self.slot.vpc_address(), PREFIX_LENGTH)?;
        netlink.set_up(VPC_LINK, None)?;
        if let Some(resolver) = resolver {
            netlink.set_route(resolver.into(), UPLINK, self.slot.host_address())?;
        }
        netlink.set_route(nic.address.into(), tap::NAME, GUEST_ADDRESS)?;
        for destination in nic.destinations() {
            netlink.set_route(destination, VPC_LINK, self.slot.vpc_gateway())?;
        }
        Ok(())
    }
}

fn configure_tap() -> Result<(), NetworkError> {
    tap::ensure().because(|| "create a tap".to_owned())?;
    let netlink = Netlink::open()?;
    netlink.add_address(tap::NAME, GATEWAY_ADDRESS, PREFIX_LENGTH)?;
    netlink.set_up(tap::NAME, Some(GATEWAY_MAC))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_which_vm_it_is_of_and_a_stray_file_is_none() {
        let block = Block::from_number(3).unwrap();
        let vm = Vm::from_record(block, "7-abcdefghij0123456789").unwrap();
        assert_eq!(vm.record(), "7-abcdefghij0123456789");
        for stray in ["9999-abcdefghij0123456789", "abcdefghij0123456789", "7-short", "-", "stray"]
        {
            assert!(Vm::from_record(block, stray).is_none(), "{stray}");
        }
    }
}
