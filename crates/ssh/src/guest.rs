//! The login to a guest's own sshd.
//!
//! Its host key is not compared with anything: the connection was opened inside the VM's network
//! namespace, where there is nobody else, and a key would only tell which process of the guest
//! answers. The guest proves that it has the key it shows, as the hash that our signature is over
//! covers it: nobody can use that signature to log in elsewhere.

use bytes::BytesMut;

use crate::connection::{Connection, Stream};
use crate::error::Error;
use crate::key::SigningKey;
use crate::negotiation::HOST_KEY as KEY_KIND;
use crate::transport::Role;
use crate::wire::{Reader, Writer, msg};

/// Messages that a guest may have for its users before it lets them in.
const MAX_BANNERS: usize = 8;

/// Why there is no connection to a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error(
        "the VM's sshd did not let {user} in. Is there such a Linux user, with a login shell, and \
         does sshd still ask /usr/local/bin/fetch-ssh-keys for keys?"
    )]
    Refused { user: String },
    #[error("the VM's sshd does not answer as it should: {0}")]
    Broken(#[from] Error),
}

/// A guest that has let us in.
pub(crate) struct LoggedIn<S> {
    pub(crate) connection: Connection<S>,
    /// What it has for its users to read, as it was sent.
    pub(crate) banners: Vec<BytesMut>,
}

pub(crate) async fn log_in<S: Stream>(
    stream: S,
    user: &str,
    key: &SigningKey,
) -> Result<LoggedIn<S>, GuestError> {
    let mut connection = Connection::open(stream, Role::Client).await?;
    let service = Writer::message(msg::SERVICE_REQUEST).string("ssh-userauth");
    connection.write(&service.finish()).await?;
    let accepted = connection.read().await?;
    if accepted[0] != msg::SERVICE_ACCEPT {
        return Err(Error::Protocol("it has no logins").into());
    }
    let session = *connection.transport().session().ok_or(Error::Protocol("there are no keys"))?;
    let request = Writer::message(msg::USERAUTH_REQUEST).string(user).string("ssh-connection");
    let request = request.string("publickey").boolean(true).string(KEY_KIND);
    let request = request.string(key.public_blob());
    let signed = Writer::default().string(session).bytes(&request.clone().finish()).finish();
    connection.write(&request.string(key.sign(&signed)).finish()).await?;
    let mut banners = Vec::new();
    loop {
        let answer = connection.read().await?;
        match answer[0] {
            msg::USERAUTH_SUCCESS => break,
            msg::USERAUTH_FAILURE => return Err(GuestError::Refused { user: user.to_owned() }),
            msg::USERAUTH_BANNER if banners.len() < MAX_BANNERS => {
                // It is passed on, so it has to be what it says it is.
                let mut reader = Reader::new(&answer[1..]);
                reader.string().and_then(|_| reader.string()).map_err(Error::from)?;
                banners.push(answer);
            }
            _ => return Err(Error::Protocol("a message came out of turn").into()),
        }
    }
    connection.transport().open_up();
    Ok(LoggedIn { connection, banners })
}
