//! What an operator is told when a build cannot work. Needs root and mmdebstrap.

use std::fs;

use freestyle_image::{ImageError, ImageSpec, ensure};

#[tokio::test]
async fn an_unreachable_mirror_is_named_and_leaves_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent");
    fs::write(&agent, "\x7fELF").unwrap();
    // Port 9 of this machine: nobody listens, and nothing leaves it.
    let mirror = "http://127.0.0.1:9/debian";
    let spec = ImageSpec { mirror: Some(mirror.to_owned()), ..ImageSpec::new(agent) };

    let error = ensure(&dir.path().join("cache"), &spec, |_| ()).await.unwrap_err();

    let ImageError::Download { output } = error else { panic!("{error}") };
    assert!(output.contains(mirror), "{output}");
    assert!(!dir.path().join("cache/images").join(spec.hash().unwrap()).exists());
}
