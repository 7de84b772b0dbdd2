//! Kernel settings of the namespaces.

use std::{fs, io, path::Path};

use crate::error::{Because, NetworkError};

/// Settings of a VM's or VPC's namespace, made before it has any link.
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

/// Applies them to the thread's namespace.
pub(crate) fn apply() -> Result<(), NetworkError> {
    NAMESPACE_SETTINGS.iter().try_for_each(|(key, value)| set(key, value))
}

/// Writes a setting of the thread's network namespace.
pub(crate) fn set(key: &str, value: &str) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net").join(key);
    match fs::write(&path, value) {
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("ipv6/") => Ok(()),
        result => result.because(|| format!("set {} to {value}", path.display())),
    }
}
