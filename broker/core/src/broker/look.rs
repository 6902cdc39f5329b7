//! Showing messages to receivers that only look. Who has seen what is the queue's
//! (`queue/browsers.rs`).

use peeklock_storage::CommitPosition;

use super::read::Purpose;
use super::{Broker, Seat, queue_mut};
use crate::command::ReadRequest;
use crate::effect::{Delivery, EffectKind, MessageState, Reply};
use crate::entity::path::EntityPath;
use crate::error::Error;
use crate::filter::SqlFilter;
use crate::id::{EntityId, Origin, ReceiverId, SequenceNumber};
use crate::queue::browsers::{Look, View};

/// Messages looked at in one turn of a queue, so that a turn stays short; the rest follow at once.
const LOOKS_MAX: u64 = 1_024;

/// Who looks at messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Viewer {
    /// Somebody who asked once.
    Client(Asked),
    /// A receiver.
    Browser(Look),
    /// Those who watch the broker want to know how old the first message is.
    Watch { entity: EntityId, from: SequenceNumber },
}

/// What a client asked to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) entity: EntityId,
    pub(super) from: SequenceNumber,
    pub(super) count_max: u32,
    /// Octets of messages.
    pub(super) bytes_max: usize,
}

impl Broker {
    pub(super) fn open_browser(
        &mut self,
        receiver: ReceiverId,
        path: &EntityPath,
        selector: Option<Box<SqlFilter>>,
    ) -> Result<Reply, Error> {
        let entity = self.may_open_receiver(receiver, path)?;
        let queue = queue_mut(&mut self.queues, entity)
            .ok_or_else(|| Error::EntityNotFound(path.to_string()))?;
        queue.browsers.open(receiver, selector);
        let lock_duration = queue.settings().lock_duration;
        self.receivers.insert(receiver, (entity, Seat::Browser(receiver)));
        Ok(Reply::ReceiverOpened { entity, lock_duration, session: None })
    }

    /// Somebody who only looks did not get to see a message.
    pub(super) fn return_browsed(&mut self, receiver: ReceiverId, sequence: SequenceNumber) {
        if let Some((entity, Seat::Browser(receiver))) = self.receivers.get(&receiver).copied()
            && let Some(queue) = queue_mut(&mut self.queues, entity)
        {
            queue.browsers.give_back(receiver, sequence);
            self.wake(entity);
        }
    }

    /// Lets those who only look see what they have not seen yet.
    pub(super) fn serve_browsers(&mut self, entity: EntityId) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        if queue.browsers.len() == 0 {
            queue.browsers.again_at = None;
            return;
        }
        let enough = queue.browsers.looks + LOOKS_MAX;
        let bytes_max = self.settings.page_bytes_max;
        while let Some(queue) = queue_mut(&mut self.queues, entity) {
            let is_enough = enough <= queue.browsers.looks;
            queue.browsers.again_at = is_enough.then_some(self.now);
            if is_enough {
                return;
            }
            let Some(look) = queue.next_look() else { return };
            // Looking costs a little, whatever there is to see.
            queue.browsers.looks += 1;
            let Look { from, count_max, .. } = look;
            self.browse_active(Viewer::Browser(look), entity, from, count_max, bytes_max);
        }
    }

    /// Reads for somebody who looks. Many clients may do so at a time, and one browser of a queue.
    pub(super) fn read_to_look(&mut self, viewer: Viewer, request: ReadRequest, purpose: Purpose) {
        match viewer {
            Viewer::Client(asked) => {
                if let Err(error) = self.start_client_read(request, purpose) {
                    self.reply_at_once(asked.origin, Err(error));
                }
            }
            Viewer::Watch { .. } => self.start_read(request, purpose),
            Viewer::Browser(look) => {
                if let Some(queue) = queue_mut(&mut self.queues, look.entity) {
                    queue.browsers.begin_reading();
                }
                self.start_read(request, purpose);
            }
        }
    }

    /// Shows what there was, which waits for a commit.
    pub(super) fn show(
        &mut self,
        viewer: Viewer,
        after: CommitPosition,
        result: Result<View, Error>,
    ) {
        match viewer {
            Viewer::Client(asked) => {
                if let Ok(view) = &result
                    && view.messages.is_empty()
                    && self.has_more(asked, view.end)
                {
                    // Clients take an empty answer for the end of the queue.
                    return self.browse(Asked { from: view.end, ..asked });
                }
                let result = result.map(|view| Reply::Browsed { messages: view.messages });
                self.emit(after, EffectKind::Reply { to: asked.origin, result });
            }
            Viewer::Browser(look) => self.looked(look, after, result),
            Viewer::Watch { entity, from } => self.oldest_found(entity, from, result.ok()),
        }
    }

    /// Whether there may be messages behind those that were read, and are gone by now.
    fn has_more(&self, asked: Asked, read_to: SequenceNumber) -> bool {
        asked.from < read_to
            && self.queue(asked.entity).is_ok_and(|queue| read_to < queue.next_sequence())
    }

    fn looked(&mut self, look: Look, after: CommitPosition, result: Result<View, Error>) {
        let Look { entity, receiver, .. } = look;
        let now = self.now;
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let was_reading = queue.browsers.end_look();
        match result {
            Ok(view) => {
                let given = queue.show(look, view, after, now);
                if !given.is_empty() {
                    queue.accessed_at = now;
                }
                for (browsed, after) in given {
                    let delivery = Delivery {
                        entity,
                        sequence: browsed.sequence,
                        message: browsed.message,
                        attempts: browsed.attempts,
                        lock: None,
                        application_properties: browsed.application_properties,
                        state: MessageState::Active,
                        dead_letter_source: browsed.dead_letter_source,
                    };
                    self.emit(after, EffectKind::Deliver { receiver, delivery });
                }
            }
            Err(_) => self.retry_reads(entity),
        }
        if was_reading {
            self.wake(entity);
        }
    }

    pub(super) fn answer_drained_browsers(&mut self, entity: EntityId) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        for (receiver, after) in queue.take_drained_browsers() {
            self.emit(after, EffectKind::Drained { receiver });
        }
    }
}
