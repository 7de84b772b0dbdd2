use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use freestyle_guest_protocol::{AgentConnection, CallError, DirEntry, FileOrDir};

use crate::guest::{Guest, output};

const MANY: u64 = 64 * 1024 * 1024;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn read(agent: &AgentConnection, path: &Path) -> Result<FileOrDir, CallError> {
    agent.read_path(None, text(path), MANY).await
}

fn refused<T>(reason: &str) -> Result<T, CallError> {
    Err(CallError::Refused(reason.to_owned()))
}

#[tokio::test]
async fn five_megabytes_of_anything_come_back_as_they_went() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/deeper/ünï ко\u{1F980} \"quoted\" $name");
    let content: Vec<u8> =
        (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    agent.write_file(None, text(&path), &content).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(read(&agent, &path).await, Ok(FileOrDir::File(content)));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
}

#[tokio::test]
async fn an_empty_file_is_written_and_read() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty");
    fs::write(&path, "there was something").unwrap();
    agent.write_file(None, text(&path), b"").await.unwrap();
    assert_eq!(read(&agent, &path).await, Ok(FileOrDir::File(Vec::new())));
}

#[tokio::test]
async fn writing_keeps_mode_owner_and_links() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "a longer content than the new one").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    symlink("file", &link).unwrap();
    agent.write_file(None, text(&link), b"new").await.unwrap();
    let metadata = fs::symlink_metadata(&file).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (65534, 65534, 0o751));
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[tokio::test]
async fn a_directory_is_listed_by_name_and_links_are_followed() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("b.txt"), "").unwrap();
    fs::write(at("ä"), "").unwrap();
    fs::create_dir(at("Zoo")).unwrap();
    symlink("Zoo", at("link-to-dir")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let FileOrDir::Dir(entries) = read(&agent, folder.path()).await.unwrap() else {
        panic!("a directory is no file")
    };
    let expected =
        [("Zoo", true), ("b.txt", false), ("dangling", false), ("link-to-dir", true), ("ä", false)];
    let expected = expected.map(|(name, is_dir)| DirEntry { name: name.to_owned(), is_dir });
    assert_eq!(entries, expected);
    assert_eq!(read(&agent, &at("Zoo")).await, Ok(FileOrDir::Dir(Vec::new())));
}

#[tokio::test]
async fn relative_paths_start_at_the_root() {
    let agent = Guest::start().connect().await;
    let passwd = FileOrDir::File(fs::read("/etc/passwd").unwrap());
    assert_eq!(agent.read_path(None, "etc/passwd", MANY).await, Ok(passwd));
    let root = agent.read_path(None, "", MANY).await.unwrap();
    assert_eq!(agent.read_path(None, "/", MANY).await, Ok(root));
}

#[tokio::test]
async fn files_without_a_size_are_read() {
    let agent = Guest::start().connect().await;
    let version = FileOrDir::File(fs::read("/proc/version").unwrap());
    assert_eq!(agent.read_path(None, "/proc/version", MANY).await, Ok(version));
    let cut = agent.read_path(None, "/proc/version", 10).await.unwrap_err();
    assert!(matches!(cut, CallError::TooLarge { size: 11.., limit: 10 }), "{cut}");
}

#[tokio::test]
async fn the_limit_is_exact() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, [1; 1000]).unwrap();
    let whole = FileOrDir::File(vec![1; 1000]);
    assert_eq!(agent.read_path(None, text(&path), 1000).await, Ok(whole));
    assert_eq!(
        agent.read_path(None, text(&path), 999).await,
        Err(CallError::TooLarge { size: 1000, limit: 999 })
    );
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_nothing_hangs() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    output(&agent, &format!("mkfifo {}", at("fifo").display())).await;
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::write(at("file"), "").unwrap();
    for path in [at("fifo"), at("socket"), "/dev/null".into(), "/dev/zero".into()] {
        assert_eq!(read(&agent, &path).await, refused("not a regular file"), "{path:?}");
        let written = agent.write_file(None, text(&path), b"content").await;
        assert_eq!(written, refused("not a regular file"), "{path:?}");
    }
    assert_eq!(read(&agent, &at("missing")).await, Err(CallError::NotFound));
    assert_eq!(read(&agent, &at("file/below")).await, refused("not a directory"));
    let below = agent.write_file(None, text(&at("file/below")), b"").await;
    assert_eq!(below, refused("not a directory"));
    assert_eq!(agent.write_file(None, text(folder.path()), b"").await, refused("is a directory"));
    let nul = agent.read_path(None, "/etc/\0passwd", MANY).await;
    assert!(matches!(nul, Err(CallError::Refused(_))), "{nul:?}");
}

#[tokio::test]
async fn a_large_write_that_is_refused_early_fails_with_the_reason() {
    let agent = Guest::start().connect().await;
    let content = vec![0; 3_000_000];
    assert_eq!(agent.write_file(None, "/proc", &content).await, refused("is a directory"));
}

#[tokio::test]
async fn a_full_disk_is_named() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=1m none {}", folder.path().display());
    output(&agent, &mount).await;
    let written = agent.write_file(None, text(&folder.path().join("file")), &[1; 3_000_000]).await;
    output(&agent, &format!("umount {}", folder.path().display())).await;
    assert_eq!(written, refused("no space left on device"));
}

#[tokio::test]
async fn a_user_reads_and_writes_with_its_own_permissions() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| folder.path().join(name);
    let nobody = Some("nobody");
    fs::write(at("secret"), "x").unwrap();
    fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o600)).unwrap();

    assert_eq!(
        agent.read_path(nobody, text(&at("secret")), MANY).await,
        refused("permission denied")
    );
    assert_eq!(
        agent.write_file(nobody, text(&at("secret")), b"").await,
        refused("permission denied")
    );
    assert_eq!(agent.write_file(nobody, text(&at("new")), b"").await, refused("permission denied"));
    assert!(!at("new").exists());
    // What root may do by its user id alone, not by a file's mode.
    let sysctl = agent.write_file(nobody, "/proc/sys/kernel/domainname", b"x").await;
    assert_eq!(sysctl, refused("permission denied"));
    let environ = agent.read_path(nobody, "/proc/1/environ", MANY).await;
    assert_eq!(environ, refused("permission denied"));

    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let path = at("open/made/file");
    agent.write_file(nobody, text(&path), b"mine").await.unwrap();
    for made in [at("open/made"), path.clone()] {
        let metadata = fs::metadata(&made).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534), "{made:?}");
    }
    let mine = FileOrDir::File(b"mine".to_vec());
    assert_eq!(agent.read_path(nobody, text(&path), MANY).await, Ok(mine));

    // The agent itself is root as before.
    assert_eq!(read(&agent, &at("secret")).await, Ok(FileOrDir::File(b"x".to_vec())));
    assert_eq!(output(&agent, "id -u").await, "0\n");
}

#[tokio::test]
async fn many_transfers_run_at_once() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let transfers: Vec<_> = (0..128u8)
        .map(|number| {
            let (agent, path) = (agent.clone(), folder.path().join(number.to_string()));
            tokio::spawn(async move {
                let content = vec![number; 300_000];
                agent.write_file(None, text(&path), &content).await.unwrap();
                assert_eq!(read(&agent, &path).await, Ok(FileOrDir::File(content)));
            })
        })
        .collect();
    for transfer in transfers {
        transfer.await.unwrap();
    }
}
