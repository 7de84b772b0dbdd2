//! The server: takes connections, decides who gets in, and brings them to their guest.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freestyle_access::{Access, Credential, Denied, VmAccess};
use freestyle_inbound::is_about_one_connection;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::audit::{self, Visit};
use crate::auth::{self, Verdict};
use crate::connection::{Connection, Stream};
use crate::error::{Error, reason};
use crate::guest::{self, LoggedIn};
use crate::guests::{Ended, Guest, Guests};
use crate::key::SigningKey;
use crate::limits::{Doorman, Turned, Visitor};
use crate::login::{Login, Token};
use crate::relay::{End, Passed, relay};
use crate::transport::Role;

/// The kernel is out of file descriptors or memory: trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that has been silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long connections may take to end after a shutdown was asked for.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How long may be waited for what others do.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From a client's connecting to a credential that is right.
    pub login: Duration,
    /// For a guest's sshd to let us in. A healthy one takes tens of milliseconds, in software
    /// emulation on a busy host some seconds.
    pub guest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { login: Duration::from_secs(60), guest: Duration::from_secs(60) }
    }
}

/// The gateway.
#[derive(Debug, Clone)]
pub struct Gateway<G> {
    access: Access,
    guests: G,
    host_key: Arc<SigningKey>,
    doorman: Doorman,
    patience: Patience,
}

/// Someone with a right.
struct Pass {
    login: Login,
    right: VmAccess,
}

impl<G: Guests> Gateway<G> {
    /// A gateway that proves with `host_key` who it is.
    pub fn new(access: Access, guests: G, host_key: SigningKey, patience: Patience) -> Self {
        let (host_key, doorman) = (Arc::new(host_key), Doorman::default());
        Self { access, guests, host_key, doorman, patience }
    }

