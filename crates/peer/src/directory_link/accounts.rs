//! The calls for accounts' own affairs: groups, sessions, the password, and whom to trust.

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use wire::{
    GroupName, PeerId, Username,
    rest::{
        Page,
        accounts::{
            Group, GroupRequest, LookupReply, LookupRequest, PasswordRequest, SessionItem, TrustQuery,
            TrustReply,
        },
        directory::PageQuery,
    },
};

use super::client::{Call, DirectoryClient};
use crate::Failure;

impl DirectoryClient {
    /// Those of the names that are accounts.
    pub(crate) async fn lookup(&self, usernames: Vec<Username>) -> Result<Vec<Username>, Failure> {
        let reply: LookupReply =
            self.ask(Call::post("/v1/accounts/lookup", &LookupRequest { usernames })?).await?;
        Ok(reply.usernames)
    }

    pub async fn groups(&self, query: &PageQuery) -> Result<Page<Group>, Failure> {
        self.ask(Call::get("/v1/groups", query)?).await
    }

    pub async fn group(&self, name: &GroupName) -> Result<Group, Failure> {
        self.ask(Call::new(Method::GET, format!("/v1/groups/{name}"))).await
    }

    pub async fn create_group(&self, request: &GroupRequest) -> Result<Group, Failure> {
        self.ask(Call::post("/v1/groups", request)?).await
    }

    pub async fn delete_group(&self, name: &GroupName) -> Result<(), Failure> {
        self.tell(Call::new(Method::DELETE, format!("/v1/groups/{name}"))).await
    }

    /// Takes somebody into a group, or out of it.
    pub async fn set_member(&self, name: &GroupName, user: &Username, belongs: bool) -> Result<(), Failure> {
        let method = if belongs { Method::PUT } else { Method::DELETE };
        self.tell(Call::new(method, format!("/v1/groups/{name}/members/{user}"))).await
    }

    pub async fn sessions(&self, query: &PageQuery) -> Result<Page<SessionItem>, Failure> {
        self.ask(Call::get("/v1/sessions", query)?).await
    }

    pub async fn end_session(&self, peer: PeerId) -> Result<(), Failure> {
        self.tell(Call::new(Method::DELETE, format!("/v1/sessions/{peer}"))).await
    }

    /// Ends the session that this token is for: the one of `peer`.
    pub(super) async fn end_former_session(&self, token: &str, peer: PeerId) -> Result<(), Failure> {
        let call = Call::new(Method::DELETE, format!("/v1/sessions/{peer}"));
        self.tell(call.of_session(token.to_owned().into())).await
    }

    pub(super) async fn set_password(
        &self,
        username: &Username,
        current: &SecretString,
        new: &SecretString,
    ) -> Result<(), Failure> {
        let body = PasswordRequest {
            current: Some(current.expose_secret().to_owned().into()),
            new: new.expose_secret().to_owned().into(),
        };
        self.tell(Call::with_body(Method::PUT, format!("/v1/accounts/{username}/password"), &body)?).await
    }

    pub(crate) async fn trust(&self, query: &TrustQuery) -> Result<TrustReply, Failure> {
        self.ask(Call::get("/v1/trust", query)?).await
    }
}
