//! The body of a request: decompressed, counted, and never held whole.

use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::{Stream, StreamExt};

/// Compressed bytes taken at one time: they cannot become more than about a megabyte.
const COMPRESSED_STEP: usize = 1024;
const LONGEST_PROTOCOL: usize = 256;

/// The value of the header `Git-Protocol`, as `version=2`.
#[derive(Debug, Clone)]
pub struct GitProtocol(String);

impl GitProtocol {
    /// Accepts what the header may be; anything else is treated as if it were not there, which
    /// every client understands.
    pub fn parse(header: &str) -> Option<Self> {
        let acceptable = header.len() <= LONGEST_PROTOCOL
            && header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=:.-_".contains(&byte));
        acceptable.then(|| Self(header.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_version_2(&self) -> bool {
        self.0.split(':').any(|part| part == "version=2")
    }
}

/// A request to one of the services.
pub struct TransferRequest {
    protocol: Option<GitProtocol>,
    body: Body,
}

struct Body {
    chunks: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// When the body is compressed.
    gzip: Option<GzDecoder<Vec<u8>>>,
    /// Of the current chunk, not decompressed yet.
    compressed: Bytes,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the request ended early: {0}")]
    Broken(io::Error),
    #[error("the request is not gzip: {0}")]
    NotGzip(io::Error),
    #[error("the client has not sent anything for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("the request is larger than the limit of {0} bytes")]
    TooLarge(u64),
}

impl TransferRequest {
    /// A request with its body. `gzip` says that `Content-Encoding` is `gzip` or `x-gzip`.
    pub fn new(
        protocol: Option<GitProtocol>,
        gzip: bool,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        let gzip = gzip.then(|| GzDecoder::new(Vec::new()));
        let body = Body { chunks: Box::pin(body), gzip, compressed: Bytes::new() };
        Self { protocol, body }
    }

    pub(super) fn protocol(&self) -> Option<&str> {
        self.protocol.as_ref().map(GitProtocol::as_str)
    }

    /// The body, of at most `limit` bytes, with at most `stall_time` between two of its parts.
    pub(super) fn into_reader(self, limit: u64, stall_time: Duration) -> BodyReader {
        BodyReader { body: self.body, limit, left: limit, stall_time }
    }
}

/// Reads a body part by part.
pub(super) struct BodyReader {
    body: Body,
    limit: u64,
    left: u64,
    stall_time: Duration,
}

impl BodyReader {
    /// The next bytes, decompressed; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let part = tokio::time::timeout(self.stall_time, self.body.next()).await;
        let Some(part) = part.map_err(|_| BodyError::Stalled(self.stall_time))?? else {
            return Ok(None);
        };
        self.left =
            self.left.checked_sub(part.len() as u64).ok_or(BodyError::TooLarge(self.limit))?;
        Ok(Some(part))
    }
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            if let Some(gzip) = &mut self.gzip {
                while !self.compressed.is_empty() {
                    let step = self.compressed.len().min(COMPRESSED_STEP);
                    let taken = gzip.write(&self.compressed[..step]).map_err(BodyError::NotGzip)?;
                    if taken == 0 {
                        // Something follows the compressed stream.
                        return Err(BodyError::NotGzip(io::ErrorKind::InvalidData.into()));
                    }
                    drop(self.compressed.split_to(taken));
                    if !gzip.get_ref().is_empty() {
                        return Ok(Some(std::mem::take(gzip.get_mut()).into()));
                    }
                }
            }
            let chunk = match self.chunks.next().await {
                Some(chunk) => chunk.map_err(BodyError::Broken)?,
                None => return self.end(),
            };
            match self.gzip {
                Some(_) => self.compressed = chunk,
                None if chunk.is_empty() => {}
                None => return Ok(Some(chunk)),
            }
        }
    }

    fn end(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(gzip) = self.gzip.take() else { return Ok(None) };
        let rest = gzip.finish().map_err(BodyError::NotGzip)?;
        Ok((!rest.is_empty()).then(|| rest.into()))
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::stream;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn reader(body: &[u8], step: usize, limit: u64) -> BodyReader {
        let chunks: Vec<_> =
            body.chunks(step).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        TransferRequest::new(None, true, stream::iter(chunks))
            .into_reader(limit, Duration::from_secs(60))
    }

    async fn read(mut reader: BodyReader) -> Result<Vec<u8>, BodyError> {
        let mut content = Vec::new();
        while let Some(part) = reader.next().await? {
            content.extend_from_slice(&part);
        }
        Ok(content)
    }

    #[tokio::test]
    async fn a_compressed_body_comes_out_as_it_was() {
        let content: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let compressed = gzip(&content);
        for step in [1000, 70_000, compressed.len()] {
            assert!(read(reader(&compressed, step, 2 << 20)).await.unwrap() == content);
        }
    }

    #[tokio::test]
    async fn a_decompression_bomb_is_stopped_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let refused = read(reader(&bomb, 1 << 20, 4 << 20)).await;
        assert!(matches!(refused, Err(BodyError::TooLarge(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_truncated_or_foreign_body_is_refused() {
        let compressed = gzip(b"want 0123456789");
        let cut = &compressed[..compressed.len() - 6];
        let trailed = [&compressed[..], b"more"].concat();
        for bad in [cut, b"not gzip at all, and long enough", &trailed] {
            let refused = read(reader(bad, 4096, 1 << 20)).await;
            assert!(matches!(refused, Err(BodyError::NotGzip(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_protocol_header_reaches_git_only_when_it_is_harmless() {
        assert!(GitProtocol::parse("version=2").unwrap().is_version_2());
        assert!(GitProtocol::parse("version=1:key=value").is_some());
        assert!(GitProtocol::parse("version=2\nx").is_none());
        assert!(GitProtocol::parse(&"a".repeat(300)).is_none());
    }
}
