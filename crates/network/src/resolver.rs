//! Which DNS server guests are sent to.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use crate::error::{Because, NetworkError};

/// systemd-resolved lists its own upstream servers here, where `/etc/resolv.conf` names only its
/// loopback listener, which a guest cannot reach.
const SOURCES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The first resolver guests can use: of `configured`, or of the host's if none is configured.
pub(crate) fn choose(configured: &[IpAddr]) -> Result<Option<Ipv4Addr>, NetworkError> {
    if !configured.is_empty() {
        return Ok(configured.iter().find_map(usable));
    }
    for source in SOURCES {
        if let Some(resolver) = parse(&read(Path::new(source))?).iter().find_map(usable) {
            return Ok(Some(resolver));
        }
    }
    Ok(None)
}

/// Guests have no IPv6, and a loopback address would be their namespace's own.
fn usable(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => {
            let reachable = !address.is_loopback()
                && !address.is_unspecified()
                && !address.is_multicast()
                && !address.is_broadcast();
            reachable.then_some(*address)
        }
        IpAddr::V6(_) => None,
    }
}

fn read(path: &Path) -> Result<String, NetworkError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.because(|| format!("read {}", path.display())),
    }
}

fn parse(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    });
    servers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reachable_ipv4_server_wins() {
        let text = "# by hand\nsearch example.org\nnameserver ::1\nnameserver 127.0.0.53\n\
                    nameserver fe80::1%eth0\n  nameserver\t10.1.2.3 \nnameserver 10.4.5.6\n";
        assert_eq!(parse(text).iter().find_map(usable), Some(Ipv4Addr::new(10, 1, 2, 3)));
    }

    #[test]
    fn a_configured_list_without_a_usable_server_does_not_fall_back() {
        let configured = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        assert_eq!(choose(&configured).unwrap(), None);
    }
}
