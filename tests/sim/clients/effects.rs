//! Effects: what they mean when they are decided, and what clients do when they hear of them.

use peeklock_core::{
    Browsed, Delivery, EffectKind, Error, MessageState, Origin, ReceiverId, Reply, StoredMessage,
};

use super::{Asked, Decided, Held, Receiver, Standing, Then, Wanted, message};
use crate::model::{At, Body, Delivered, Enlisted, Part, Receipt, Shelf, Shown, Wish};
use crate::world::World;

impl Decided {
    pub(super) const fn new(then: Then) -> Self {
        Self { receipts: Vec::new(), then }
    }
}

impl World {
    /// The broker decided something. Nobody but the model knows yet.
    pub(crate) fn decided(&mut self, kind: EffectKind) -> Decided {
        match kind {
            EffectKind::Reply { to, result } => self.replied(to, result),
            EffectKind::Deliver { receiver, delivery } => self.delivered(receiver, &delivery),
            EffectKind::Drained { receiver } => {
                let receiver = self.receiver(receiver);
                // Of a drain that was taken back meanwhile nothing is known.
                let is_hungry = receiver.drain_limit.is_some_and(|limit| receiver.given < limit);
                let (at, session) = (receiver.at, receiver.session);
                // With small windows locked messages keep others out, and a failed read does not
                // keep a client waiting.
                let is_hungry = is_hungry && self.everything_is_in_memory();
                self.model.drained(at, session, is_hungry);
                Decided::new(Then::Nothing)
            }
            EffectKind::ReceiverClosed { receiver, error: Error::EntityNotFound(path) } => {
                let at = self.receiver(receiver).at;
                assert!(self.is_fleeting(at.0), "{path} was closed");
                Decided::new(Then::Closed(receiver))
            }
            EffectKind::ReceiverClosed { receiver, error } => {
                assert_eq!(error, Error::SessionLockLost, "a link was closed");
                self.model.session_lost(receiver.link);
                Decided::new(Then::Closed(receiver))
            }
            EffectKind::EntityClosed { entity, .. } => {
                self.check_closed(entity);
                Decided::new(Then::Nothing)
            }
            // The simulated clients ask for no tokens.
            EffectKind::AccessChanged { .. } => Decided::new(Then::Nothing),
            EffectKind::Read { read, request } => {
                self.model.seen.reads += 1;
                Decided::new(Then::Read(read, request))
            }
        }
    }

    pub(super) fn receiver(&mut self, id: ReceiverId) -> &mut Receiver {
        let receiver = self.receivers.iter_mut().find(|one| one.id == id);
        receiver.unwrap_or_else(|| panic!("nobody opened {id:?}"))
    }

    fn receipts(&self, bodies: &[Body]) -> Vec<Receipt> {
        self.model.with_copies(bodies).iter().map(|body| self.model.receipt(*body)).collect()
    }

    fn shown(
        &self,
        at: At,
        message: &StoredMessage,
        (number, attempts): (u64, u32),
        state: MessageState,
        source: Option<&str>,
        properties: Option<&[u8]>,
    ) -> Shown {
        let properties = properties
            .or(message.application_properties())
            .map(|octets| String::from_utf8_lossy(octets).into_owned())
            .unwrap_or_default();
        Shown {
            body: self.model.seen_as(message::body_of(message), at, &properties),
            at,
            shelf: match state {
                MessageState::Active => Shelf::Active,
                MessageState::Deferred => Shelf::Deferred,
                MessageState::Scheduled => Shelf::Scheduled,
            },
            number,
            attempts,
            enqueued: message.enqueued_at().0,
            taken_in_as: message.enqueue_sequence().0,
            source: source.map(|path| {
                let number = path.rsplit('-').next().and_then(|number| number.parse().ok());
                number.unwrap_or_else(|| panic!("no queue has the path {path}"))
            }),
            properties,
        }
    }

    fn delivery_shown(&self, at: At, delivery: &Delivery) -> Shown {
        self.shown(
            at,
            &delivery.message,
            (delivery.sequence.0, delivery.attempts),
            delivery.state,
            delivery.dead_letter_source.as_deref(),
            delivery.application_properties.as_deref(),
        )
    }

