//! [`Claims`]: which of the sizes that holders state a download goes by. Pure: what the directory says and what was
//! found out goes in, whom to ask comes out.
//!
//! A content has one size, but whoever has an account can state another, and be first, or many. So nobody is outvoted:
//! those who state the same size are a group, each holder is believed for itself alone, and a download goes by one
//! group at a time. What proves a size is the last piece, because its hash fits a file of that length and no other: a
//! list of chaining values alone also fits sizes that are not the file's. Until that piece is here, and as long as
//! somebody states another size, a group that brings nothing is given up for the next one. Each time it is waited for
//! longer, so that a slow honest one comes to its end among any number of liars.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use content::Layout;
use wire::{
    PeerId,
    rest::directory::{Holder, Located},
};

/// A group that is disputed may bring nothing for so long, the first time.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What is known of the sizes of one content.
#[derive(Debug)]
pub(super) struct Claims {
    own: PeerId,
    /// As the directory said it last.
    known: Vec<Claim>,
    /// Those who sent what is not the file's.
    liars: BTreeSet<PeerId>,
    given_up: BTreeMap<u64, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    peer: PeerId,
    size: u64,
    online: bool,
    has_some: bool,
}

impl Claims {
    pub(super) fn new(own: PeerId) -> Self {
        Self { own, known: Vec::new(), liars: BTreeSet::new(), given_up: BTreeMap::new() }
    }

    /// Takes in what the directory says now.
    pub(super) fn look(&mut self, located: &Located) {
        let others = located.holders.iter().filter(|holder| holder.peer_id != self.own);
        let claim = |holder: &Holder| Claim {
            peer: holder.peer_id,
            size: holder.size,
            online: holder.online,
            has_some: holder.pieces_held > 0,
        };
        self.known = others.map(claim).collect();
    }

    /// Nothing has spoken against anybody.
    pub(super) fn are_undisputed(&self) -> bool {
        self.liars.is_empty() && self.given_up.is_empty()
    }

    pub(super) fn distrust(&mut self, peer: PeerId) {
        self.liars.insert(peer);
    }

    pub(super) fn liars(&self) -> impl Iterator<Item = PeerId> {
        self.liars.iter().copied()
    }

    /// The next attempt goes by another size, if there is one.
    pub(super) fn give_up(&mut self, size: u64) {
        *self.given_up.entry(size).or_default() += 1;
    }

    /// How long the group of this size may bring nothing while there is another.
    pub(super) fn patience(&self, size: u64) -> Duration {
        (FIRST_PATIENCE * 2u32.pow(self.times_given_up(size).min(10))).min(LONGEST_PATIENCE)
    }

    /// Whether somebody who can be asked states this size.
    pub(super) fn has_holder(&self, size: u64) -> bool {
        self.honest().any(|claim| claim.online && claim.size == size)
    }

    /// Whether somebody who can be asked has bytes of it and states another size; with `absent_too`, also where those
    /// who state one are all off.
    pub(super) fn has_rival(&self, size: u64, absent_too: bool) -> bool {
        let absent_too = absent_too && !self.has_holder(size);
        let mut rivals = self.honest().filter(|claim| claim.has_some && claim.size != size);
        rivals.any(|claim| claim.online || absent_too)
    }

    /// Those online who are wrong if this size is right.
    pub(super) fn others(&self, size: u64) -> impl Iterator<Item = PeerId> {
        self.honest().filter(move |claim| claim.online && claim.size != size).map(|claim| claim.peer)
    }

    /// Whether a proof for this size is worth trying before those of other sizes that somebody states.
    pub(super) fn is_next(&self, size: u64) -> bool {
        let times = self.times_given_up(size);
        self.honest().all(|claim| self.times_given_up(claim.size) >= times)
    }

