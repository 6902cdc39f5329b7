//! Messages on their way, each with an outcome to come. Only what the broker has accepted counts as
//! sent; after the first refusal nothing more goes out, and what is on its way is waited for.

use std::collections::VecDeque;

use bytes::Bytes;
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery::DeliveryId;
use peeklock_protocol::delivery_state::DeliveryState;

use super::failure::Failure;
use super::messaging::{IN_FLIGHT, Messaging, verdict};

/// Numbers that a complaint names.
const NAMED_MAX: usize = 10;

/// See the module.
pub(super) struct Outbox {
    link: LinkId,
    /// With the numbers by which people know them.
    pending: VecDeque<(u64, DeliveryId)>,
    accepted: u64,
    refused: Vec<u64>,
    /// Why the first of those was.
    why: Option<Failure>,
    /// Nothing more will be heard.
    is_lost: bool,
}

impl Outbox {
    pub(super) const fn new(link: LinkId) -> Self {
        Self {
            link,
            pending: VecDeque::new(),
            accepted: 0,
            refused: Vec::new(),
            why: None,
            is_lost: false,
        }
    }

    pub(super) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Whether the broker has refused any.
    pub(super) const fn is_refused(&self) -> bool {
        self.why.is_some()
    }

    /// Waits for what is to be sent next, and serves the connection meanwhile; none if the broker
    /// refuses a message before.
    pub(super) async fn next<T>(
        &mut self,
        messaging: &mut Messaging<'_>,
        input: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        let served = messaging.serve(input, |messaging| {
            self.look(messaging);
            self.is_refused()
        });
        let served = served.await;
        self.is_lost |= served.is_err();
        served
    }

    /// Sends a message; waits for another one before if many are on their way.
    pub(super) async fn send(
        &mut self,
        messaging: &mut Messaging<'_>,
        number: u64,
        message: Bytes,
    ) -> Result<(), Failure> {
        let sent = self.send_one(messaging, number, message).await;
        self.is_lost |= sent.is_err();
        sent
    }

    async fn send_one(
        &mut self,
        messaging: &mut Messaging<'_>,
        number: u64,
        message: Bytes,
    ) -> Result<(), Failure> {
        if IN_FLIGHT <= self.pending.len()
            && let Some((number, id)) = self.pending.front().copied()
        {
            let outcome = messaging.outcome(self.link, id).await?;
            self.pending.pop_front();
            self.count(number, outcome.as_ref());
        }
        self.look(messaging);
        if !self.is_refused() {
            let id = messaging.send(self.link, message, None).await?;
            self.pending.push_back((number, id));
        }
        Ok(())
    }

    /// Waits for all outcomes, and says what the sending has come to, which ended in some way itself.
    /// `noun` is what the numbers are of.
    pub(super) async fn finish(
        mut self,
        messaging: &mut Messaging<'_>,
        ended: Result<(), Failure>,
        noun: &str,
    ) -> Result<u64, Failure> {
        let mut ended = ended;
        while !self.is_lost
            && let Some((number, id)) = self.pending.front().copied()
        {
            match messaging.outcome(self.link, id).await {
                Ok(outcome) => {
                    self.pending.pop_front();
                    self.count(number, outcome.as_ref());
                }
                Err(failure) => {
                    self.is_lost = true;
                    ended = ended.and(Err(failure));
                }
            }
        }
        self.look(messaging);
        let more = self.state(noun);
        match ended.err().or(self.why) {
            None => Ok(self.accepted),
            Some(failure) => Err(failure.with(&more)),
        }
    }

    /// Takes the outcomes that are known.
    fn look(&mut self, messaging: &mut Messaging<'_>) {
        let mut waiting = VecDeque::with_capacity(self.pending.len());
        for (number, id) in std::mem::take(&mut self.pending) {
            match messaging.known_outcome(self.link, id) {
                Some(outcome) => self.count(number, outcome.as_ref()),
                None => waiting.push_back((number, id)),
            }
        }
        self.pending = waiting;
    }

    fn count(&mut self, number: u64, outcome: Option<&DeliveryState>) {
        match verdict(outcome) {
            Ok(()) => self.accepted += 1,
            Err(failure) => {
                self.refused.push(number);
                self.why.get_or_insert(failure);
            }
        }
    }

    /// How far it came, for a complaint.
    fn state(&self, noun: &str) -> String {
        let mut said = format!("sent before: {}", self.accepted);
        let unanswered: Vec<u64> = self.pending.iter().map(|(number, _)| *number).collect();
        for (what, numbers) in [("refused", &self.refused), ("without an answer", &unanswered)] {
            if !numbers.is_empty() {
                said = format!("{said}; {what}: {noun} {}", list(numbers));
            }
        }
        said
    }
}

fn list(numbers: &[u64]) -> String {
    let named: Vec<String> = numbers.iter().take(NAMED_MAX).map(u64::to_string).collect();
    let named = named.join(", ");
    match numbers.len().checked_sub(NAMED_MAX) {
        Some(more @ 1..) => format!("{named} and {more} more"),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_few_numbers() {
        assert_eq!(list(&[7]), "7");
        let numbers: Vec<u64> = (1..=12).collect();
        assert_eq!(list(&numbers), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
        assert_eq!(list(&numbers[..10]), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10");
    }
}
