//! Who may do what on the broker, in the two shapes in which RabbitMQ asks: as questions, and as scopes of a token. Pure.
//!
//! A peer is two users there, one for each of its connections ([`Side`]), and what they may do has nothing in common:
//!
//! - `<its id>` publishes to the two exchanges, with its own id as the last word of the key. It may declare, bind and take
//!   nothing.
//! - `<its id>.takes` declares, binds, takes from, empties and deletes what begins with `trueque.<its id>.`, and binds it
//!   to the two exchanges with its own id as the first word of the key. It may publish to neither of them.
//!
//! That is what keeps a peer from sending under another's key. RabbitMQ looks at the key of a message where it is published,
//! and nowhere else: not where the dead letters of a queue get another key, not at an alternate exchange, not where an
//! exchange is bound to another. But whoever declares or binds one of these needs the right to write to the exchange that
//! it leads to, and whoever may declare here has that for no exchange but the one of dead letters. So it does no harm that
//! a token's scopes do not tell queues from exchanges, and a peer may declare exchanges named like its queues.
//!
//! Nobody may make what all peers share: the exchanges and the dead letters are the operator's. The default exchange is
//! closed, because it leads to everybody's queues. What is left is in decision 10; the receiver checks the same once more,
//! and the seal proves it.

use std::fmt;

use wire::PeerId;

/// Where peers publish and bind.
const EXCHANGES: [&str; 2] = ["trueque.requests", "trueque.answers"];
/// Where the broker brings what expired. A queue may be declared to lead there only by who may write to it; that nobody
/// publishes to it is the exchange's own doing, which is internal.
const DEAD: &str = "trueque.dead";
/// In front of each scope, and the audience of a token: `auth_oauth2.resource_server_id`.
pub(crate) const AUDIENCE: &str = "trueque";
/// Behind the id of a peer, in the name of the user that takes.
const TAKES: &str = ".takes";

/// A user of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) peer: PeerId,
    pub(crate) side: Side,
}

/// Which of a peer's two connections it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Publishes,
    Takes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Queue,
    Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// To declare and to delete.
    Configure,
    /// To publish to an exchange, to bind a queue.
    Write,
    /// To take from a queue and to empty it, to bind to an exchange.
    Read,
}

impl User {
    pub(crate) const fn that_publishes(peer: PeerId) -> Self {
        Self { peer, side: Side::Publishes }
    }

    pub(crate) const fn that_takes(peer: PeerId) -> Self {
        Self { peer, side: Side::Takes }
    }

    /// The user of this name, where it is one of a peer.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.strip_suffix(TAKES) {
            Some(peer) => Some(Self::that_takes(peer.parse().ok()?)),
            None => Some(Self::that_publishes(name.parse().ok()?)),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, side } = self;
        write!(f, "{peer}{}", if *side == Side::Takes { TAKES } else { "" })
    }
}

/// Whether `user` may use something of this name, whatever the key of a message is.
pub(crate) fn may_use(user: User, resource: Resource, name: &str, permission: Permission) -> bool {
    let is_shared = EXCHANGES.contains(&name);
    match (user.side, resource) {
        (Side::Publishes, Resource::Queue) => false,
        (Side::Publishes, Resource::Exchange) => is_shared && permission == Permission::Write,
        (Side::Takes, Resource::Queue) => {
            name.strip_prefix(&queues(user.peer)).is_some_and(|rest| !rest.is_empty())
        }
        (Side::Takes, Resource::Exchange) => match permission {
            Permission::Configure => false,
            Permission::Write => name == DEAD,
            Permission::Read => is_shared,
        },
    }
}

/// Whether `user` may publish with this key, or bind with it.
pub(crate) fn may_route(user: User, exchange: &str, permission: Permission, key: &str) -> bool {
    let peer = user.peer;
    let right_word = match (user.side, permission) {
        (Side::Publishes, Permission::Write) => key.ends_with(&format!(".{peer}")),
        (Side::Takes, Permission::Read) => key.starts_with(&format!("{peer}.")),
        _ => false,
    };
    right_word && EXCHANGES.contains(&exchange)
}

/// The same as the scopes of a token, for one virtual host.
pub(crate) fn scopes(user: User, vhost: &str) -> String {
    let (peer, vhost) = (user.peer, literally(vhost));
    let scope = |permission: &str, what: String| format!("{AUDIENCE}.{permission}:{vhost}/{what}");
    let scopes: Vec<String> = match user.side {
        Side::Publishes => EXCHANGES.map(|exchange| scope("write", format!("{exchange}/*.{peer}"))).into(),
        Side::Takes => {
            let own = |permission| scope(permission, queues(peer) + "*");
            let bound = |exchange| scope("read", format!("{exchange}/{peer}.*"));
            let dead = scope("write", DEAD.to_owned());
            ["configure", "write", "read"]
                .map(own)
                .into_iter()
                .chain(EXCHANGES.map(bound))
                .chain([dead])
                .collect()
        }
    };
    scopes.join(" ")
}

