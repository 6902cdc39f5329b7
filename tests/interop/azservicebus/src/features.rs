//! Message sessions, schedules, deferral, duplicates and lifetimes.

use std::time::Duration;

use azservicebus::primitives::service_bus_message_state::ServiceBusMessageState;
use azservicebus::receiver::DeadLetterOptions;
use azservicebus::{
    ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusReceiver, ServiceBusSessionReceiver,
    ServiceBusSessionReceiverOptions,
};
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::{
    ANSWER, Broker, Client, EMPTY, Result, bodies, expect, expect_error, one, queue_of, seen, take,
    text,
};

type Labelled = (String, ServiceBusMessageState);

impl Client {
    async fn send_in(&mut self, queue: &str, messages: &[(&str, &str)]) -> Result {
        let mut sender = self.sender(queue).await?;
        for (session, body) in messages {
            let mut message = ServiceBusMessage::new(*body);
            message.set_session_id((*session).to_owned())?;
            sender.send_message(message).await?;
        }
        sender.dispose().await?;
        Ok(())
    }

    async fn session(&mut self, queue: &str, name: &str) -> Result<ServiceBusSessionReceiver> {
        let options = ServiceBusSessionReceiverOptions::default();
        Ok(self.inner.accept_session_for_queue(queue, name, options).await?)
    }

    async fn next_session(&mut self, queue: &str) -> Result<ServiceBusSessionReceiver> {
        let options = ServiceBusSessionReceiverOptions::default();
        Ok(self.inner.accept_next_session_for_queue(queue, options).await?)
    }

    async fn expect_empty_session(&mut self, queue: &str, name: &str) -> Result {
        let mut receiver = self.session(queue, name).await?;
        let left = receiver.receive_messages_with_max_wait_time(10, EMPTY).await?;
        expect(bodies(&left)?, Vec::new(), "messages left")?;
        receiver.dispose().await?;
        Ok(())
    }
}

async fn one_of(receiver: &mut ServiceBusSessionReceiver) -> Result<ServiceBusReceivedMessage> {
    Ok(receiver.receive_message_with_max_wait_time(ANSWER).await?.ok_or("no message")?)
}

pub(crate) async fn session_named(broker: Broker) -> Result {
    let queue = queue_of("session-named");
    let mut client = broker.connect().await?;
    client.send_in(&queue, &[("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")]).await?;
    let mut receiver = client.session(&queue, "b").await?;
    for wanted in ["b1", "b2"] {
        let message = one_of(&mut receiver).await?;
        expect(message.session_id(), Some("b"), "session")?;
        expect(text(&message)?.as_str(), wanted, "body")?;
        receiver.complete_message(&message).await?;
    }
    let more = receiver.receive_messages_with_max_wait_time(1, EMPTY).await?;
    expect(more.len(), 0, "messages of other sessions")?;
    let mut other = broker.connect().await?;
    expect_error(other.session(&queue, "b").await, &["session-cannot-be-locked"], "a locked one")?;
    receiver.dispose().await?;
    let mut receiver = client.session(&queue, "a").await?;
    let message = one_of(&mut receiver).await?;
    expect(seen(&message)?, ("a1".to_owned(), 0), "body, count")?;
    receiver.abandon_message(&message, None).await?;
    for (body, failed) in [("a1", 1), ("a2", 0)] {
        let message = one_of(&mut receiver).await?;
        expect(seen(&message)?, (body.to_owned(), failed), "body, count")?;
        receiver.complete_message(&message).await?;
    }
    receiver.dispose().await?;
    for name in ["a", "b"] {
        client.expect_empty_session(&queue, name).await?;
    }
    expect_error(other.receiver(&queue).await, &["NotAllowed"], "a receiver of no session")?;
    client.close().await
}

/// The client names no time to wait, so the scenario asks only for sessions that are there.
pub(crate) async fn session_next(broker: Broker) -> Result {
    let queue = queue_of("session-next");
    let mut client = broker.connect().await?;
    client.send_in(&queue, &[("x", "x1"), ("y", "y1")]).await?;
    let mut first = client.next_session(&queue).await?;
    let mut second = client.next_session(&queue).await?;
    expect((first.session_id(), second.session_id()), ("x", "y"), "sessions")?;
    let message = one_of(&mut first).await?;
    expect(text(&message)?.as_str(), "x1", "body")?;
    first.complete_message(&message).await?;
    first.dispose().await?;
    let message = one_of(&mut second).await?;
    expect(text(&message)?.as_str(), "y1", "body")?;
    // Closed without settling.
    second.dispose().await?;
    let mut again = client.next_session(&queue).await?;
    expect(again.session_id(), "y", "session")?;
    let message = one_of(&mut again).await?;
    expect(seen(&message)?, ("y1".to_owned(), 0), "body, count")?;
    again.complete_message(&message).await?;
    again.dispose().await?;
    client.close().await
}

