//! `/v1/broker`: what RabbitMQ asks about peers, and how it can check their tokens by itself.
//!
//! The questions are those of the plugin `rabbitmq_auth_backend_http`, as forms; the answers are `allow` and `deny`, in
//! plain text, with 200. Who may ask is the broker: from this machine, or with the secret from `broker.secret` in the
//! data folder as `?secret=…`. Whatever came through a proxy is from elsewhere. Others learn nothing, and cost nothing
//! but a comparison; the broker itself is not limited, because it asks for everybody.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use http::{header, request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;
use wire::{
    ErrorCode,
    http::{NoQuery, Problem, Query, read_body},
};

use super::{auth::Address, problems};
use crate::{
    App,
    broker::{
        Authority,
        rules::{self, Permission, Resource, User},
    },
    secrets,
};

/// What a question can be at most: names of 255 bytes, a token, and room for all of it to be escaped.
pub(super) const QUESTION_LIMIT: usize = 16 << 10;

/// A proxy says with one of these that it speaks for somebody else.
const OF_PROXIES: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Who asks is the broker.
#[derive(Debug)]
pub(super) struct FromBroker;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    secret: Option<String>,
}

impl FromRequestParts<Arc<App>> for FromBroker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let authority = authority(app)?;
        let Query(Secret { secret }) = Query::from_request_parts(parts, app).await?;
        let Ok(Address(address)) = Address::from_request_parts(parts, app).await;
        let through_proxy = OF_PROXIES.iter().any(|name| parts.headers.contains_key(*name));
        let from_here = address.is_some_and(|ip| ip.to_canonical().is_loopback()) && !through_proxy;
        // A wrong secret is refused from here too: it would fail elsewhere.
        let allowed = match secret {
            Some(secret) => secrets::same(&secret, &authority.secret),
            None => from_here,
        };
        if allowed {
            return Ok(Self);
        }
        refused("broker_caller");
        Err(Problem::new(
            ErrorCode::PermissionDenied,
            "the broker asks this, from the same machine or with `?secret=` from the directory's broker.secret",
        ))
    }
}

/// A form. Fields that are not known are not looked at: each version of the plugin sends more of them.
#[derive(Debug)]
pub(super) struct Question<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Question<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let bytes = read_body(request, app).await?;
        serde_urlencoded::from_bytes(&bytes)
            .map(Self)
            .map_err(|error| Problem::invalid(format!("the body is not what this call takes: {error}")))
    }
}

/// Who logs in at the broker.
#[derive(Deserialize, ToSchema)]
pub(super) struct UserQuestion {
    /// A peer id, or one and `.takes`, where it is one of ours.
    username: String,
    /// The broker's token or the session's.
    #[serde(default)]
    password: String,
}

/// Who comes to which virtual host.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct VhostQuestion {
    /// A peer id, or one and `.takes`, where it is one of ours.
    username: String,
    /// The virtual host.
    vhost: String,
}

/// Who wants to do what.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ResourceQuestion {
    /// A peer id, or one and `.takes`, where it is one of ours.
    username: String,
    /// The virtual host.
    vhost: String,
    /// `queue` or `exchange`.
    resource: String,
    /// The name of the queue or exchange.
    name: String,
    /// `configure`, `write` or `read`.
    permission: String,
}

/// Who wants to publish or bind with which key.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TopicQuestion {
    /// A peer id, or one and `.takes`, where it is one of ours.
    username: String,
    /// The virtual host.
    vhost: String,
    /// The name of the exchange.
    name: String,
    /// `write` to publish, `read` to bind.
    permission: String,
    /// The key.
    routing_key: String,
}

/// The answer to a question of the broker.
#[derive(Debug)]
pub(super) struct Verdict {
    question: &'static str,
    allowed: bool,
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response {
        if !self.allowed {
            refused(self.question);
        }
        ([(header::CONTENT_TYPE, "text/plain")], if self.allowed { "allow" } else { "deny" }).into_response()
    }
}

