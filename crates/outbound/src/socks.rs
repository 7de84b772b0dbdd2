//! The part of SOCKS 5 (RFC 1928, 1929) that a client with a user name and password needs to ask
//! for one connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reply {
    Connected = 0,
    Failed = 1,
    NotAllowed = 2,
    Unreachable = 4,
    NotSupported = 7,
}

/// Where the client wants to be connected to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Hears the client out up to its request. `InvalidData` for everything that is not such a client,
/// and for one with another password.
pub(crate) async fn accept<S>(stream: &mut S, user: &str, password: &str) -> io::Result<Wanted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    expect(stream, VERSION).await?;
    let methods = counted(stream).await?;
    if !methods.contains(&USER_AND_PASSWORD) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(not_socks());
    }
    stream.write_all(&[VERSION, USER_AND_PASSWORD]).await?;

    expect(stream, 1).await?;
    let (given_user, given_password) = (counted(stream).await?, counted(stream).await?);
    let is_user = given_user.as_slice().ct_eq(user.as_bytes());
    let is_password = given_password.as_slice().ct_eq(password.as_bytes());
    if !bool::from(is_user & is_password) {
        stream.write_all(&[1, 1]).await?;
        return Err(not_socks());
    }
    stream.write_all(&[1, 0]).await?;

    expect(stream, VERSION).await?;
    let command = stream.read_u8().await?;
    expect(stream, 0).await?;
    let host = match stream.read_u8().await? {
        1 => IpAddr::from(Ipv4Addr::from(stream.read_u32().await?)).to_string(),
        4 => IpAddr::from(Ipv6Addr::from(stream.read_u128().await?)).to_string(),
        3 => String::from_utf8(counted(stream).await?).map_err(|_| not_socks())?,
        _ => return Err(not_socks()),
    };
    let port = stream.read_u16().await?;
    if command != CONNECT {
        answer(stream, Reply::NotSupported).await?;
        return Err(not_socks());
    }
    Ok(Wanted { host, port })
}

/// Answers the request.
pub(crate) async fn answer<S>(stream: &mut S, reply: Reply) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    // The address of the connection, which no client needs, is left at zero.
    stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

/// A length and as many bytes.
async fn counted<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn expect<S: AsyncRead + Unpin>(stream: &mut S, byte: u8) -> io::Result<()> {
    if stream.read_u8().await? == byte { Ok(()) } else { Err(not_socks()) }
}

fn not_socks() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &[u8] = &[5, 2, 0, 2];
    const LOGIN: &[u8] = b"\x01\x01u\x01p";

    /// What comes of these bytes, and what was answered.
    async fn hear(bytes: &[u8]) -> (io::Result<Wanted>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(4096);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let wanted = accept(&mut server, "u", "p").await;
        drop(server);
        let mut answered = Vec::new();
        client.read_to_end(&mut answered).await.unwrap();
        (wanted, answered)
    }

    #[tokio::test]
    async fn names_and_addresses_are_asked_for() {
        for (request, host) in [
            (&b"\x05\x01\x00\x03\x07example\x01\xbb"[..], "example"),
            (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb", "127.0.0.1"),
            (b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb", "::1"),
        ] {
            let (wanted, answered) = hear(&[HELLO, LOGIN, request].concat()).await;
            assert_eq!(wanted.unwrap(), Wanted { host: host.to_owned(), port: 443 });
            assert_eq!(answered, [5, 2, 1, 0]);
        }
    }

    #[tokio::test]
    async fn nobody_gets_in_without_the_password() {
        let request = b"\x05\x01\x00\x03\x07example\x01\xbb";
        for login in
            [&b"\x01\x01u\x01x"[..], b"\x01\x01x\x01p", b"\x01\x00\x00", b"\x01\x01u\x02pp"]
        {
            let (wanted, answered) = hear(&[HELLO, login, request].concat()).await;
            assert!(wanted.is_err() && answered == [5, 2, 1, 1], "{login:?} {answered:?}");
        }
        let (wanted, answered) = hear(&[&[5, 1, 0][..], request].concat()).await;
        assert!(wanted.is_err() && answered == [5, 0xff], "{answered:?}");
    }

    #[tokio::test]
    async fn only_connections_are_made() {
        for command in [2, 3] {
            let request = [&[5, command, 0, 3, 1, b'h', 0, 80][..]].concat();
            let (wanted, answered) = hear(&[HELLO, LOGIN, &request].concat()).await;
            assert!(wanted.is_err() && answered[4..6] == [5, 7], "{answered:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_get_in_by_chance(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert!(runtime.block_on(hear(&bytes)).0.is_err());
        }
    }
}
