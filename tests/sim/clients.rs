//! The clients: what they ask for, and what they make of the answers.

use bytes::{BufMut, BytesMut};
use peeklock_core::{
    Command, Delivery, EffectKind, EntityId, EntityPath, Error, IncomingMessage, LockToken, Origin,
    ReceiveMode, ReceiverId, Reply, SequenceNumber, Settlement, StoredMessage,
};
use smallvec::SmallVec;

use crate::model::{Body, Delivered, Part, Wish};
use crate::workload::{Action, Workload};
use crate::world::{LOCK, World};

/// A message a client holds, or held.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    body: Body,
    entity: EntityId,
    part: Part,
    token: LockToken,
}

pub(crate) struct Receiver {
    pub(crate) id: ReceiverId,
    pub(crate) at: (usize, Part),
    pub(crate) mode: ReceiveMode,
    pub(crate) delivered: u64,
    pub(crate) limit: u64,
    /// The highest limit it ever had: demand may shrink after it was met.
    pub(crate) limit_max: u64,
    pub(crate) is_open: bool,
}

/// What a client waits for an answer to.
pub(crate) enum Asked {
    ReceiverOpened,
    Entity((usize, Part)),
    Send(Vec<Body>),
    Settle(Held, Wish),
    Renew(Held),
    /// With a lock that is gone: this must be refused.
    Stale,
    /// A dead letter cannot be dead-lettered.
    NotAllowed,
    Browse {
        at: (usize, Part),
        from: u64,
        asked_at: u64,
    },
}

impl World {
    pub(crate) fn act(&mut self, action: Action, workload: &Workload) {
        match action {
            Action::Send => self.send(1, workload.body_bytes_max),
            Action::SendBatch => self.send(10, workload.body_bytes_max),
            Action::Demand => self.demand_by_draw(false),
            Action::Drain => self.demand_by_draw(true),
            Action::Settle => self.settle_by_draw(),
            Action::SettleStale => self.settle_stale(),
            Action::Renew => self.renew(),
            Action::Browse => self.browse(),
            Action::CloseReceiver => self.close_receiver(),
            Action::OpenReceiver => {
                let open = self.receivers.iter().filter(|receiver| receiver.is_open).count();
                if open < workload.receivers * 2 {
                    self.open_receiver();
                }
            }
            Action::Sync => self.sync(),
            Action::Wait => self.wait(200),
            Action::WaitLong => self.wait(LOCK.0 + 1),
        }
    }

    pub(crate) fn ask(&mut self, asked: Asked) -> Origin {
        self.next_ask += 1;
        self.asked.insert(self.next_ask, asked);
        Origin { connection: self.starts, link: 0, delivery: self.next_ask }
    }

    fn draw_queue(&mut self) -> usize {
        self.draws.index(self.queues as u64)
    }

    fn send(&mut self, count: u64, bytes_max: u64) {
        let queue = self.draw_queue();
        let entity = self.entities[&(queue, Part::Main)];
        let mut bodies = Vec::new();
        let mut messages = SmallVec::new();
        for _ in 0..count {
            self.next_body += 1;
            messages.push(message(self.next_body, self.draws.index(bytes_max)));
            bodies.push(self.next_body);
        }
        self.model.sent(self.now, &bodies, queue);
        let origin = self.ask(Asked::Send(bodies));
        self.handle(Command::Send { origin, entity, messages, transaction: None });
    }

    fn demand_by_draw(&mut self, is_drain: bool) {
        if !self.receivers.is_empty() {
            let index = self.draws.index(self.receivers.len() as u64);
            let more = self.draws.below(8);
            self.demand(index, more, is_drain);
        }
    }

    pub(crate) fn demand(&mut self, index: usize, more: u64, is_drain: bool) {
        let receiver = &mut self.receivers[index];
        receiver.limit = receiver.delivered + more;
        receiver.limit_max = receiver.limit_max.max(receiver.limit);
        let (id, limit) = (receiver.id, receiver.limit);
        self.handle(if is_drain {
            Command::Drain { receiver: id, limit }
        } else {
            Command::Demand { receiver: id, limit }
        });
    }

    fn settle_by_draw(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let index = self.draws.index(self.held.len() as u64);
        let held = self.held.swap_remove(index);
        let wish = match self.draws.below(10) {
            0..=4 => Wish::Complete,
            5 | 6 => Wish::Abandon,
            7 | 8 => Wish::Release,
            _ => Wish::DeadLetter,
        };
        self.settle(held, wish);
    }

