//! The few rtnetlink requests this crate needs, blocking.
//!
//! A [`Netlink`] acts on the namespace of the thread that opened it, for as long as it lives.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

use crate::error::{Because, NetworkError};

/// The subnets that the host is in at this moment, IPv4 and IPv6, its own addresses and those of
/// loopback included. Asks the kernel, which answers at once.
pub fn host_subnets() -> Result<Vec<IpNet>, NetworkError> {
    Netlink::open()?.subnets()
}

/// An rtnetlink socket.
pub(crate) struct Netlink(Socket);

/// Bytes over a link since it was made, seen from the host: `received` came in from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) received: u64,
    pub(crate) transmitted: u64,
}

impl Netlink {
    pub(crate) fn open() -> Result<Self, NetworkError> {
        let action = || "open a netlink socket".to_owned();
        let socket = Socket::new(NETLINK_ROUTE).because(action)?;
        // Connected to the kernel, the socket hears nobody else.
        socket.connect(&SocketAddr::new(0, 0)).because(action)?;
        Ok(Self(socket))
    }

    /// The index of the link called `name`, if there is one.
    pub(crate) fn index(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        Ok(self.link(name)?.map(|link| link.header.index))
    }

    /// Makes a pair of links, down: `name` here, `peer` in the namespace `peer_namespace`.
    pub(crate) fn create_veth(
        &self,
        name: &str,
        peer: &str,
        peer_namespace: BorrowedFd<'_>,
        alias: &str,
    ) -> Result<(), NetworkError> {
        let mut peer_message = named(peer);
        peer_message.attributes.push(LinkAttribute::NetNsFd(peer_namespace.as_raw_fd()));
        let mut message = named(name);
        message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer_message))),
        ]));
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .because(|| format!("create link {name}"))?;
        Ok(())
    }

    /// Brings a link up, with a fixed MAC address where one is given.
    pub(crate) fn set_up(&self, name: &str, mac: Option<[u8; 6]>) -> Result<(), NetworkError> {
        let mut message = named(name);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        self.request(RouteNetlinkMessage::SetLink(message), 0)
            .because(|| format!("bring up link {name}"))?;
        Ok(())
    }

    /// Sets how many bytes a packet over the link may have.
    pub(crate) fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), NetworkError> {
        let mut message = named(name);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.request(RouteNetlinkMessage::SetLink(message), 0)
            .because(|| format!("set the MTU of link {name}"))?;
        Ok(())
    }

    /// Deletes a link, and its peer; content if there is none.
    pub(crate) fn delete(&self, name: &str) -> Result<(), NetworkError> {
        match self.request(RouteNetlinkMessage::DelLink(named(name)), 0) {
            Err(error) if is(&error, Errno::NODEV) => Ok(()),
            result => result.map(drop).because(|| format!("delete link {name}")),
        }
    }

    /// Adds an address; content if the link has it.
    pub(crate) fn add_address(
        &self,
        link: &str,
        address: Ipv4Addr,
        prefix_length: u8,
    ) -> Result<(), NetworkError> {
        let action = || format!("add {address}/{prefix_length} to link {link}");
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix_length;
        message.header.index = self.existing(link).because(action)?;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
        message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
        match self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if is(&error, Errno::EXIST) => Ok(()),
            result => result.map(drop).because(action),
        }
    }

    /// Sets the route to a destination, in place of an earlier one.
    pub(crate) fn set_route(
        &self,
        destination: Ipv4Net,
        link: &str,
        gateway: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let action = || format!("route {destination} through {gateway} on link {link}");
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = destination.prefix_len();
        if destination.prefix_len() > 0 {
            let network = RouteAddress::Inet(destination.network());
            message.attributes.push(RouteAttribute::Destination(network));
        }
        message.attributes.push(RouteAttribute::Oif(self.existing(link).because(action)?));
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
            .because(action)?;
        Ok(())
    }

    /// The traffic counters of a link.
    pub(crate) fn counters(&self, name: &str) -> Result<Counters, NetworkError> {
        let link = self.link(name)?;
        link.iter()
            .flat_map(|link| &link.attributes)
            .find_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => {
                    Some(Counters { received: stats.rx_bytes, transmitted: stats.tx_bytes })
                }
                _ => None,
            })
            .ok_or_else(|| io::Error::from(Errno::NODEV))
            .because(|| format!("read the counters of link {name}"))
    }

    /// The subnets this namespace's links are in, and of a point-to-point link both ends.
    fn subnets(&self) -> Result<Vec<IpNet>, NetworkError> {
        let message = AddressMessage::default();
        let replies = self
            .request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)
            .because(|| "list the host's addresses".to_owned())?;
        let mut subnets = Vec::new();
        for reply in replies {
            let RouteNetlinkMessage::NewAddress(message) = reply else { continue };
            for attribute in message.attributes {
                let (AddressAttribute::Address(address) | AddressAttribute::Local(address)) =
                    attribute
                else {
                    continue;
                };
                let subnet = IpNet::new(address, message.header.prefix_len);
                subnets.extend(subnet.map(|subnet| subnet.trunc()));
            }
        }
        Ok(subnets)
    }

    fn existing(&self, name: &str) -> io::Result<u32> {
        match self.index(name) {
            Ok(Some(index)) => Ok(index),
            Ok(None) => Err(Errno::NODEV.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn link(&self, name: &str) -> Result<Option<LinkMessage>, NetworkError> {
        let replies = match self.request(RouteNetlinkMessage::GetLink(named(name)), 0) {
            Err(error) if is(&error, Errno::NODEV) => return Ok(None),
            result => result.because(|| format!("look up link {name}"))?,
        };
        Ok(replies.into_iter().find_map(|reply| match reply {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        }))
    }

    /// Sends one request and collects the answer until the kernel says it is complete.
    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        // A dump ends with a message of its own; everything else is asked to acknowledge.
        let completion = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        header.flags = NLM_F_REQUEST | completion | flags;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut buffer = vec![0; packet.buffer_len()];
        packet.serialize(&mut buffer);
        self.0.send(&buffer, 0)?;

        let mut replies = Vec::new();
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // Messages are padded to four bytes; the last one's padding may be missing.
                let length = (reply.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match reply.payload {
                    NetlinkPayload::InnerMessage(inner) => replies.push(inner),
                    NetlinkPayload::Done(_) => return Ok(replies),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(replies),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
