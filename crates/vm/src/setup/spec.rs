//! A spec as a whole: what a VM or snapshot stands on, and the layers set up on top.

use freestyle_store::SnapshotId;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Setup;
use crate::model::{Sizes, SnapshotPersistence};

/// Raise this when the code changes what a layer of a given description makes of a guest.
const KEY_VERSION: u32 = 1;

/// What a VM or snapshot is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// What the innermost layer stands on.
    pub source: Source,
    /// CPU, memory and disk. What is absent is the default, or the snapshot's.
    pub sizes: Sizes,
    /// What is set up, the innermost layer first. Each but the last is a snapshot that may be kept
    /// for other specs with the same beginning. Of a VM the last is set up in the VM itself and is
    /// always there; of a snapshot to build it is the snapshot.
    pub layers: Vec<Layer>,
}

/// What the innermost layer of a spec stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub enum Source {
    /// The server's base image.
    #[default]
    BaseImage,
    /// A snapshot of the account, which decides CPU and memory where the spec does not.
    Snapshot(#[serde(serialize_with = "as_text")] SnapshotId),
}

fn as_text<S: serde::Serializer>(id: &SnapshotId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}

/// One layer of a spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// What is set up.
    pub setup: Setup,
    /// Tells snapshots of the same content apart.
    pub discriminator: Option<String>,
    /// Whether a kept snapshot of the same content is not used. The new one is kept in its place.
    pub skip_cache: bool,
}

/// A snapshot to build from a spec, or to find among those that were built from the same.
#[derive(Debug, Clone)]
pub struct EnsureSnapshot {
    /// A label for people; not unique.
    pub name: Option<String>,
    /// What happens to it when space runs out.
    pub persistence: SnapshotPersistence,
    /// What it is made of. The last layer is the snapshot; there always is one.
    pub spec: Spec,
}

impl Spec {
    /// What each layer is a snapshot of, as 64 hex digits, innermost first: two layers have one key
    /// exactly if they and all below them are described alike and stand on the same. `image` names
    /// the base image.
    pub fn keys(&self, image: &str) -> Vec<String> {
        let mut below = String::new();
        let key = |layer: &Layer| {
            let base = matches!(self.source, Source::BaseImage).then_some(image);
            let Sizes { vcpus, memory_mib, disk_mib } = self.sizes;
            let description = (
                (KEY_VERSION, base, &self.source, vcpus, memory_mib, disk_mib),
                &below,
                &layer.setup,
                &layer.discriminator,
            );
            let text = serde_json::to_vec(&description)
                .expect("every part is a struct, a list, a text or a number");
            below = hex(&Sha256::digest(text));
            below.clone()
        };
        self.layers.iter().map(key).collect()
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::setup::{File, Files, GuestPath};

    fn file(content: &[u8]) -> Setup {
        let path = GuestPath::parse("/a").unwrap();
        let file = File { content: content.to_vec(), executable: false };
        Setup { files: Files::new(vec![(path, file)]).unwrap(), ..Setup::default() }
    }

    fn layer(content: &[u8]) -> Layer {
        Layer { setup: file(content), ..Layer::default() }
    }

    fn spec() -> Spec {
        Spec { layers: vec![layer(b"1"), layer(b"2")], ..Spec::default() }
    }

    #[test]
    fn a_key_changes_with_everything_at_and_below_its_layer() {
        let keys = spec().keys("image");
        assert_eq!(keys, spec().keys("image"));
        assert_ne!(keys[0], keys[1]);

        let mut outer = spec();
        outer.layers[1] = layer(b"3");
        assert_eq!(outer.keys("image")[0], keys[0]);
        assert_ne!(outer.keys("image")[1], keys[1]);

        let mut inner = spec();
        inner.layers[0].discriminator = Some("x".to_owned());
        let mut sized = spec();
        sized.sizes.vcpus = Some(2);
        let snapshot = Spec { source: Source::Snapshot(SnapshotId::random()), ..spec() };
        for other in [inner.keys("image"), sized.keys("image"), snapshot.keys("image")] {
            assert!(other[0] != keys[0] && other[1] != keys[1]);
        }
        assert_ne!(spec().keys("other"), keys);
        assert_eq!(snapshot.keys("image"), snapshot.keys("other"), "it stands on no image");
    }

    #[test]
    fn how_a_layer_is_waited_for_does_not_change_its_key() {
        let mut other = spec();
        other.layers[0].skip_cache = true;
        other.layers[0].setup.ready.timeout = Some(Duration::from_secs(5));
        other.layers[0].setup.ready.wait = false;
        assert_eq!(other.keys("image"), spec().keys("image"));
    }
}