    /// Whom to ask for the proof: the groups one after the other, each with those first that have all of it.
    pub(super) fn in_order<'a>(&self, located: &'a Located) -> Vec<&'a Holder> {
        let able = |holder: &&Holder| {
            holder.online && holder.peer_id != self.own && !self.liars.contains(&holder.peer_id)
        };
        let mut holders: Vec<&Holder> = located.holders.iter().filter(able).collect();
        // Who has nothing yet does not count: it says what it was told.
        let mut groups: BTreeMap<u64, (u32, usize)> = BTreeMap::new();
        for (place, holder) in holders.iter().enumerate() {
            let group = groups.entry(holder.size).or_insert((0, place));
            group.0 += u32::from(holder.pieces_held > 0);
        }
        holders.sort_by_key(|holder| {
            let (count, place) = groups.get(&holder.size).copied().unwrap_or_default();
            (self.times_given_up(holder.size), Reverse(count), place, Reverse(extent(holder)))
        });
        holders
    }

    fn times_given_up(&self, size: u64) -> u32 {
        self.given_up.get(&size).copied().unwrap_or(0)
    }

    fn honest(&self) -> impl Iterator<Item = &Claim> {
        self.known.iter().filter(|claim| !self.liars.contains(&claim.peer))
    }
}

fn extent(holder: &Holder) -> u32 {
    let most = Layout::new(holder.size).map_or(u32::MAX, Layout::count);
    if holder.pieces_held >= most { u32::MAX } else { holder.pieces_held }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 16])
    }

    /// Holders by number, size, pieces; those from 100 on are off.
    fn located(holders: &[(u8, u64, u32)]) -> Located {
        let holder = |&(n, size, pieces_held): &(u8, u64, u32)| Holder {
            peer_id: peer(n),
            username: "somebody".parse().unwrap(),
            endpoints: Vec::new(),
            online: n < 100,
            size,
            pieces_held,
            last_seen: Timestamp::UNIX_EPOCH,
            sealing_key: String::new(),
            relay: false,
        };
        Located {
            content_id: content::ContentId::of(b""),
            size: 0,
            names: Vec::new(),
            holders: holders.iter().map(holder).collect(),
        }
    }

    fn order(claims: &Claims, located: &Located) -> Vec<u8> {
        claims.in_order(located).iter().map(|holder| holder.peer_id.as_bytes()[0]).collect()
    }

    #[test]
    fn groups_are_asked_one_after_the_other() {
        let mut claims = Claims::new(peer(9));
        let all = located(&[(1, 5, 1), (2, 3 << 20, 2), (3, 3 << 20, 3), (4, 7, 0), (9, 5, 1), (100, 5, 1)]);
        claims.look(&all);
        assert_eq!(order(&claims, &all), [3, 2, 1, 4], "most first, whole first, who has nothing last");
        claims.give_up(3 << 20);
        assert_eq!(order(&claims, &all), [1, 4, 3, 2]);
        claims.distrust(peer(1));
        assert_eq!(order(&claims, &all), [4, 3, 2]);
        claims.give_up(7);
        assert_eq!(order(&claims, &all), [3, 2, 4], "and then again from the beginning");
    }

    #[test]
    fn a_size_is_disputed_by_those_who_could_show_another() {
        let mut claims = Claims::new(peer(9));
        assert!(!claims.has_rival(5, true));
        claims.look(&located(&[(1, 5, 1), (4, 7, 0), (9, 8, 1), (100, 6, 1)]));
        assert!(!claims.has_rival(5, true), "one has nothing, one is this peer, one is off");
        assert!(claims.has_rival(6, false));
        claims.distrust(peer(1));
        assert!(!claims.has_rival(6, false) && !claims.has_holder(5));
        assert!(claims.has_rival(5, true), "nobody is left but who is off");
        assert!(!claims.has_rival(5, false));
        assert_eq!(claims.others(5).collect::<Vec<_>>(), [peer(4)]);
    }

    #[test]
    fn each_time_a_group_gets_longer() {
        let mut claims = Claims::new(peer(9));
        claims.look(&located(&[(1, 5, 1), (2, 6, 1)]));
        assert_eq!(claims.patience(5), FIRST_PATIENCE);
        assert!(claims.is_next(5) && claims.is_next(6) && claims.are_undisputed());
        claims.give_up(5);
        assert!(!claims.is_next(5) && claims.is_next(6) && !claims.are_undisputed());
        assert_eq!((claims.patience(5), claims.patience(6)), (FIRST_PATIENCE * 2, FIRST_PATIENCE));
        for _ in 0..40 {
            claims.give_up(5);
        }
        assert_eq!(claims.patience(5), LONGEST_PATIENCE);
    }
}
