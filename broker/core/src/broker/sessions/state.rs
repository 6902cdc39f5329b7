//! What applications keep with a session: a few octets, whether the session has messages or not.

use bytes::Bytes;

use super::super::read::Purpose;
use super::super::{Broker, queue_mut};
use crate::change::{Change, SessionChange};
use crate::command::{ReadRequest, ReadRows};
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, ReadId};
use crate::queue::sessions::{KnownState, NO_SESSIONS};
use crate::rows;

/// A state to be set, waiting until it is known what it replaces.
#[derive(Debug)]
pub(in crate::broker) struct StateWish {
    origin: Origin,
    state: Option<Bytes>,
}

/// Wishes that wait for one session's state at a time. More than one comes only from a client that
/// does not wait for answers.
const WISHES_MAX: usize = 64;

impl Broker {
    /// Sets or removes a state. What is there already has to be known, because it counts for the
    /// size of the entity; who sets a state twice is answered in order.
    pub(in crate::broker) fn set_session_state(
        &mut self,
        origin: Origin,
        entity: EntityId,
        session: MessageSessionId,
        state: Option<Bytes>,
    ) {
        let wish = StateWish { origin, state };
        if let Err(error) = self.start_set_state(entity, session, wish) {
            self.reply_at_once(origin, Err(error));
        }
    }

    fn start_set_state(
        &mut self,
        entity: EntityId,
        session: MessageSessionId,
        wish: StateWish,
    ) -> Result<(), Error> {
        let queue = self.receivable(entity)?;
        queue.session_held(self.now, &session)?;
        let sessions = queue.sessions.as_ref().ok_or(NO_SESSIONS)?;
        if let Some(read) = sessions.state_reads.get(&session).copied() {
            if let Some(Purpose::SetState { wishes, .. }) = self.reads.get_mut(&read) {
                if WISHES_MAX <= wishes.len() {
                    return Err(Error::ServerBusy("The state of the session is being set."));
                }
                wishes.push(wish);
            }
            return Ok(());
        }
        let slot = sessions.slot(&session).ok_or(Error::SessionLockLost)?;
        if let KnownState::Bytes(bytes_before) = sessions.record(slot).state {
            self.replace_state(entity, session, wish, bytes_before);
            return Ok(());
        }
        let key = rows::session_state_key(entity, &session);
        let request = ReadRequest { scans: Vec::new(), gets: vec![(rows::SESSION_TABLE, key)] };
        let read = ReadId(self.next_read);
        let wishes = vec![wish];
        let purpose = Purpose::SetState { entity, session: session.clone(), wishes };
        self.start_client_read(request, purpose)?;
        if let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(sessions) = &mut queue.sessions
        {
            sessions.state_reads.insert(session, read);
        }
        Ok(())
    }

    /// The state that is there is known, or is not (if reading failed).
    pub(in crate::broker) fn state_known(
        &mut self,
        entity: EntityId,
        session: &MessageSessionId,
        wishes: Vec<StateWish>,
        rows: Option<ReadRows>,
    ) {
        if let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(sessions) = &mut queue.sessions
        {
            sessions.state_reads.remove(session);
        }
        let Some(rows) = rows else {
            for wish in wishes {
                self.reply_at_once(wish.origin, Err(Error::StoreUnavailable));
            }
            return;
        };
        let row = rows.gets.into_iter().next().flatten();
        let mut bytes = row.and_then(|row| rows::read_session_state(&row)).map(|row| row.bytes);
        for wish in wishes {
            let is_held =
                self.receivable(entity).and_then(|queue| queue.session_held(self.now, session));
            match is_held {
                Ok(()) => bytes = self.replace_state(entity, session.clone(), wish, bytes),
                Err(error) => self.reply_at_once(wish.origin, Err(error)),
            }
        }
    }

    /// Decides, answers, and says how many octets the state has then.
    fn replace_state(
        &mut self,
        entity: EntityId,
        session: MessageSessionId,
        wish: StateWish,
        bytes_before: Option<u64>,
    ) -> Option<u64> {
        let StateWish { origin, state } = wish;
        let bytes = state.as_ref().map(|state| state.len() as u64);
        if let Err(error) = self.may_keep_state(entity, bytes, bytes_before) {
            self.reply_at_once(origin, Err(error));
            return bytes_before;
        }
        let at = self.now;
        let change = SessionChange::StateSet { state, bytes_before, at };
        self.commit(&Change::OfSession { entity, session, change });
        self.reply_after_commit(origin, Ok(Reply::SessionStateSet));
        bytes
    }

    fn may_keep_state(
        &self,
        entity: EntityId,
        bytes: Option<u64>,
        bytes_before: Option<u64>,
    ) -> Result<(), Error> {
        let (size, before) = (bytes.unwrap_or(0), bytes_before.unwrap_or(0));
        let queue = self.queue(entity)?;
        let settings = queue.settings();
        let path = || queue.definition.path.to_string();
        if settings.message_bytes_max < size {
            return Err(Error::MessageTooLarge {
                size,
                limit: settings.message_bytes_max,
                path: path(),
            });
        }
        let held = self.held_bytes(queue.entities())?;
        let limit = settings.entity_bytes_max;
        // What makes the entity smaller is always welcome.
        if before < size && limit < held.saturating_add(size - before) {
            return Err(Error::EntityFull { path: path(), size: held, limit });
        }
        Ok(())
    }

    pub(in crate::broker) fn session_state(
        &mut self,
        origin: Origin,
        entity: EntityId,
        session: &MessageSessionId,
    ) {
        let is_held =
            self.receivable(entity).and_then(|queue| queue.session_held(self.now, session));
        let key = rows::session_octets_key(entity, session);
        let request = ReadRequest { scans: Vec::new(), gets: vec![(rows::SESSION_TABLE, key)] };
        let started = is_held
            .and_then(|()| self.start_client_read(request, Purpose::SessionState { origin }));
        if let Err(error) = started {
            self.reply_at_once(origin, Err(error));
        }
    }

    pub(in crate::broker) fn session_state_done(&mut self, origin: Origin, rows: ReadRows) {
        let state = rows.gets.into_iter().next().flatten();
        self.reply_at_once(origin, Ok(Reply::SessionState { state }));
    }
}
