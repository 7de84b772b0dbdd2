//! What `wg-quick` on a client's computer reads (seed page "VPNs").

use std::fmt::Write;
use std::net::Ipv4Addr;

use freestyle_network::Ipv4Net;
use freestyle_wireguard::{PrivateKey, PublicKey};

use crate::host::VpnHost;

/// Less than the time for which routers on the way remember a client.
const KEEPALIVE_SECONDS: u32 = 25;

/// The other end of a client's tunnel.
pub(crate) struct Server<'a> {
    pub(crate) public_key: PublicKey,
    pub(crate) host: &'a VpnHost,
    pub(crate) port: u16,
}

/// The configuration of a client with this address in a VPC of this range. One whose key is not
/// known here has a line to fill in.
pub(crate) fn text(
    address: Ipv4Addr,
    key: Option<&PrivateKey>,
    range: Ipv4Net,
    server: &Server<'_>,
) -> String {
    let key_line = match key {
        Some(key) => format!("PrivateKey = {}", key.expose()),
        None => "# PrivateKey = the private key of this computer".to_owned(),
    };
    let Server { public_key, host, port } = server;
    let mut text = format!("[Interface]\nAddress = {address}/32\n{key_line}\n\n");
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "[Peer]\nPublicKey = {public_key}\nAllowedIPs = {range}\nEndpoint = {}:{port}\n\
         PersistentKeepalive = {KEEPALIVE_SECONDS}\n",
        host.bracketed(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_documented_one() {
        let key = PrivateKey::generate();
        let host = "vpn-endpoint.example.com".parse().unwrap();
        let server = Server { public_key: key.public_key(), host: &host, port: 51820 };
        let range = "192.168.10.0/24".parse().unwrap();
        let address = Ipv4Addr::new(100, 96, 0, 2);
        let expected = format!(
            "[Interface]\nAddress = 100.96.0.2/32\nPrivateKey = {}\n\n[Peer]\nPublicKey = {}\n\
             AllowedIPs = 192.168.10.0/24\nEndpoint = vpn-endpoint.example.com:51820\n\
             PersistentKeepalive = 25\n",
            key.expose(),
            key.public_key(),
        );
        assert_eq!(text(address, Some(&key), range, &server), expected);
        let without = text(address, None, range, &server);
        assert!(without.contains("\n# PrivateKey = "), "{without}");
    }
}
