//! Threads that serve connections.
//!
//! A request is a short conversation between its client's connection and its guest's. Where threads
//! share all work, its two halves are forever handed from one to another: half as many requests
//! again, or more, are served when one thread has both.

use std::io;
use std::sync::Arc;
use std::thread::{self, available_parallelism};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// More would not be faster: what is behind the edge needs processors too.
const MAX: usize = 16;

/// Threads, one for each processor.
pub(crate) struct Workers {
    threads: Vec<Thread>,
    /// They end when this is dropped.
    _running: watch::Sender<()>,
}

struct Thread {
    runtime: Handle,
    /// One for itself, and one for each connection.
    connections: Arc<()>,
}

/// A connection's place with a worker, until dropped.
pub(crate) struct Place {
    /// The worker's number.
    pub(crate) worker: usize,
    _connection: Arc<()>,
}

impl Workers {
    /// Starts them.
    pub(crate) fn start() -> io::Result<Self> {
        let (running, ended) = watch::channel(());
        let count = available_parallelism()?.get().min(MAX);
        let threads = (0..count).map(|number| {
            Ok(Thread { runtime: start(number, ended.clone())?, connections: Arc::default() })
        });
        Ok(Self { threads: threads.collect::<io::Result<_>>()?, _running: running })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// A place with the one that has the fewest connections; the first of them, so that a guest who
    /// is visited now and then is found by the connection that the last visit left.
    pub(crate) fn place(&self) -> (Place, &Handle) {
        let load = |(_, thread): &(usize, &Thread)| Arc::strong_count(&thread.connections);
        let threads = self.threads.iter().enumerate();
        let (worker, thread) = threads.min_by_key(load).expect("there is a processor");
        (Place { worker, _connection: thread.connections.clone() }, &thread.runtime)
    }
}

fn start(number: usize, mut ended: watch::Receiver<()>) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
        // Nothing is ever sent: this is its end.
        runtime.block_on(async { while ended.changed().await.is_ok() {} });
    })?;
    Ok(handle)
}

/// Has `to` wait for what happens on the connection, and nobody else.
pub(crate) fn moved(stream: TcpStream, to: &Handle) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    let _there = to.enter();
    TcpStream::from_std(stream)
}
