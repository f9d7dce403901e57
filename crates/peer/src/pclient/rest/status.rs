//! `GET /v1/status`: how the peer stands, in one look.

use std::time::Instant;

use axum::{Json, extract::State};
use wire::rest::pclient::{
    DirectoryStatus, PserverStatus, RelayStatus, SharedStatus, Status, TransferStatus,
};

use super::{NoQuery, Pclient};
use crate::{directory_link::LinkState, relay::broker::RelayState};

pub(super) async fn show(State(pclient): State<Pclient>, _: NoQuery) -> Json<Status> {
    Json(pclient.status())
}

impl Pclient {
    /// Bytes per second that come in and go out now.
    pub(super) fn rates(&self) -> (u64, u64) {
        (self.downloads.received_rate(), self.sent.rate(Instant::now()))
    }

    /// How the peer stands now.
    pub fn status(&self) -> Status {
        let link = self.session.status();
        let (files, bytes) = self.library.totals();
        let (hashing_files, hashing_bytes) = self.shares.progress();
        let (down_bps, up_bps) = self.rates();
        let all_known = hashing_files == 0 && self.shares.has_landed();
        let announced = all_known && self.held.is_settled(*self.library.changes().borrow());
        let error = match link.state {
            LinkState::Connected => None,
            LinkState::LoggedOut { ref why } => why.clone(),
            LinkState::Disconnected { ref why } => Some(why.clone()),
        };
        Status {
            peer_id: self.about.peer_id,
            username: link.username,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: DirectoryStatus {
                url: self.directory.url(),
                connected: link.state == LinkState::Connected,
                error,
            },
            pserver: PserverStatus {
                listen: self.about.pserver_listen.map(|address| address.to_string()),
                advertise: self.about.advertise.clone(),
            },
            relay: relay_status(&self.relay.borrow()),
            shared: SharedStatus { files, bytes, hashing_files, hashing_bytes, announced },
            transfers: TransferStatus { down_bps, up_bps },
        }
    }
}

fn relay_status(state: &RelayState) -> RelayStatus {
    let away =
        |off, why: &str| RelayStatus { connected: false, server: None, off, why: Some(why.to_owned()) };
    match state {
        RelayState::Off { why } => away(true, why),
        RelayState::Away { why } => away(false, why),
        RelayState::On { blocked, server, .. } => RelayStatus {
            connected: true,
            server: Some(server.to_string()),
            off: false,
            why: blocked.clone(),
        },
    }
}
