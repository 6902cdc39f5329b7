//! What the client is made to do, each on a queue of its own.

use std::time::Duration;

use azservicebus::primitives::service_bus_message_state::ServiceBusMessageState;
use azservicebus::receiver::DeadLetterOptions;
use azservicebus::{
    CreateMessageBatchOptions, ServiceBusMessage, ServiceBusPeekedMessage, ServiceBusReceiveMode,
    ServiceBusReceiverOptions,
};
use tokio::time::sleep;

use crate::{
    Broker, EMPTY, Result, Run, bodies, count, expect, expect_error, features, one, queue_of, seen,
    take, text, topics, wait_for_restart,
};

const LARGE: usize = 900 * 1024;
const OVERSIZE: usize = 1_500_000;
const IDLE: Duration = Duration::from_secs(70);

type Scenario = (&'static str, fn(Broker) -> Run);

pub(crate) const ALL: &[Scenario] = &[
    ("send-one", |broker| Box::pin(send_one(broker))),
    ("batch-100", |broker| Box::pin(batch_100(broker))),
    ("large", |broker| Box::pin(large(broker))),
    ("complete", |broker| Box::pin(complete(broker))),
    ("abandon", |broker| Box::pin(abandon(broker))),
    ("dead-letter", |broker| Box::pin(dead_letter(broker))),
    ("max-delivery", |broker| Box::pin(max_delivery(broker))),
    ("lock-renewal", |broker| Box::pin(lock_renewal(broker))),
    ("lock-expiry", |broker| Box::pin(lock_expiry(broker))),
    ("receive-and-delete", |broker| Box::pin(receive_and_delete(broker))),
    ("peek", |broker| Box::pin(peek(broker))),
    ("prefetch", |broker| Box::pin(prefetch(broker))),
    ("drain", |broker| Box::pin(drain(broker))),
    ("wrong-key", |broker| Box::pin(wrong_key(broker))),
    ("missing-entity", |broker| Box::pin(missing_entity(broker))),
    ("oversize", |broker| Box::pin(oversize(broker))),
    ("session-named", |broker| Box::pin(features::session_named(broker))),
    ("session-next", |broker| Box::pin(features::session_next(broker))),
    ("session-state", |broker| Box::pin(features::session_state(broker))),
    ("session-renewal", |broker| Box::pin(features::session_renewal(broker))),
    ("schedule", |broker| Box::pin(features::schedule(broker))),
    ("cancel", |broker| Box::pin(features::cancel(broker))),
    ("defer", |broker| Box::pin(features::defer(broker))),
    ("duplicates", |broker| Box::pin(features::duplicates(broker))),
    ("time-to-live", |broker| Box::pin(features::time_to_live(broker))),
    ("forward", |broker| Box::pin(features::forward(broker))),
    ("publish", |broker| Box::pin(topics::publish(broker))),
    ("publish-scheduled", |broker| Box::pin(topics::publish_scheduled(broker))),
    ("filters", |broker| Box::pin(topics::filters(broker))),
    ("actions", |broker| Box::pin(topics::actions(broker))),
    ("rules", |broker| Box::pin(topics::rules(broker))),
    ("subscription-peek", |broker| Box::pin(topics::subscription_peek(broker))),
    ("subscription-delete", |broker| Box::pin(topics::subscription_delete(broker))),
    ("subscription-dead-letter", |broker| Box::pin(topics::subscription_dead_letter(broker))),
    ("subscription-sessions", |broker| Box::pin(topics::subscription_sessions(broker))),
    ("subscription-forward", |broker| Box::pin(topics::subscription_forward(broker))),
    ("websocket", |broker| Box::pin(websocket(broker))),
    ("idle", |broker| Box::pin(idle(broker))),
    ("reconnect", |broker| Box::pin(reconnect(broker))),
];

async fn send_one(broker: Broker) -> Result {
    let queue = queue_of("send-one");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut message = ServiceBusMessage::new("hello");
    message.set_message_id("m-1")?;
    message.set_subject("greeting".to_owned());
    message.set_correlation_id("c-1".to_owned());
    message.set_content_type("text/plain".to_owned());
    message.set_to("somebody".to_owned());
    message.set_reply_to("answers".to_owned());
    message.set_time_to_live(Duration::from_hours(1))?;
    sender.send_message(message).await?;
    let mut receiver = client.receiver(&queue).await?;
    let message = one(&mut receiver).await?;
    expect(text(&message)?.as_str(), "hello", "body")?;
    expect(message.message_id().as_deref(), Some("m-1"), "message id")?;
    expect(message.subject(), Some("greeting"), "subject")?;
    expect(message.correlation_id().as_deref(), Some("c-1"), "correlation id")?;
    expect(message.content_type(), Some("text/plain"), "content type")?;
    expect(message.to(), Some("somebody"), "to")?;
    expect(message.reply_to(), Some("answers"), "reply to")?;
    expect(message.time_to_live(), Some(Duration::from_hours(1)), "time to live")?;
    expect(count(&message)?, 0, "delivery count")?;
    expect(message.sequence_number(), 1, "sequence number")?;
    expect(message.state(), ServiceBusMessageState::Active, "state")?;
    let age = time::OffsetDateTime::now_utc() - message.enqueued_time();
    expect(age.whole_minutes(), 0, "minutes since it was enqueued")?;
    let ahead = message.locked_until().ok_or("no lock")? - time::OffsetDateTime::now_utc();
    expect(ahead.is_positive(), true, "the lock lasts")?;
    receiver.complete_message(&message).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

/// The client ends the path with a slash, says `amqp`, and fails unless it hears that.
async fn websocket(broker: Broker) -> Result {
    let queue = queue_of("websocket");
    let mut client = broker.connect_by_websocket().await?;
    client.send_bodies(&queue, &["short", &"long ".repeat(LARGE / 5)]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["short".to_owned(), "long ".repeat(LARGE / 5)] {
        let message = one(&mut receiver).await?;
        expect(text(&message)? == wanted, true, "the body is what was sent")?;
        receiver.complete_message(&message).await?;
    }
    client.close().await
}

async fn batch_100(broker: Broker) -> Result {
    let queue = queue_of("batch-100");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut batch = sender.create_message_batch(CreateMessageBatchOptions::default())?;
    let wanted: Vec<String> = (0..100).map(|i| format!("body {i}")).collect();
    for body in &wanted {
        batch.try_add_message(ServiceBusMessage::new(body.as_str()))?;
    }
    sender.send_message_batch(batch).await?;
    let mut receiver = client.receiver(&queue).await?;
    let messages = take(&mut receiver, 100).await?;
    expect(bodies(&messages)?, wanted, "bodies")?;
    for message in &messages {
        receiver.complete_message(message).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn large(broker: Broker) -> Result {
    let queue = queue_of("large");
    let mut client = broker.connect().await?;
    // A number every four bytes shows a piece that is missing, doubled or moved.
    let sent: Vec<u8> = (0..).flat_map(u32::to_be_bytes).take(LARGE).collect();
    let mut sender = client.sender(&queue).await?;
    sender.send_message(ServiceBusMessage::new(sent.clone())).await?;
    let mut receiver = client.receiver(&queue).await?;
    let message = one(&mut receiver).await?;
    expect(message.body()? == sent, true, "the body is the one sent")?;
    receiver.complete_message(&message).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn complete(broker: Broker) -> Result {
    let queue = queue_of("complete");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["1", "2", "3"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["1", "2", "3"] {
        let message = one(&mut receiver).await?;
        expect(text(&message)?.as_str(), wanted, "body")?;
        receiver.complete_message(&message).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn abandon(broker: Broker) -> Result {
    let queue = queue_of("abandon");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["again", "later"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for count in 0..3 {
        let message = one(&mut receiver).await?;
        expect(seen(&message)?, ("again".to_owned(), count), "body, count")?;
        receiver.abandon_message(&message, None).await?;
    }
    for (body, count) in [("again", 3), ("later", 0)] {
        let message = one(&mut receiver).await?;
        expect(seen(&message)?, (body.to_owned(), count), "body, count")?;
        receiver.complete_message(&message).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn dead_letter(broker: Broker) -> Result {
    let queue = queue_of("dead-letter");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["bad", "good"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let message = one(&mut receiver).await?;
    let why = DeadLetterOptions {
        dead_letter_reason: Some("unreadable".to_owned()),
        dead_letter_error_description: Some("it made no sense".to_owned()),
        properties_to_modify: None,
    };
    receiver.dead_letter_message(&message, why).await?;
    let message = one(&mut receiver).await?;
    expect(text(&message)?.as_str(), "good", "body")?;
    receiver.complete_message(&message).await?;
    let mut dead = client.dead_letters(&queue).await?;
    let message = one(&mut dead).await?;
    expect(text(&message)?.as_str(), "bad", "body")?;
    expect(message.dead_letter_reason(), Some("unreadable"), "reason")?;
    let description = message.dead_letter_error_description();
    expect(description, Some("it made no sense"), "description")?;
    dead.complete_message(&message).await?;
    client.expect_empty(&queue).await?;
    client.expect_no_dead_letters(&queue).await?;
    client.close().await
}

/// The queue allows three deliveries.
async fn max_delivery(broker: Broker) -> Result {
    let queue = queue_of("max-delivery");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["poison"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for failed in 0..3 {
        let message = one(&mut receiver).await?;
        expect(count(&message)?, failed, "delivery count")?;
        receiver.abandon_message(&message, None).await?;
    }
    client.expect_empty(&queue).await?;
    let mut dead = client.dead_letters(&queue).await?;
    let message = one(&mut dead).await?;
    expect(message.dead_letter_reason(), Some("MaxDeliveryCountExceeded"), "reason")?;
    dead.complete_message(&message).await?;
    client.expect_no_dead_letters(&queue).await?;
    client.close().await
}

/// The queue locks for five seconds.
async fn lock_renewal(broker: Broker) -> Result {
    let queue = queue_of("lock-renewal");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["slow work"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let mut message = one(&mut receiver).await?;
    let mut until = message.locked_until().ok_or("no lock")?;
    for _ in 0..2 {
        sleep(Duration::from_secs(3)).await;
        receiver.renew_message_lock(&mut message).await?;
        let renewed = message.locked_until().ok_or("no lock")?;
        expect(renewed > until, true, "the lock ends later")?;
        until = renewed;
    }
    receiver.complete_message(&message).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

/// The queue locks for five seconds. The client does not wait for what the broker says to a
/// settlement, so that the late one had no effect is seen by what comes back.
async fn lock_expiry(broker: Broker) -> Result {
    let queue = queue_of("lock-expiry");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["first"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let mut late = one(&mut receiver).await?;
    let mut other = client.receiver(&queue).await?;
    let again = one(&mut other).await?;
    expect(seen(&again)?, ("first".to_owned(), 1), "body, count")?;
    expect(again.sequence_number(), late.sequence_number(), "sequence number")?;
    expect_error(receiver.renew_message_lock(&mut late).await, &["lock"], "a late renewal")?;
    receiver.complete_message(&late).await?;
    other.abandon_message(&again, None).await?;
    let last = one(&mut other).await?;
    expect(seen(&last)?, ("first".to_owned(), 2), "body, count")?;
    other.complete_message(&last).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn receive_and_delete(broker: Broker) -> Result {
    let queue = queue_of("receive-and-delete");
    let mut client = broker.connect().await?;
    let wanted = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    client.send_bodies(&queue, &wanted).await?;
    let receive_mode = ServiceBusReceiveMode::ReceiveAndDelete;
    let options = ServiceBusReceiverOptions { receive_mode, ..Default::default() };
    let mut receiver = client.receiver_with(&queue, options).await?;
    expect(bodies(&take(&mut receiver, 10).await?)?, wanted.map(str::to_owned).to_vec(), "bodies")?;
    client.expect_empty(&queue).await?;
    client.close().await
}

fn peeked(messages: &[ServiceBusPeekedMessage]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for message in messages {
        expect(message.state(), ServiceBusMessageState::Active, "state")?;
        texts.push(String::from_utf8(message.body()?.to_vec())?);
    }
    Ok(texts)
}

async fn peek(broker: Broker) -> Result {
    let queue = queue_of("peek");
    let mut client = broker.connect().await?;
    let mut receiver = client.receiver(&queue).await?;
    let none = receiver.peek_messages(5, None).await?;
    expect(none.len(), 0, "messages in an empty queue")?;
    client.send_bodies(&queue, &["0", "1", "2", "3", "4"]).await?;
    let locked = one(&mut receiver).await?;
    // Without a number the client goes on where it stopped.
    let seen = receiver.peek_messages(3, None).await?;
    expect(
        peeked(&seen)?,
        ["0", "1", "2"].map(str::to_owned).to_vec(),
        "the locked one among them",
    )?;
    let rest = receiver.peek_messages(10, None).await?;
    expect(peeked(&rest)?, ["3", "4"].map(str::to_owned).to_vec(), "peeked next")?;
    let beyond = receiver.peek_messages(5, Some(locked.sequence_number() + 5)).await?;
    expect(beyond.len(), 0, "messages beyond the last")?;
    receiver.complete_message(&locked).await?;
    for message in take(&mut receiver, 4).await? {
        expect(count(&message)?, 0, "delivery count after peeking")?;
        receiver.complete_message(&message).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn prefetch(broker: Broker) -> Result {
    let queue = queue_of("prefetch");
    let mut client = broker.connect().await?;
    let wanted: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    client.send_bodies(&queue, &wanted.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let options = ServiceBusReceiverOptions { prefetch_count: 20, ..Default::default() };
    let mut receiver = client.receiver_with(&queue, options).await?;
    for round in wanted.chunks(10) {
        let messages = take(&mut receiver, 10).await?;
        expect(bodies(&messages)?, round.to_vec(), "bodies")?;
        for message in &messages {
            expect(count(message)?, 0, "delivery count")?;
            receiver.complete_message(message).await?;
        }
    }
    receiver.dispose().await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

/// A receiver that waited in vain drains its credit; nothing sent later is lost to it.
async fn drain(broker: Broker) -> Result {
    let queue = queue_of("drain");
    let mut client = broker.connect().await?;
    let mut waiting = client.receiver(&queue).await?;
    let none = waiting.receive_messages_with_max_wait_time(10, EMPTY).await?;
    expect(none.len(), 0, "messages")?;
    client.send_bodies(&queue, &["1", "2", "3"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let messages = take(&mut receiver, 3).await?;
    expect(bodies(&messages)?, ["1", "2", "3"].map(str::to_owned).to_vec(), "bodies")?;
    for message in &messages {
        expect(count(message)?, 0, "delivery count")?;
        receiver.complete_message(message).await?;
    }
    waiting.dispose().await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

/// The right is asked for when a link is made, not before.
async fn wrong_key(broker: Broker) -> Result {
    let queue = queue_of("wrong-key");
    let mut client = broker.open("WRONG_KEY", 3).await?;
    expect_error(client.sender(&queue).await, &["401"], "a sender")?;
    expect_error(client.receiver(&queue).await, &["401"], "a receiver")?;
    let mut client = broker.connect().await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn missing_entity(broker: Broker) -> Result {
    let queue = queue_of("there-is-no-such-queue");
    let mut client = broker.connect().await?;
    let words = ["NotFound", "The messaging entity '"];
    expect_error(client.sender(&queue).await, &words, "a sender")?;
    let mut client = broker.connect().await?;
    expect_error(client.receiver(&queue).await, &words, "a receiver")
}

/// Only what the client refuses by itself. A single message above the limit it cuts in two deliveries,
/// the first of them without an end; the broker detaches the link, and the client waits for ever.
async fn oversize(broker: Broker) -> Result {
    let queue = queue_of("oversize");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut batch = sender.create_message_batch(CreateMessageBatchOptions::default())?;
    expect(batch.max_size_in_bytes(), 1024 * 1024, "size of a batch")?;
    let added = batch.try_add_message(ServiceBusMessage::new(vec![b'x'; OVERSIZE]));
    expect(added.is_err(), true, "1.5 MB do not fit into a batch")?;
    batch.try_add_message(ServiceBusMessage::new("small"))?;
    sender.send_message_batch(batch).await?;
    let mut receiver = client.receiver(&queue).await?;
    let message = one(&mut receiver).await?;
    expect(text(&message)?.as_str(), "small", "body")?;
    receiver.complete_message(&message).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn idle(broker: Broker) -> Result {
    let queue = queue_of("idle");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["before", "after"] {
        sender.send_message(ServiceBusMessage::new(wanted)).await?;
        let message = one(&mut receiver).await?;
        expect(text(&message)?.as_str(), wanted, "body")?;
        receiver.complete_message(&message).await?;
        if wanted == "before" {
            sleep(IDLE).await;
        }
    }
    client.close().await
}

async fn reconnect(broker: Broker) -> Result {
    let queue = queue_of("reconnect");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut receiver = client.receiver(&queue).await?;
    for body in ["done", "locked", "kept"] {
        sender.send_message(ServiceBusMessage::new(body)).await?;
    }
    let done = one(&mut receiver).await?;
    receiver.complete_message(&done).await?;
    let locked = one(&mut receiver).await?;
    expect(text(&locked)?.as_str(), "locked", "body")?;
    wait_for_restart().await?;
    sender.send_message(ServiceBusMessage::new("new")).await?;
    for wanted in ["locked", "kept", "new"] {
        let message = one(&mut receiver).await?;
        expect(text(&message)?.as_str(), wanted, "body")?;
        receiver.complete_message(&message).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}
