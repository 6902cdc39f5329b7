//! SIGKILL under load. Clients note what they were told; nothing they were told may turn out false.
//!
//! - What was accepted is there, or its completion was at least asked for.
//! - What was completed, and said to be, never comes again.
//! - No sequence number ever names two messages, and no message has two.
//!
//! `PEEKLOCK_KILL_CYCLES` says how often (10 by default), `PEEKLOCK_SEED` how the times are drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Disposition, Performative, Role};
use peeklock_tests::broker::show;
use peeklock_tests::link::{Link, abandoned, disposition};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, raw};

const SENDERS: u64 = 2;
const RECEIVERS: u64 = 2;

/// Messages of one sender that wait for their outcome. Far below the credit a link is given.
const IN_FLIGHT_MAX: u64 = 50;

/// What the clients know.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) accepted: BTreeSet<u64>,
    /// Asked to be completed; whether they were is known of those in `completed`.
    pub(crate) completing: BTreeSet<u64>,
    pub(crate) completed: BTreeSet<u64>,
    numbers: BTreeMap<i64, u64>,
    pub(crate) sequences: BTreeMap<u64, i64>,
    pub(crate) redelivered: u64,
    pub(crate) faults: Vec<String>,
}

impl Ledger {
    /// A delivery of the message with this number came in.
    fn received(&mut self, number: u64, sequence: i64) {
        if let Some(other) = self.numbers.insert(sequence, number).filter(|other| *other != number)
        {
            self.faults.push(format!("sequence number {sequence} names {other} and {number}"));
        }
        match self.sequences.insert(number, sequence) {
            None => {}
            Some(other) if other == sequence => self.redelivered += 1,
            Some(other) => {
                self.faults.push(format!("message {number} is both {other} and {sequence}"));
            }
        }
        if self.completed.contains(&number) {
            self.faults.push(format!("message {number} was completed and came again"));
        }
    }
}

#[derive(Default)]
pub(crate) struct Shared(Mutex<Ledger>);

