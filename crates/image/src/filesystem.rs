//! The tree becomes a filesystem: raw ext4, sparse, ready to grow.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use crate::ImageError;
use crate::bootstrap::SOURCE_DATE_EPOCH;
use crate::cache::DISK_MIB;
use crate::command::Tool;
use crate::site::Site;

const LIMIT: Duration = Duration::from_secs(600);

/// Blocks of 4 KiB in 512 GiB: how far a guest's filesystem can grow while it is mounted.
const MAX_BLOCKS: u64 = (512 << 30) / 4096;

/// Named one by one, so that they do not depend on the host's mke2fs.conf.
const FEATURES: &str = "has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
    sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// Writes the root filesystem from `tree`. Its UUID and directory hash seed follow from the
/// image's hash.
pub(crate) async fn write(site: &Site, tree: &Path, hash: &str) -> Result<(), ImageError> {
    let rootfs = site.rootfs();
    let created = rootfs.clone();
    site.blocking(move || {
        File::create(&created)
            .and_then(|file| file.set_len(DISK_MIB << 20))
            .map_err(ImageError::io(&created))
    })
    .await?;
    let uuid = uuid(hash);
    let mkfs = Tool::on_host("mkfs.ext4", LIMIT)
        .args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "1", "-L", "freestyle"])
        .args(["-O", FEATURES])
        // A small journal: every clone writes through the whole of it sooner or later. Inode
        // tables are zero already, the file being sparse: nothing for the guest to do later.
        .args(["-J", "size=16"])
        .arg("-E")
        .arg(format!("resize={MAX_BLOCKS},lazy_itable_init=0,hash_seed={uuid}"))
        .args(["-U", &uuid])
        .arg("-d")
        .arg(tree)
        .arg(&rootfs)
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("E2FSPROGS_FAKE_TIME", SOURCE_DATE_EPOCH)
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH);
    site.run(mkfs, |_| ()).await?;
    Ok(())
}

/// A UUID (of version 8: free form) from the first 32 hex digits of the image's hash.
fn uuid(hash: &str) -> String {
    format!(
        "{}-{}-8{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[13..16],
        &hash[17..20],
        &hash[20..32]
    )
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn the_uuid_is_taken_from_the_hash() {
        let hash = "00112233445566778899aabbccddeeff".repeat(2);
        assert_eq!(uuid(&hash), "00112233-4455-8677-8899-aabbccddeeff");
    }
}
