//! Why the way to a peer is what it is, in words: for the user with all that is known, for the log without addresses.

use wire::rest::pclient::PeerPath;

use super::{Lines, LinkError, Links, Rung, Target};
use crate::relay::broker::RelayState;

impl Links {
    /// The way to a peer, and why it is no better one.
    pub fn way(&self, target: &Target, online: bool) -> (PeerPath, Option<String>) {
        self.way_for(target, online, 0)
    }

    /// As [`Self::way`], for the bytes of a file of this size.
    pub fn way_for(&self, target: &Target, online: bool, size: u64) -> (PeerPath, Option<String>) {
        let path = self.path_for(target, online, size);
        (path, self.why(target, path, online, size))
    }

    /// Why the relay, which is there, does not carry a file of this size; `None` where it does, or is not there.
    pub(super) fn too_large(&self, target: &Target, size: u64) -> Option<String> {
        let limits = self.relay_for(target)?.limits();
        let why = || format!("files of more than {} bytes are not fetched over the relay", limits.max_file());
        (!limits.takes(size)).then(why)
    }

    /// None where there is no better one, or it is off.
    fn why(&self, target: &Target, path: PeerPath, online: bool, size: u64) -> Option<String> {
        if path == PeerPath::Direct || !online {
            return None;
        }
        let known = self.inner.peers.lock().get(&target.peer_id).cloned().unwrap_or_default();
        let mut reasons = vec![self.not_direct(target, &known)];
        if matches!(path, PeerPath::Relayed | PeerPath::Offline) {
            reasons.extend(self.not_reversed(target, &known));
        }
        if path == PeerPath::Offline {
            let too_large = self.too_large(target, size);
            reasons.push(too_large.unwrap_or_else(|| self.not_relayed(target, &known)));
        }
        Some(reasons.join("; "))
    }

    fn not_direct(&self, target: &Target, lines: &Lines) -> String {
        if target.endpoints.is_empty() {
            return "it takes no calls".to_owned();
        }
        match &lines.faults.lock()[Rung::Direct] {
            Some(fault) => format!("its address {}", worded(fault)),
            None if lines.is_slow(Rung::Direct) => "its address has not answered yet".to_owned(),
            None => "its address is tried now and then, beside what carries".to_owned(),
        }
    }

    /// Nothing to say where there is no relay to ask by, or nobody who would dial.
    fn not_reversed(&self, target: &Target, lines: &Lines) -> Option<String> {
        if target.endpoints.is_empty() {
            return None;
        }
        self.inner.relay.as_ref().filter(|relay| relay.is_on())?;
        if !self.inner.reversals.are_possible() {
            return Some("it cannot dial this peer, which takes no calls".to_owned());
        }
        let faults = lines.faults.lock();
        faults[Rung::Reversed].as_ref().map(|fault| format!("dialling back {}", worded(fault)))
    }

    fn not_relayed(&self, target: &Target, lines: &Lines) -> String {
        let Some(relay) = &self.inner.relay else { return "there is no relay".to_owned() };
        match &*relay.state().borrow() {
            RelayState::Off { why } => format!("there is no relay ({why})"),
            RelayState::Away { why } => format!("the relay is not connected: {why}"),
            RelayState::On { blocked: Some(why), .. } => {
                format!("the relay's broker takes nothing now: {why}")
            }
            RelayState::On { .. } if target.sealing_key.is_empty() => "it was never on the relay".to_owned(),
            RelayState::On { .. } => match &lines.faults.lock()[Rung::Relayed] {
                Some(fault) => format!("the relay: it {}", worded(fault)),
                None => "the relay carries again soon".to_owned(),
            },
        }
    }

    /// Why the way has changed, for the log.
    pub(super) fn reason_in_short(&self, lines: &Lines, before: PeerPath, now: PeerPath) -> &'static str {
        if before == PeerPath::Offline {
            return "it can be asked now";
        }
        if rank(now) < rank(before) {
            return "a better way carries again";
        }
        let rung = match before {
            PeerPath::Direct => Rung::Direct,
            PeerPath::Reversed => Rung::Reversed,
            PeerPath::Relayed | PeerPath::Offline => Rung::Relayed,
        };
        match &lines.faults.lock()[rung] {
            Some(LinkError::Silent) => "no answer in time",
            Some(LinkError::Unreachable(_)) => "it could not be reached",
            Some(LinkError::Answered(_)) => "it was refused",
            None if rung == Rung::Relayed => "the relay is gone",
            None if lines.is_slow(rung) => "no answer yet",
            None => "the connection ended",
        }
    }
}

fn rank(path: PeerPath) -> u8 {
    match path {
        PeerPath::Direct => 0,
        PeerPath::Reversed => 1,
        PeerPath::Relayed => 2,
        PeerPath::Offline => 3,
    }
}

fn worded(fault: &LinkError) -> String {
    match fault {
        LinkError::Unreachable(why) => format!("could not be reached ({why})"),
        LinkError::Silent => "did not answer in time".to_owned(),
        LinkError::Answered(failure) => format!("was refused ({failure})"),
    }
}
