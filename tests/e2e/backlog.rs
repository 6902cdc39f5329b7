//! A backlog far beyond the memory that is meant for messages: it comes out whole and in order, and
//! costs no more memory for being deep.

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, Disposition, ReceiverSettleMode};
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::link::{Received, deleting_receiver, disposition, receiver};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};

const MESSAGES: u64 = 60_000;
const BATCH: u64 = 250;

/// 60 MB of messages, where 8 MiB are cached.
fn filled() -> TestBroker {
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("marker", "")
        .config("[storage]\nfree_space_reserve = 0\ncache = \"8 MiB\"")
        .durable()
        .start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for batch in 0..MESSAGES / BATCH {
        let messages: Vec<Bytes> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|number| Message::data(vec![0x2e; 900]).with_id(number).encode())
            .collect();
        let id = peer.transfer_batch(&mut link, &messages);
        assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    }
    broker
}

#[track_caller]
fn number(received: &Received) -> u64 {
    received.message().id().as_u64().expect("every message here has a number")
}

/// Completes all of a batch with one disposition.
fn complete_all(peer: &mut Peer, batch: &[Received]) {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return };
    peer.send(Disposition {
        last: Some(last.id),
        ..disposition(first.id, DeliveryState::Accepted, true)
    });
}

#[test]
fn a_backlog_beyond_the_cache_comes_out_whole_and_in_order() {
    let mut broker = filled();
    let filled = broker.resident_bytes();
    for kill in [false, true] {
        if kill {
            broker.restart();
        }
        let mut peer = broker.peer();
        let first_settles =
            Attach { rcv_settle_mode: Some(ReceiverSettleMode::First), ..receiver("q") };
        let mut link = peer.attach_for_receiving(first_settles);
        let (from, to) = if kill { (MESSAGES / 2, MESSAGES) } else { (0, MESSAGES / 2) };
        let mut next = from;
        while next < to {
            let batch = peer.drain(&mut link, 250);
            for received in &batch {
                assert_eq!(number(received), next);
                next += 1;
            }
            assert!(!batch.is_empty(), "only {next} of {to} came");
            complete_all(&mut peer, &batch);
        }
        // What was settled before something else was accepted is as durable as that.
        peer.send_texts("marker", &["all settled"]);
    }
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    let left = peer.drain(&mut link, 1000);
    assert!(left.is_empty(), "{} are left", left.len());
    // Stores have memory of their own; the messages are 60 MB.
    assert!(filled < 250 * 1024 * 1024, "{filled} octets with a backlog");
}

#[test]
fn a_backlog_is_browsed_from_any_number_on() {
    let broker = filled();
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let mut first = |from: i64, count: i32| {
        let body = Map::new().with("from-sequence-number", from).with("message-count", count);
        let answer = peer.manage(&mut management, "com.microsoft:peek-message", body);
        assert_eq!(answer.status, 200);
        let messages = answer.entry("messages").as_list().expect("a list").to_vec();
        messages
            .iter()
            .map(|entry| match entry.get("message") {
                Some(Value::Binary(octets)) => Message::decode(octets),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let start = first(0, 1)[0].sequence_number();
    let mut seen = 0_u64;
    for offset in [0, 1, 29_999, 30_000, 45_123, 59_900] {
        let found = first(start + offset, 100);
        assert!(!found.is_empty());
        for (place, message) in found.iter().enumerate() {
            let place = i64::try_from(place).unwrap_or_default();
            assert_eq!(message.sequence_number(), start + offset + place);
            assert_eq!(message.id().as_i64(), Some(offset + place));
            seen += 1;
        }
    }
    assert!(300 < seen, "{seen} messages in six answers");
}

/// Competing receivers, some of which abandon and some of which delete, get each message once.
#[test]
fn competing_receivers_share_a_backlog() {
    let broker = filled();
    let mut seen = vec![0_u8; usize::try_from(MESSAGES).unwrap_or_default()];
    let mut deleting = broker.peer();
    let mut deletes = deleting.attach_for_receiving(deleting_receiver("q"));
    let mut completing = broker.peer();
    let mut completes = completing.attach_receiver("q");
    let mut returning = broker.peer();
    let mut returns = returning.attach_receiver("q");
    let mut count = 0;
    while count < MESSAGES {
        let back = returning.drain(&mut returns, 40);
        if let (Some(first), Some(last)) = (back.first(), back.last()) {
            returning.send(Disposition {
                last: Some(last.id),
                ..disposition(first.id, DeliveryState::Released, true)
            });
        }
        let deleted = deleting.drain(&mut deletes, 300);
        let completed = completing.drain(&mut completes, 300);
        complete_all(&mut completing, &completed);
        for received in deleted.iter().chain(&completed) {
            let place = usize::try_from(number(received)).unwrap_or_default();
            seen[place] += 1;
            count += 1;
        }
    }
    assert!(seen.iter().all(|times| *times == 1), "each exactly once");
}
