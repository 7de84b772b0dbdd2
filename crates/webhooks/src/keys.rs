//! The Ed25519 keys that deliveries are signed with, and how one follows another.
//!
//! Receivers keep the public keys for a while. So a new key is published before it is used, and an
//! old one for a day after it was. Both follow from when the keys were made, and nothing else is
//! stored:
//!
//! ```text
//! made ── 15 min ──► signs ─────────────────► the next one signs ── 1 day ──► not published
//! ```
//!
//! The very first key has no one before it and signs at once. The file may be changed by another
//! process (`freestyle admin git rotate-key`); it is looked at before each use.

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::Mutex;

/// From when a key is published until it is used.
const NOTICE: u64 = Duration::from_secs(15 * 60).as_millis() as u64;
/// How long a key is published after the next one is used.
const MEMORY: u64 = Duration::from_secs(24 * 3600).as_millis() as u64;
/// The age at which a key gets a successor without anyone asking for it.
const LIFE: u64 = Duration::from_secs(90 * 24 * 3600).as_millis() as u64;

/// The keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the keys of webhooks in {}: {reason}", .path.display())]
pub struct KeyError {
    path: PathBuf,
    reason: String,
}

/// Makes a new key and publishes it; after fifteen minutes it takes the place of the present one.
/// Works on the file of a server, whether or not that runs.
pub async fn rotate(path: &Path) -> Result<(), KeyError> {
    let path = path.to_owned();
    on_disk(path, |path| {
        let mut stored = read(path)?.unwrap_or_default();
        stored.add(now());
        write(path, &stored)
    })
    .await
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    /// Oldest first.
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredKey {
    /// Unix milliseconds.
    created_at: u64,
    /// 32 bytes in base64.
    seed: String,
}

impl Stored {
    /// Adds a key and forgets those that nobody needs any more.
    fn add(&mut self, now: u64) {
        let published =
            published(&self.keys.iter().map(|key| key.created_at).collect::<Vec<_>>(), now);
        self.keys.drain(..published.start);
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).expect("the operating system has a random source");
        self.keys.push(StoredKey { created_at: now, seed: URL_SAFE_NO_PAD.encode(seed) });
    }
}

/// Which of the keys signs, by when they were made, oldest first.
fn signing(made: &[u64], now: u64) -> usize {
    made.iter().rposition(|made| made + NOTICE <= now).unwrap_or(0)
}

/// Which of the keys are published.
fn published(made: &[u64], now: u64) -> std::ops::Range<usize> {
    // The newest that took over so long ago that those before it are forgotten.
    let oldest = made.iter().rposition(|made| made + NOTICE + MEMORY <= now).unwrap_or(0);
    oldest..made.len()
}

/// A key in memory.
pub(crate) struct Key {
    created_at: u64,
    pub(crate) id: String,
    pair: Ed25519KeyPair,
}

impl Key {
    fn load(stored: &StoredKey) -> Result<Self, String> {
        let seed = URL_SAFE_NO_PAD.decode(&stored.seed).map_err(|_| "a key is not base64")?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| "a key is no key")?;
        // The thumbprint of RFC 7638.
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        Ok(Self { created_at: stored.created_at, id, pair })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    fn public(&self) -> serde_json::Value {
        json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(self.pair.public_key()),
        })
    }
}

/// The keys of a server.
pub(crate) struct KeyRing {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    keys: Vec<Key>,
    as_of: Option<Version>,
}

/// What tells one state of the file from another. The time alone would not: two changes may fall
/// between two ticks of the file system's clock. A change puts a new file in the old one's place.
#[derive(PartialEq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { inode: metadata.ino(), size: metadata.size(), modified }
    }
}

impl KeyRing {
    /// Reads the file, and makes it with one key if it is not there.
    pub(crate) async fn open(path: PathBuf) -> Result<Self, KeyError> {
        let made = on_disk(path.clone(), |path| {
            if read(path)?.is_some_and(|stored| !stored.keys.is_empty()) {
                return Ok(());
            }
            let mut stored = Stored::default();
            stored.add(now());
            write(path, &stored)
        });
        made.await?;
        let this = Self { path, loaded: Mutex::new(Loaded { keys: Vec::new(), as_of: None }) };
        this.with_keys(|_| ()).await?;
        Ok(this)
    }

    /// The public keys, as a JSON Web Key Set.
    pub(crate) async fn jwks(&self) -> Result<String, KeyError> {
        self.with_keys(|keys| {
            let made: Vec<_> = keys.iter().map(|key| key.created_at).collect();
            let public: Vec<_> = keys[published(&made, now())].iter().map(Key::public).collect();
            json!({ "keys": public }).to_string()
        })
        .await
    }

