//! The heads of messages, rewritten from one connection for the other.
//!
//! A head is parsed strictly by `hyper` and written anew, so what the guest reads is framed by the
//! edge and not by the client: two lengths, a folded field or a broken chunk end at the edge.

use hyper::header::{
    self, CONNECTION, COOKIE, Entry, HOST, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE,
};
use hyper::http::request;
use hyper::{Method, Uri, Version};

use crate::host::HostName;
use crate::page::Page;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that are about one connection (RFC 9110 section 7.6.1), and what announces trailers,
/// which are not passed on.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    UPGRADE,
];

/// Who asks, and how they came here: the same for all requests on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// The client's address.
    pub(crate) from: HeaderValue,
    /// The name the client asked for when it set up TLS; `None` without TLS.
    pub(crate) tls: Option<HostName>,
    /// The worker that the client's connection is with.
    pub(crate) worker: usize,
}

impl Visit {
    fn scheme(&self) -> HeaderValue {
        HeaderValue::from_static(if self.tls.is_some() { "https" } else { "http" })
    }
}

/// The host that a request is for, and the field that says so.
///
/// # Errors
/// A page for requests that name none, several, or something else.
pub(crate) fn requested_host(
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(HostName, HeaderValue), Page> {
    let bad = |text| Page::bad_request(text);
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(bad("The request names more than one host."));
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    let value = match (authority, field) {
        (Some(authority), field) => {
            if field
                .is_some_and(|field| !authority.as_bytes().eq_ignore_ascii_case(field.as_bytes()))
            {
                return Err(bad("The request names two hosts."));
            }
            HeaderValue::try_from(authority).map_err(|_| bad("The request names no host."))?
        }
        (None, Some(field)) => field.clone(),
        (None, None) => return Err(bad("The request names no host.")),
    };
    let host = value.to_str().ok().and_then(HostName::from_authority);
    host.map(|host| (host, value)).ok_or_else(|| bad("The request's host is no name of a host."))
}

/// The protocol that a request asks to go on with, if it may.
pub(crate) fn requested_upgrade(parts: &request::Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || parts.method == Method::CONNECT {
        return None;
    }
    if !tokens(&parts.headers).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let (protocol, None) = (protocols.next()?, protocols.next()) else { return None };
    // The guest would take requests past the edge.
    let is_http = protocol.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("h2c"));
    (!is_http).then(|| protocol.clone())
}

/// Makes the head of a client's request the head of the edge's request to the guest.
pub(crate) fn to_guest(
    headers: &mut HeaderMap,
    visit: &Visit,
    host: HeaderValue,
    upgrade: Option<HeaderValue>,
) {
    remove_hop_by_hop(headers);
    remove_claims(headers);
    join_cookies(headers);
    // The edge has told the client to go on.
    headers.remove(header::EXPECT);
    headers.insert(FORWARDED_FOR, visit.from.clone());
    headers.insert(FORWARDED_PROTO, visit.scheme());
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(HOST, host);
    if let Some(protocol) = upgrade {
        set_upgrade(headers, protocol);
    }
}