    fn browsed_shown(&self, at: At, browsed: &Browsed) -> Shown {
        self.shown(
            at,
            &browsed.message,
            (browsed.sequence.0, browsed.attempts),
            browsed.state,
            browsed.dead_letter_source.as_deref(),
            browsed.application_properties.as_deref(),
        )
    }

    fn delivered(&mut self, receiver: ReceiverId, delivery: &Delivery) -> Decided {
        let receiver = self.receiver(receiver);
        receiver.given += 1;
        assert!(receiver.given <= receiver.limit_max, "more was delivered than asked for");
        assert_ne!(receiver.standing, Standing::Closed, "a closed receiver was given a message");
        let is_locked = receiver.mode == peeklock_core::ReceiveMode::PeekLock;
        assert_eq!(delivery.lock.is_some(), is_locked, "a lock is for who wants one");
        let (at, session) = (receiver.at, receiver.session);
        let shown = self.delivery_shown(at, delivery);
        let body = shown.body;
        let lock = delivery.lock.map(|lock| (lock.token, lock.until.0));
        self.model.delivered(&Delivered { shown, lock, session });
        let entity = delivery.entity;
        let held = lock.map(|(token, _)| Held { body, entity, at, token, session });
        Decided { receipts: self.receipts(&[body]), then: Then::Hold(held.into_iter().collect()) }
    }

    fn replied(&mut self, to: Origin, result: Result<Reply, Error>) -> Decided {
        let asked = self.asked.remove(&to.delivery).expect("a question is answered once");
        match result {
            Ok(reply) => self.granted(asked, reply),
            Err(error) => self.refused(asked, error),
        }
    }

