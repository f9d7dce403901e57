//! Who may do what on the broker, in the two shapes in which RabbitMQ asks: as questions, and as scopes of a token. Pure.
//!
//! A peer's queues begin with `trueque.<its id>.`, and the key of a message is `<receiver>.<kind>.<sender>`. So a peer
//! may do everything with queues of that beginning, bind with its own id as the first word, and publish with its own id
//! as the last. It may make nothing that all peers share: the exchanges and the dead letters are the operator's. The
//! default exchange is closed, because it leads to everybody's queues.
//!
//! These rules keep order, and each peer's queues its own. They do not tell who sent a message: a peer's own exchange, or
//! the dead letters of its own queue, may lead into the shared exchanges past the rule about the last word. For that
//! there is the broker's check of `user_id`, and at the end the seal.

use wire::PeerId;

/// Where peers publish and bind.
const EXCHANGES: [&str; 2] = ["trueque.requests", "trueque.answers"];
/// Where the broker brings what expired. A queue may be declared to lead there only by who may write to it; that nobody
/// publishes to it is the exchange's own doing, which is internal.
const DEAD: &str = "trueque.dead";
/// In front of each scope, and the audience of a token: `auth_oauth2.resource_server_id`.
pub(crate) const AUDIENCE: &str = "trueque";

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

/// Whether `peer` may use something of this name, whatever the key of a message is.
pub(crate) fn may_use(peer: PeerId, resource: Resource, name: &str, permission: Permission) -> bool {
    match resource {
        Resource::Queue => name.strip_prefix(&queues(peer)).is_some_and(|rest| !rest.is_empty()),
        Resource::Exchange if EXCHANGES.contains(&name) => permission != Permission::Configure,
        Resource::Exchange => name == DEAD && permission == Permission::Write,
    }
}

/// Whether `peer` may publish with this key, or bind with it.
pub(crate) fn may_route(peer: PeerId, exchange: &str, permission: Permission, key: &str) -> bool {
    let right_word = match permission {
        Permission::Read => key.starts_with(&format!("{peer}.")),
        Permission::Write => key.ends_with(&format!(".{peer}")),
        Permission::Configure => false,
    };
    right_word && EXCHANGES.contains(&exchange)
}

/// The same as the scopes of a token, for one virtual host.
pub(crate) fn scopes(peer: PeerId, vhost: &str) -> String {
    let vhost = literally(vhost);
    let queues = queues(peer);
    let mut scopes = Vec::new();
    for permission in ["configure", "write", "read"] {
        scopes.push(format!("{AUDIENCE}.{permission}:{vhost}/{queues}*"));
    }
    for exchange in EXCHANGES {
        scopes.push(format!("{AUDIENCE}.write:{vhost}/{exchange}/*.{peer}"));
        scopes.push(format!("{AUDIENCE}.read:{vhost}/{exchange}/{peer}.*"));
    }
    scopes.push(format!("{AUDIENCE}.write:{vhost}/{DEAD}"));
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
    use super::*;

    const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);
    const BETO: PeerId = PeerId::from_bytes([0xbe; 16]);

    #[test]
    fn a_peer_has_its_own_queues_and_no_others() {
        use Permission::{Configure, Read, Write};
        for permission in [Configure, Write, Read] {
            let may = |name: &str| may_use(ANA, Resource::Queue, name, permission);
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
        }
        for exchange in EXCHANGES {
            let may = |permission| may_use(ANA, Resource::Exchange, exchange, permission);
            assert!(may(Write) && may(Read) && !may(Configure));
        }
        let dead = |permission| may_use(ANA, Resource::Exchange, DEAD, permission);
        assert!(dead(Write) && !dead(Read) && !dead(Configure));
        for exchange in ["", "amq.default", "amq.topic", &format!("trueque.{ANA}.own")] {
            assert!(![Configure, Write, Read].iter().any(|p| may_use(ANA, Resource::Exchange, exchange, *p)));
        }
    }

    #[test]
    fn the_first_word_is_the_receiver_and_the_last_the_sender() {
        let may = |permission, key: &str| may_route(ANA, "trueque.requests", permission, key);
        assert!(may(Permission::Write, &format!("{BETO}.live.{ANA}")));
        assert!(!may(Permission::Write, &format!("{ANA}.live.{BETO}")));
        assert!(!may(Permission::Write, &format!("{BETO}.live.x{ANA}")));
        assert!(may(Permission::Read, &format!("{ANA}.live.*")));
        for other in [format!("{BETO}.live.*"), "#".to_owned(), "*.live.*".to_owned(), ANA.to_string()] {
            assert!(!may(Permission::Read, &other), "{other}");
        }
        assert!(!may_route(ANA, DEAD, Permission::Write, &format!("{BETO}.live.{ANA}")));
    }

    #[test]
    fn scopes_are_for_one_virtual_host() {
        let id = ANA.to_string();
        insta::assert_snapshot!(scopes(ANA, "/").replace(&id, "ID").replace(' ', "\n"), @r"
        trueque.configure:%2F/trueque.ID.*
        trueque.write:%2F/trueque.ID.*
        trueque.read:%2F/trueque.ID.*
        trueque.write:%2F/trueque.requests/*.ID
        trueque.read:%2F/trueque.requests/ID.*
        trueque.write:%2F/trueque.answers/*.ID
        trueque.read:%2F/trueque.answers/ID.*
        trueque.write:%2F/trueque.dead
        ");
        assert!(scopes(ANA, "a*b+c /ñ").contains("read:a%2Ab%2Bc%20%2F%C3%B1/trueque."));
    }
}
