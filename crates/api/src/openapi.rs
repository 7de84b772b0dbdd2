//! The published OpenAPI document, generated from the routes.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document};

use crate::documented_routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "Freestyle", description = "Linux microVMs for running code you did not write, and Git for storing it."),
    servers((url = "/")),
    security(("ApiKeyBearer" = []), ("IdentityAccessToken" = [])),
    tags(
        (name = "auth", description = "Who a credential belongs to"),
        (name = "git", description = "Repositories and what is in them"),
        (name = "dns", description = "What the DNS of domains says"),
        (name = "domains", description = "Domains and the VMs that they lead to"),
        (name = "identity", description = "End users of an account, their tokens and what they may use"),
        (name = "vpcs", description = "Private networks of virtual machines, and joining them over WireGuard"),
        (name = "vms", description = "Creating virtual machines and working in them"),
    ),
)]
struct Preamble;

/// The document without any route.
pub(crate) fn preamble() -> Document {
    let mut document = Preamble::openapi();
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let token = ApiKeyValue::new("X-Freestyle-Identity-Access-Token");
    let token = SecurityScheme::ApiKey(ApiKey::Header(token));
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("ApiKeyBearer", key);
    components.add_security_scheme("IdentityAccessToken", token);
    document
}

/// The document, as indented JSON with a line break at its end.
pub fn document() -> String {
    let document = documented_routes().into_openapi();
    let mut text = document.to_pretty_json().expect("the document has string keys only");
    text.push('\n');
    text
}

static DOCUMENT: LazyLock<String> = LazyLock::new(document);

pub(crate) async fn serve_document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