    fn granted(&mut self, asked: Asked, reply: Reply) -> Decided {
        match (asked, reply) {
            (Asked::Entity(at), Reply::ManagementOpened { entity, .. }) => {
                Decided::new(Then::Know(at, entity))
            }
            (Asked::Receiver(id), Reply::ReceiverOpened { session, .. }) => {
                let receiver = self.receiver(id);
                assert_ne!(receiver.standing, Standing::Closed, "a receiver that left was opened");
                let named = match receiver.wanted {
                    Wanted::NoSession => {
                        assert_eq!(session, None, "nobody asked for a session");
                        return Decided::new(Then::Opened(id));
                    }
                    Wanted::Session(named) => Some(named),
                    Wanted::NextSession(_) => None,
                };
                let lock = session.expect("a session was asked for");
                let session = message::session_number(lock.session.as_str());
                receiver.session = Some(session);
                let queue = receiver.at.0;
                self.model.session_opened(id.link, (queue, session), named, lock.until.0);
                Decided::new(Then::Opened(id))
            }
            (Asked::Send(bodies, None), Reply::Accepted) => {
                self.model.accepted(&bodies);
                Decided { receipts: self.receipts(&bodies), then: Then::Nothing }
            }
            (Asked::Send(bodies, Some(transaction)), Reply::Enlisted) => {
                self.model.enlisted(transaction, Enlisted::Sends(bodies));
                Decided::new(Then::Nothing)
            }
            (Asked::Schedule(bodies, transaction), Reply::Scheduled { sequences }) => {
                let numbers: Vec<u64> = sequences.iter().map(|number| number.0).collect();
                assert_eq!(bodies.len(), numbers.len(), "a number for each message");
                let queue = self.model.sent_to(bodies[0]);
                let named = bodies.iter().copied().zip(numbers.iter().copied()).collect();
                let then = Then::Scheduled(queue, named);
                if let Some(transaction) = transaction {
                    self.model.enlisted(transaction, Enlisted::Schedules(bodies, numbers));
                    return Decided::new(then);
                }
                self.model.scheduled(&bodies, &numbers);
                Decided { receipts: self.receipts(&bodies), then }
            }
            (Asked::Cancel(queue, wanted, _), Reply::ScheduledCancelled) => {
                self.model.cancelled(queue, &wanted);
                let bodies: Vec<Body> = wanted.iter().map(|(body, _)| *body).collect();
                Decided { receipts: self.receipts(&bodies), then: Then::Nothing }
            }
            (Asked::Settle(several, wish, None), Reply::Settled) => {
                let mut receipts = Vec::new();
                let mut deferred = None;
                for held in several {
                    self.model.settled(held.body, held.token, wish);
                    receipts.push(self.model.receipt(held.body));
                    deferred = Some(held);
                }
                let then = match deferred.filter(|_| wish == Wish::Defer) {
                    Some(held) => Then::Deferred(held),
                    None => Then::Nothing,
                };
                Decided { receipts, then }
            }
            (Asked::Settle(several, wish, Some(transaction)), Reply::Enlisted) => {
                for held in &several {
                    let what = Enlisted::Settlement(held.body, held.token, wish);
                    self.model.enlisted(transaction, what);
                }
                Decided::new(Then::Enlisted(transaction, several))
            }
            (Asked::Renew(held), Reply::Renewed { until }) => {
                self.model.renewed(held.body, held.token, until[0].0);
                Decided::new(Then::Nothing)
            }
            (Asked::Browse(browse), Reply::Browsed { messages }) => {
                let shown: Vec<Shown> =
                    messages.iter().map(|one| self.browsed_shown(browse.at, one)).collect();
                self.model.browsed(&browse, &shown);
                let unmoved = shown
                    .iter()
                    .map(|shown| shown.body)
                    .filter(|body| self.model.is_unmoved(*body, browse.asked_in));
                let receipts = unmoved.map(|body| self.model.receipt_of_a_look(body)).collect();
                Decided { receipts, then: Then::Nothing }
            }
            (Asked::DeleteBatch(at, count_max), Reply::BatchDeleted { count }) => {
                self.model.deleted(at, (count_max, count));
                Decided::new(Then::Deleted(at, count))
            }
            (Asked::Describe(queue), Reply::QueueDescribed(description)) => {
                self.model.described(queue, &description.counts);
                Decided::new(Then::Nothing)
            }
            (Asked::Fetch { at, wanted, session, .. }, Reply::DeferredReceived { deliveries }) => {
                self.fetched(at, &wanted, session, &deliveries)
            }
            (Asked::RenewSession(queue, session), Reply::SessionRenewed { until }) => {
                self.model.session_renewed(queue, session, until.0);
                Decided::new(Then::Nothing)
            }
            (Asked::SetState(queue, session, state), Reply::SessionStateSet) => {
                self.model.state_set(queue, session, state);
                let receipts = vec![self.model.session_receipt(queue, session)];
                Decided { receipts, then: Then::Nothing }
            }
            (Asked::GetState(queue, session, asked), Reply::SessionState { state }) => {
                self.model.state_got(queue, session, asked, state.as_ref());
                let receipts = self.model.session_receipt_since(queue, session, asked.0);
                let receipts = receipts.into_iter().collect();
                Decided { receipts, then: Then::Nothing }
            }
            (Asked::List(listing), Reply::Sessions { sessions, .. }) => {
                let names = sessions.iter().map(peeklock_core::MessageSessionId::as_str);
                let names: Vec<&str> = names.collect();
                assert!(names.is_sorted_by(|a, b| a < b), "sessions are not in order: {names:?}");
                let sessions: Vec<u64> = names.into_iter().map(message::session_number).collect();
                self.model.listed(&listing, &sessions);
                Decided::new(Then::Nothing)
            }
            (asked, Reply::OfTopic(reply)) => self.answered_of_topic(asked, reply),
            (Asked::Declare, Reply::Declared { transaction }) => {
                self.model.declared(transaction.0);
                Decided::new(Then::Transaction(transaction.0))
            }
            (Asked::Discharge { transaction, fail }, Reply::Discharged) => {
                let touched = self.model.discharged(transaction, fail);
                let then =
                    if fail { Then::RolledBack(transaction) } else { Then::Ended(transaction) };
                Decided { receipts: self.receipts(&touched), then }
            }
            (asked, reply) => panic!("an answer that cannot be: {reply:?} to {asked:?}"),
        }
    }

