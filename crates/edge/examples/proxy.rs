//! The edge in front of one server: to try it without a platform, and to measure it.
//!
//! ```text
//! cargo run --release -p freestyle-edge --example proxy -- 127.0.0.1:3000 /tmp/edge
//! ```
//!
//! Prints where it listens, and the file with the root certificate, as JSON. `localhost` and every
//! name below it lead to the server.

#![expect(clippy::print_stdout, reason = "a command line tool")]

use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;

use freestyle_edge::{Certificates, Edge, HostName, Limits, Routes, Unavailable, Upstream};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
struct OneServer(SocketAddr);

fn is_here(host: &HostName) -> bool {
    host.as_str() == "localhost" || host.as_str().ends_with(".localhost")
}

impl Routes for OneServer {
    type Target = SocketAddr;

    async fn find(&self, host: &HostName) -> Result<Option<SocketAddr>, Unavailable> {
        Ok(is_here(host).then_some(self.0))
    }

    async fn connect(&self, target: &SocketAddr) -> Result<Upstream, Unavailable> {
        let connected = TcpStream::connect(target).await;
        let stream = connected.map_err(|error| Unavailable::Refused(error.to_string()))?;
        Ok(Upstream { stream, ended: Box::pin(pending()) })
    }

    async fn may_have_wildcard(&self, _: &HostName) -> bool {
        true
    }

    async fn may_have_certificate(&self, host: &HostName) -> bool {
        is_here(host)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(dir)) = (arguments.next(), arguments.next()) else {
        return Err("usage: proxy SERVER DIR".into());
    };
    let certificates = Certificates::local(&PathBuf::from(dir)).await?;
    let ca = certificates.ca_certificate().map(|file| file.display().to_string());
    let edge = Edge::new(OneServer(server.parse()?), certificates, Limits::default())?;
    let http = TcpListener::bind("127.0.0.1:0").await?;
    let https = TcpListener::bind("127.0.0.1:0").await?;
    println!(
        "{}",
        serde_json::json!({
            "http": http.local_addr()?.port(), "https": https.local_addr()?.port(), "ca": ca,
        })
    );
    edge.serve(Some(http), Some(https), pending()).await?;
    Ok(())
}