    /// Serves connections, those of its listener and `others` that came elsewhere, until `shutdown`
    /// resolves; then tells those that are open and ends them.
    pub async fn serve(
        self,
        listener: TcpListener,
        others: mpsc::Receiver<(TcpStream, SocketAddr)>,
        shutdown: impl Future<Output = ()>,
    ) {
        let (closing, closed) = watch::channel(());
        let mut connections = JoinSet::new();
        tokio::select! {
            () = self.accept_all(&listener, others, &closed, &mut connections) => {}
            () = shutdown => {}
        }
        drop(listener);
        drop(closing);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_LIMIT, ended).await.is_err() {
            warn!("SSH connections did not end in time and are dropped");
        }
    }

    async fn accept_all(
        &self,
        listener: &TcpListener,
        mut others: mpsc::Receiver<(TcpStream, SocketAddr)>,
        closed: &watch::Receiver<()>,
        connections: &mut JoinSet<()>,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(other) = others.recv() => Ok(other),
                Some(_) = connections.join_next() => continue,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_about_one_connection(&error) => continue,
                Err(error) => {
                    warn!(%error, "cannot accept SSH connections");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.doorman.admit(address.ip()) {
                Ok(visitor) => {
                    let (gateway, closed) = (self.clone(), closed.clone());
                    connections.spawn(gateway.receive(stream, address, visitor, closed));
                }
                Err(why) => turn_away(&stream, address, why),
            }
        }
    }

    async fn receive(
        self,
        stream: TcpStream,
        address: SocketAddr,
        mut visitor: Visitor,
        mut closed: watch::Receiver<()>,
    ) {
        if let Err(error) = prepare(&stream) {
            debug!(%error, "options of a connection");
        }
        let login = timeout(self.patience.login, self.log_in(stream, address.ip(), &visitor));
        let login = tokio::select! {
            login = login => login,
            _ = closed.changed() => return,
        };
        let (client, pass) = match login {
            Ok(Ok(logged_in)) => logged_in,
            Ok(Err(error)) => return debug!(%address, %error, "no SSH login"),
            Err(_) => return debug!(%address, "no SSH login in time"),
        };
        if let Err(why) = visitor.is_known(pass.right.account()) {
            return client.disconnect(reason::BY_APPLICATION, &why.to_string()).await;
        }
        let visit = Visit::begins(&pass.login, &pass.right, address);
        let lease = self.access.lease(pass.right.clone());
        let ending = async {
            tokio::select! {
                () = lease.revoked() => "the right to use this VM has ended",
                // Its sender is dropped.
                _ = closed.changed() => "the server is shutting down",
            }
        };
        let mut passed = Passed::default();
        let how = self.serve_client(client, &pass, ending, &mut passed).await;
        visit.ends(&how, passed);
    }

    /// Finds out who it is.
    async fn log_in(
        &self,
        stream: TcpStream,
        source: IpAddr,
        visitor: &Visitor,
    ) -> Result<(Connection<TcpStream>, Pass), Error> {
        let mut connection = Connection::open(stream, Role::Server(self.host_key.clone())).await?;
        let check = |login: Login, token: Token| async move {
            let denied = match self.check(&login, &token).await {
                Ok(right) => return Verdict::Welcome(Pass { login, right }),
                Err(denied) => denied,
            };
            if let Denied::Store(error) = &denied {
                tracing::error!(%error, "checking an SSH login");
                return Verdict::Refused("the server cannot check tokens now".to_owned());
            }
            let why = match denied {
                // An unknown credential, and a VM that it is not for, are the same.
                Denied::NoSuchVm(_) => "this token does not open this VM".to_owned(),
                denied @ Denied::UserNotAllowed { .. } => format!("{denied} (<vmId>+<linuxUser>)"),
                denied => denied.to_string(),
            };
            visitor.charge();
            audit::refused(&login, source, &why);
            Verdict::Refused(why)
        };
        match auth::authenticate(&mut connection, check).await {
            Ok(pass) => Ok((connection, pass)),
            Err(error) => Err(connection.fail(error).await),
        }
    }

    async fn check(&self, login: &Login, token: &Token) -> Result<VmAccess, Denied> {
        let token = token.as_str();
        let identity = self.access.authenticate(Credential::IdentityToken(token)).await?;
        let caller = match identity {
            Some(identity) => Some(identity),
            None => self.access.authenticate(Credential::ApiKey(token)).await?,
        };
        let caller = caller.ok_or_else(|| Denied::NoSuchVm(login.vm.clone()))?;
        self.access.vm(&caller, &login.vm, login.named_user()).await
    }

    /// Brings a client with a right to its guest and stays between them. Answers how it ended.
    async fn serve_client<S: Stream>(
        &self,
        mut client: Connection<S>,
        pass: &Pass,
        ending: impl Future<Output = &'static str>,
        passed: &mut Passed,
    ) -> String {
        tokio::pin!(ending);
        let reached = tokio::select! {
            reached = self.reach(pass) => reached,
            error = client.closed() => return error.to_string(),
            why = &mut ending => Err(why.to_owned()),
        };
        let (LoggedIn { connection: mut guest, banners }, ended) = match reached {
            Ok(reached) => reached,
            Err(why) => {
                client.disconnect(reason::BY_APPLICATION, &why).await;
                return why;
            }
        };
        let relayed = async {
            for banner in banners {
                client.write(&banner).await.map_err(End::Client)?;
            }
            auth::welcome(&mut client).await.map_err(End::Client)?;
            client.transport().open_up();
            Ok(relay(&mut client, &mut guest, passed).await)
        };
        let end = tokio::select! {
            end = relayed => end.unwrap_or_else(|end| end),
            () = ended => End::Told("the VM was stopped or suspended"),
            why = ending => End::Told(why),
        };
        say_goodbye(client, guest, end).await
    }

    /// A connection to the guest that has let us in, or what to tell the user.
    async fn reach(&self, pass: &Pass) -> Result<(LoggedIn<G::Stream>, Ended), String> {
        let Guest { stream, key, ended } = self.guests.open(&pass.right).await?;
        let limit = self.patience.guest;
        match timeout(limit, guest::log_in(stream, pass.login.user(), &key)).await {
            Ok(Ok(logged_in)) => Ok((logged_in, ended)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                let seconds = limit.as_secs();
                Err(format!("the VM's sshd did not finish the login within {seconds} s"))
            }
        }
    }
}

/// Tells each side why the other is gone. Answers it for the log.
async fn say_goodbye<C: Stream, G: Stream>(
    client: Connection<C>,
    guest: Connection<G>,
    end: End,
) -> String {
    let (how, to_client, to_guest) = match end {
        End::Client(error) => {
            (format!("client: {error}"), error.disconnect(), Some(relayed("the client", &error)))
        }
        End::Guest(error) => {
            (format!("guest: {error}"), Some(relayed("the VM", &error)), error.disconnect())
        }
        End::Told(why) => {
            let told = Some((reason::BY_APPLICATION, why.to_owned()));
            (why.to_owned(), told.clone(), told)
        }
    };
    tokio::join!(leave(client, to_client), leave(guest, to_guest));
    how
}

/// What is said to one side of what ended the other.
fn relayed(who: &str, error: &Error) -> (u32, String) {
    match error {
        Error::Disconnected { reason, description } => (*reason, description.clone()),
        other => (reason::BY_APPLICATION, format!("{who}: {other}")),
    }
}

async fn leave<S: Stream>(connection: Connection<S>, last_words: Option<(u32, String)>) {
    if let Some((reason, description)) = last_words {
        connection.disconnect(reason, &description).await;
    }
}

/// Small packets leave at once, and a client whose host is gone is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 4)?;
    Ok(sockopt::set_tcp_keepcnt(stream, 4)?)
}

/// A server may say a line before it says what it is; `ssh -v` shows it.
fn turn_away(stream: &TcpStream, address: SocketAddr, why: Turned) {
    audit::turned_away(address.ip(), why);
    // Who does not get it at once does without.
    _ = stream.try_write(format!("{why}\r\n").as_bytes());
}
