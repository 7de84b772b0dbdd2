//! Files: sftp, scp as it is and as it was, rsync.

use crate::support::{Test, noise, succeed};

#[tokio::test]
async fn scp_copies_both_ways_in_both_of_its_protocols() {
    let test = Test::new().await;
    // As the npm CLI calls it: with a comma, as scp gives a colon another meaning.
    let login = test.login().await.replace(':', ",");
    let data = noise(1_500_000);
    std::fs::create_dir(test.path("folder")).unwrap();
    std::fs::write(test.path("folder/data"), &data).unwrap();
    for protocol in ["-s", "-O"] {
        let (there, back) = (test.path(&format!("there{protocol}")), test.path(protocol));
        let remote = format!("vm:{}", there.display());
        succeed(
            test.client("scp", &login).args([protocol, "-r"]).arg(test.path("folder")).arg(&remote),
        )
        .await;
        assert!(std::fs::read(there.join("data")).unwrap() == data);
        let remote = format!("{remote}/data");
        succeed(test.client("scp", &login).args([protocol, &remote]).arg(&back)).await;
        assert!(std::fs::read(back).unwrap() == data);
    }
}

#[tokio::test]
async fn sftp_lists_renames_and_removes() {
    let test = Test::new().await;
    let login = test.login().await;
    let folder = test.path("remote");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(test.path("local"), "text").unwrap();
    let (remote, local) = (folder.display(), test.path("local"));
    let commands = format!(
        "put {} {remote}/a\nrename {remote}/a {remote}/b\nput {0} {remote}/c\nrm {remote}/c\n\
         chmod 600 {remote}/b\nls {remote}\n",
        local.display(),
    );
    std::fs::write(test.path("batch"), commands).unwrap();
    let batch = test.path("batch").display().to_string();
    succeed(test.client("sftp", &login).args(["-b", &batch, "vm"])).await;
    assert_eq!(std::fs::read_to_string(folder.join("b")).unwrap(), "text");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn rsync_copies_what_changed() {
    let test = Test::new().await;
    let login = test.login().await;
    let (source, target) = (test.path("source"), test.path("target"));
    std::fs::create_dir(&source).unwrap();
    for n in 0..50 {
        std::fs::write(source.join(n.to_string()), noise(n * 1000)).unwrap();
    }
    let ssh = test.client("ssh", &login);
    let options: Vec<_> = ssh.as_std().get_args().map(|arg| arg.to_str().unwrap()).collect();
    let shell = format!("ssh {}", options.join(" "));
    let rsync = async || {
        let mut rsync = tokio::process::Command::new("rsync");
        let (from, to) = (format!("{}/", source.display()), format!("vm:{}", target.display()));
        succeed(rsync.args(["-a", "--stats", "-e", &shell, &from, &to])).await
    };
    let transferred = |stats: &str, number| {
        let line = format!("Number of regular files transferred: {number}\n");
        assert!(stats.contains(&line), "{stats}");
    };
    transferred(&rsync().await, 50);
    std::fs::write(source.join("7"), "other").unwrap();
    transferred(&rsync().await, 1);
    assert_eq!(std::fs::read_to_string(target.join("7")).unwrap(), "other");
}