/// `POST /v1/broker/user`: may somebody log in with this password? A session's token does as well as the broker's.
pub(super) async fn user(
    State(app): State<Arc<App>>,
    _: FromBroker,
    Question(UserQuestion { username, password }): Question<UserQuestion>,
) -> Result<Verdict, Problem> {
    let now = app.clock.millis();
    let allowed = match open_user(&app, &username, now).await? {
        None => false,
        Some(user) => {
            let session = match secrets::digest(&password) {
                Some(digest) => app.catalog.session(&digest, now).await.map_err(problems::of_catalog)?,
                None => None,
            };
            let of_session = session.is_some_and(|session| session.peer_id == user.peer);
            let authority = authority(&app)?;
            of_session || authority.is_token_of(user, &password, now).map_err(Problem::internal)?
        }
    };
    Ok(Verdict { question: "broker_user", allowed })
}

/// `POST /v1/broker/vhost`: may they use this virtual host?
pub(super) async fn vhost(
    State(app): State<Arc<App>>,
    _: FromBroker,
    Question(VhostQuestion { username, vhost }): Question<VhostQuestion>,
) -> Result<Verdict, Problem> {
    let allowed = user_in(&app, &username, &vhost).await?.is_some();
    Ok(Verdict { question: "broker_vhost", allowed })
}

/// `POST /v1/broker/resource`: may they do this with that queue or exchange?
pub(super) async fn resource(
    State(app): State<Arc<App>>,
    _: FromBroker,
    Question(question): Question<ResourceQuestion>,
) -> Result<Verdict, Problem> {
    let resource = match question.resource.as_str() {
        "queue" => Some(Resource::Queue),
        "exchange" => Some(Resource::Exchange),
        _ => None,
    };
    let user = user_in(&app, &question.username, &question.vhost).await?;
    let allowed = match (user, resource, permission(&question.permission)) {
        (Some(user), Some(resource), Some(permission)) => {
            rules::may_use(user, resource, &question.name, permission)
        }
        _ => false,
    };
    Ok(Verdict { question: "broker_resource", allowed })
}

/// `POST /v1/broker/topic`: may they publish or bind with this key?
pub(super) async fn topic(
    State(app): State<Arc<App>>,
    _: FromBroker,
    Question(question): Question<TopicQuestion>,
) -> Result<Verdict, Problem> {
    let user = user_in(&app, &question.username, &question.vhost).await?;
    let allowed = match (user, permission(&question.permission)) {
        (Some(user), Some(permission)) => {
            rules::may_route(user, &question.name, permission, &question.routing_key)
        }
        _ => false,
    };
    Ok(Verdict { question: "broker_topic", allowed })
}

/// `GET /v1/broker/key.pem`: for `auth_oauth2.signing_keys.trueque`.
pub(super) async fn key_pem(State(app): State<Arc<App>>, _: NoQuery) -> Result<impl IntoResponse, Problem> {
    let pem = authority(&app)?.signer.public_pem();
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem))
}

/// `GET /v1/broker/jwks.json`: the same, for `auth_oauth2.jwks_url`.
pub(super) async fn jwks(
    State(app): State<Arc<App>>,
    _: NoQuery,
) -> Result<Json<serde_json::Value>, Problem> {
    Ok(Json(authority(&app)?.signer.public_jwks().map_err(Problem::internal)?))
}

fn authority(app: &App) -> Result<&Authority, Problem> {
    let authority = app.broker.as_ref().and_then(|broker| broker.authority());
    authority.ok_or_else(|| Problem::not_found("this directory is not the authority of a broker"))
}

/// The user of this name, where the broker's virtual host is ours and the peer is logged in.
async fn user_in(app: &App, username: &str, vhost: &str) -> Result<Option<User>, Problem> {
    if authority(app)?.vhost != vhost {
        return Ok(None);
    }
    open_user(app, username, app.clock.millis()).await
}

async fn open_user(app: &App, username: &str, now: i64) -> Result<Option<User>, Problem> {
    let Some(user) = User::named(username) else { return Ok(None) };
    let is_open = app.catalog.is_logged_in(user.peer, now).await.map_err(problems::of_catalog)?;
    Ok(is_open.then_some(user))
}

fn permission(word: &str) -> Option<Permission> {
    match word {
        "configure" => Some(Permission::Configure),
        "write" => Some(Permission::Write),
        "read" => Some(Permission::Read),
        _ => None,
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("directory_refusals_total", "reason" => reason).increment(1);
}