impl Shared {
    pub(crate) fn with<T>(&self, run: impl FnOnce(&mut Ledger) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_completed_returns() {
    let cycles = from_environment("PEEKLOCK_KILL_CYCLES", 10);
    let seed = from_environment("PEEKLOCK_SEED", 20_260_101);
    let mut broker = TestBroker::with()
        .queue("q", "max_delivery_count = 1000000")
        .config("[storage]\nfree_space_reserve = 0")
        .durable()
        .start();
    let ledger = Shared::default();
    let mut random = seed | 1;
    for cycle in 0..cycles {
        let senders: Vec<_> = (0..SENDERS).map(|_| sender(&broker, "q")).collect();
        let receivers: Vec<_> = (0..RECEIVERS).map(|_| receiver(&broker)).collect();
        thread::scope(|scope| {
            for (n, (peer, link)) in senders.into_iter().enumerate() {
                let worker = cycle * SENDERS + u64::try_from(n).unwrap_or_default();
                let ledger = &ledger;
                scope.spawn(move || send(peer, &link, worker * 10_000_000, message, ledger));
            }
            for (peer, link) in receivers {
                let ledger = &ledger;
                scope.spawn(move || receive(peer, link, cycle, number_of, ledger));
            }
            // When the kill comes is the subject of the test.
            thread::sleep(Duration::from_millis(5 + next(&mut random) % 495));
            broker.kill();
        });
        broker.restart();
        let faults = ledger.with(|ledger| std::mem::take(&mut ledger.faults));
        assert!(faults.is_empty(), "cycle {cycle} of seed {seed}: {faults:#?}");
    }

    let mut peer = broker.peer();
    let link = peer.attach_receiver("q");
    let remaining = drain(peer, link, number_of, &ledger);
    ledger.with(|ledger| {
        assert_eq!(ledger.faults, Vec::<String>::new(), "seed {seed}");
        let lost: Vec<_> = ledger
            .accepted
            .iter()
            .filter(|number| !ledger.completing.contains(number) && !remaining.contains(number))
            .collect();
        assert!(lost.is_empty(), "seed {seed}: accepted and lost: {lost:?}");
        let returned: Vec<_> = ledger.completed.intersection(&remaining).collect();
        assert!(returned.is_empty(), "seed {seed}: completed and returned: {returned:?}");
        show(&format!(
            "{cycles} kills: {} accepted, {} completed, {} redelivered, {} left",
            ledger.accepted.len(),
            ledger.completed.len(),
            ledger.redelivered,
            remaining.len()
        ));
        // A run in which nothing happened proves nothing.
        assert!(cycles < ledger.accepted.len() as u64, "{} accepted", ledger.accepted.len());
        assert!(cycles < ledger.completed.len() as u64, "{} completed", ledger.completed.len());
        assert!(0 < ledger.redelivered, "nothing was redelivered");
        assert!(!remaining.is_empty(), "nothing was left in the queue");
    });
}

pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

pub(crate) fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 11
}

/// The number its sender gave a message.
pub(crate) fn number_of(message: &Message) -> u64 {
    message.id().as_u64().expect("every message here has a number")
}

/// Some fill a block of the log by themselves.
pub(crate) fn size_of(number: u64) -> usize {
    if number.is_multiple_of(97) { 40_000 } else { 200 }
}

fn message(number: u64) -> Bytes {
    Message::data(vec![0x2e; size_of(number)]).with_id(number).encode()
}

pub(crate) fn sender(broker: &TestBroker, address: &str) -> (Peer, Link) {
    let mut peer = broker.peer();
    let link = peer.attach_sender(address);
    peer.expect_to_be_cut();
    (peer, link)
}

fn receiver(broker: &TestBroker) -> (Peer, Link) {
    let mut peer = broker.peer();
    let link = peer.attach_receiver("q");
    peer.expect_to_be_cut();
    (peer, link)
}

/// Sends until the socket ends, and notes what was accepted.
pub(crate) fn send(
    mut peer: Peer,
    link: &Link,
    first: u64,
    message: fn(u64) -> Bytes,
    ledger: &Shared,
) {
    let mut link = link.clone();
    let mut sent = 0;
    let mut settled = 0;
    loop {
        while sent - settled < IN_FLIGHT_MAX {
            let transfer = peer.first_transfer(&mut link, 0, false);
            let message = message(first + sent);
            peer.write_anyway(&raw::amqp_frame(0, &transfer.into(), &message));
            sent += 1;
        }
        match peer.performative_or_end() {
            None => return,
            Some(Performative::Disposition(outcome)) => {
                assert_eq!(outcome.state, Some(DeliveryState::Accepted));
                let last = outcome.last.unwrap_or(outcome.first);
                let range = outcome.first.0..=last.0;
                settled += u64::try_from(range.clone().count()).unwrap_or_default();
                ledger.with(|ledger| ledger.accepted.extend(range.map(|id| first + u64::from(id))));
            }
            Some(Performative::Flow(_)) => {}
            Some(other) => panic!("{other:?}"),
        }
    }
}

/// Receives until the socket ends, completes most messages, abandons some and leaves a few.
pub(crate) fn receive(
    mut peer: Peer,
    mut link: Link,
    cycle: u64,
    number_of: fn(&Message) -> u64,
    ledger: &Shared,
) {
    const CREDIT: u32 = 200;
    let mut asked: BTreeMap<u32, u64> = BTreeMap::new();
    let mut credit = 0;
    loop {
        if credit < CREDIT / 2 {
            let flow = peer.credit_flow(&link, CREDIT);
            peer.write_anyway(&raw::amqp_frame(0, &flow.into(), &[]));
            credit = CREDIT;
        }
        match peer.performative_or_end() {
            None => return,
            Some(Performative::Transfer(transfer)) => {
                assert!(!transfer.more, "frames of a mebibyte hold these messages");
                credit -= 1;
                link.delivery_count = link.delivery_count.advanced_by(1);
                let id = transfer.delivery_id.expect("a delivery-id");
                let message = Message::decode(peer.payload());
                let (number, sequence) = (number_of(&message), message.sequence_number());
                ledger.with(|ledger| ledger.received(number, sequence));
                let state = match number % 10 {
                    8 if message.delivery_count() == 0 => abandoned(),
                    // Left unsettled, others each time, or they would fill the head of the queue.
                    9 if (number / 10) % 5 == cycle % 5 => continue,
                    _ => {
                        asked.insert(id.0, number);
                        ledger.with(|ledger| ledger.completing.insert(number));
                        DeliveryState::Accepted
                    }
                };
                let settlement = disposition(id, state, false);
                peer.write_anyway(&raw::amqp_frame(0, &settlement.into(), &[]));
            }
            Some(Performative::Disposition(answer)) => {
                assert_eq!((answer.role, answer.settled), (Role::Sender, true));
                if answer.state != Some(DeliveryState::Accepted) {
                    continue;
                }
                let last = answer.last.unwrap_or(answer.first);
                ledger.with(|ledger| {
                    for id in answer.first.0..=last.0 {
                        ledger.completed.extend(asked.remove(&id));
                    }
                });
            }
            Some(Performative::Flow(_)) => {}
            Some(other) => panic!("{other:?}"),
        }
    }
}

/// What is left: after a crash every lock is free, so everything comes.
pub(crate) fn drain(
    mut peer: Peer,
    mut link: Link,
    number_of: fn(&Message) -> u64,
    ledger: &Shared,
) -> BTreeSet<u64> {
    let mut remaining = BTreeSet::new();
    let mut before = 0;
    loop {
        let batch = peer.drain(&mut link, 500);
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return remaining };
        for received in &batch {
            let message = received.message();
            assert!(before < message.sequence_number(), "out of order");
            before = message.sequence_number();
            let (number, sequence) = (number_of(&message), message.sequence_number());
            ledger.with(|ledger| ledger.received(number, sequence));
            assert!(remaining.insert(number), "message {number} came twice");
        }
        let settlement = Disposition {
            last: Some(last.id),
            ..disposition(first.id, DeliveryState::Accepted, true)
        };
        peer.send(settlement);
    }
}
