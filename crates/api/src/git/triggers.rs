//! Triggers of a repository, and what was delivered to them. For API keys: an identity reads and
//! writes what is in a repository and changes nothing about it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use freestyle_client::wire::git::{
    CreateTriggerRequest, CreateTriggerResponse, GitDelivery, GitDeliveryAttempt, GitDeliveryState,
    GitTrigger, GitTriggerEvent, GitTriggerItem, ListDeliveriesQuery, ListDeliveriesResponse,
    ListTriggersResponse, RedeliverResponse, WebhookAction,
};
use freestyle_client::wire::{Empty, ErrorBody};
use freestyle_repos::{NewTrigger, Repos};
use freestyle_store::{Attempt, DeliveryRecord, DeliveryState, TriggerRecord};

use super::BAD;
use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::ApiError;
use crate::path::{DeliveryPath, RepoPath, TriggerPath};
use crate::query::understood;
use crate::timestamp::rfc3339;

const DEFAULT_PAGE: u64 = 20;
const MAX_PAGE: u64 = 100;

/// Lists the triggers.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/trigger",
    operation_id = "listTriggers",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The triggers", body = ListTriggersResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn list(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(repos): State<Repos>,
) -> Result<Json<ListTriggersResponse>, ApiError> {
    let repo = repos.get(&account, &repo).await.map_err(ApiError::from_repos)?;
    let triggers = repo.triggers().await.map_err(ApiError::from_repos)?;
    Ok(Json(ListTriggersResponse { triggers: triggers.into_iter().map(encode).collect() }))
}

/// Makes a trigger: its endpoint is told of every move of a branch from now on.
///
/// The request has the body `{"event": "branchUpdate", "repoId", "branch", "commit"}` and a header
/// `x-freestyle-signature`: a JWT signed with EdDSA by one of the keys at `/.well-known/jwks.json` of
/// the git host, whose claim `body_sha256` is the hash of the body in hex. It is repeated, for hours,
/// until the endpoint answers 2xx.
#[utoipa::path(
    post,
    path = "/git/v1/repo/{repo}/trigger",
    operation_id = "createTrigger",
    tag = "git",
    params(("repo" = String, Path, description = "The repository")),
    request_body = CreateTriggerRequest,
    responses(
        (status = 200, description = "The trigger", body = CreateTriggerResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    State(repos): State<Repos>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<CreateTriggerResponse>, ApiError> {
    let repo = repos.get(&account, &repo).await.map_err(ApiError::from_repos)?;
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let CreateTriggerRequest { trigger, action } = body.json(BAD)?;
    let GitTrigger { event: GitTriggerEvent::Push, branches, globs } = trigger;
    let WebhookAction::Webhook { endpoint } = action;
    let (branches, globs) = (branches.unwrap_or_default(), globs.unwrap_or_default());
    let created = repo.create_trigger(NewTrigger { branches, globs, endpoint }).await;
    let created = created.map_err(ApiError::from_repos)?;
    Ok(Json(CreateTriggerResponse { trigger_id: created.id.into() }))
}

/// Deletes a trigger; what was not delivered yet never is.
#[utoipa::path(
    delete,
    path = "/git/v1/repo/{repo}/trigger/{trigger}",
    operation_id = "deleteTrigger",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("trigger" = String, Path, description = "The trigger"),
    ),
    responses(
        (status = 200, description = "It is gone", body = Empty),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    TriggerPath(trigger): TriggerPath,
    State(repos): State<Repos>,
) -> Result<Json<Empty>, ApiError> {
    let repo = repos.get(&account, &repo).await.map_err(ApiError::from_repos)?;
    repo.delete_trigger(&trigger).await.map_err(ApiError::from_repos)?;
    Ok(Json(Empty {}))
}

/// Lists what was and is to be delivered to a trigger, newest first.
#[utoipa::path(
    get,
    path = "/git/v1/repo/{repo}/trigger/{trigger}/deliveries",
    operation_id = "listDeliveries",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("trigger" = String, Path, description = "The trigger"),
        ListDeliveriesQuery,
    ),
    responses(
        (status = 200, description = "The deliveries", body = ListDeliveriesResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn deliveries(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    TriggerPath(trigger): TriggerPath,
    State(repos): State<Repos>,
    query: Result<Query<ListDeliveriesQuery>, QueryRejection>,
) -> Result<Json<ListDeliveriesResponse>, ApiError> {
    let query = understood(query, BAD)?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).min(MAX_PAGE);
    let repo = repos.get(&account, &repo).await.map_err(ApiError::from_repos)?;
    let deliveries = repo.deliveries(&trigger, limit, query.offset.unwrap_or(0)).await;
    let deliveries = deliveries.map_err(ApiError::from_repos)?;
    let deliveries = deliveries.into_iter().map(encode_delivery).collect();
    Ok(Json(ListDeliveriesResponse { deliveries }))
}

/// Delivers something once more, after everything that waits.
#[utoipa::path(
    post,
    path = "/git/v1/repo/{repo}/trigger/{trigger}/deliveries/{delivery}/redeliver",
    operation_id = "redeliver",
    tag = "git",
    params(
        ("repo" = String, Path, description = "The repository"),
        ("trigger" = String, Path, description = "The trigger"),
        ("delivery" = String, Path, description = "The delivery"),
    ),
    responses(
        (status = 200, description = "The new delivery", body = RedeliverResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn redeliver(
    Account(account): Account,
    RepoPath(repo): RepoPath,
    TriggerPath(trigger): TriggerPath,
    DeliveryPath(delivery): DeliveryPath,
    State(repos): State<Repos>,
) -> Result<Json<RedeliverResponse>, ApiError> {
    let repo = repos.get(&account, &repo).await.map_err(ApiError::from_repos)?;
    let again = repo.redeliver(&trigger, &delivery).await.map_err(ApiError::from_repos)?;
    Ok(Json(RedeliverResponse { delivery_id: again.id.into() }))
}

fn encode(trigger: TriggerRecord) -> GitTriggerItem {
    let TriggerRecord { id, repository_id, branches, globs, endpoint, created_at } = trigger;
    GitTriggerItem {
        id: id.into(),
        repository_id,
        trigger: GitTrigger { event: GitTriggerEvent::Push, branches, globs },
        action: WebhookAction::Webhook { endpoint },
        managed: false,
        created_at: rfc3339(created_at),
    }
}

fn encode_delivery(delivery: DeliveryRecord) -> GitDelivery {
    GitDelivery {
        id: delivery.id.into(),
        branch: delivery.branch,
        commit: delivery.new_tip,
        state: match delivery.state {
            DeliveryState::Pending => GitDeliveryState::Pending,
            DeliveryState::Delivered => GitDeliveryState::Delivered,
            DeliveryState::Dead => GitDeliveryState::Dead,
        },
        attempts: delivery.attempts.into_iter().map(encode_attempt).collect(),
        failure: delivery.failure,
        redelivery_of: delivery.redelivery_of.map(Into::into),
        next_attempt_at: delivery.next_attempt_at.map(rfc3339),
        created_at: rfc3339(delivery.created_at),
        finished_at: delivery.finished_at.map(rfc3339),
    }
}

fn encode_attempt(attempt: Attempt) -> GitDeliveryAttempt {
    let Attempt { at, took, status, error } = attempt;
    GitDeliveryAttempt { at: rfc3339(at), duration_ms: took, status, error }
}
