//! A client's login (RFC 4252): which methods there are, and what a refused client is told.
//!
//! Clients ask for the method `none` first. If the login name holds a credential, that is all there
//! is to it and nobody is asked for a password; else the password is the credential.

use std::time::Duration;

use tokio::time::sleep;

use crate::connection::{Connection, Stream};
use crate::error::{Error, reason};
use crate::login::{Login, Token};
use crate::wire::{Malformed, Reader, Writer, msg};

const SERVICE: &str = "ssh-userauth";
/// The service to log in for.
const CONNECTION: &str = "ssh-connection";
/// Wrong credentials on one connection after which it is closed.
const MAX_FAILURES: u32 = 6;
/// Requests of any kind on one connection.
const MAX_REQUESTS: u32 = 30;
/// Passed before a wrong credential is called so.
const FAILURE_DELAY: Duration = Duration::from_secs(1);

const FORMS: &str = "the login name is <vmId>, <vmId>+<linuxUser>, or one of these with :<token>";

/// What became of a credential.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// It is good for what was asked.
    Welcome(T),
    /// It is not, for a reason that may be told.
    Refused(String),
}

/// Lets the client try until `check` welcomes it. The client still has to be told so
/// ([`welcome`]).
pub(crate) async fn authenticate<S, T, C>(
    connection: &mut Connection<S>,
    check: impl Fn(Login, Token) -> C,
) -> Result<T, Error>
where
    S: Stream,
    C: Future<Output = Verdict<T>>,
{
    accept_service(connection).await?;
    let mut failures = 0;
    for _ in 0..MAX_REQUESTS {
        let request = connection.read().await?;
        let Request { name, service, method } = Request::read(&request)?;
        if service != CONNECTION {
            return Err(Error::Protocol("there is no such service"));
        }
        let login = Login::parse(name).ok_or_else(|| turned_away(FORMS.to_owned()))?;
        let is_last = login.token.is_some();
        if let Some(token) = method.credential(&login) {
            let verdict = match token {
                Some(token) => check(login, token).await,
                None => Verdict::Refused("this is not an access token".to_owned()),
            };
            let why = match verdict {
                Verdict::Welcome(pass) => return Ok(pass),
                Verdict::Refused(why) => why,
            };
            sleep(FAILURE_DELAY).await;
            failures += 1;
            // Asked for a password, its user could not say anything else than the name does.
            if is_last || failures == MAX_FAILURES {
                return Err(turned_away(why));
            }
            say(connection, &why).await?;
        }
        let failure = Writer::message(msg::USERAUTH_FAILURE).names(&["password"]).boolean(false);
        connection.write(&failure.finish()).await?;
    }
    Err(Error::Protocol("too many requests before a login"))
}

fn turned_away(why: String) -> Error {
    Error::TurnedAway { reason: reason::NO_MORE_AUTH_METHODS, description: why }
}

/// Tells the client that it is logged in.
pub(crate) async fn welcome<S: Stream>(connection: &mut Connection<S>) -> Result<(), Error> {
    connection.write(&[msg::USERAUTH_SUCCESS]).await
}

/// A line that the user is shown.
async fn say<S: Stream>(connection: &mut Connection<S>, text: &str) -> Result<(), Error> {
    let line = format!("freestyle: {text}\r\n");
    let banner = Writer::message(msg::USERAUTH_BANNER).string(line).string("");
    connection.write(&banner.finish()).await
}

async fn accept_service<S: Stream>(connection: &mut Connection<S>) -> Result<(), Error> {
    let request = connection.read().await?;
    let mut reader = Reader::new(&request);
    if reader.byte()? != msg::SERVICE_REQUEST || reader.text()? != SERVICE {
        return Err(Error::Protocol("a login comes first"));
    }
    reader.end()?;
    connection.write(&Writer::message(msg::SERVICE_ACCEPT).string(SERVICE).finish()).await
}

struct Request<'a> {
    name: &'a str,
    service: &'a str,
    method: Method<'a>,
}

enum Method<'a> {
    None,
    Password(&'a str),
    /// Whatever else there is.
    Other,
}

impl<'a> Request<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(message);
        if reader.byte()? != msg::USERAUTH_REQUEST {
            return Err(Error::Protocol("a login comes first"));
        }
        let (name, service, method) = (reader.text()?, reader.text()?, reader.text()?);
        let method = match method {
            "none" => Method::None,
            "password" => Method::password(reader)?,
            _ => return Ok(Self { name, service, method: Method::Other }),
        };
        Ok(Self { name, service, method })
    }
}

impl<'a> Method<'a> {
    fn password(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let changes_it = reader.boolean()?;
        let password = reader.text()?;
        Ok(if changes_it { Self::Other } else { Self::Password(password) })
    }

    /// What the client presents; nothing if it only asks. Inside, nothing if that is no credential.
    fn credential(self, login: &Login) -> Option<Option<Token>> {
        match (&login.token, self) {
            // A client that insists on a password may give any.
            (Some(token), Self::None | Self::Password(_)) => Some(Some(token.clone())),
            (None, Self::Password(password)) => Some(Token::parse(password)),
            (_, Self::None | Self::Other) => None,
        }
    }
}
