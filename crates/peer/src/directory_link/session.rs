//! [`Session`]: the login at the directory, kept alive.
//!
//! One vital worker owns it. It logs in (at start with the credentials of the settings, or when asked), renews the
//! lease after a third of its time, takes a new certificate when less than a third of the old one's life is left, logs
//! in again by itself when the token was refused and it knows the password, and tries for ever, at most ten seconds
//! apart, while the directory is away. What the rest of the peer sees is [`LinkStatus`], in a watch channel.
//!
//! The session lies on disk too, so a peer that was killed goes on without a password. A stop in order logs out, so
//! that nobody waits for a peer that is gone.

mod farewell;

use std::{path::PathBuf, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use daemon::{Clock, Lifecycle};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use wire::{
    ErrorCode, Username,
    rest::directory::{Broker, RenewReply, RenewRequest, SessionReply, SessionRequest},
};

use super::{
    DirectoryClient,
    announce::Held,
    saved::{SavedSession, SessionFile},
};
use crate::{Failure, identity::Identity, tls::NetworkTls};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Whether the directory knows that we are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// No session; `why` where one was lost or refused.
    LoggedOut {
        why: Option<String>,
    },
    Connected,
    /// There is, or shall be, a session, and the directory cannot be reached.
    Disconnected {
        why: String,
    },
}

/// The session as the rest of the peer sees it. `Debug` does not show the broker's address, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whose session it is; none while logged out.
    pub username: Option<Username>,
    pub state: LinkState,
    /// The broker that the directory tells its peers to use.
    pub broker: Option<Broker>,
}

/// What the worker needs of the peer.
#[derive(Debug)]
pub struct SessionParts {
    pub client: DirectoryClient,
    pub identity: Arc<Identity>,
    pub tls: NetworkTls,
    pub clock: Clock,
    pub held: Held,
    /// What other peers dial, best first.
    pub endpoints: Vec<String>,
    pub data_dir: PathBuf,
    /// Log in with these at start.
    pub credentials: Option<(Username, SecretString)>,
}

/// Asks the worker, and sees what it sees. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Session {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<LinkStatus>,
}

#[derive(Debug)]
enum Command {
    Login {
        username: Username,
        password: SecretString,
        invite: Option<SecretString>,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    Logout {
        reply: oneshot::Sender<()>,
    },
    SetPassword {
        username: Username,
        current: SecretString,
        new: SecretString,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
}

struct Worker {
    parts: SessionParts,
    file: SessionFile,
    status: watch::Sender<LinkStatus>,
    credentials: Option<(Username, SecretString)>,
    active: Option<SavedSession>,
    /// One that was logged out while no directory heard it.
    ended: Option<SavedSession>,
    /// When to renew, or to try again.
    due: Option<Instant>,
    retries: ExponentialBackoff,
    /// Somebody was told that the directory is away, and is to be told that it is back.
    away: bool,
    /// The account was closed at the last login.
    closed: bool,
    /// The directory may know other addresses and another sealing key of us, from before a restart.
    tell_endpoints: bool,
}

impl Session {
    /// Starts the worker.
    pub fn start(parts: SessionParts, lifecycle: &Lifecycle) -> Self {
        let (commands, inbox) = mpsc::channel(4);
        let (status, seen) = watch::channel(LinkStatus {
            username: None,
            state: LinkState::LoggedOut { why: None },
            broker: None,
        });
        let worker = Worker {
            file: SessionFile(parts.data_dir.join("session.json")),
            credentials: parts.credentials.clone(),
            parts,
            status,
            active: None,
            ended: None,
            due: None,
            retries: retries(),
            away: false,
            closed: false,
            tell_endpoints: false,
        };
        lifecycle.spawn_vital("session", worker.run(inbox, lifecycle.soft()));
        Self { commands, status: seen }
    }

    /// Logs in, and creates the account where there is none and registration is open, or open to who has `invite`. A
    /// session that is there stays until the new one is.
    ///
    /// # Errors
    /// `unauthenticated` for a wrong password, `unavailable` without a directory, and what else the directory says.
    pub async fn login(
        &self,
        username: Username,
        password: SecretString,
        invite: Option<SecretString>,
    ) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Login { username, password, invite, reply }).await?;
        answer.await.map_err(|_| stopping())?
    }

