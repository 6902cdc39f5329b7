//! What the client is made to do, each on a queue of its own.

use std::time::Duration;

use fe2o3_amqp::connection::OpenError;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp_types::definitions::{self, Fields, ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::messaging::message::__private::Serializable;
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Batch, Body, Data, Header, Message, Outcome, Priority, Properties,
};
use fe2o3_amqp_types::sasl::SaslCode;
use serde_amqp::primitives::{Binary, Symbol};
use serde_amqp::{Value, to_vec};
use tokio::time::{sleep, timeout};

use crate::{
    ANSWER, Broker, DEAD, EMPTY, Result, Run, bytes, count, expect, expect_accepted, features,
    modified, one, property, queue_of, take, text, topics, wait_for_restart,
};

const LARGE: usize = 900 * 1024;
const OVERSIZE: usize = 1_500_000;
const IDLE: Duration = Duration::from_secs(70);
const BATCH_FORMAT: u32 = 0x8001_3700;

type Scenario = (&'static str, fn(Broker) -> Run);

pub(crate) const ALL: &[Scenario] = &[
    ("send-one", |broker| Box::pin(send_one(broker))),
    ("batch-100", |broker| Box::pin(batch_100(broker))),
    ("large", |broker| Box::pin(large(broker))),
    ("complete", |broker| Box::pin(complete(broker))),
    ("abandon", |broker| Box::pin(abandon(broker))),
    ("dead-letter", |broker| Box::pin(dead_letter(broker))),
    ("max-delivery", |broker| Box::pin(max_delivery(broker))),
    ("lock-expiry", |broker| Box::pin(lock_expiry(broker))),
    ("receive-and-delete", |broker| Box::pin(receive_and_delete(broker))),
    ("prefetch", |broker| Box::pin(prefetch(broker))),
    ("drain", |broker| Box::pin(drain(broker))),
    ("wrong-key", |broker| Box::pin(wrong_key(broker))),
    ("missing-entity", |broker| Box::pin(missing_entity(broker))),
    ("oversize", |broker| Box::pin(oversize(broker))),
    ("session-named", |broker| Box::pin(features::session_named(broker))),
    ("session-next", |broker| Box::pin(features::session_next(broker))),
    ("schedule", |broker| Box::pin(features::schedule(broker))),
    ("duplicates", |broker| Box::pin(features::duplicates(broker))),
    ("time-to-live", |broker| Box::pin(features::time_to_live(broker))),
    ("transaction", |broker| Box::pin(features::transaction(broker))),
    ("publish", |broker| Box::pin(topics::publish(broker))),
    ("publish-scheduled", |broker| Box::pin(topics::publish_scheduled(broker))),
    ("filters", |broker| Box::pin(topics::filters(broker))),
    ("actions", |broker| Box::pin(topics::actions(broker))),
    ("subscription-delete", |broker| Box::pin(topics::subscription_delete(broker))),
    ("subscription-dead-letter", |broker| Box::pin(topics::subscription_dead_letter(broker))),
    ("subscription-sessions", |broker| Box::pin(topics::subscription_sessions(broker))),
    ("subscription-forward", |broker| Box::pin(topics::subscription_forward(broker))),
    ("idle", |broker| Box::pin(idle(broker))),
    ("reconnect", |broker| Box::pin(reconnect(broker))),
];

async fn send_one(broker: Broker) -> Result {
    let queue = queue_of("send-one");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let message = Message::builder()
        .header(Header { durable: true, priority: Priority(7), ..Header::default() })
        .properties(
            Properties::builder()
                .message_id("m-1".to_owned())
                .subject("greeting")
                .content_type("text/plain")
                .build(),
        )
        .application_properties(
            ApplicationProperties::builder().insert("text", "é".to_owned()).build(),
        )
        .data(b"hello".to_vec())
        .build();
    expect_accepted(&timeout(ANSWER, sender.send(message)).await??)?;
    let mut receiver = client.receiver(&queue).await?;
    let delivery = one(&mut receiver).await?;
    expect(bytes(&delivery)?, b"hello".to_vec(), "body")?;
    let header = delivery.message().header.as_ref().ok_or("no header")?;
    expect((header.durable, header.priority.0), (true, 7), "header")?;
    let properties = delivery.message().properties.as_ref().ok_or("no properties")?;
    expect(properties.message_id.clone(), Some("m-1".to_owned().into()), "message id")?;
    expect(properties.subject.as_deref(), Some("greeting"), "subject")?;
    expect(properties.content_type.clone(), Some(Symbol::from("text/plain")), "content type")?;
    expect(property(&delivery, "text"), Some("é".to_owned()), "application property")?;
    expect(delivery.delivery_tag().len(), 16, "length of the delivery tag")?;
    expect(count(&delivery), 0, "delivery count")?;
    receiver.accept(&delivery).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn batch_100(broker: Broker) -> Result {
    let queue = queue_of("batch-100");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut inner = Vec::new();
    for i in 0..100 {
        let message = Message::builder().value(format!("body {i}")).build();
        inner.push(Data(Binary::from(to_vec(&Serializable(message))?)));
    }
    let envelope = Sendable::builder()
        .message(Message::builder().body(Body::<Value>::Data(Batch::new(inner))).build())
        .message_format(BATCH_FORMAT)
        .build();
    expect_accepted(&timeout(ANSWER, sender.send(envelope)).await??)?;
    let mut receiver = client.receiver(&queue).await?;
    receiver.set_credit(100).await?;
    for i in 0..100 {
        let delivery = take(&mut receiver).await?;
        expect(text(&delivery)?, format!("body {i}"), "body")?;
        receiver.accept(&delivery).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn large(broker: Broker) -> Result {
    let queue = queue_of("large");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    // A number every four bytes shows a piece that is missing, doubled or moved.
    let sent: Vec<u8> = (0..).flat_map(u32::to_be_bytes).take(LARGE).collect();
    let message = Message::builder().data(sent.clone()).build();
    expect_accepted(&timeout(ANSWER, sender.send(message)).await??)?;
    let mut receiver = client.receiver(&queue).await?;
    let delivery = one(&mut receiver).await?;
    expect(bytes(&delivery)? == sent, true, "the body is the one sent")?;
    receiver.accept(&delivery).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn complete(broker: Broker) -> Result {
    let queue = queue_of("complete");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["1", "2", "3"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["1", "2", "3"] {
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), wanted, "body")?;
        receiver.accept(&delivery).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn abandon(broker: Broker) -> Result {
    let queue = queue_of("abandon");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["again", "later"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    // `modified` counts whether it says that the delivery failed or not; `released` does not.
    for attempt in 0..3 {
        let delivery = one(&mut receiver).await?;
        expect((text(&delivery)?.as_str(), count(&delivery)), ("again", attempt), "body, count")?;
        match attempt {
            0 => receiver.modify(&delivery, modified(true)).await?,
            1 => receiver.modify(&delivery, modified(false)).await?,
            _ => receiver.release(&delivery).await?,
        }
    }
    for wanted in [("again", 2), ("later", 0)] {
        let delivery = one(&mut receiver).await?;
        expect((text(&delivery)?.as_str(), count(&delivery)), wanted, "body, count")?;
        receiver.accept(&delivery).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn dead_letter(broker: Broker) -> Result {
    let queue = queue_of("dead-letter");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["bad", "good"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let delivery = one(&mut receiver).await?;
    let mut info = Fields::new();
    let texts =
        [("DeadLetterReason", "unreadable"), ("DeadLetterErrorDescription", "it made no sense")];
    for (key, text) in texts {
        info.insert(Symbol::from(key), Value::String(text.to_owned()));
    }
    let condition = definitions::ErrorCondition::Custom(Symbol::from("com.microsoft:dead-letter"));
    let error = definitions::Error::new(condition, Some("it made no sense".to_owned()), Some(info));
    receiver.reject(&delivery, error).await?;
    let delivery = one(&mut receiver).await?;
    expect(text(&delivery)?.as_str(), "good", "body")?;
    receiver.accept(&delivery).await?;
    let dead_queue = format!("{queue}{DEAD}");
    let mut dead = client.receiver(&dead_queue).await?;
    let delivery = one(&mut dead).await?;
    expect(text(&delivery)?.as_str(), "bad", "body")?;
    for (key, text) in texts {
        expect(property(&delivery, key).as_deref(), Some(text), key)?;
    }
    dead.accept(&delivery).await?;
    client.expect_empty(&queue).await?;
    client.expect_empty(&dead_queue).await?;
    client.close().await
}

/// The queue allows three deliveries.
async fn max_delivery(broker: Broker) -> Result {
    let queue = queue_of("max-delivery");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["poison"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for attempt in 0..3 {
        let delivery = one(&mut receiver).await?;
        expect(count(&delivery), attempt, "delivery count")?;
        receiver.modify(&delivery, modified(true)).await?;
    }
    client.expect_empty(&queue).await?;
    let dead_queue = format!("{queue}{DEAD}");
    let mut dead = client.receiver(&dead_queue).await?;
    let delivery = one(&mut dead).await?;
    let reason = property(&delivery, "DeadLetterReason");
    expect(reason.as_deref(), Some("MaxDeliveryCountExceeded"), "reason")?;
    dead.accept(&delivery).await?;
    client.expect_empty(&dead_queue).await?;
    client.close().await
}

/// The queue locks for five seconds. The client does not show what the broker answers to a
/// settlement, so that the late one had no effect is seen by what comes back.
async fn lock_expiry(broker: Broker) -> Result {
    let queue = queue_of("lock-expiry");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["first"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let late = one(&mut receiver).await?;
    let mut other = client.receiver(&queue).await?;
    let again = one(&mut other).await?;
    expect((text(&again)?.as_str(), count(&again)), ("first", 1), "body, count")?;
    receiver.accept(&late).await?;
    other.modify(&again, modified(true)).await?;
    let last = one(&mut other).await?;
    expect((text(&last)?.as_str(), count(&last)), ("first", 2), "body, count")?;
    other.accept(&last).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn receive_and_delete(broker: Broker) -> Result {
    let queue = queue_of("receive-and-delete");
    let mut client = broker.connect().await?;
    let bodies = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    client.send_bodies(&queue, &bodies).await?;
    let mut receiver =
        client.receiver_with(&queue, SenderSettleMode::Settled, ReceiverSettleMode::First).await?;
    receiver.set_credit(10).await?;
    for wanted in bodies {
        expect(text(&take(&mut receiver).await?)?.as_str(), wanted, "body")?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn prefetch(broker: Broker) -> Result {
    let queue = queue_of("prefetch");
    let mut client = broker.connect().await?;
    let bodies: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    client.send_bodies(&queue, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let mut receiver = client.receiver(&queue).await?;
    for round in bodies.chunks(20) {
        receiver.set_credit(20).await?;
        for wanted in round {
            let delivery = take(&mut receiver).await?;
            expect((&text(&delivery)?, count(&delivery)), (wanted, 0), "body, count")?;
            receiver.accept(&delivery).await?;
        }
    }
    receiver.close().await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn drain(broker: Broker) -> Result {
    let queue = queue_of("drain");
    let mut client = broker.connect().await?;
    let mut receiver = client.receiver(&queue).await?;
    receiver.set_credit(10).await?;
    receiver.drain().await?;
    // The client has no event for the answer; the next attach on this session comes after it.
    client.send_bodies(&queue, &["1", "2", "3"]).await?;
    if let Ok(early) = timeout(EMPTY, take(&mut receiver)).await {
        return Err(format!("a message on drained credit: {}", text(&early?)?).into());
    }
    receiver.set_credit(10).await?;
    for wanted in ["1", "2", "3"] {
        let delivery = take(&mut receiver).await?;
        expect((text(&delivery)?.as_str(), count(&delivery)), (wanted, 0), "body, count")?;
        receiver.accept(&delivery).await?;
    }
    receiver.close().await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn wrong_key(broker: Broker) -> Result {
    match timeout(ANSWER, broker.open("WRONG_KEY")).await? {
        Err(OpenError::SaslError { code: SaslCode::Auth, .. }) => Ok(()),
        Err(other) => Err(format!("another error: {other:?}").into()),
        Ok(_) => Err("let in".into()),
    }
}

/// The broker's attach and detach come in one write, as other clients need it. This client then may
/// forget the link before it has read why: it says `IllegalState`, and leaves the detach unanswered.
/// So each attempt has a connection of its own.
async fn missing_entity(broker: Broker) -> Result {
    let queue = queue_of("there-is-no-such-queue");
    let mut client = broker.connect().await?;
    let sender = client.sender(&queue).await.err().ok_or("a sender attached")?;
    let mut client = broker.connect().await?;
    let receiver = client.receiver(&queue).await.err().ok_or("a receiver attached")?;
    for error in [sender, receiver] {
        let shown = format!("{error:?}");
        let why = shown.contains("NotFound") && shown.contains("The messaging entity '");
        expect(why || shown == "IllegalState", true, &format!("the error {shown}"))?;
    }
    Ok(())
}

async fn oversize(broker: Broker) -> Result {
    let queue = queue_of("oversize");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let limit = sender.max_message_size().ok_or("the broker names no limit")?;
    expect(limit, 1024 * 1024, "max-message-size")?;
    let message = Message::builder().data(vec![b'x'; OVERSIZE]).build();
    match timeout(ANSWER, sender.send(message)).await? {
        // This client keeps to the limit of the link by itself.
        Err(SendError::MessageSizeExceeded(_)) => {}
        Ok(Outcome::Rejected(rejected)) => {
            let shown = format!("{rejected:?}");
            expect(shown.contains("MessageSizeExceeded"), true, &format!("the error {shown}"))?;
        }
        other => return Err(format!("another outcome: {other:?}").into()),
    }
    let small = Message::builder().value("small").build();
    expect_accepted(&timeout(ANSWER, sender.send(small)).await??)?;
    let mut receiver = client.receiver(&queue).await?;
    let delivery = one(&mut receiver).await?;
    expect(text(&delivery)?.as_str(), "small", "body")?;
    receiver.accept(&delivery).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

async fn idle(broker: Broker) -> Result {
    let queue = queue_of("idle");
    let mut client = broker.connect().await?;
    let mut sender = client.sender(&queue).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["before", "after"] {
        let message = Message::builder().value(wanted).build();
        expect_accepted(&timeout(ANSWER, sender.send(message)).await??)?;
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), wanted, "body")?;
        receiver.accept(&delivery).await?;
        if wanted == "before" {
            sleep(IDLE).await;
        }
    }
    client.close().await
}

/// The client does not connect again by itself, so the scenario does.
async fn reconnect(broker: Broker) -> Result {
    let queue = queue_of("reconnect");
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["done", "locked", "kept"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    let done = one(&mut receiver).await?;
    receiver.accept(&done).await?;
    let locked = one(&mut receiver).await?;
    expect(text(&locked)?.as_str(), "locked", "body")?;
    wait_for_restart().await?;
    if let Ok(sent) = timeout(ANSWER, client.send_bodies(&queue, &["lost"])).await
        && sent.is_ok()
    {
        return Err("sent over a connection that the restart ended".into());
    }
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["new"]).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["locked", "kept", "new"] {
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), wanted, "body")?;
        receiver.accept(&delivery).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}
