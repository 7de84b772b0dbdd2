//! The address of a guest in a VPC: one more on the device that it has anyway, and routes that make
//! the guest use it. What is here is text for `ip -batch`; `linux` runs it.
//!
//! The route to the VPC names the address as the source, so it goes when the address does. The
//! default route of a NIC that is the default stands before the one that every guest has.

use std::fmt::Write;
use std::net::Ipv4Addr;

use freestyle_guest_protocol::message::Nic;

/// What every guest has: the device, and the gateway on it.
const DEVICE: &str = "eth0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Lower than that of the image's own default route.
const DEFAULT_METRIC: u32 = 50;

/// A place, as a line of text: another place is another line.
pub(crate) fn line(nic: &Nic) -> String {
    let Nic { address, prefix_length, is_default } = nic;
    format!("{address}/{prefix_length}{}", if *is_default { " default" } else { "" })
}

/// The address of such a line.
pub(crate) fn address_of(line: &str) -> Option<Ipv4Addr> {
    line.split_once('/')?.0.parse().ok()
}

/// Makes the guest a member of its VPC. Changes nothing where it is one.
pub(crate) fn commands_to_join(nic: &Nic) -> String {
    let Nic { address, prefix_length, is_default } = *nic;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_length.min(32))).unwrap_or(0);
    let network = Ipv4Addr::from(u32::from(address) & mask);
    let via = format!("via {GATEWAY} dev {DEVICE} src {address}");
    let mut commands = format!(
        "address replace {address}/32 dev {DEVICE}\nroute replace {network}/{prefix_length} {via}\n"
    );
    if is_default {
        // Writing to a String cannot fail.
        let _ = writeln!(commands, "route replace default {via} metric {DEFAULT_METRIC}");
    }
    commands
}

/// Undoes that, for a guest that was restored from a member's snapshot.
pub(crate) fn commands_to_leave(address: Ipv4Addr) -> String {
    format!("address delete {address}/32 dev {DEVICE}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(prefix_length: u8, is_default: bool) -> Nic {
        Nic { address: Ipv4Addr::new(192, 168, 10, 77), prefix_length, is_default }
    }

    #[test]
    fn a_member_has_an_address_and_a_route_to_the_others() {
        assert_eq!(
            commands_to_join(&nic(24, false)),
            "address replace 192.168.10.77/32 dev eth0\n\
             route replace 192.168.10.0/24 via 10.0.0.1 dev eth0 src 192.168.10.77\n"
        );
        assert!(commands_to_join(&nic(26, false)).contains("route replace 192.168.10.64/26 "));
        assert!(commands_to_join(&nic(0, false)).contains("route replace 0.0.0.0/0 "));
    }

    #[test]
    fn a_place_is_told_from_every_other() {
        let lines = [nic(24, false), nic(24, true), nic(16, false)].map(|nic| line(&nic));
        assert_eq!(lines, ["192.168.10.77/24", "192.168.10.77/24 default", "192.168.10.77/16"]);
        assert!(lines.iter().all(|line| address_of(line) == Some([192, 168, 10, 77].into())));
        assert_eq!(address_of(""), None);
    }

    #[test]
    fn the_default_nic_is_what_the_guest_is_known_by_everywhere() {
        let commands = commands_to_join(&nic(24, true));
        let last = commands.lines().last().unwrap();
        let expected = "route replace default via 10.0.0.1 dev eth0 src 192.168.10.77 metric 50";
        assert_eq!(last, expected);
    }
}