pub(crate) async fn session_state(broker: Broker) -> Result {
    let queue = queue_of("session-state");
    let mut client = broker.connect().await?;
    let mut receiver = client.session(&queue, "s").await?;
    receiver.set_session_state(b"half done".to_vec()).await?;
    expect(receiver.session_state().await?, b"half done".to_vec(), "state")?;
    receiver.dispose().await?;
    let mut receiver = client.session(&queue, "s").await?;
    expect(receiver.session_state().await?, b"half done".to_vec(), "state kept")?;
    receiver.set_session_state(Vec::new()).await?;
    expect(receiver.session_state().await?, Vec::new(), "an empty state")?;
    receiver.dispose().await?;
    client.close().await
}

/// The queue locks for five seconds.
pub(crate) async fn session_renewal(broker: Broker) -> Result {
    let queue = queue_of("session-renewal");
    let mut client = broker.connect().await?;
    client.send_in(&queue, &[("s", "slow work"), ("s", "late work")]).await?;
    let mut receiver = client.session(&queue, "s").await?;
    let message = one_of(&mut receiver).await?;
    // The client does not see when the lock ends before it has renewed it.
    let mut until = OffsetDateTime::now_utc();
    for _ in 0..2 {
        sleep(Duration::from_secs(3)).await;
        receiver.renew_session_lock().await?;
        expect(receiver.session_locked_until() > until, true, "the lock ends later")?;
        until = receiver.session_locked_until();
    }
    receiver.complete_message(&message).await?;
    let late = one_of(&mut receiver).await?;
    expect(seen(&late)?, ("late work".to_owned(), 0), "body, count")?;
    sleep(Duration::from_secs(6)).await;
    let mut second = broker.connect().await?;
    let mut other = second.session(&queue, "s").await?;
    let again = one_of(&mut other).await?;
    expect(seen(&again)?, ("late work".to_owned(), 1), "body, count")?;
    other.complete_message(&again).await?;
    other.dispose().await?;
    second.expect_empty_session(&queue, "s").await?;
    second.close().await
}

