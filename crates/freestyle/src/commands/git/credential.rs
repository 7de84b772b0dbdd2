//! `freestyle git credential`: what git asks for a user name and password (gitcredentials(7)).
//!
//! Git asks a helper for whatever host it talks to, so the API key is given only for the host that
//! the key's own server names. A token of an identity is kept for the one host that accepted it. No
//! file of the working directory is read, which belongs to whoever made the repository.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

use crate::commands::{client, client_runtime};
use crate::environment::Environment;
use crate::error::CliError;

pub(super) const HELP: &str = "\
Set it up once, for the git host of your server, and clone with plain git:

  git config --global credential.http://127.0.0.1:8081.helper '!freestyle git credential'
  git clone http://127.0.0.1:8081/REPO

It answers with FREESTYLE_API_KEY where FREESTYLE_API_URL names this git host. Otherwise git asks for
a password, as which an identity's token will do; a token that was accepted is kept in
~/.config/freestyle/git-tokens.json, readable by nobody else.";

/// As every credential of this server is used.
const USER: &str = "x-access-token";
/// How the token of an identity begins. Nothing else is kept.
const TOKEN_PREFIX: &str = "fsi_";
/// Bytes of what git says.
const LONGEST_INPUT: u64 = 64 << 10;

/// Options of `freestyle git credential`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What git wants
    #[arg(value_enum)]
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// A credential
    Get,
    /// To have one kept that was accepted
    Store,
    /// To have one forgotten that was refused
    Erase,
}

pub(crate) fn run(args: Args, environment: &Environment) -> Result<ExitCode, CliError> {
    let asked = Asked::read(io::stdin().lock().take(LONGEST_INPUT))?;
    let tokens = Tokens::at(config_dir());
    match args.action {
        Action::Get => {
            if let Some(password) = find(&asked, &tokens, environment)? {
                let mut stdout = io::stdout().lock();
                write!(stdout, "username={USER}\npassword={password}\n")?;
            }
        }
        Action::Store => tokens.keep(&asked)?,
        Action::Erase => tokens.forget(&asked)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn find(
    asked: &Asked,
    tokens: &Tokens,
    environment: &Environment,
) -> Result<Option<String>, CliError> {
    let Some(origin) = asked.origin() else { return Ok(None) };
    if let Some(token) = tokens.read()?.remove(&origin) {
        return Ok(Some(token));
    }
    let Some(key) = environment.get("FREESTYLE_API_KEY")? else { return Ok(None) };
    let host = client_runtime()?.block_on(client(environment)?.git_host())?.url;
    Ok((origin_of(&host) == Some(origin.as_str())).then_some(key))
}

/// Scheme, host and port of a URL.
fn origin_of(url: &str) -> Option<&str> {
    let scheme = url.find("://")? + 3;
    Some(&url[..url[scheme..].find('/').map_or(url.len(), |at| scheme + at)])
}

/// What git says: a line for each attribute.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked(BTreeMap<String, String>);

impl Asked {
    fn read(input: impl Read) -> Result<Self, CliError> {
        let mut attributes = BTreeMap::new();
        for line in io::BufReader::new(input).lines() {
            let line = line?;
            let Some((name, value)) = line.split_once('=') else { break };
            attributes.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self(attributes))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// For whom the credential is, as `https://example.com`.
    fn origin(&self) -> Option<String> {
        let scheme = self.get("protocol").filter(|scheme| matches!(*scheme, "http" | "https"))?;
        Some(format!("{scheme}://{}", self.get("host").filter(|host| !host.is_empty())?))
    }
}

/// Tokens of identities by origin, in a file.
struct Tokens {
    /// None where there is no home.
    file: Option<PathBuf>,
}

impl Tokens {
    fn at(config_dir: Option<PathBuf>) -> Self {
        Self { file: config_dir.map(|dir| dir.join("freestyle").join("git-tokens.json")) }
    }

    fn read(&self) -> Result<BTreeMap<String, String>, CliError> {
        let Some(file) = &self.file else { return Ok(BTreeMap::new()) };
        match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| cannot("read", file, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(cannot("read", file, &error)),
        }
    }

    fn keep(&self, asked: &Asked) -> Result<(), CliError> {
        let token = asked.get("password").filter(|password| password.starts_with(TOKEN_PREFIX));
        let (Some(origin), Some(token)) = (asked.origin(), token) else { return Ok(()) };
        let mut tokens = self.read()?;
        match tokens.insert(origin, token.to_owned()).as_deref() == Some(token) {
            true => Ok(()),
            false => self.write(&tokens),
        }
    }

    /// Only what was refused: another that was kept meanwhile stays.
    fn forget(&self, asked: &Asked) -> Result<(), CliError> {
        let Some(origin) = asked.origin() else { return Ok(()) };
        let mut tokens = self.read()?;
        let refused = asked.get("password");
        let kept = tokens.get(&origin).map(String::as_str);
        if kept.is_none() || refused.is_some_and(|refused| Some(refused) != kept) {
            return Ok(());
        }
        tokens.remove(&origin);
        self.write(&tokens)
    }

    fn write(&self, tokens: &BTreeMap<String, String>) -> Result<(), CliError> {
        let Some(file) = &self.file else { return Ok(()) };
        let folder = file.parent().unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            // A temporary file has mode 0600 from its first byte.
            let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
            temporary.write_all(&serde_json::to_vec_pretty(tokens)?)?;
            temporary.persist(file)?;
            Ok(())
        };
        write().map_err(|error| cannot("write", file, &error))
    }
}

fn config_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))
}

fn cannot(what: &str, file: &Path, error: &dyn std::fmt::Display) -> CliError {
    CliError::new(format!("cannot {what} {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn asked(password: &str) -> Asked {
        let text =
            format!("protocol=http\nhost=127.0.0.1:8081\nusername=x\npassword={password}\n\n");
        Asked::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_git_says_ends_with_an_empty_line() {
        let asked = Asked::read(&b"protocol=https\nhost=h\nwwwauth[]=Basic\n\nhost=evil\n"[..]);
        assert_eq!(asked.unwrap().origin().as_deref(), Some("https://h"));
        assert_eq!(Asked::read(&b""[..]).unwrap().origin(), None);
        let other = Asked::read(&b"protocol=ssh\nhost=h\n"[..]).unwrap();
        assert_eq!(other.origin(), None);
    }

    #[test]
    fn origins_are_what_credentials_are_for() {
        assert_eq!(origin_of("http://127.0.0.1:8081"), Some("http://127.0.0.1:8081"));
        assert_eq!(origin_of("https://example.com/git/x"), Some("https://example.com"));
        assert_eq!(origin_of("example.com"), None);
    }

    #[test]
    fn tokens_of_identities_are_kept_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(Some(home.path().to_owned()));
        tokens.keep(&asked("fs_key")).unwrap();
        assert!(tokens.read().unwrap().is_empty());
        tokens.keep(&asked("fsi_token")).unwrap();
        assert_eq!(tokens.read().unwrap()["http://127.0.0.1:8081"], "fsi_token");
        let mode = std::fs::metadata(tokens.file.as_ref().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        tokens.forget(&asked("fsi_other")).unwrap();
        assert_eq!(tokens.read().unwrap().len(), 1);
        tokens.forget(&asked("fsi_token")).unwrap();
        assert!(tokens.read().unwrap().is_empty());
    }

    #[test]
    fn without_a_key_or_a_token_git_is_left_to_ask_others() {
        let home = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(Some(home.path().to_owned()));
        let found = find(&asked(""), &tokens, &Environment::of(&[])).unwrap();
        assert_eq!(found, None);
    }
}
