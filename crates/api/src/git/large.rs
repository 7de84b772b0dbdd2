//! Answers that hold a file. It is encoded while it is sent, so that of a large one its bytes are in
//! memory once and nothing else.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freestyle_git::FileContent;
use futures_util::{StreamExt, stream};
use serde::Serialize;

/// Bytes that are encoded at a time; a multiple of three, so that the parts join without padding.
const PART: usize = 48 * 1024;

/// The JSON of an object whose last field is an empty text, with the content in its place.
pub(super) fn with_base64(head: &impl Serialize, content: FileContent) -> Response {
    const EMPTY: &[u8] = b"\"\"}";
    let mut json = serde_json::to_vec(head).expect("wire types have string keys");
    assert!(json.ends_with(EMPTY), "the content is the last field and empty");
    // The closing quote and brace come after the content.
    json.truncate(json.len() - 2);
    let first = stream::once(async move { Ok::<_, std::convert::Infallible>(Bytes::from(json)) });
    let parts = stream::unfold((content, 0), |(content, at)| async move {
        if at >= content.len() {
            return None;
        }
        let end = content.len().min(at + PART);
        let part = Bytes::from(STANDARD.encode(&content[at..end]));
        Some((Ok(part), (content, end)))
    });
    let last = stream::once(async { Ok(Bytes::from_static(b"\"}")) });
    let body = Body::from_stream(first.chain(parts).chain(last));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use freestyle_client::wire::git::{GitBlob, GitBlobEncoding, GitContents, GitFile};
    use http_body_util::BodyExt;
    use serde::de::DeserializeOwned;

    use super::*;

    async fn sent<T: DeserializeOwned>(head: &impl Serialize, content: Vec<u8>) -> T {
        let response = with_base64(head, content.into());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn content_of_any_length_arrives_whole() {
        let name = "\"}".to_owned();
        for length in [0, 1, 2, 3, PART - 1, PART, PART + 1, 3 * PART + 2] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let head = GitFile {
                name: name.clone(),
                path: name.clone(),
                sha: String::new(),
                size: length as u64,
                content: String::new(),
            };
            let file: GitContents = sent(&GitContents::File(head), content.clone()).await;
            let GitContents::File(file) = file else { panic!("{file:?}") };
            assert_eq!((&file.name, file.size), (&name, length as u64));
            assert_eq!(STANDARD.decode(file.content).unwrap(), content);
            let head = GitBlob {
                sha: name.clone(),
                size: length as u64,
                encoding: GitBlobEncoding::Base64,
                content: String::new(),
            };
            let blob: GitBlob = sent(&head, content.clone()).await;
            assert_eq!(STANDARD.decode(blob.content).unwrap(), content);
        }
    }
}
