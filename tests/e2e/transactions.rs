//! SIGKILL under transactions: all of one, or nothing.
//!
//! Workers move messages to and fro between two queues, a few in each transaction, and leave a receipt
//! for the transaction in a third queue. A message counts its moves. Afterwards every message is there
//! once, and each of its moves has exactly one receipt, that of a transaction whose moves were all made.
//!
//! `PEEKLOCK_KILL_CYCLES` says how often (10 by default), `PEEKLOCK_SEED` how the times are drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Disposition, Flow, Performative, Transfer};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::transaction::Coordination;
use peeklock_tests::broker::show;
use peeklock_tests::link::{Link, Received, disposition};
use peeklock_tests::message::Message;
use peeklock_tests::transactions::within;
use peeklock_tests::{Peer, TestBroker, raw};

use crate::kill::{from_environment, next};

const WORKERS: u64 = 3;
const MESSAGES: u64 = 300;
/// Messages of one transaction.
const MOVES_MAX: u64 = 3;
/// The AMQP session of the receivers.
const RECEIVING: u16 = 1;

/// What the workers were told of their transactions.
#[derive(Default)]
struct Ledger {
    committed: BTreeSet<u64>,
    rolled_back: BTreeSet<u64>,
    unanswered: u64,
}

struct Worker<'a> {
    peer: Peer,
    control: Link,
    sources: [Link; 2],
    targets: [Link; 2],
    receipts: Link,
    random: u64,
    /// What its next transaction is called.
    name: u64,
    ledger: &'a Mutex<Ledger>,
}

/// A message as its body says: which one, and how often it was moved.
type Moved = (u64, u64);

fn parse(text: &str) -> Moved {
    let (number, moves) = text.split_once(':').expect("a number and its moves");
    (number.parse().expect("a number"), moves.parse().expect("a number"))
}

#[test]
fn transactions_happen_as_a_whole_or_not_at_all() {
    let cycles = from_environment("PEEKLOCK_KILL_CYCLES", 10);
    let seed = from_environment("PEEKLOCK_SEED", 20_260_101);
    // What is rolled back stays locked until the next kill, or as long as this.
    let queue = "max_delivery_count = 1000000\nlock_duration = \"5s\"";
    let mut broker = TestBroker::with()
        .queue("a", queue)
        .queue("b", queue)
        .queue("receipts", queue)
        .config("[storage]\nfree_space_reserve = 0")
        .durable()
        .start();
    let texts: Vec<String> = (0..MESSAGES).map(|number| format!("{number}:0")).collect();
    broker.peer().send_texts("a", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let ledger = Mutex::new(Ledger::default());
    let mut random = seed | 1;
    for cycle in 0..cycles {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let name = (cycle * WORKERS + number) * 1_000_000;
                Worker::new(&broker, next(&mut random) | 1, name, &ledger)
            })
            .collect();
        thread::scope(|scope| {
            for mut worker in workers {
                scope.spawn(move || while worker.move_some().is_some() {});
            }
            // When the kill comes is the subject of the test.
            thread::sleep(Duration::from_millis(5 + next(&mut random) % 495));
            broker.kill();
        });
        broker.restart();
    }

    let mut peer = broker.peer();
    let mut found = BTreeMap::new();
    for text in ["a", "b"].into_iter().flat_map(|queue| take_all(&mut peer, queue)) {
        let (number, moves) = parse(&text);
        assert_eq!(found.insert(number, moves), None, "seed {seed}: message {number} is doubled");
    }
    let expected: Vec<u64> = (0..MESSAGES).collect();
    let all: Vec<u64> = found.keys().copied().collect();
    assert_eq!(all, expected, "seed {seed}: messages are lost");

    let mut made: BTreeSet<Moved> = BTreeSet::new();
    let mut receipts = BTreeSet::new();
    for text in take_all(&mut peer, "receipts") {
        let mut words = text.split(' ');
        let name: u64 = words.next().expect("a name").parse().expect("a number");
        assert!(receipts.insert(name), "seed {seed}: transaction {name} happened twice");
        for moved in words.map(parse) {
            assert!(made.insert(moved), "seed {seed}: {moved:?} was moved by two transactions");
        }
    }
    let counted: BTreeSet<Moved> =
        found.iter().flat_map(|(number, moves)| (1..=*moves).map(|nth| (*number, nth))).collect();
    let halves: Vec<_> = made.symmetric_difference(&counted).collect();
    assert!(halves.is_empty(), "seed {seed}: moves without receipt, or the reverse: {halves:?}");

    let ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lost: Vec<_> = ledger.committed.difference(&receipts).collect();
    assert!(lost.is_empty(), "seed {seed}: committed and lost: {lost:?}");
    let returned: Vec<_> = ledger.rolled_back.intersection(&receipts).collect();
    assert!(returned.is_empty(), "seed {seed}: rolled back and done: {returned:?}");
    show(&format!(
        "{cycles} kills: {} transactions committed, {} rolled back, {} not answered, {} done",
        ledger.committed.len(),
        ledger.rolled_back.len(),
        ledger.unanswered,
        receipts.len()
    ));
    // A run in which nothing happened proves nothing.
    assert!(cycles < ledger.committed.len() as u64, "{} committed", ledger.committed.len());
    assert!(cycles < ledger.rolled_back.len() as u64, "{} rolled back", ledger.rolled_back.len());
}