    /// Ends the session and forgets the password; others refuse the certificate from then on. Where the directory is
    /// away, it is told when it is back.
    ///
    /// # Errors
    /// While the peer stops.
    pub async fn logout(&self) -> Result<(), Failure> {
        let (reply, done) = oneshot::channel();
        self.send(Command::Logout { reply }).await?;
        done.await.map_err(|_| stopping())
    }

    /// Gives the account another password. The other sessions of the account end, this one goes on.
    ///
    /// # Errors
    /// What the directory says: `permission_denied` for a wrong password or another account, `invalid_argument`.
    pub async fn set_password(
        &self,
        username: Username,
        current: SecretString,
        new: SecretString,
    ) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SetPassword { username, current, new, reply }).await?;
        answer.await.map_err(|_| stopping())?
    }

    pub fn status(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    async fn send(&self, command: Command) -> Result<(), Failure> {
        self.commands.send(command).await.map_err(|_| stopping())
    }
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, soft: tokio_util::sync::CancellationToken) {
        self.begin();
        let client = self.parts.client.clone();
        loop {
            let connected = self.status.borrow().state == LinkState::Connected;
            let due = self.due;
            let command = tokio::select! {
                biased;
                () = soft.cancelled() => break,
                Some(command) = inbox.recv() => Some(command),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
                () = client.doubt(), if connected => None,
            };
            let command = match command {
                Some(command) => command,
                // Whoever asks for something does not wait behind a directory that does not answer.
                None => tokio::select! {
                    biased;
                    () = soft.cancelled() => break,
                    Some(command) = inbox.recv() => command,
                    () = self.attempt() => continue,
                },
            };
            self.obey(command).await;
        }
        self.leave().await;
    }

    /// Takes up the session of the last run, unless the settings name another user.
    fn begin(&mut self) {
        let mut saved = self.file.load();
        self.ended = saved.take_if(|saved| saved.ended);
        let wanted = self.credentials.as_ref().map(|(username, _)| username);
        match saved {
            Some(saved) if wanted.is_none_or(|wanted| *wanted == saved.username) => {
                // An old certificate is better than none until the renewal; one that has ended is refused by others.
                if let Err(failure) = self.parts.tls.install(&saved.certificate_pem, &saved.ca_pem) {
                    tracing::warn!(error = %failure, "the saved certificate cannot be used");
                }
                self.parts.client.set_token(Some(saved.token.clone().into()));
                self.tell_endpoints = true;
                self.active = Some(saved);
                self.show(LinkState::Disconnected {
                    why: "the session at the directory is being taken up again".to_owned(),
                });
                self.due = Some(Instant::now());
            }
            other => {
                if other.is_some() {
                    self.file.forget();
                }
                if wanted.is_some() {
                    self.show(LinkState::Disconnected { why: "logging in at the directory".to_owned() });
                    self.due = Some(Instant::now());
                } else if self.ended.is_some() {
                    self.drop_session(None);
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Login { username, password, invite, reply } => {
                let opened = self.open(&username, &password, invite.as_ref()).await;
                if opened.is_ok() {
                    self.credentials = Some((username, password));
                }
                let _gone = reply.send(opened);
            }
            Command::SetPassword { username, current, new, reply } => {
                let set = self.parts.client.set_password(&username, &current, &new).await;
                // The next login by itself needs the new one.
                if let (Ok(()), Some((_, password))) =
                    (&set, self.credentials.as_mut().filter(|(known, _)| *known == username))
                {
                    *password = new;
                }
                let _gone = reply.send(set);
            }
            Command::Logout { reply } => {
                let ending = self.parts.client.end_session(self.parts.identity.peer_id());
                if !self.say_goodbye(ending).await {
                    tracing::warn!("the directory has not heard of the logout; it is told when it answers");
                    self.ended = self.active.take().map(|former| SavedSession { ended: true, ..former });
                }
                self.credentials = None;
                self.drop_session(None);
                tracing::info!("logged out");
                let _gone = reply.send(());
            }
        }
    }

    /// The renewal or the login that is due.
    async fn attempt(&mut self) {
        if self.active.is_some() {
            return self.renew().await;
        }
        let Some((username, password)) = self.credentials.clone() else {
            return self.tell_of_the_end().await;
        };
        match self.open(&username, &password, None).await {
            Ok(()) => {}
            Err(failure) if may_pass(failure.code) => self.try_later(&failure),
            Err(failure) => {
                // The password is right, and an account that was closed may be opened again.
                let closed = failure.code == ErrorCode::PermissionDenied;
                if !closed || !std::mem::replace(&mut self.closed, true) {
                    tracing::error!(error = %failure, user.name = %username, "the directory refused the login");
                }
                self.drop_session(Some(failure.detail));
                if closed {
                    self.due = Some(self.next_try());
                } else {
                    self.credentials = None;
                }
            }
        }
    }

    async fn renew(&mut self) {
        let csr_pem = if self.certificate_is_old() {
            match self.parts.identity.csr_pem() {
                Ok(csr) => Some(csr),
                Err(failure) => return self.try_later(&failure),
            }
        } else {
            None
        };
        let endpoints = self.tell_endpoints.then(|| self.parts.endpoints.clone());
        let sealing_key = self.tell_endpoints.then(|| self.parts.identity.sealing_public_hex());
        let mark = self.parts.held.mark();
        match self.parts.client.renew(&RenewRequest { endpoints, csr_pem, sealing_key }).await {
            Ok(reply) => {
                self.renewed(reply, mark);
            }
            Err(failure) if may_pass(failure.code) => self.try_later(&failure),
            Err(failure) => self.refused(&failure),
        }
    }

    fn renewed(&mut self, reply: RenewReply, mark: super::announce::Mark) {
        self.tell_endpoints = false;
        if let Some(active) = &mut self.active {
            active.lease_seconds = reply.lease_seconds;
            active.broker = reply.broker;
            if let Some(certificate) = reply.certificate_pem {
                match self.parts.tls.install(&certificate, &active.ca_pem) {
                    Ok(()) => {
                        tracing::info!("a new certificate is in use");
                        active.certificate_pem = certificate;
                        self.file.save(active);
                    }
                    Err(failure) => tracing::error!(error = %failure, "the new certificate cannot be used"),
                }
            }
        }
        self.parts.held.renewed(mark, reply.catalog_revision);
        self.alive();
        self.parts.tls.trust().hear(reply.trust_revision);
    }

    /// The directory does not know our token any more.
    fn refused(&mut self, failure: &Failure) {
        metrics::counter!("trueque_directory_sessions_lost_total").increment(1);
        tracing::warn!(error = %failure, "the directory ended the session");
        if self.credentials.is_none() {
            return self
                .drop_session(Some(format!("the directory ended the session: {failure}; log in again")));
        }
        self.forget();
        self.show(LinkState::Disconnected { why: "logging in at the directory again".to_owned() });
        self.due = Some(Instant::now());
    }

    /// Logs in; where the account may be missing, creates it first.
    async fn open(
        &mut self,
        username: &Username,
        password: &SecretString,
        invite: Option<&SecretString>,
    ) -> Result<(), Failure> {
        let request = SessionRequest {
            username: username.clone(),
            password: password.expose_secret().to_owned().into(),
            csr_pem: self.parts.identity.csr_pem()?,
            sealing_key: self.parts.identity.sealing_public_hex(),
            endpoints: self.parts.endpoints.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let client = &self.parts.client;
        let reply = match client.open_session(&request).await {
            Err(failure) if failure.code == ErrorCode::Unauthenticated => {
                create_account(client, username, password, invite, failure).await?;
                client.open_session(&request).await?
            }
            answer => answer?,
        };
        self.opened(username.clone(), reply)
    }

    fn opened(&mut self, username: Username, reply: SessionReply) -> Result<(), Failure> {
        if reply.peer_id != self.parts.identity.peer_id() {
            return Err(Failure::unavailable("the directory took this peer for another one"));
        }
        self.parts
            .tls
            .install(&reply.certificate_pem, &reply.ca_pem)
            .map_err(|failure| Failure::unavailable(failure.detail))?;
        tracing::info!(user.name = %username, directory.url = self.parts.client.url(), "logged in");
        self.parts.client.set_token(Some(reply.token.clone().into()));
        let active = SavedSession {
            username,
            token: reply.token,
            lease_seconds: reply.lease_seconds,
            certificate_pem: reply.certificate_pem,
            ca_pem: reply.ca_pem,
            broker: reply.broker,
            ended: false,
        };
        self.file.save(&active);
        self.active = Some(active);
        // The former session ended with this one's beginning.
        self.ended = None;
        self.tell_endpoints = false;
        self.parts.held.opened(reply.catalog_revision);
        self.alive();
        self.parts.tls.trust().hear(reply.trust_revision);
        Ok(())
    }

    fn alive(&mut self) {
        self.retries = retries();
        self.closed = false;
        if std::mem::take(&mut self.away) {
            tracing::info!(directory.url = self.parts.client.url(), "connected to the directory again");
        }
        self.show(LinkState::Connected);
        let lease = self.active.as_ref().map_or(0, |active| active.lease_seconds).max(1);
        // Peers that started together do not renew together.
        let third = Duration::from_secs(lease) / 3;
        self.due = Some(Instant::now() + third.mul_f64(rand::random_range(0.8..1.0)));
    }

    fn try_later(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(error = %failure, "the directory is away; it is tried again, at most ten seconds apart");
        }
        metrics::counter!("trueque_directory_retries_total").increment(1);
        self.parts.held.closed();
        self.show(LinkState::Disconnected { why: failure.detail.clone() });
        self.due = Some(self.next_try());
    }

    /// Nothing is left of the session, and none is sought; the directory is still told of the end of a former one.
    fn drop_session(&mut self, why: Option<String>) {
        self.forget();
        self.parts.tls.clear();
        self.due = if self.ended.is_some() { Some(self.next_try()) } else { None };
        let unheard = self.ended.is_some().then(|| farewell::UNHEARD.to_owned());
        self.show(LinkState::LoggedOut { why: why.or(unheard) });
    }

    fn next_try(&mut self) -> Instant {
        Instant::now() + self.retries.next().unwrap_or(LAST_RETRY)
    }

    fn forget(&mut self) {
        self.active = None;
        self.parts.client.set_token(None);
        self.parts.held.closed();
        match &self.ended {
            Some(ended) => self.file.save(ended),
            None => self.file.forget(),
        }
    }

    /// The stop in order: offline at once for everybody else.
    async fn leave(mut self) {
        self.say_goodbye(self.parts.client.close_session()).await;
        self.forget();
        self.show(LinkState::LoggedOut { why: None });
    }

    /// Whether less than a third of the certificate's life is left.
    fn certificate_is_old(&self) -> bool {
        let Some(active) = &self.active else { return false };
        let Some((from, until)) = validity(&active.certificate_pem) else { return true };
        let left = until - self.parts.clock.now().as_second();
        left < (until - from) / 3
    }

    fn show(&self, state: LinkState) {
        metrics::gauge!("trueque_directory_connected").set(u8::from(state == LinkState::Connected));
        // Whoever asks before there is a session hears why there is none.
        self.parts.client.set_away(match &state {
            LinkState::Disconnected { why } => Some(why.clone()),
            LinkState::Connected | LinkState::LoggedOut { .. } => None,
        });
        let username = match &state {
            LinkState::LoggedOut { .. } => None,
            _ => self
                .active
                .as_ref()
                .map(|active| active.username.clone())
                .or_else(|| self.credentials.as_ref().map(|(username, _)| username.clone())),
        };
        let broker = self.active.as_ref().and_then(|active| active.broker.clone());
        let next = LinkStatus { username, state, broker };
        self.status.send_if_modified(|now| {
            let changed = *now != next;
            *now = next;
            changed
        });
    }
}

impl std::fmt::Debug for LinkStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkStatus")
            .field("username", &self.username)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// After a refused login: perhaps there is no such account. Where there is, the refusal stands.
async fn create_account(
    client: &DirectoryClient,
    username: &Username,
    password: &SecretString,
    invite: Option<&SecretString>,
    refused: Failure,
) -> Result<(), Failure> {
    match client.create_account(username.clone(), password, invite).await {
        Ok(_) => {
            tracing::info!(user.name = %username, "the account is new and was created");
            Ok(())
        }
        Err(failure) => Err(match failure.code {
            ErrorCode::AlreadyExists => refused,
            ErrorCode::PermissionDenied | ErrorCode::Unauthenticated => Failure::new(
                ErrorCode::Unauthenticated,
                format!("{refused}; and an account cannot be created: {failure}"),
            ),
            _ => failure,
        }),
    }
}

/// Whether waiting may help against this.
fn may_pass(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::Unauthenticated
            | ErrorCode::PermissionDenied
            | ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::Unprocessable
    )
}

fn retries() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_RETRY)
        .with_max_delay(LAST_RETRY)
        .without_max_times()
        .with_jitter()
        .build()
}

/// From when to when a certificate holds, in seconds since 1970.
fn validity(certificate_pem: &str) -> Option<(i64, i64)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn stopping() -> Failure {
    Failure::unavailable("the peer is stopping")
}