/// Makes the head of a guest's answer the head of the edge's answer to the client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// Says that the connection goes on with another protocol.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(CONNECTION).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',').map(str::trim))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers).filter_map(|token| token.parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes what clients may not say of themselves. Guests that speak CGI take an underscore for a
/// hyphen.
fn remove_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &str| {
        let mut name = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
        match name.next() {
            Some(b'f') => name.eq(*b"orwarded"),
            Some(b'x') => {
                let name: Vec<u8> = name.collect();
                name.starts_with(b"-forwarded-") || name == b"-forwarded" || name == b"-real-ip"
            }
            _ => false,
        }
    };
    let claims: Vec<HeaderName> =
        headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// HTTP/2 may split the field, HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let Entry::Occupied(mut cookies) = headers.entry(COOKIE) else { return };
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
    // Joined valid values are one.
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        cookies.insert(joined);
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn visit() -> Visit {
        let from = HeaderValue::from_static("192.0.2.1");
        Visit { from, tls: HostName::parse("a.com"), worker: 0 }
    }

    /// What the guest is told of a client that sent these fields, sorted.
    fn told(fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = parts("/", fields).headers;
        let host = HeaderValue::from_static("a.com:8443");
        to_guest(&mut headers, &visit(), host, None);
        let mut told: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        told.sort();
        told
    }

    /// The fields of every request, and these.
    fn ours_and(fields: &[&str]) -> Vec<String> {
        let ours = [
            "host: a.com:8443",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: a.com:8443",
            "x-forwarded-proto: https",
        ];
        let mut all: Vec<String> = ours.iter().chain(fields).map(ToString::to_string).collect();
        all.sort();
        all
    }

    #[test]
    fn the_guest_hears_who_asks_and_not_who_they_say_they_are() {
        let claims = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("X-Forwarded-Proto", "http"),
            ("x_forwarded_for", "10.0.0.3"),
            ("x-forwarded_host", "evil.example"),
            ("x-forwarded-client-cert", "me"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("x-real-name", "Kim"),
        ];
        assert_eq!(told(&claims), ours_and(&["x-real-name: Kim"]));
    }

    #[test]
    fn what_is_about_one_connection_stays_on_it() {
        let fields = [
            ("connection", "keep-alive, X-Secret ,host"),
            ("connection", "close"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("expect", "100-continue"),
            ("accept", "*/*"),
            ("authorization", "Bearer x"),
        ];
        assert_eq!(told(&fields), ours_and(&["accept: */*", "authorization: Bearer x"]));
    }

    #[test]
    fn cookies_that_came_apart_are_joined() {
        let cookies = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
        assert_eq!(told(&cookies), ours_and(&["cookie: a=1; b=2; c=3; d=4"]));
    }

    /// Names that mean something to somebody on the way, and others.
    fn any_name() -> impl Strategy<Value = String> {
        let known = [
            "connection",
            "host",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-proto",
            "forwarded",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "cookie",
            "content-length",
            "x-real-ip",
            "proxy-connection",
            "accept",
        ];
        prop_oneof![select(known.to_vec()).prop_map(str::to_owned), "[a-z_-]{1,12}"]
    }

    fn any_value() -> impl Strategy<Value = String> {
        let list = vec(any_name(), 1..4).prop_map(|names| names.join(" , "));
        prop_oneof![list, "[ -~]{0,20}"]
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_the_guest_hears_the_same_of_it(
            fields in vec((any_name(), any_value()), 0..12),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, value.trim().parse().unwrap());
            }
            to_guest(&mut headers, &visit(), HeaderValue::from_static("a.com"), None);
            for (name, value) in [
                ("host", "a.com"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "a.com"),
                ("x-forwarded-proto", "https"),
            ] {
                prop_assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value]);
            }
            for name in HOP_BY_HOP {
                prop_assert!(!headers.contains_key(&name), "{name}");
            }
            for name in ["x_forwarded_for", "forwarded", "x-real-ip", "expect"] {
                prop_assert!(!headers.contains_key(name), "{name}");
            }
            prop_assert!(headers.get_all(COOKIE).iter().count() <= 1);
        }
    }

    #[test]
    fn a_request_is_for_one_host() {
        let host = |uri: &str, fields: &[(&str, &str)]| {
            let parts = parts(uri, fields);
            let requested = requested_host(&parts.headers, &parts.uri);
            requested.map(|(host, field)| (host.to_string(), field.to_str().unwrap().to_owned()))
        };
        let expect = |host: &str, field: &str| Ok((host.to_owned(), field.to_owned()));
        assert_eq!(host("/", &[("host", "A.com:81")]), expect("a.com", "A.com:81"));
        assert_eq!(host("http://a.com/x", &[]), expect("a.com", "a.com"));
        assert_eq!(host("http://a.com/x", &[("host", "A.com")]), expect("a.com", "a.com"));
        for (uri, fields) in [
            ("/", &[][..]),
            ("/", &[("host", "")]),
            ("/", &[("host", "a.com, b.com")]),
            ("/", &[("host", "127.0.0.1")]),
            ("/", &[("host", "a.com"), ("host", "a.com")]),
            ("http://a.com/", &[("host", "b.com")]),
            ("http://user@a.com/", &[]),
        ] {
            let page = host(uri, fields).unwrap_err();
            assert_eq!(page.status(), 400, "{uri} {fields:?}");
        }
    }

    #[test]
    fn only_a_protocol_that_was_asked_for_is_gone_on_with() {
        let upgrade = |fields: &[(&str, &str)]| {
            requested_upgrade(&parts("/", fields)).map(|field| field.to_str().unwrap().to_owned())
        };
        let asks = ("connection", "keep-alive, Upgrade");
        assert_eq!(upgrade(&[asks, ("upgrade", "websocket")]).as_deref(), Some("websocket"));
        assert_eq!(upgrade(&[("upgrade", "websocket")]), None);
        assert_eq!(upgrade(&[asks]), None);
        assert_eq!(upgrade(&[asks, ("upgrade", "h2c")]), None);
        assert_eq!(upgrade(&[asks, ("upgrade", "websocket, H2C")]), None);
        assert_eq!(upgrade(&[asks, ("upgrade", "websocket"), ("upgrade", "x")]), None);
    }
}