/// Everything in a queue, settled in ranges: thousands of single answers would take long.
fn take_all(peer: &mut Peer, queue: &str) -> Vec<String> {
    let mut link = peer.attach_receiver(queue);
    let mut texts = Vec::new();
    loop {
        let batch = peer.drain(&mut link, 500);
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return texts };
        texts.extend(batch.iter().map(Received::text));
        let all = disposition(first.id, DeliveryState::Accepted, true);
        peer.send(Disposition { last: Some(last.id), ..all });
    }
}

impl<'a> Worker<'a> {
    fn new(broker: &TestBroker, random: u64, name: u64, ledger: &'a Mutex<Ledger>) -> Self {
        let mut peer = broker.peer();
        let control = peer.attach_coordinator();
        let targets = ["b", "a"].map(|queue| peer.attach_sender(queue));
        let receipts = peer.attach_sender("receipts");
        // Flows say how much was sent on their AMQP session, and `write` does not count.
        peer.begin_on(RECEIVING);
        peer.speak_on(RECEIVING);
        let sources = ["a", "b"].map(|queue| peer.attach_receiver(queue));
        peer.expect_to_be_cut();
        Worker { peer, control, sources, targets, receipts, random, name, ledger }
    }

    fn with_ledger(&self, run: impl FnOnce(&mut Ledger)) {
        run(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One transaction; nothing once the broker is gone.
    fn move_some(&mut self) -> Option<()> {
        let side = usize::from(next(&mut self.random).is_multiple_of(2));
        let credit = 1 + u32::try_from(next(&mut self.random) % MOVES_MAX).unwrap_or_default();
        let taken = self.take(side, credit)?;
        if taken.is_empty() {
            return Some(());
        }
        let DeliveryState::Declared { txn_id } =
            self.coordinate(&Coordination::Declare { global_id: None })?
        else {
            panic!("not declared")
        };
        let name = self.name;
        self.name += 1;
        let mut receipt = name.to_string();
        let mut spoilt = false;
        for (id, (number, moves)) in taken {
            let text = format!("{number}:{}", moves + 1);
            receipt = format!("{receipt} {text}");
            let mut link = self.targets[side].clone();
            self.send(&mut link, &txn_id, text)?;
            self.targets[side] = link;
            spoilt |= !self.settle(id, &txn_id)?;
        }
        let mut link = self.receipts.clone();
        self.send(&mut link, &txn_id, receipt)?;
        self.receipts = link;
        let fail = spoilt || next(&mut self.random).is_multiple_of(4);
        self.with_ledger(|ledger| ledger.unanswered += 1);
        let answer = self.coordinate(&Coordination::Discharge { txn_id, fail })?;
        let committed = match answer {
            DeliveryState::Accepted => !fail,
            // On a busy machine a lock may have ended.
            DeliveryState::Rejected(Some(error))
                if error.condition == *condition::TRANSACTION_ROLLBACK =>
            {
                false
            }
            other => panic!("{other:?}"),
        };
        self.with_ledger(|ledger| {
            ledger.unanswered -= 1;
            let answered = if committed { &mut ledger.committed } else { &mut ledger.rolled_back };
            answered.insert(name);
        });
        Some(())
    }

    /// What comes next, but for flows that do not end a drain.
    fn frame(&mut self) -> Option<Performative> {
        loop {
            match self.peer.performative_or_end()? {
                Performative::Flow(Flow { drain: false, .. }) => {}
                other => return Some(other),
            }
        }
    }

    fn write(&mut self, performative: &Performative, payload: &[u8]) {
        let channel = self.peer.channel();
        self.peer.write_anyway(&raw::amqp_frame(channel, performative, payload));
    }

    /// Up to `credit` messages of a queue, as many as there are.
    fn take(&mut self, side: usize, credit: u32) -> Option<Vec<(SerialNumber, Moved)>> {
        let flow = Flow { drain: true, ..self.peer.credit_flow(&self.sources[side], credit) };
        self.write(&flow.into(), &[]);
        let mut taken = Vec::new();
        loop {
            match self.frame()? {
                Performative::Transfer(transfer) => {
                    let id = transfer.delivery_id.expect("a delivery-id");
                    let message = Message::decode(self.peer.payload());
                    taken.push((id, parse(message.text())));
                }
                Performative::Flow(_) => {
                    let link = &mut self.sources[side];
                    link.delivery_count = link.delivery_count.advanced_by(credit);
                    return Some(taken);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn coordinate(&mut self, request: &Coordination) -> Option<DeliveryState> {
        let transfer = self.peer.first_transfer(&mut self.control, 0, false);
        let id = transfer.delivery_id.expect("just set");
        self.write(&transfer.into(), &request.to_bytes());
        self.outcome(id)
    }

    fn send(&mut self, link: &mut Link, txn: &Bytes, text: String) -> Option<()> {
        let state = DeliveryState::Transactional { txn_id: txn.clone(), outcome: None };
        let first = self.peer.first_transfer(link, 0, false);
        let id = first.delivery_id.expect("just set");
        let transfer = Transfer { state: Some(state), ..first };
        self.write(&transfer.into(), &Message::data(text).encode());
        assert_eq!(self.outcome(id)?, within(txn, DeliveryState::Accepted));
        Some(())
    }

    /// Says whether the lock was still there.
    fn settle(&mut self, id: SerialNumber, txn: &Bytes) -> Option<bool> {
        let state = within(txn, DeliveryState::Accepted);
        self.peer.speak_on(RECEIVING);
        self.write(&disposition(id, state.clone(), false).into(), &[]);
        let answer = self.outcome(id)?;
        if answer == state {
            return Some(true);
        }
        // On a busy machine it may have ended.
        let DeliveryState::Rejected(Some(error)) = &answer else { panic!("{answer:?}") };
        assert_eq!(error.condition, *condition::MESSAGE_LOCK_LOST);
        Some(false)
    }

    /// What became of the one delivery that waits for it.
    fn outcome(&mut self, id: SerialNumber) -> Option<DeliveryState> {
        match self.frame()? {
            Performative::Disposition(answer) => {
                assert_eq!((answer.first, answer.settled), (id, true));
                answer.state
            }
            other => panic!("{other:?}"),
        }
    }
}
