//! One attempt: what is sent, and what the answer means.

use std::time::Duration;

use freestyle_outbound::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use freestyle_outbound::{Exchange, Method, StatusCode, WebUrl};
use freestyle_store::{Attempt, DueDelivery};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Shared;
use crate::jwt::{Claims, sign};
use crate::keys::now;

/// How long an endpoint may take to answer.
const TIME: Duration = Duration::from_secs(15);
/// How long a signature is good for.
const VALID: Duration = Duration::from_secs(300);
const SIGNATURE: HeaderName = HeaderName::from_static("x-freestyle-signature");
/// The same for each attempt, so that receivers can tell a repetition.
const DELIVERY: HeaderName = HeaderName::from_static("x-freestyle-delivery");

/// The body, as the documentation has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    event: &'static str,
    repo_id: &'a str,
    branch: &'a str,
    commit: &'a str,
}

/// Makes an attempt. It has failed if there is an error in the answer.
pub(crate) async fn attempt(shared: &Shared, due: &DueDelivery) -> Attempt {
    let at = now();
    let sent = send(shared, due, at).await;
    let took = now().saturating_sub(at);
    let (status, error) = match sent {
        Ok(status) if status.is_success() => (Some(status.as_u16()), None),
        Ok(status) => (Some(status.as_u16()), Some(refusal(status))),
        Err(error) => (None, Some(error)),
    };
    Attempt { at: at.cast_signed(), took, status, error }
}

async fn send(shared: &Shared, due: &DueDelivery, at: u64) -> Result<StatusCode, String> {
    let url: WebUrl = due.endpoint.parse().map_err(text)?;
    let delivery = &due.delivery;
    let payload = Payload {
        event: "branchUpdate",
        repo_id: &due.repository_id,
        branch: &delivery.branch,
        commit: &delivery.new_tip,
    };
    let body = serde_json::to_vec(&payload).map_err(text)?;
    let digest = Sha256::digest(&body);
    let claims = Claims {
        iss: &shared.issuer,
        sub: delivery.trigger_id.as_str(),
        jti: delivery.id.as_str(),
        iat: at / 1000,
        exp: at / 1000 + VALID.as_secs(),
        body_sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let token = shared.keys.sign(|key| sign(key, &claims)).await.map_err(text)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SIGNATURE, token.try_into().map_err(text)?);
    headers.insert(DELIVERY, delivery.id.as_str().try_into().map_err(text)?);
    // Nothing of the answer is kept but its status.
    let (method, body) = (Method::POST, body.into());
    let exchange = Exchange { method, url: &url, headers, body, time: TIME, most: 0 };
    Ok(shared.outbound.exchange(exchange).await.map_err(text)?.status)
}

fn refusal(status: StatusCode) -> String {
    match status.is_redirection() {
        true => format!("it answered {status}, and no redirect is followed"),
        false => format!("it answered {status}"),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
