//! Decoders of bodies and queries, given anything.

use axum::extract::Query;
use axum::http::Uri;
use freestyle_client::wire::git::{
    CommitSearchQuery, CompareQuery, ContentSearchQuery, ContentsQuery, CreateCommitObjectRequest,
    CreateCommitRequest, CreateRepoRequest, FileSearchQuery, ListCommitsQuery, ListReposQuery,
};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::git::{commits, repositories, search};

/// A value as strange as JSON allows, more often one that a decoder might take.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,300}".prop_map(Value::from),
        "[a-z/.]{0,8}".prop_map(Value::from),
        Just(json!("0123456789012345678901234567890123456789")),
        Just(json!({"name": "A", "email": "a@b.c"})),
        Just(json!({"name": "A", "email": "a@b.c", "date": "2024-02-29T00:00:00Z"})),
        Just(json!({"type": "files", "files": {"a": "1"}, "commitMessage": "m"})),
        Just(json!({"path": "a", "content": "1"})),
        Just(json!({"url": "https://example.com/x.git"})),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A body with some of the fields of the calls on repositories.
fn any_body() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(vec![
        "name",
        "public",
        "defaultBranch",
        "source",
        "import",
        "message",
        "files",
        "branch",
        "author",
        "committer",
        "expectedSha",
        "tree",
        "parents",
        "other",
    ]);
    prop::collection::vec((field, any_value()), 0..5).prop_map(|fields| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Object(fields.collect::<Map<_, _>>())
    })
}

fn any_query() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "query",
        "rev",
        "ref",
        "limit",
        "offset",
        "order",
        "since",
        "until",
        "maxResults",
        "isRegex",
        "wholeWord",
        "caseSensitive",
        "pathPattern",
        "recursive",
        "base",
        "head",
        "search",
    ]);
    let value = prop_oneof!["[a-z0-9%+&=.-]{0,12}", Just("true".into()), Just("17".into())];
    let pair = (field, value).prop_map(|(field, value)| format!("{field}={value}"));
    prop::collection::vec(pair, 0..5).prop_map(|pairs| pairs.join("&"))
}

fn body<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_value(body.clone()).ok()
}

fn query<T: DeserializeOwned>(text: &str) -> Option<T> {
    let uri: Uri = format!("/x?{text}").parse().ok()?;
    Query::try_from_uri(&uri).ok().map(|Query(query)| query)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_body_is_too_strange(value in any_body()) {
        if let Some(request) = body::<CreateRepoRequest>(&value)
            && let Ok(new) = repositories::decode_create(request)
        {
            prop_assert!(new.name.is_none_or(|name| !name.is_empty() && name.len() < 2000));
            prop_assert!(new.default_branch.is_none_or(|branch| !branch.as_str().is_empty()));
        }
        if let Some(request) = body::<CreateCommitRequest>(&value) {
            let count = request.files.len();
            prop_assert_eq!(commits::decode_create(request).files.len(), count);
        }
        if let Some(request) = body::<CreateCommitObjectRequest>(&value) {
            let _ = commits::decode_create_object(request);
        }
        // An unknown field is never passed over.
        if value.get("other").is_some() {
            prop_assert!(body::<CreateRepoRequest>(&value).is_none());
            prop_assert!(body::<CreateCommitRequest>(&value).is_none());
            prop_assert!(body::<CreateCommitObjectRequest>(&value).is_none());
        }
    }

    #[test]
    fn no_query_is_too_strange(text in any_query()) {
        if let Some(asked) = query::<ContentSearchQuery>(&text)
            && let Ok(search) = search::decode(asked)
        {
            prop_assert!(search.max_results > 0 || text.contains("maxResults=0"));
        }
        let _ = query::<FileSearchQuery>(&text);
        let _ = query::<CommitSearchQuery>(&text);
        let _ = query::<ListCommitsQuery>(&text);
        let _ = query::<ListReposQuery>(&text);
        let _ = query::<ContentsQuery>(&text);
        let _ = query::<CompareQuery>(&text);
    }
}
