//! A backlog over many sessions, in little memory: none is forgotten, none comes twice.
//!
//! `PEEKLOCK_SESSIONS=100000 cargo test --release a_backlog_over_many_sessions` tries as many, with ten
//! messages each and the memory of a server.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::tests::{body_text, id, session_message};
use crate::command::{Command, ReceiveMode, SessionRequest, Settlement};
use crate::effect::Reply;
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, ReceiverId};
use crate::testing::World;
use crate::time::Span;

const MESSAGES: u64 = 10;

struct Backlog {
    world: World,
    entity: EntityId,
    sessions: u64,
    /// The most octets of memory there ever were.
    memory: usize,
}

impl Backlog {
    /// The messages of all sessions, one of each at a time.
    fn new(sessions: u64, settings: BrokerSettings) -> Self {
        let queue = QueueSettings { requires_session: true, ..QueueSettings::default() };
        let (mut world, entity) = World::with_queue(settings, queue);
        world.checks = false;
        let mut backlog = Backlog { world, entity, sessions, memory: 0 };
        for message in 0..MESSAGES {
            for first in (0..sessions).step_by(50) {
                let numbers = first..(first + 50).min(sessions);
                let body = format!("{message}");
                let messages: SmallVec<_> =
                    numbers.map(|number| session_message(&name(number), &body)).collect();
                let send = |origin| Command::Send { origin, entity, messages, transaction: None };
                assert!(matches!(backlog.world.ask(send), Ok(Reply::Accepted)));
                backlog.note_memory();
            }
        }
        backlog
    }

    fn note_memory(&mut self) {
        self.memory = self.memory.max(self.world.broker.resident_bytes());
    }

    fn take_next(&mut self, link: u64) -> Result<MessageSessionId, Error> {
        let receiver = ReceiverId { connection: 1, link };
        let session = Some(SessionRequest::NextAvailable { wait: Span(1_000) });
        let (path, mode) = (EntityPath::for_new_entity("q").unwrap(), ReceiveMode::PeekLock);
        let origin = self.world.origin();
        self.world.handle(Command::OpenReceiver { origin, receiver, path, mode, session });
        self.world.settle_down();
        if let Some(reply) = self.world.take_reply(origin) {
            let Reply::ReceiverOpened { session: Some(lock), .. } = reply? else {
                panic!("not opened")
            };
            return Ok(lock.session);
        }
        self.world.pass(Span(1_000));
        Err(self.world.take_reply(origin).unwrap().unwrap_err())
    }

    /// Takes all messages of the session that a receiver holds.
    fn empty(&mut self, link: u64) {
        let receiver = ReceiverId { connection: 1, link };
        let deliveries = self.world.receive(receiver, MESSAGES + 1);
        self.note_memory();
        let bodies: Vec<_> = deliveries.iter().map(|it| body_text(&it.message)).collect();
        let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(bodies, expected);
        let tokens = deliveries.iter().map(|delivery| delivery.lock.unwrap().token).collect();
        let (entity, settlement) = (self.entity, Settlement::Complete);
        let settled = self.world.ask(|origin| Command::UpdateDisposition {
            origin,
            entity,
            tokens,
            settlement,
            session: None,
            transaction: None,
        });
        assert!(matches!(settled, Ok(Reply::Settled)));
        self.world.handle(Command::CloseReceiver { receiver });
        if link.is_multiple_of(50) {
            self.world.broker.check().unwrap();
        }
    }

    fn drain(mut self) -> usize {
        let mut seen = BTreeSet::new();
        for link in 0.. {
            match self.take_next(link) {
                Ok(session) => assert!(seen.insert(session), "a session came twice"),
                Err(Error::Timeout(_)) => break,
                Err(error) => panic!("{error:?}"),
            }
            self.empty(link);
        }
        assert_eq!(seen, (0..self.sessions).map(|number| id(&name(number))).collect());
        assert_eq!(self.world.message_rows() + self.world.trace_rows(), 0);
        self.memory
    }
}

fn name(number: u64) -> String {
    format!("session-{number:07}")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the environment says how many")]
fn a_backlog_over_many_sessions_fits_into_little_memory() {
    let wanted = std::env::var("PEEKLOCK_SESSIONS").ok().and_then(|count| count.parse().ok());
    let settings = if wanted.is_some() {
        BrokerSettings { cache_bytes_max: 16 << 20, ..BrokerSettings::default() }
    } else {
        BrokerSettings {
            cache_bytes_max: 32_768,
            window_bytes_max: 16_384,
            page_rows_max: 100,
            page_bytes_max: 10_000,
            sessions_known_max: 20,
            ..BrokerSettings::default()
        }
    };
    let sessions = wanted.unwrap_or(500);
    let memory_max = 2 * settings.cache_bytes_max;
    let filled = Backlog::new(sessions, settings);
    assert!(filled.memory < memory_max, "{} octets of memory", filled.memory);
    let memory = filled.drain();
    assert!(memory < memory_max, "{memory} octets of memory");
    // The same from nothing but rows.
    let mut filled = Backlog::new(sessions, settings);
    filled.world.crash();
    let memory = filled.drain();
    assert!(memory < memory_max, "{memory} octets of memory");
}
