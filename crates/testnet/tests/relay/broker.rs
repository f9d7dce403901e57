//! The connections to the broker: what is promised of each route, and what happens when the broker goes, is silent, is
//! short of memory, or is not as it should be.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::FieldTable,
};
use peer::{
    config::AmqpSetting,
    relay::{
        broker::{MAX_BODY, RelayState},
        message::{Outgoing, PublishError, Route},
    },
};
use testnet::{Proxy, Rabbit, RabbitOptions, until, until_within};
use wire::PeerId;

use crate::station::{Station, anybody, logged_out, message, next, take, told};

const SECOND: Duration = Duration::from_secs(1);

// ── A broker that is well ───────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_broker_that_is_well() {
    let url = Rabbit::shared().await;
    each_route_carries_what_stands_on_a_message(&url).await;
    who_is_not_there_is_known_at_once(&url).await;
    large_bodies_go_whole_and_too_large_ones_not_at_all(&url).await;
    many_at_once_are_each_judged_for_themselves(&url).await;
    a_full_queue_says_so_and_has_room_again(&url).await;
    what_is_not_given_a_receipt_for_comes_again(&url).await;
    what_is_refused_five_times_is_a_dead_letter(&url).await;
    what_expires_is_not_handed_over(&url).await;
    a_second_session_takes_over(&url).await;
    what_cannot_be_from_a_peer_is_not_handed_over(&url).await;
    another_shape_is_named(&url).await;
    the_next_of_the_list_is_tried(&url).await;
    the_directorys_word_is_followed(&url).await;
}

async fn each_route_carries_what_stands_on_a_message(url: &str) {
    let mut ana = Station::at(url).await;
    let beto = Station::at(url).await;
    let (theirs, ours) = (ana.on().await, beto.on().await);
    for route in [Route::Live, Route::Want, Route::Answer(theirs), Route::Mailbox] {
        let sent = Outgoing {
            correlation_id: Some([5; 16]),
            answer_to: Some(ours),
            expires: Some(60 * SECOND),
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            ..message(ana.id, route, Bytes::from_static(b"body"))
        };
        beto.broker.publish(sent.clone()).await.unwrap();
        let channel = match route {
            Route::Live => &mut ana.inbox.live,
            Route::Want => &mut ana.inbox.wants,
            Route::Answer(_) => &mut ana.inbox.answers,
            Route::Mailbox => &mut ana.inbox.mailbox,
        };
        let came = next(channel).await;
        assert_eq!((came.from, came.route), (beto.id, route));
        assert_eq!((came.message_id, came.correlation_id), (sent.message_id, sent.correlation_id));
        assert_eq!((came.answer_to, came.trace), (sent.answer_to, sent.trace));
        assert_eq!((came.body.as_slice(), came.redelivered), (b"body".as_slice(), false));
        came.receipt.done().await;
    }
    // Where nobody would hear the answers, a question is not sent.
    let stale = Outgoing { answer_to: Some([0; 8]), ..message(ana.id, Route::Live, Bytes::new()) };
    let refused = beto.broker.publish(stale).await.unwrap_err();
    assert!(matches!(refused, PublishError::NotConnected(_)), "{refused}");
    ana.stop().await;
    beto.stop().await;
}

async fn who_is_not_there_is_known_at_once(url: &str) {
    let ana = Station::at(url).await;
    let nobody = anybody();
    let mut took = Vec::new();
    for route in [Route::Live, Route::Want, Route::Answer([1; 8]), Route::Mailbox] {
        for _ in 0..5 {
            let started = Instant::now();
            assert_eq!(ana.send(nobody, route, "anybody?").await, Err(PublishError::NoQueue));
            took.push(started.elapsed());
        }
    }
    took.sort();
    println!("no queue after {:?}, at most {:?}", took[took.len() / 2], took[took.len() - 1]);
    assert!(took[took.len() / 2] < Duration::from_millis(100));

    // Who goes in order is off at once, and what waits still finds them.
    let beto = Station::at(url).await;
    let gone = beto.id;
    assert_eq!(ana.send(gone, Route::Live, "there?").await, Ok(()));
    beto.stop().await;
    assert_eq!(ana.send(gone, Route::Live, "there?").await, Err(PublishError::NoQueue));
    assert_eq!(ana.send(gone, Route::Want, "for later").await, Ok(()));
    assert_eq!(ana.send(gone, Route::Mailbox, "for later too").await, Ok(()));
    let mut beto = Station::of(gone, AmqpSetting::At(url.to_owned().into()));
    assert_eq!(take(&mut beto.inbox.wants, 1).await, ["for later"]);
    assert_eq!(take(&mut beto.inbox.mailbox, 1).await, ["for later too"]);
    ana.stop().await;
    beto.stop().await;
}