    fn fetched(
        &mut self,
        at: At,
        wanted: &[(Body, u64)],
        session: Option<u64>,
        deliveries: &[Delivery],
    ) -> Decided {
        let numbers = |delivery: &Delivery| delivery.sequence.0;
        let given: Vec<u64> = deliveries.iter().map(numbers).collect();
        let asked: Vec<u64> = wanted.iter().map(|(_, number)| *number).collect();
        assert_eq!(given, asked, "other messages were fetched than were asked for");
        let mut held = Vec::new();
        let mut receipts = Vec::new();
        for delivery in deliveries {
            let shown = self.delivery_shown(at, delivery);
            let body = shown.body;
            let lock = delivery.lock.map(|lock| (lock.token, lock.until.0));
            self.model.fetched(&Delivered { shown, lock, session });
            receipts.push(self.model.receipt(body));
            let session = session.filter(|_| at.1 == Part::Main);
            let entity = delivery.entity;
            held.extend(lock.map(|(token, _)| Held { body, entity, at, token, session }));
        }
        Decided { receipts, then: Then::Hold(held) }
    }

    fn refused(&mut self, asked: Asked, error: Error) -> Decided {
        if error == Error::StoreUnavailable {
            return self.unavailable(asked);
        }
        let is_lost = matches!(error, Error::MessageLockLost | Error::SessionLockLost);
        let is_unknown = matches!(error, Error::TransactionUnknown | Error::TransactionTimeout);
        match (asked, error) {
            (Asked::Settle(several, _, None), _) if is_lost => {
                if let [held] = several.as_slice() {
                    self.model.lock_lost(held.body, held.token);
                    return Decided::new(Then::Nothing);
                }
                let good: Vec<Held> = several
                    .iter()
                    .copied()
                    .filter(|held| self.model.holds(held.body, held.token))
                    .collect();
                assert_ne!(good.len(), several.len(), "none of {several:?} is lost");
                Decided::new(Then::Hold(good))
            }
            (Asked::Settle(several, _, Some(transaction)), _) if is_lost => {
                let held = several[0];
                self.model.lock_lost_to(held.body, held.token, transaction);
                Decided::new(Then::Nothing)
            }
            (Asked::Settle(several, _, transaction), _) if is_unknown => {
                self.model.not_open(transaction);
                Decided::new(Then::Hold(several))
            }
            (Asked::Send(_, transaction) | Asked::Schedule(_, transaction), _) if is_unknown => {
                self.model.not_open(transaction);
                Decided::new(Then::Nothing)
            }
            (Asked::Settle(several, wish, _), Error::NotAllowed(_)) => {
                let is_forbidden = |held: &Held| self.model.may_be_forbidden(held.body, wish);
                assert!(several.iter().any(is_forbidden), "{wish:?} of {several:?} is allowed");
                let is_free = |held: &Held| self.model.holds(held.body, held.token);
                Decided::new(Then::Hold(several.into_iter().filter(is_free).collect()))
            }
            (Asked::Renew(held), _) if is_lost => {
                self.model.lock_lost(held.body, held.token);
                Decided::new(Then::Nothing)
            }
            (asked, Error::EntityNotFound(path)) => self.not_there(&asked, &path),
            (Asked::Stale, _) if is_lost || is_unknown => {
                self.model.seen.stale_refused += 1;
                Decided::new(Then::Nothing)
            }
            (Asked::Receiver(id), Error::SessionCannotBeLocked(_)) => {
                let receiver = self.receiver(id);
                let (at, wanted) = (receiver.at, receiver.wanted);
                let Wanted::Session(session) = wanted else {
                    panic!("{wanted:?} of {at:?} cannot be locked")
                };
                self.model.session_refused(at.0, session);
                Decided::new(Then::Closed(id))
            }
            (Asked::Receiver(id), Error::Timeout(_)) => {
                let receiver = self.receiver(id);
                let (at, wanted, asked) = (receiver.at, receiver.wanted, receiver.asked);
                let Wanted::NextSession(until) = wanted else {
                    panic!("{wanted:?} of {at:?} timed out")
                };
                // Reading may take all of the time.
                let (since, asked_in) = if self.everything_is_in_memory() { asked } else { (0, 0) };
                self.model.session_timed_out(at.0, (since, until), asked_in);
                Decided::new(Then::Closed(id))
            }
            (Asked::Cancel(_, wanted, could_be), Error::MessageNotFound(_)) => {
                self.model.not_cancelled(&wanted, could_be);
                Decided::new(Then::Nothing)
            }
            (Asked::Fetch { at, wanted, was, .. }, Error::MessageNotFound(_)) => {
                self.model.not_fetched(&wanted, at, was);
                Decided::new(Then::Nothing)
            }
            (
                Asked::Fetch { at: (queue, _), session: Some(session), .. }
                | Asked::RenewSession(queue, session)
                | Asked::SetState(queue, session, _)
                | Asked::GetState(queue, session, _),
                Error::SessionLockLost,
            ) => {
                self.model.session_lock_lost(queue, session);
                Decided::new(Then::Nothing)
            }
            (asked @ Asked::Discharge { .. }, Error::TransactionRolledBack(why))
                if why == Error::StoreUnavailable.to_string() =>
            {
                self.unavailable(asked)
            }
            (Asked::Discharge { transaction, .. }, Error::TransactionRolledBack(why)) => {
                self.model.not_committed(transaction, &why);
                Decided::new(Then::RolledBack(transaction))
            }
            (Asked::Discharge { transaction, .. }, _) if is_unknown => {
                self.model.not_open(Some(transaction));
                Decided::new(Then::RolledBack(transaction))
            }
            (asked, error) => panic!("a refusal that cannot be: {error} to {asked:?}"),
        }
    }