    pub(crate) fn settle(&mut self, held: Held, wish: Wish) {
        let asked = if !self.model.holds(self.now, held.body, held.token) {
            Asked::Stale
        } else if wish == Wish::DeadLetter && held.part == Part::DeadLetter {
            self.held.push(held);
            Asked::NotAllowed
        } else {
            self.model.asked(self.now, held.body, wish);
            Asked::Settle(held, wish)
        };
        self.settle_as(asked, held, wish);
    }

    fn settle_as(&mut self, asked: Asked, held: Held, wish: Wish) {
        let changes = Vec::new();
        let settlement = match wish {
            Wish::Complete => Settlement::Complete,
            Wish::Abandon => Settlement::Abandon { changes },
            Wish::Release => Settlement::Release,
            Wish::DeadLetter => Settlement::DeadLetter { reason: None, description: None, changes },
        };
        let origin = Some(self.ask(asked));
        let Held { entity, token, .. } = held;
        self.handle(Command::Settle { origin, entity, token, settlement, transaction: None });
    }

    /// A token from before a crash must do nothing.
    fn settle_stale(&mut self) {
        if let Some(held) = self.draws.pick(&self.lost) {
            self.settle_as(Asked::Stale, held, Wish::Complete);
        }
    }

    fn renew(&mut self) {
        let Some(held) = self.draws.pick(&self.held) else { return };
        let is_good = self.model.holds(self.now, held.body, held.token);
        let origin = self.ask(if is_good { Asked::Renew(held) } else { Asked::Stale });
        let (entity, tokens) = (held.entity, vec![held.token]);
        self.handle(Command::RenewLocks { origin, entity, tokens });
    }

    fn browse(&mut self) {
        let part = if self.draws.once_in(3) { Part::DeadLetter } else { Part::Main };
        let at = (self.draw_queue(), part);
        let from = self.draws.below(200);
        let asked_at = self.model.moment();
        let origin = self.ask(Asked::Browse { at, from, asked_at });
        let (entity, from) = (self.entities[&at], SequenceNumber(from));
        let (count_max, bytes_max) = (20, 1 << 20);
        self.handle(Command::Browse { origin, entity, from, count_max, bytes_max, session: None });
    }

    /// Receivers that want no lock come to the last queue only: a crash may take from it what was
    /// under way, and from the others nothing.
    pub(crate) fn open_receiver(&mut self) {
        let part = if self.draws.once_in(4) { Part::DeadLetter } else { Part::Main };
        let queue = self.draw_queue();
        let may_take = queue + 1 == self.queues && part == Part::Main;
        let mode = if may_take && self.draws.once_in(3) {
            self.model.may_take_from(queue);
            ReceiveMode::ReceiveAndDelete
        } else {
            ReceiveMode::PeekLock
        };
        self.open_receiver_at((queue, part), mode);
    }

    pub(crate) fn open_receiver_at(&mut self, at: (usize, Part), mode: ReceiveMode) {
        self.next_receiver += 1;
        let id = ReceiverId { connection: self.starts, link: self.next_receiver };
        let origin = self.ask(Asked::ReceiverOpened);
        self.handle(Command::OpenReceiver {
            origin,
            receiver: id,
            path: path(at),
            mode,
            session: None,
        });
        let (delivered, limit, limit_max, is_open) = (0, 0, 0, true);
        self.receivers.push(Receiver { id, at, mode, delivered, limit, limit_max, is_open });
    }

    fn close_receiver(&mut self) {
        let open: Vec<usize> =
            (0..self.receivers.len()).filter(|index| self.receivers[*index].is_open).collect();
        if 1 < open.len()
            && let Some(index) = self.draws.pick(&open)
        {
            let receiver = &mut self.receivers[index];
            receiver.is_open = false;
            let id = receiver.id;
            self.handle(Command::CloseReceiver { receiver: id });
        }
    }

    pub(crate) fn effect(&mut self, kind: EffectKind) {
        match kind {
            EffectKind::Reply { to, result } => self.reply(to, result),
            EffectKind::Deliver { receiver, delivery } => self.deliver(receiver, &delivery),
            EffectKind::Drained { .. } => self.model.seen.drained += 1,
            EffectKind::ReceiverClosed { error, .. } | EffectKind::EntityClosed { error, .. } => {
                panic!("a link was closed: {error}")
            }
            EffectKind::Read { read, request } => {
                self.model.seen.reads += 1;
                self.reads.push_back((read, request));
            }
        }
    }