    /// Has something signed with the key of this moment.
    pub(crate) async fn sign<T>(&self, work: impl FnOnce(&Key) -> T) -> Result<T, KeyError> {
        self.with_keys(|keys| {
            let made: Vec<_> = keys.iter().map(|key| key.created_at).collect();
            work(&keys[signing(&made, now())])
        })
        .await
    }

    /// The keys as they are in the file now; at least one.
    async fn with_keys<T>(&self, work: impl FnOnce(&[Key]) -> T) -> Result<T, KeyError> {
        let mut loaded = self.loaded.lock().await;
        let metadata = tokio::fs::metadata(&self.path).await;
        let as_of = metadata.ok().as_ref().map(Version::of);
        if as_of.is_none() || as_of != loaded.as_of {
            let (keys, is_old) = on_disk(self.path.clone(), load).await?;
            *loaded = Loaded { keys, as_of };
            if is_old {
                tracing::info!("the key of webhooks gets a successor");
            }
        } else if loaded.keys.last().is_some_and(is_old) {
            // Read anew, which makes a successor.
            loaded.as_of = None;
        }
        Ok(work(&loaded.keys))
    }
}

fn is_old(key: &Key) -> bool {
    key.created_at + LIFE <= now()
}

/// The keys in the file, and whether the newest was so old that another was made.
fn load(path: &Path) -> Result<(Vec<Key>, bool), String> {
    let mut stored = read(path)?.unwrap_or_default();
    let is_old = stored.keys.last().is_none_or(|key| key.created_at + LIFE <= now());
    if is_old {
        stored.add(now());
        write(path, &stored)?;
    }
    let keys = stored.keys.iter().map(Key::load).collect::<Result<_, _>>()?;
    Ok((keys, is_old))
}

async fn on_disk<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, String> + Send + 'static,
) -> Result<T, KeyError> {
    let file = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&file)).await;
    let done = done.unwrap_or_else(|error| Err(error.to_string()));
    done.map_err(|reason| KeyError { path, reason })
}

fn read(path: &Path) -> Result<Option<Stored>, String> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts the file in place whole. A temporary file has mode 0600 from its first byte.
fn write(path: &Path, stored: &Stored) -> Result<(), String> {
    let write = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(stored)?)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| error.to_string())
}

/// Unix milliseconds.
pub(crate) fn now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    #[test]
    fn a_key_is_published_before_it_signs_and_after() {
        let made = [0, 10 * DAY];
        let at = |now| (signing(&made, now), published(&made, now));
        assert_eq!(at(10 * DAY), (0, 0..2));
        assert_eq!(at(10 * DAY + NOTICE - 1), (0, 0..2));
        assert_eq!(at(10 * DAY + NOTICE), (1, 0..2));
        assert_eq!(at(11 * DAY + NOTICE - 1), (1, 0..2));
        assert_eq!(at(11 * DAY + NOTICE), (1, 1..2));
        // The first signs at once; of several that are new, the oldest.
        assert_eq!((signing(&[5], 5), published(&[5], 5)), (0, 0..1));
        assert_eq!((signing(&[5, 6, 7], 8), published(&[5, 6, 7], 8)), (0, 0..3));
    }

    #[tokio::test]
    async fn keys_are_kept_private_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let ring = KeyRing::open(path.clone()).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let jwks = ring.jwks().await.unwrap();
        assert!(!jwks.contains("seed") && !jwks.contains("\"d\""), "{jwks}");
        let again = KeyRing::open(path).await.unwrap();
        assert_eq!(again.jwks().await.unwrap(), jwks);
    }

    #[tokio::test]
    async fn a_key_made_by_another_process_is_published_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let ring = KeyRing::open(path.clone()).await.unwrap();
        let before = ring.sign(|key| key.id.clone()).await.unwrap();
        rotate(&path).await.unwrap();
        let jwks: serde_json::Value = serde_json::from_str(&ring.jwks().await.unwrap()).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
        // And does not sign yet.
        assert_eq!(ring.sign(|key| key.id.clone()).await.unwrap(), before);
    }

    #[tokio::test]
    async fn an_old_key_gets_a_successor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut stored = Stored::default();
        stored.add(now() - LIFE - 1);
        write(&path, &stored).unwrap();
        let ring = KeyRing::open(path).await.unwrap();
        let jwks: serde_json::Value = serde_json::from_str(&ring.jwks().await.unwrap()).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, "{}").unwrap();
        let error = KeyRing::open(path.clone()).await.err().unwrap();
        assert!(error.to_string().contains("keys.json"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }
}