async fn large_bodies_go_whole_and_too_large_ones_not_at_all(url: &str) {
    let mut ana = Station::at(url).await;
    let answers = Route::Answer(ana.on().await);
    for size in [0, 1, 128 << 10, 1 << 20, MAX_BODY] {
        let body = testnet::sample(size as u64, size);
        ana.broker.publish(message(ana.id, answers, body.clone())).await.unwrap();
        let came = next(&mut ana.inbox.answers).await;
        assert!(came.body == body, "{size} bytes came as {}", came.body.len());
        came.receipt.done().await;
    }
    let refused = ana.broker.publish(message(ana.id, answers, vec![0; MAX_BODY + 1].into())).await;
    assert!(matches!(refused, Err(PublishError::Refused(_))), "{refused:?}");
    ana.stop().await;
}

/// With several under way on one channel, returned messages would be taken for others.
async fn many_at_once_are_each_judged_for_themselves(url: &str) {
    const MANY: usize = 2_000;
    let mut ana = Station::at(url).await;
    let answers = Route::Answer(ana.on().await);
    let nobody = anybody();
    let mut inbox = std::mem::replace(&mut ana.inbox.answers, tokio::sync::mpsc::channel(1).1);
    let started = Instant::now();
    let publishing = join_all((0..MANY).map(|number| {
        let to = if number % 2 == 0 { ana.id } else { nobody };
        ana.broker.publish(message(to, answers, number.to_string().into()))
    }));
    let (published, mut came) = tokio::join!(publishing, take(&mut inbox, MANY / 2));
    println!("{MANY} publishes in {:?}", started.elapsed());
    for (number, outcome) in published.into_iter().enumerate() {
        let expected = if number % 2 == 0 { Ok(()) } else { Err(PublishError::NoQueue) };
        assert_eq!(outcome, expected, "{number}");
    }
    came.sort_by_key(|number| number.parse::<usize>().unwrap());
    let all: Vec<String> = (0..MANY).step_by(2).map(|number| number.to_string()).collect();
    assert_eq!(came, all);
    ana.stop().await;
}

async fn a_full_queue_says_so_and_has_room_again(url: &str) {
    let ana = Station::at(url).await;
    for route in [Route::Live, Route::Want] {
        let mut beto = Station::at(url).await;
        // It takes what the prefetch allows, and the queue holds a thousand.
        let mut taken = 0;
        while taken < 2_000 {
            let outcomes = join_all((0..50).map(|_| ana.send(beto.id, route, "more"))).await;
            let full = outcomes.iter().filter(|outcome| **outcome == Err(PublishError::Full)).count();
            taken += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            if full > 0 {
                break;
            }
        }
        assert!((1_000..1_200).contains(&taken), "{route:?}: {taken} were taken");
        let inbox = if route == Route::Live { &mut beto.inbox.live } else { &mut beto.inbox.wants };
        take(inbox, 500).await;
        until("there is room", async || ana.send(beto.id, route, "one more").await.ok()).await;
        beto.stop().await;
    }
    ana.stop().await;
}

async fn what_is_not_given_a_receipt_for_comes_again(url: &str) {
    let ana = Station::at(url).await;
    let mut beto = Station::at(url).await;
    for route in [Route::Live, Route::Want, Route::Mailbox] {
        ana.send(beto.id, route, "again").await.unwrap();
        let inbox = match route {
            Route::Live => &mut beto.inbox.live,
            Route::Want => &mut beto.inbox.wants,
            _ => &mut beto.inbox.mailbox,
        };
        // Dropped without a word, then asked for again, then in hand when the connection goes.
        drop(next(inbox).await);
        let second = next(inbox).await;
        assert!(second.redelivered);
        second.receipt.refuse(true).await;
        let third = next(inbox).await;
        assert!(third.redelivered && !third.receipt.is_stale());
        if route == Route::Live {
            third.receipt.done().await;
        }
        // The others stay in hand.
        else {
            std::mem::forget(third.receipt);
        }
    }
    let id = beto.id;
    beto.stop().await;
    let mut beto = Station::of(id, AmqpSetting::At(url.to_owned().into()));
    assert_eq!(take(&mut beto.inbox.wants, 1).await, ["again"]);
    assert_eq!(take(&mut beto.inbox.mailbox, 1).await, ["again"]);
    ana.stop().await;
    beto.stop().await;
}

