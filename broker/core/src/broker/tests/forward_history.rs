//! Histories of queues that forward to one that detects duplicates: whatever fails or crashes on the
//! way, everything that was accepted gets there, and gets there once.

use std::collections::{BTreeMap, BTreeSet};

use peeklock_protocol::message::{Message, Properties};

use super::timed::message_with;
use crate::command::{Command, ReceiveMode};
use crate::effect::EffectKind;
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::id::{EntityId, Origin};
use crate::message::IncomingMessage;
use crate::testing::{Dice, World};
use crate::time::Span;

const SOURCES: [&str; 2] = ["a", "b"];

struct History {
    world: World,
    dice: Dice,
    entities: [EntityId; 3],
    asked: BTreeMap<Origin, Vec<usize>>,
    accepted: BTreeSet<usize>,
    looked_up: u64,
    crashes: u64,
}

fn with_id(id: usize) -> IncomingMessage {
    let message_id = Some(id.to_string().as_str().into());
    let properties = Properties { message_id, ..Properties::default() };
    message_with(&Message { properties: Some(properties), ..Message::default() }, "x")
}

fn forwarding(on: bool) -> QueueSettings {
    let target = on.then(|| EntityPath::for_new_entity("c").unwrap());
    QueueSettings { forward_to: target, ..QueueSettings::default() }
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let settings = BrokerSettings {
            cache_bytes_max: [0, 1 << 20][dice.below(2)],
            page_rows_max: [1, 3, 100][dice.below(3)],
            fingerprint_bytes_max: [0, 100, 1 << 20][dice.below(3)],
            ..BrokerSettings::default()
        };
        let mut world = World::seeded(settings, seed);
        let duplicate_window = Some(QueueSettings::DUPLICATE_WINDOW_MAX);
        let target = QueueSettings { duplicate_window, ..QueueSettings::default() };
        let entities = [
            world.ensure_queue("c", target),
            world.ensure_queue("a", forwarding(true)),
            world.ensure_queue("b", forwarding(false)),
        ];
        world.reads_wait = true;
        let (asked, accepted) = (BTreeMap::new(), BTreeSet::new());
        History { world, dice, entities, asked, accepted, looked_up: 0, crashes: 0 }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..30 => self.send(),
            30..36 => {
                let name = SOURCES[self.dice.below(2)];
                let on = self.dice.percent(60);
                self.switch(name, on);
            }
            36..60 => drop(self.world.turn()),
            60..76 => drop(self.world.sync_one()),
            76..90 => {
                self.world.reads_fail = self.dice.percent(10);
                let index = self.dice.below(3);
                self.looked_up += u64::from(self.world.answer_read(index));
            }
            90..98 => {
                self.world.now = self.world.now.plus(Span(self.dice.below(600) as u64));
                self.world.handle(Command::Tick);
            }
            _ => {
                self.crashes += 1;
                self.world.crash();
                self.asked.clear();
            }
        }
        self.look();
    }

    fn send(&mut self) {
        let ids: Vec<_> = (0..=self.dice.below(3)).map(|_| self.dice.below(60)).collect();
        let entity = self.entities[self.dice.below(3)];
        let origin = self.world.origin();
        let messages = ids.iter().map(|id| with_id(*id)).collect();
        self.asked.insert(origin, ids);
        self.world.handle(Command::Send { origin, entity, messages, transaction: None });
    }

    fn switch(&mut self, name: &str, on: bool) {
        let path = EntityPath::for_new_entity(name).unwrap();
        let settings = forwarding(on);
        self.world.handle(Command::EnsureQueue { origin: None, path, settings });
    }

    fn look(&mut self) {
        for kind in std::mem::take(&mut self.world.released) {
            if let EffectKind::Reply { to, result: Ok(_) } = kind {
                self.accepted.extend(self.asked.remove(&to).unwrap_or_default());
            }
        }
    }

    fn finish(mut self) -> Self {
        self.world.reads_fail = false;
        self.world.reads_wait = false;
        for name in SOURCES {
            self.switch(name, true);
        }
        self.world.settle_down();
        self.world.pass(Span::from_secs(2));
        self.world.settle_down();
        self.look();
        let receiver = self.world.open(1, "c", ReceiveMode::ReceiveAndDelete);
        let mut found = BTreeSet::new();
        for delivery in self.world.receive(receiver, 10_000) {
            let id = delivery.message.facts().message_id().unwrap().parse().unwrap();
            assert!(found.insert(id), "{id} is there twice");
        }
        let lost: Vec<_> = self.accepted.difference(&found).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert_eq!(self.world.message_rows(), 0, "nothing is left over");
        self
    }
}

#[test]
fn what_is_forwarded_to_a_queue_that_detects_duplicates_gets_there_once() {
    let (mut looked_up, mut crashes) = (0, 0);
    for seed in 1..300 {
        let run = || {
            let mut history = History::new(seed);
            for _ in 0..200 {
                history.step();
            }
            history.finish()
        };
        let seen = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} failed"));
        looked_up += seen.looked_up;
        crashes += seen.crashes;
    }
    assert!(looked_up > 1_000 && crashes > 100, "{looked_up} reads, {crashes} crashes");
}
