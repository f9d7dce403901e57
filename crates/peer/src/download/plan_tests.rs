//! The plan, looked at from outside: a table of situations, and whole downloads simulated with faulty sources.

use super::*;
use proptest::prelude::*;

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 16])
}

fn layout(pieces: u32) -> Layout {
    Layout::new(u64::from(pieces) * PIECE_SIZE).unwrap()
}

fn plan(pieces: u32) -> Plan {
    Plan::new(layout(pieces), PieceSet::empty(pieces), Scope::Everything, 0)
}

fn set(count: u32, pieces: Range<u32>) -> PieceSet {
    let mut set = PieceSet::empty(count);
    set.insert_range(pieces);
    set
}

/// Lets a source bring everything it was asked for, 25 ms a piece.
fn bring(plan: &mut Plan, orders: &[Order], start: Instant) {
    let mut now = start;
    for order in orders {
        for index in order.pieces.clone() {
            now += Duration::from_millis(25);
            plan.piece_verified(order.span, index, now);
        }
        plan.span_ended(order.span, Outcome::Done, now);
    }
}

#[test]
fn two_spans_for_each_source_and_no_piece_twice() {
    let mut plan = plan(100);
    let now = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(100));
    plan.set_pieces(peer(2), PieceSet::full(100));
    let orders = plan.next(now);
    assert_eq!(orders.len(), 4);
    assert_eq!(orders.iter().map(|order| order.pieces.len()).sum::<usize>(), 16);
    let mut asked: Vec<u32> = orders.iter().flat_map(|order| order.pieces.clone()).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 16);
    assert!(plan.next(now).is_empty());
}

#[test]
fn a_fast_source_gets_longer_spans() {
    let mut plan = plan(200);
    let start = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(200));
    let orders = plan.next(start);
    bring(&mut plan, &orders, start); // 40 MiB/s
    let longer = plan.next(start + Duration::from_millis(200));
    assert_eq!(longer[0].pieces.len(), 16);
}

#[test]
fn what_a_reader_waits_for_goes_first() {
    let mut plan = plan(1000);
    plan.set_pieces(peer(1), PieceSet::full(1000));
    plan.set_wanted(std::iter::once(476..478).collect());
    assert_eq!(plan.next(Instant::now())[0].pieces, 476..478);
}

#[test]
fn only_what_a_reader_waits_for() {
    let mut plan = Plan::new(layout(10), PieceSet::empty(10), Scope::Wanted, 0);
    plan.set_pieces(peer(1), PieceSet::full(10));
    assert!(plan.next(Instant::now()).is_empty());
    plan.set_wanted(std::iter::once(8..20).collect());
    let orders = plan.next(Instant::now());
    assert_eq!(orders[0].pieces, 8..10);
    bring(&mut plan, &orders, Instant::now());
    assert!(!plan.is_complete());
    assert!(plan.next(Instant::now()).is_empty());
}

#[test]
fn rare_pieces_first_and_receivers_trade_the_rest() {
    let mut plan = plan(40);
    let now = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(40));
    plan.set_pieces(peer(2), set(40, 0..30)); // another receiver
    let orders = plan.next(now);
    let of_origin: Vec<_> = orders.iter().filter(|order| order.source == peer(1)).collect();
    assert!(of_origin.iter().all(|order| order.pieces.start >= 30), "{of_origin:?}");
    assert!(orders.iter().filter(|order| order.source == peer(2)).all(|order| order.pieces.end <= 30));
}

#[test]
fn two_receivers_fill_a_gap_from_different_ends() {
    let mut plan = plan(100);
    let now = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(100));
    let first = plan.next(now);
    assert_eq!(first[0].pieces.start, 0);
    // Somebody else has fetched what comes next, and goes on from there.
    plan.set_pieces(peer(2), set(100, 8..20));
    bring(&mut plan, &first, now);
    let of_origin = plan.next(now).into_iter().find(|order| order.source == peer(1)).unwrap();
    assert_eq!(of_origin.pieces.start, 60, "the middle of 20..100");
}

#[test]
fn a_liar_is_never_asked_again_and_a_lost_source_rests_longer_each_time() {
    let mut plan = plan(10);
    let mut now = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(10));
    for rest in [500, 1000, 2000, 4000] {
        for order in plan.next(now) {
            plan.span_ended(order.span, Outcome::Cancelled, now);
        }
        let order = plan.next(now).remove(0);
        plan.span_ended(order.span, Outcome::Unreachable, now);
        assert_eq!(plan.next_wake(now), Some(now + Duration::from_millis(rest)));
        now += Duration::from_millis(rest);
        plan.spans.clear();
        plan = rebuilt(plan);
    }
    plan.set_pieces(peer(1), PieceSet::full(10));
    let order = plan.next(now).remove(0);
    plan.span_ended(order.span, Outcome::Corrupt, now);
    plan.set_pieces(peer(1), PieceSet::full(10));
    plan.wake(peer(1));
    assert!(plan.next(now + Duration::from_secs(999)).is_empty());
    assert!(plan.is_banned(&peer(1)));
}

/// Frees what the test left under way, and keeps the sources.
fn rebuilt(old: Plan) -> Plan {
    let mut new = plan(old.layout.count());
    new.sources = old.sources;
    for source in new.sources.values_mut() {
        source.in_flight = 0;
    }
    new
}

