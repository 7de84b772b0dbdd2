//! One request and its answer.

use std::time::Duration;

use freestyle_outbound::{Exchange, Method, OutboundError, Received, StatusCode};

use crate::support::{Server, in_own_network, ok, outbound};

async fn get(url: &str, time: Duration) -> Result<Received, OutboundError> {
    let url = url.parse().unwrap();
    let (method, headers, body) = (Method::GET, Default::default(), Default::default());
    outbound(&[]).exchange(Exchange { method, url: &url, headers, body, time, most: 1000 }).await
}

const TIME: Duration = Duration::from_secs(20);

#[test]
fn an_answer_is_kept_up_to_its_limit() {
    in_own_network(async |_| {
        for (length, kept, is_cut) in [(0, 0, false), (1000, 1000, false), (1001, 1000, true)] {
            let server = Server::start(ok(&"x".repeat(length))).await;
            let received = get(&format!("http://11.0.0.1:{}/", server.port), TIME).await.unwrap();
            assert_eq!(received.status, StatusCode::OK);
            assert_eq!((received.body.len(), received.is_cut), (kept, is_cut));
        }
    });
}

#[test]
fn a_redirect_is_an_answer_like_any_other() {
    in_own_network(async |_| {
        let inner = Server::start(ok("secret")).await;
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{}/\r\nContent-Length: 0\r\n\r\n",
            inner.port
        );
        let server = Server::start(answer).await;
        let received = get(&format!("http://11.0.0.1:{}/", server.port), TIME).await.unwrap();
        assert_eq!((received.status, inner.connections()), (StatusCode::FOUND, 0));
    });
}

#[test]
fn what_is_not_an_answer_is_told_apart() {
    in_own_network(async |_| {
        for answer in
            ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
        {
            let server = Server::start(answer).await;
            let received = get(&format!("http://11.0.0.1:{}/", server.port), TIME).await;
            assert!(matches!(received, Err(OutboundError::BadAnswer { .. })), "{received:?}");
        }
        let server = Server::start(ok("")).await;
        let received = get(&format!("https://11.0.0.1:{}/", server.port), TIME).await;
        let failed =
            matches!(received, Err(OutboundError::Tls { .. } | OutboundError::Internal(_)));
        assert!(failed, "{received:?}");
    });
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    in_own_network(async |_| {
        // It accepts, by its backlog, and says nothing.
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let url = format!("http://11.0.0.1:{}/", listener.local_addr().unwrap().port());
        let received = get(&url, Duration::from_millis(300)).await;
        assert!(matches!(received, Err(OutboundError::TimedOut { .. })), "{received:?}");
    });
}
