//! Fetching an archive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use freestyle_outbound::header::{HeaderMap, LOCATION};
use freestyle_outbound::{Exchange, Method, Outbound, OutboundError, StatusCode, WebUrl};

use crate::ReposError;

/// Bytes of an archive as it is sent.
const LARGEST: usize = 64 << 20;
/// For all of it, redirects included.
const TIME: Duration = Duration::from_secs(180);
const MOST_REDIRECTS: usize = 5;

/// The bytes under a URL, redirects followed. Each place is judged like the first.
pub(super) async fn download(outbound: &Outbound, url: &WebUrl) -> Result<Bytes, ReposError> {
    let mut at = url.clone();
    let failed = |cause| ReposError::Source { url: url.to_string(), cause };
    let until = Instant::now() + TIME;
    for _ in 0..=MOST_REDIRECTS {
        let exchange = Exchange {
            method: Method::GET,
            url: &at,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            time: until.saturating_duration_since(Instant::now()),
            most: LARGEST,
        };
        let received = outbound.exchange(exchange).await.map_err(failed)?;
        if received.status.is_redirection() {
            let location = received.headers.get(LOCATION).and_then(|place| place.to_str().ok());
            let next = location.and_then(|location| resolved(&at, location));
            at = next.ok_or_else(|| failed(OutboundError::InvalidUrl("a bad redirect")))?;
            continue;
        }
        if received.status != StatusCode::OK {
            let (url, status) = (url.to_string(), received.status.as_u16());
            return Err(ReposError::SourceStatus { url, status });
        }
        if received.is_cut {
            return Err(failed(OutboundError::TooLarge { limit: LARGEST as u64 }));
        }
        return Ok(received.body);
    }
    Err(failed(OutboundError::InvalidUrl("it leads from one place to the next")))
}

/// Where a redirect leads. What names no host stays at the same.
fn resolved(at: &WebUrl, location: &str) -> Option<WebUrl> {
    let location = location.split('#').next().unwrap_or_default();
    match location.starts_with('/') && !location.starts_with("//") {
        true => format!("{}{location}", at.origin()).parse().ok(),
        false => location.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_a_whole_url_or_a_path_of_the_same_host() {
        let at: WebUrl = "https://user:secret@example.com:8443/a/b?c".parse().unwrap();
        let to = |location| resolved(&at, location).map(|url| url.to_string());
        assert_eq!(to("/x?y#z").as_deref(), Some("https://example.com:8443/x?y"));
        assert_eq!(to("http://other.example/x").as_deref(), Some("http://other.example/x"));
        assert!(resolved(&at, "/x").unwrap().credentials().is_none());
        for bad in ["", "x", "//other.example/x", "file:///etc/passwd", "ftp://example.com/"] {
            assert_eq!(to(bad), None, "{bad}");
        }
    }
}