    /// The store did not answer. The client may try again.
    fn unavailable(&mut self, asked: Asked) -> Decided {
        self.model.seen.refused_as_unavailable += 1;
        assert!(!self.nothing_goes_wrong(), "reads do not fail here: {asked:?}");
        match asked {
            Asked::Settle(several, ..) => {
                let good = several.into_iter();
                let good = good.filter(|held| self.model.holds(held.body, held.token));
                Decided::new(Then::Hold(good.collect()))
            }
            Asked::Receiver(id) => Decided::new(Then::Closed(id)),
            Asked::DeleteBatch(at, count_max) => {
                self.model.deleted(at, (count_max, 0));
                Decided::new(Then::Nothing)
            }
            Asked::Discharge { transaction, .. } => {
                self.model.commit_failed(transaction);
                Decided::new(Then::RolledBack(transaction))
            }
            _ => Decided::new(Then::Nothing),
        }
    }

    /// An effect reaches those whom it concerns.
    pub(crate) fn let_out(&mut self, decided: Decided) {
        for receipt in decided.receipts {
            self.model.told(receipt);
        }
        match decided.then {
            Then::Nothing => {}
            Then::Know(at, entity) => {
                if !self.is_gone(at.0) {
                    self.entities.insert(at, entity);
                }
            }
            Then::Made(queue) => self.learn(queue),
            Then::Hold(held) => self.held.extend(held),
            Then::Opened(id) => {
                let receiver = self.receiver(id);
                if receiver.standing == Standing::Opening {
                    receiver.standing = Standing::Open;
                }
            }
            Then::Closed(id) => self.receiver(id).standing = Standing::Closed,
            Then::Scheduled(queue, named) => {
                let named = named.into_iter().map(|(body, number)| (queue, body, number));
                self.scheduled.extend(named);
                self.scheduled.drain(..self.scheduled.len().saturating_sub(40));
            }
            Then::Deferred(held) => {
                if let Some(number) = self.model.number_of(held.body) {
                    self.deferred.push((held.body, held.at, number, held.session));
                    self.deferred.drain(..self.deferred.len().saturating_sub(40));
                }
            }
            Then::Deleted(at, count) => self.model.told_of_deletion(at, count),
            Then::Transaction(transaction) => self.open_transactions.push(transaction),
            Then::Enlisted(transaction, held) => {
                self.enlisted.entry(transaction).or_default().extend(held);
            }
            Then::RolledBack(transaction) => {
                self.held.extend(self.enlisted.remove(&transaction).into_iter().flatten());
                self.ended_transactions.push((self.starts, transaction));
            }
            Then::Ended(transaction) => {
                self.enlisted.remove(&transaction);
                self.ended_transactions.push((self.starts, transaction));
            }
            Then::Read(read, request) => self.reads.push_back((read, request)),
        }
    }
}