fn queues(peer: PeerId) -> String {
    format!("trueque.{peer}.")
}

/// A text that stands for itself in a pattern of RabbitMQ's, where `*` is anything, `/` separates, and `%` and `+` are
/// as in a query.
fn literally(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use Permission::{Configure, Read, Write};

    use super::*;

    const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);
    const BETO: PeerId = PeerId::from_bytes([0xbe; 16]);
    const PUBLISHES: User = User::that_publishes(ANA);
    const TAKES: User = User::that_takes(ANA);

    #[test]
    fn names() {
        for user in [PUBLISHES, TAKES] {
            assert_eq!(User::named(&user.to_string()), Some(user));
        }
        assert_eq!(PUBLISHES.to_string(), ANA.to_string(), "what a message's `user_id` says");
        for other in ["", "guest", ".takes", &format!("{ANA}.takes.takes"), &format!("{ANA}.")] {
            assert_eq!(User::named(other), None, "{other}");
        }
    }

    #[test]
    fn a_peer_has_its_own_queues_and_no_others() {
        for permission in [Configure, Write, Read] {
            let may = |name: &str| may_use(TAKES, Resource::Queue, name, permission);
            assert!(may(&format!("trueque.{ANA}.mailbox.v1")) && may(&format!("trueque.{ANA}.requests.07")));
            let others = [
                format!("trueque.{BETO}.mailbox.v1"),
                format!("trueque.{ANA}."),
                format!("trueque.{ANA}x.y"),
                format!("x.trueque.{ANA}.y"),
                "trueque.dead".to_owned(),
                String::new(),
            ];
            assert!(others.iter().all(|name| !may(name)));
            let own = format!("trueque.{ANA}.mailbox.v1");
            assert!(!may_use(PUBLISHES, Resource::Queue, &own, permission), "who publishes has none");
        }
    }

    /// Who may declare or bind may write to no exchange that leads to others, and who may write there may do nothing else.
    #[test]
    fn nobody_leads_anything_into_what_all_share() {
        let rights = |user, name: &str| {
            [Configure, Write, Read].map(|permission| may_use(user, Resource::Exchange, name, permission))
        };
        for exchange in EXCHANGES {
            assert_eq!(rights(PUBLISHES, exchange), [false, true, false]);
            assert_eq!(rights(TAKES, exchange), [false, false, true]);
        }
        assert_eq!(rights(PUBLISHES, DEAD), [false; 3]);
        assert_eq!(rights(TAKES, DEAD), [false, true, false]);
        for exchange in ["", "amq.default", "amq.topic", &format!("trueque.{ANA}.own")] {
            assert_eq!((rights(PUBLISHES, exchange), rights(TAKES, exchange)), ([false; 3], [false; 3]));
        }
    }

    #[test]
    fn the_first_word_is_the_receiver_and_the_last_the_sender() {
        let may = |user, permission, key: &str| may_route(user, "trueque.requests", permission, key);
        let (sent, received) = (format!("{BETO}.live.{ANA}"), format!("{ANA}.live.*"));
        assert!(may(PUBLISHES, Write, &sent) && !may(TAKES, Write, &sent));
        assert!(!may(PUBLISHES, Write, &format!("{ANA}.live.{BETO}")));
        assert!(!may(PUBLISHES, Write, &format!("{BETO}.live.x{ANA}")));
        assert!(may(TAKES, Read, &received) && !may(PUBLISHES, Read, &received));
        for other in [format!("{BETO}.live.*"), "#".to_owned(), "*.live.*".to_owned(), ANA.to_string()] {
            assert!(!may(TAKES, Read, &other), "{other}");
        }
        assert!(!may_route(PUBLISHES, DEAD, Write, &sent));
    }

    #[test]
    fn scopes_are_for_one_virtual_host() {
        let id = ANA.to_string();
        let shown = |user| scopes(user, "/").replace(&id, "ID").replace(' ', "\n");
        insta::assert_snapshot!(shown(PUBLISHES), @r"
        trueque.write:%2F/trueque.requests/*.ID
        trueque.write:%2F/trueque.answers/*.ID
        ");
        insta::assert_snapshot!(shown(TAKES), @r"
        trueque.configure:%2F/trueque.ID.*
        trueque.write:%2F/trueque.ID.*
        trueque.read:%2F/trueque.ID.*
        trueque.read:%2F/trueque.requests/ID.*
        trueque.read:%2F/trueque.answers/ID.*
        trueque.write:%2F/trueque.dead
        ");
        assert!(scopes(TAKES, "a*b+c /ñ").contains("read:a%2Ab%2Bc%20%2F%C3%B1/trueque."));
    }
}