#[test]
fn a_source_that_is_woken_with_all_need_not_rest_nor_soon_rest_long() {
    let mut plan = plan(10);
    let now = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(10));
    for _ in 0..6 {
        plan.wake(peer(1));
        for order in plan.next(now) {
            plan.span_ended(order.span, Outcome::Unreachable, now);
        }
    }
    assert!(plan.next_wake(now).unwrap() > now + Duration::from_secs(10));
    assert!(plan.next(now).is_empty());
    plan.wake_all();
    let orders = plan.next(now);
    plan.span_ended(orders[0].span, Outcome::Unreachable, now);
    assert_eq!(plan.next_wake(now), Some(now + FIRST_REST));
}

#[test]
fn the_last_span_of_a_stalled_source_is_asked_of_another() {
    let mut plan = plan(4);
    let start = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(4));
    let stuck = plan.next(start);
    assert_eq!(stuck[0].pieces, 0..4);
    plan.set_pieces(peer(2), PieceSet::full(4));
    assert!(plan.next(start + Duration::from_millis(100)).is_empty(), "it may still come");
    let again = plan.next(start + STALLED);
    assert_eq!((again[0].source, again[0].pieces.clone()), (peer(2), 0..4));
    let mut useless = Vec::new();
    for index in 0..4 {
        useless = plan.piece_verified(again[0].span, index, start + STALLED);
    }
    assert_eq!(useless, [stuck[0].span], "the first good answer wins");
    assert!(plan.is_complete());
}

#[test]
fn no_piece_is_asked_of_three_even_where_spans_overlap_in_part() {
    let mut plan = plan(4);
    let start = Instant::now();
    plan.set_pieces(peer(1), PieceSet::full(4));
    assert_eq!(plan.next(start)[0].pieces, 0..4);
    let mut upper = PieceSet::empty(4);
    upper.insert(2);
    upper.insert(3);
    plan.set_pieces(peer(2), upper);
    assert_eq!(plan.next(start + STALLED)[0].pieces, 2..4);
    plan.set_pieces(peer(3), PieceSet::full(4));
    assert_eq!(plan.next(start + STALLED)[0].pieces, 0..2);
}

#[test]
fn a_source_with_other_pieces_than_the_file_has_is_ignored() {
    let mut plan = plan(4);
    plan.set_pieces(peer(1), PieceSet::full(5));
    assert!(!plan.has_source(Instant::now()));
}

proptest! {
    /// Sources that have parts, fail, lie and are busy: every piece comes in the end as long as one honest source has
    /// it, nobody is asked for what he does not have, liars are asked once, and nothing is asked of three at once.
    #[test]
    fn every_piece_arrives(
        pieces in 1u32..120,
        start in any::<u32>(),
        honest in any::<prop::sample::Index>(),
        sources in prop::collection::vec((prop::collection::vec(any::<bool>(), 120), 0u8..100), 1..6),
        chances in prop::collection::vec(any::<u8>(), 400),
    ) {
        let mut plan = Plan::new(layout(pieces), PieceSet::empty(pieces), Scope::Everything, start);
        let mut now = Instant::now();
        let honest = peer(u8::try_from(honest.index(sources.len())).unwrap());
        let mut has = BTreeMap::new();
        let mut faulty = BTreeMap::new();
        for (n, (flags, faults)) in sources.iter().enumerate() {
            let peer = peer(u8::try_from(n).unwrap());
            let mut held = if peer == honest { PieceSet::full(pieces) } else { PieceSet::empty(pieces) };
            (0..pieces).filter(|index| flags[*index as usize]).for_each(|index| { held.insert(index); });
            plan.set_pieces(peer, held.clone());
            has.insert(peer, held);
            faulty.insert(peer, if peer == honest { 0 } else { *faults });
        }
        let mut chances = chances.into_iter().cycle();
        let mut lied = Vec::new();
        let mut under_way: Vec<Order> = Vec::new();
        for _ in 0..20_000 {
            for order in plan.next(now) {
                prop_assert!(has[&order.source].contains_range(order.pieces.clone()));
                prop_assert!(!lied.contains(&order.source));
                under_way.push(order);
            }
            for index in 0..pieces {
                prop_assert!(under_way.iter().filter(|order| order.pieces.contains(&index)).count() <= 2);
            }
            if plan.is_complete() {
                break;
            }
            now += Duration::from_millis(50);
            if under_way.is_empty() {
                continue;
            }
            let order = under_way.remove(usize::from(chances.next().unwrap()) % under_way.len());
            let outcome = if chances.next().unwrap() % 100 < faulty[&order.source] {
                match chances.next().unwrap() % 4 {
                    0 => Outcome::Unreachable,
                    1 => Outcome::Busy,
                    2 => Outcome::Missing,
                    _ => { lied.push(order.source); Outcome::Corrupt }
                }
            } else {
                for index in order.pieces.clone() {
                    plan.piece_verified(order.span, index, now);
                }
                Outcome::Done
            };
            if outcome == Outcome::Corrupt {
                // The runner ends every other span of a liar too.
                under_way.retain(|other| {
                    let keep = other.source != order.source;
                    if !keep { plan.span_ended(other.span, Outcome::Cancelled, now); }
                    keep
                });
            }
            plan.span_ended(order.span, outcome, now);
        }
        prop_assert!(plan.is_complete());
    }
}