async fn peeked(receiver: &mut ServiceBusReceiver) -> Result<Vec<Labelled>> {
    let mut all = Vec::new();
    for message in receiver.peek_messages(10, Some(1)).await? {
        all.push((String::from_utf8(message.body()?.to_vec())?, message.state()));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

fn labelled(all: &[(&str, ServiceBusMessageState)]) -> Vec<Labelled> {
    all.iter().map(|(body, state)| ((*body).to_owned(), *state)).collect()
}

pub(crate) async fn schedule(broker: Broker) -> Result {
    use ServiceBusMessageState::{Active, Scheduled};
    let queue = queue_of("schedule");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let due = OffsetDateTime::now_utc() + Duration::from_secs(4);
    let numbers = sender.schedule_messages(["1", "2"], due).await?;
    expect(numbers.len(), 2, "sequence numbers")?;
    let mut third = ServiceBusMessage::new("3");
    third.set_scheduled_enqueue_time(due + Duration::from_secs(1));
    sender.send_message(third).await?;
    sender.send_message("at once").await?;
    let mut receiver = client.receiver(&queue).await?;
    let states = [("1", Scheduled), ("2", Scheduled), ("3", Scheduled), ("at once", Active)];
    expect(peeked(&mut receiver).await?, labelled(&states), "states")?;
    let message = one(&mut receiver).await?;
    expect(text(&message)?.as_str(), "at once", "body")?;
    receiver.complete_message(&message).await?;
    let early = receiver.receive_messages_with_max_wait_time(1, EMPTY).await?;
    expect(early.len(), 0, "messages before they were due")?;
    // The client drains when it has waited in vain. Credit that it gives before it has read the answer
    // is counted from where the link stood before, and is none.
    sleep(Duration::from_millis(200)).await;
    for wanted in ["1", "2", "3"] {
        let message = one(&mut receiver).await?;
        expect(text(&message)?.as_str(), wanted, "body")?;
        // The broker's clock has milliseconds.
        let early = due - message.enqueued_time();
        expect(early < Duration::from_millis(1), true, "enqueued when it was due")?;
        let same = numbers.contains(&message.sequence_number());
        expect(same, false, "the number of the schedule")?;
        receiver.complete_message(&message).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

pub(crate) async fn cancel(broker: Broker) -> Result {
    let queue = queue_of("cancel");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let due = OffsetDateTime::now_utc() + Duration::from_secs(3);
    let numbers = sender.schedule_messages(["cancelled", "kept"], due).await?;
    let (cancelled, kept) = (numbers[0], numbers[1]);
    sender.cancel_scheduled_message(cancelled).await?;
    let again = sender.cancel_scheduled_message(cancelled).await;
    expect_error(again, &["404"], "what is cancelled already")?;
    let mut receiver = client.receiver(&queue).await?;
    let message = one(&mut receiver).await?;
    expect(text(&message)?.as_str(), "kept", "body")?;
    receiver.complete_message(&message).await?;
    let late = sender.cancel_scheduled_message(kept).await;
    expect_error(late, &["404"], "what is enqueued already")?;
    client.expect_empty(&queue).await?;
    client.close().await
}

pub(crate) async fn defer(broker: Broker) -> Result {
    use ServiceBusMessageState::Deferred;
    let queue = queue_of("defer");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["1", "2", "3", "4"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let mut numbers = Vec::new();
    for message in take(&mut receiver, 3).await? {
        numbers.push(message.sequence_number());
        receiver.defer_message(&message, None).await?;
    }
    let message = one(&mut receiver).await?;
    expect(text(&message)?.as_str(), "4", "body")?;
    receiver.complete_message(&message).await?;
    client.expect_empty(&queue).await?;
    let states = [("1", Deferred), ("2", Deferred), ("3", Deferred)];
    expect(peeked(&mut receiver).await?, labelled(&states), "peeked")?;
    let mut both = receiver.receive_deferred_messages(numbers[..2].to_vec()).await?;
    expect(bodies(&both)?, vec!["1".to_owned(), "2".to_owned()], "bodies")?;
    let locked = receiver.receive_deferred_message(numbers[0]).await;
    expect_error(locked, &["404"], "what is locked already")?;
    receiver.renew_message_lock(&mut both[0]).await?;
    receiver.complete_message(&both[0]).await?;
    receiver.abandon_message(&both[1], None).await?;
    client.expect_empty(&queue).await?;
    let again = receiver.receive_deferred_message(numbers[1]).await?.ok_or("not deferred")?;
    expect(seen(&again)?, ("2".to_owned(), 1), "body, count")?;
    let why = DeadLetterOptions {
        dead_letter_reason: Some("given up".to_owned()),
        ..DeadLetterOptions::default()
    };
    receiver.dead_letter_message(&again, why).await?;
    let mut dead = client.dead_letters(&queue).await?;
    let message = one(&mut dead).await?;
    expect(text(&message)?.as_str(), "2", "body")?;
    expect(message.dead_letter_reason(), Some("given up"), "reason")?;
    dead.complete_message(&message).await?;
    // In the other mode the client wants the lock token that there is none of, and loses the message.
    let last = receiver.receive_deferred_message(numbers[2]).await?.ok_or("not deferred")?;
    expect(text(&last)?.as_str(), "3", "body")?;
    receiver.complete_message(&last).await?;
    expect(peeked(&mut receiver).await?, Vec::new(), "peeked at the end")?;
    client.close().await
}

fn named(id: &str, body: &str) -> Result<ServiceBusMessage> {
    let mut message = ServiceBusMessage::new(body);
    message.set_message_id(id)?;
    Ok(message)
}

/// The queue remembers ids for a minute.
pub(crate) async fn duplicates(broker: Broker) -> Result {
    let queue = queue_of("duplicates");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    for id in ["a", "b", "a"] {
        sender.send_message(named(id, &format!("{id} alone"))?).await?;
    }
    let batch = ["b", "c", "c"].map(|id| named(id, &format!("{id} in a batch")));
    sender.send_messages(batch.into_iter().collect::<Result<Vec<_>>>()?).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["a alone", "b alone", "c in a batch"] {
        let message = one(&mut receiver).await?;
        expect(text(&message)?.as_str(), wanted, "body")?;
        receiver.complete_message(&message).await?;
    }
    sender.send_message(named("a", "after completion")?).await?;
    sender.schedule_message(named("a", "scheduled")?, OffsetDateTime::now_utc()).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

/// Messages of the queue live for three seconds at most, and end in the dead-letter queue.
pub(crate) async fn time_to_live(broker: Broker) -> Result {
    let queue = queue_of("time-to-live");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    for (body, lifetime) in [("short", 1), ("long", 3600)] {
        let mut message = ServiceBusMessage::new(body);
        message.set_time_to_live(Duration::from_secs(lifetime))?;
        sender.send_message(message).await?;
    }
    sender.send_message("unset").await?;
    sleep(Duration::from_secs(4)).await;
    client.expect_empty(&queue).await?;
    let mut dead = client.dead_letters(&queue).await?;
    let messages = take(&mut dead, 3).await?;
    let mut all = bodies(&messages)?;
    all.sort();
    expect(all, ["long", "short", "unset"].map(str::to_owned).to_vec(), "dead letters")?;
    for message in &messages {
        expect(message.dead_letter_reason(), Some("TTLExpiredException"), "reason")?;
        dead.complete_message(message).await?;
    }
    client.expect_no_dead_letters(&queue).await?;
    client.close().await
}

/// The queue forwards to another, whose dead letters go to a third.
pub(crate) async fn forward(broker: Broker) -> Result {
    let [queue, target, dead] = ["forward", "forward.target", "forward.dead"].map(queue_of);
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["good", "bad"]).await?;
    let mut receiver = client.receiver(&target).await?;
    let message = one(&mut receiver).await?;
    expect(seen(&message)?, ("good".to_owned(), 0), "body, count")?;
    receiver.complete_message(&message).await?;
    let message = one(&mut receiver).await?;
    receiver.dead_letter_message(&message, DeadLetterOptions::default()).await?;
    let mut last = client.receiver(&dead).await?;
    let message = one(&mut last).await?;
    expect(text(&message)?.as_str(), "bad", "body")?;
    expect(message.dead_letter_source(), Some(target.as_str()), "source")?;
    last.complete_message(&message).await?;
    for name in [&target, &dead] {
        client.expect_empty(name).await?;
    }
    client.close().await
}