async fn what_is_refused_five_times_is_a_dead_letter(url: &str) {
    let ana = Station::at(url).await;
    let mut beto = Station::at(url).await;
    let before = dead_letters(url).await;
    ana.send(beto.id, Route::Want, "poison").await.unwrap();
    ana.send(beto.id, Route::Want, "refused for ever").await.unwrap();
    let mut poisoned = 0;
    while dead_letters(url).await < before + 2 {
        tokio::select! {
            came = next(&mut beto.inbox.wants) => {
                let again = came.body == b"poison";
                poisoned += usize::from(again);
                came.receipt.refuse(again).await;
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    assert!((5..=6).contains(&poisoned), "handed over {poisoned} times");
    ana.stop().await;
    beto.stop().await;
}

async fn what_expires_is_not_handed_over(url: &str) {
    let ana = Station::at(url).await;
    let beto = Station::at(url).await;
    let gone = beto.id;
    beto.stop().await;
    let before = dead_letters(url).await;
    let soon = Outgoing {
        expires: Some(Duration::from_millis(1)),
        ..message(gone, Route::Want, Bytes::from_static(b"soon"))
    };
    ana.broker.publish(soon).await.unwrap();
    ana.send(gone, Route::Want, "later").await.unwrap();
    until("it has expired", async || (dead_letters(url).await > before).then_some(())).await;
    let mut beto = Station::of(gone, AmqpSetting::At(url.to_owned().into()));
    assert_eq!(take(&mut beto.inbox.wants, 1).await, ["later"]);
    ana.stop().await;
    beto.stop().await;
}

async fn a_second_session_takes_over(url: &str) {
    let ana = Station::at(url).await;
    let mut first = Station::at(url).await;
    ana.send(first.id, Route::Want, "in hand").await.unwrap();
    let in_hand = next(&mut first.inbox.wants).await;
    // Priorities are whole seconds.
    tokio::time::sleep(SECOND).await;
    let mut second = Station::of(first.id, AmqpSetting::At(url.to_owned().into()));
    second.on().await;
    let all: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for body in &all {
        ana.send(first.id, Route::Want, body).await.unwrap();
        assert_eq!(take(&mut second.inbox.wants, 1).await, [body.as_str()], "the newer one is served first");
    }
    std::mem::forget(in_hand.receipt);
    first.stop().await;
    assert_eq!(take(&mut second.inbox.wants, 1).await, ["in hand"]);
    ana.stop().await;
    second.stop().await;
}

async fn what_cannot_be_from_a_peer_is_not_handed_over(url: &str) {
    let mut ana = Station::at(url).await;
    let channel = channel(url).await;
    let guest = BasicProperties::default().with_user_id("guest".into());
    let with_id = |properties: BasicProperties| properties.with_message_id("01".repeat(16).into());
    let (id, from) = (ana.id, anybody());
    let key = format!("{id}.want.{from}");
    publish(&channel, "trueque.requests", &key, with_id(BasicProperties::default())).await;
    publish(&channel, "trueque.requests", &key, guest.clone()).await;
    publish(&channel, "trueque.requests", &format!("{id}.want.nobody"), with_id(guest.clone())).await;
    publish(&channel, "", &format!("trueque.{id}.wants.v1"), with_id(guest.clone())).await;
    publish(&channel, "trueque.requests", &key, with_id(guest.clone()).with_reply_to("x".into())).await;
    publish(&channel, "trueque.requests", &key, with_id(guest)).await;
    let came = next(&mut ana.inbox.wants).await;
    assert_eq!((came.from, came.message_id), (from, [1; 16]), "the last one, which is as it should be");
    came.receipt.done().await;
    ana.stop().await;
}

async fn another_shape_is_named(url: &str) {
    let channel = channel(url).await;
    let id = anybody();
    let queue = format!("trueque.{id}.mailbox.v1");
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    let ana = Station::of(id, AmqpSetting::At(url.to_owned().into()));
    let why = ana.away_for(&queue).await;
    println!("{why}");
    assert!(why.contains("another shape") && why.contains("inequivalent arg 'x-"), "{why}");
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    ana.on().await;
    ana.stop().await;
}

async fn the_next_of_the_list_is_tried(url: &str) {
    let ana = Station::at(&format!("amqp://127.0.0.1:1,amqp://guest:wrong@{},{url}", server(url))).await;
    ana.stop().await;
}

async fn the_directorys_word_is_followed(url: &str) {
    let ana = Station::of(anybody(), AmqpSetting::FromDirectory);
    assert_eq!(ana.off().await, "logged out");
    let plain = format!("amqp://{}", server(url));
    ana.link.send_replace(told(&plain, "guest", "wrong"));
    let why = ana.away_for("ACCESS_REFUSED").await;
    assert!(why.starts_with(&server(url)), "{why}");
    ana.link.send_replace(told(&plain, "guest", "guest"));
    let answers = ana.on().await;
    // Another password alone is taken over by the connections that are there.
    ana.link.send_replace(told(&plain, "guest", "the next"));
    for _ in 0..20 {
        assert_eq!(ana.send(anybody(), Route::Live, "still there").await, Err(PublishError::NoQueue));
    }
    assert_eq!(ana.on().await, answers);
    ana.link.send_replace(told("amqp:nothing", "guest", "guest"));
    let why = ana.away_for("directory").await;
    assert!(why.starts_with("the directory's broker: "), "{why}");
    ana.link.send_replace(told(&plain, "guest", "guest"));
    assert_ne!(ana.on().await, answers);
    ana.link.send_replace(logged_out());
    assert_eq!(ana.off().await, "logged out");
    assert_eq!(
        ana.send(anybody(), Route::Live, "?").await,
        Err(PublishError::NotConnected("logged out".to_owned()))
    );
    ana.stop().await;
    let never = Station::of(anybody(), AmqpSetting::Never);
    assert_eq!(never.off().await, "switched off by PEER_AMQP_URL");
    never.stop().await;
}

// ── A broker that is not ────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_broker_that_goes_and_comes() {
    let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
    let mut ana = Station::at(&rabbit.url()).await;
    let mut beto = Station::at(&rabbit.url()).await;
    // A quorum queue of 3.10 that is not half a second old is lost with its node, so hers is made here.
    let carla = Station::at(&rabbit.url()).await;
    let gone = carla.id;
    carla.stop().await;
    what_waits_outlives_it(&mut rabbit, &ana, gone, Going::InOrder).await;
    what_waits_outlives_it(&mut rabbit, &ana, gone, Going::Killed).await;
    messages_flow_again(&ana, &mut beto).await;
    an_alarm_is_shown_and_ends(&rabbit, &ana, &mut beto).await;
    beto.stop().await;
    an_exchange_that_was_deleted_is_made_again(&rabbit.url(), &mut ana).await;
    ana.stop().await;
    users_that_are_peers_speak_for_themselves(&rabbit).await;
}

#[derive(Debug, Clone, Copy)]
enum Going {
    InOrder,
    Killed,
}

async fn what_waits_outlives_it(rabbit: &mut Rabbit, ana: &Station, gone: PeerId, going: Going) {
    ana.send_at_last(gone, Route::Want, "want").await;
    ana.send_at_last(gone, Route::Mailbox, "mail").await;
    let before = ana.on().await;
    match going {
        Going::InOrder => rabbit.stop().await,
        Going::Killed => rabbit.kill().await,
    }
    let why = ana.away_within(SECOND).await;
    println!("{going:?}: {why}");
    let outcome = ana.send(gone, Route::Live, "?").await.unwrap_err();
    assert!(matches!(outcome, PublishError::NotConnected(_)), "{outcome}");
    rabbit.start_again().await;
    let started = Instant::now();
    let after = ana.on_within(3 * SECOND).await;
    println!("{going:?}: connected {:?} after it was back", started.elapsed());
    assert_ne!(before, after);
    let mut carla = Station::of(gone, AmqpSetting::At(rabbit.url().into()));
    assert_eq!(take(&mut carla.inbox.wants, 1).await, ["want"]);
    assert_eq!(take(&mut carla.inbox.mailbox, 1).await, ["mail"]);
    carla.stop().await;
}

async fn messages_flow_again(ana: &Station, beto: &mut Station) {
    ana.send_at_last(beto.id, Route::Live, "hello").await;
    assert!(take(&mut beto.inbox.live, 1).await == ["hello"]);
    let answers = Route::Answer(beto.on().await);
    ana.send_at_last(beto.id, answers, "answer").await;
    assert!(take(&mut beto.inbox.answers, 1).await == ["answer"]);
}

async fn an_alarm_is_shown_and_ends(rabbit: &Rabbit, ana: &Station, beto: &mut Station) {
    for number in 0..20 {
        ana.send(beto.id, Route::Live, &number.to_string()).await.unwrap();
    }
    rabbit.memory_alarm(true).await;
    // The broker says so to those who publish. The first message may still be taken.
    let reason = until("it is blocked", async || {
        let _taken_or_not = ana.send(beto.id, Route::Live, "more").await;
        match ana.state() {
            RelayState::On { blocked, .. } => blocked,
            RelayState::Off { .. } | RelayState::Away { .. } => None,
        }
    })
    .await;
    println!("blocked: {reason}");
    let started = Instant::now();
    for route in [Route::Live, Route::Want, Route::Answer([1; 8]), Route::Mailbox] {
        let outcome = ana.send(beto.id, route, "more").await;
        assert_eq!(outcome, Err(PublishError::Blocked(reason.clone())));
    }
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    // Taking goes on, and receipts get through.
    assert_eq!(take(&mut beto.inbox.live, 20).await.last().unwrap(), "19");

    // Who stops while blocked does not wait for the broker.
    let carla = Station::at(&rabbit.url()).await;
    let dora = anybody();
    until("it is blocked too", async || {
        matches!(carla.send(dora, Route::Live, "?").await, Err(PublishError::Blocked(_))).then_some(())
    })
    .await;
    carla.stop().await;

    rabbit.memory_alarm(false).await;
    until("it is no longer blocked", async || {
        matches!(ana.state(), RelayState::On { blocked: None, .. }).then_some(())
    })
    .await;
    while !take(&mut beto.inbox.live, 1).await[0].ends_with("last") {
        // Others were taken after the alarm, or before.
        ana.send(beto.id, Route::Live, "the last").await.unwrap();
    }
}

async fn an_exchange_that_was_deleted_is_made_again(url: &str, ana: &mut Station) {
    let before = ana.on().await;
    let requests = "trueque.requests".into();
    channel(url).await.exchange_delete(requests, ExchangeDeleteOptions::default()).await.unwrap();
    let outcome = ana.send(anybody(), Route::Live, "?").await.unwrap_err();
    assert!(matches!(outcome, PublishError::NotConnected(_)), "{outcome}");
    until("it is connected anew", async || (ana.on().await != before).then_some(())).await;
    // And its own queues are bound again.
    let beto = Station::at(url).await;
    beto.send_at_last(ana.id, Route::Live, "hello").await;
    assert_eq!(take(&mut ana.inbox.live, 1).await, ["hello"]);
    beto.stop().await;
}

/// Where the directory rules the broker, users are peers.
async fn users_that_are_peers_speak_for_themselves(rabbit: &Rabbit) {
    let (ana, beto) = (anybody(), anybody());
    for (user, tag) in [(ana, "none"), (beto, "impersonator")] {
        let user = user.to_string();
        rabbit.ctl(&["add_user", &user, "one"]).await;
        rabbit.ctl(&["set_permissions", &user, ".*", ".*", ".*"]).await;
        rabbit.ctl(&["set_user_tags", &user, tag]).await;
    }
    let url = format!("amqp://{}", rabbit.address());
    let session = |peer: PeerId| {
        let station = Station::of(peer, AmqpSetting::FromDirectory);
        station.link.send_replace(told(&url, &peer.to_string(), "one"));
        station
    };
    let (ana, mut beto) = (session(ana), session(beto));
    let answers = ana.on().await;
    beto.on().await;
    // Somebody who may call themselves anything at the broker, and says to be Beto in the key.
    let forger = channel(&format!("amqp://{}:one@{}", beto.id, rabbit.address())).await;
    let key = format!("{}.want.{}", beto.id, ana.id);
    let forged = BasicProperties::default()
        .with_message_id("02".repeat(16).into())
        .with_user_id(beto.id.to_string().as_str().into());
    publish(&forger, "trueque.requests", &key, forged).await;
    ana.send(beto.id, Route::Want, "true").await.unwrap();
    assert_eq!(take(&mut beto.inbox.wants, 1).await, ["true"]);

    // The next password of the same user.
    rabbit.ctl(&["change_password", &ana.id.to_string(), "two"]).await;
    ana.link.send_replace(told(&url, &ana.id.to_string(), "two"));
    assert_eq!(ana.send(anybody(), Route::Live, "?").await, Err(PublishError::NoQueue));
    assert_eq!(ana.on().await, answers, "the connections stay");

    // What this user may not. (Channels remember for a while what they were allowed, of one exchange.)
    rabbit.ctl(&["set_permissions", &ana.id.to_string(), ".*", "^$", ".*"]).await;
    let PublishError::Refused(refused) = ana.send(beto.id, Route::Mailbox, "?").await.unwrap_err() else {
        panic!("the broker should refuse")
    };
    assert!(refused.starts_with("ACCESS_REFUSED"), "{refused}");
    assert_eq!(ana.on().await, answers, "one channel less, and that is all");
    ana.stop().await;
    beto.stop().await;
}

// ── A wire that is not ──────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_wire_that_breaks() {
    let url = Rabbit::shared().await;
    let proxy = Proxy::start(std::net::Ipv4Addr::LOCALHOST.into()).await;
    proxy.aim_at(server(&url).parse().unwrap());
    let mut ana = Station::at(&format!("amqp://guest:guest@{}", proxy.endpoint())).await;
    let beto = Station::at(&url).await;
    a_cut_is_seen_at_once(&proxy, &ana).await;
    a_silence_is_seen_in_time(&proxy, &mut ana, &beto).await;
    ana.stop().await;
    beto.stop().await;
}

async fn a_cut_is_seen_at_once(proxy: &Proxy, ana: &Station) {
    let before = ana.on().await;
    proxy.cut();
    ana.away_within(SECOND).await;
    proxy.restore();
    assert_ne!(ana.on_within(3 * SECOND).await, before);
}

async fn a_silence_is_seen_in_time(proxy: &Proxy, ana: &mut Station, beto: &Station) {
    assert_eq!(ana.send(anybody(), Route::Live, "?").await, Err(PublishError::NoQueue));
    // In hand, while the wire goes.
    beto.send(ana.id, Route::Want, "in hand").await.unwrap();
    let in_hand = next(&mut ana.inbox.wants).await;
    proxy.silence();
    let started = Instant::now();
    let publishing = ana.send(beto.id, Route::Live, "?");
    let (outcome, why) = tokio::join!(publishing, ana.away_within(25 * SECOND));
    println!("silent: {why} after {:?}", started.elapsed());
    assert_eq!(outcome, Err(PublishError::Silent));
    // The other connection is cut with the one that was found silent, and ends on a thread of its own.
    until_within(3 * SECOND, "it is stale", async || in_hand.receipt.is_stale().then_some(())).await;
    in_hand.receipt.done().await;
    // It is tried again meanwhile, in vain.
    proxy.restore();
    ana.on().await;
    // The broker may take the connection before for alive still; what is sent now comes all the same.
    beto.send(ana.id, Route::Want, "after").await.unwrap();
    let mut came = take(&mut ana.inbox.wants, 2).await;
    came.sort();
    assert_eq!(came, ["after", "in hand"]);
}

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// Publishes what no peer would.
async fn publish(channel: &Channel, exchange: &str, key: &str, properties: BasicProperties) {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"x", properties).await.unwrap();
    assert!(sent.await.unwrap().take_message().is_none(), "{key} leads nowhere");
}

async fn dead_letters(url: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel(url).await.queue_declare("trueque.dead".into(), passive, FieldTable::default()).await;
    queue.unwrap().message_count()
}

/// `HOST:PORT` of a URL.
fn server(url: &str) -> String {
    url.rsplit('@').next().unwrap().trim_end_matches('/').to_owned()
}