    fn deliver(&mut self, receiver: ReceiverId, delivery: &Delivery) {
        let body = body_of(&delivery.message);
        let receiver = self.receivers.iter_mut().find(|one| one.id == receiver);
        let receiver = receiver.expect("deliveries go to receivers that were opened");
        receiver.delivered += 1;
        assert!(receiver.delivered <= receiver.limit_max, "more was delivered than asked for");
        let is_locked = receiver.mode == ReceiveMode::PeekLock;
        assert_eq!(delivery.lock.is_some(), is_locked, "a lock is for who wants one");
        let at = receiver.at;
        let lock = delivery.lock.map(|lock| (lock.token, lock.until.0));
        let (sequence, attempts) = (delivery.sequence.0, delivery.attempts);
        self.model.delivered(self.now, &Delivered { body, at, sequence, attempts, lock });
        if let Some((token, _)) = lock {
            self.held.push(Held { body, entity: delivery.entity, part: at.1, token });
        }
    }

    fn reply(&mut self, to: Origin, result: Result<Reply, Error>) {
        let asked = self.asked.remove(&to.delivery).expect("a question is answered once");
        match (asked, result) {
            (Asked::Entity(at), Ok(Reply::ManagementOpened { entity, .. })) => {
                self.entities.insert(at, entity);
            }
            (Asked::ReceiverOpened, Ok(Reply::ReceiverOpened { .. }))
            | (Asked::NotAllowed, Err(Error::NotAllowed(_))) => {}
            (Asked::Send(bodies), Ok(Reply::Accepted)) => {
                for body in bodies {
                    self.model.accepted(body);
                }
            }
            (Asked::Settle(held, wish), Ok(Reply::Settled)) => {
                self.model.settled(held.body, held.token, wish);
            }
            (Asked::Renew(held), Ok(Reply::Renewed { until })) => {
                self.model.renewed(held.body, held.token, until[0].0);
            }
            (Asked::Settle(held, _), Err(Error::MessageLockLost)) => {
                self.model.not_settled(self.now, held.body, held.token, true);
            }
            (Asked::Settle(held, _), Err(Error::StoreUnavailable)) => {
                self.model.seen.refused_as_unavailable += 1;
                if self.model.not_settled(self.now, held.body, held.token, false) {
                    self.held.push(held);
                }
            }
            (Asked::Stale, Err(Error::MessageLockLost)) => self.model.seen.lock_lost += 1,
            (Asked::Browse { .. }, Err(Error::StoreUnavailable)) => {
                self.model.seen.refused_as_unavailable += 1;
            }
            (Asked::Browse { at, from, asked_at }, Ok(Reply::Browsed { messages })) => {
                let mut least = from;
                for message in messages {
                    let sequence = message.sequence.0;
                    assert!(least <= sequence, "browsing went back from {least} to {sequence}");
                    least = sequence + 1;
                    let body = body_of(&message.message);
                    self.model.browsed(self.now, body, at, sequence, asked_at);
                }
            }
            (_, Ok(reply)) => panic!("an answer that cannot be: {reply:?}"),
            (_, Err(error)) => panic!("a refusal that cannot be: {error}"),
        }
    }

    /// A lie for the model: a client was told that its message is completed, and nobody asked. Says
    /// whether a client held one.
    pub(crate) fn pretend_a_completion(&mut self) -> bool {
        let is_good = |held: &&Held| self.model.holds(self.now, held.body, held.token);
        let Some(held) = self.held.iter().find(is_good).copied() else { return false };
        self.model.settled(held.body, held.token, Wish::Complete);
        true
    }

    /// Another: a send was accepted, and nobody sent.
    pub(crate) fn pretend_a_send(&mut self) {
        self.next_body += 1;
        self.model.sent(self.now, &[self.next_body], 0);
        self.model.accepted(self.next_body);
    }
}

pub(crate) fn path((queue, part): (usize, Part)) -> EntityPath {
    let address = match part {
        Part::Main => format!("queue-{queue}"),
        Part::DeadLetter => format!("queue-{queue}/$DeadLetterQueue"),
    };
    EntityPath::parse(&address).expect("a well-formed address").path
}

/// A message whose body is its number and some filling.
fn message(body: Body, size: usize) -> IncomingMessage {
    let mut wire = BytesMut::new();
    wire.put_slice(&[0x00, 0x53, 0x75, 0xb0]);
    wire.put_u32(u32::try_from(size + 8).expect("bodies are small"));
    wire.put_u64(body);
    wire.put_bytes(0xAA, size);
    IncomingMessage::from_wire(&wire).expect("a well-formed message")
}

fn body_of(message: &StoredMessage) -> Body {
    let bytes = message.bytes();
    let section = &bytes[message.sections().body().expect("every message has a body")];
    Body::from_be_bytes(section[8..16].try_into().expect("eight octets"))
}
