//! The scenarios that a client of the REST API can do; `docs/COMPATIBILITY.md` says what each shows.

use std::collections::HashMap;
use std::time::Duration;

use azure_core::StatusCode;
use azure_messaging_servicebus::service_bus::{SendMessageOptions, SettableBrokerProperties};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::{Broker, Custom, EMPTY, Result, Run, count, expect, expect_status, queue_of};

/// What is run for a name.
type Scenario = (&'static str, fn(Broker) -> Run);

/// All there are, in the order of the table.
pub(super) const ALL: &[Scenario] = &[
    ("send-one", |broker| Box::pin(send_one(broker))),
    ("batch-100", |broker| Box::pin(batch(broker))),
    ("large", |broker| Box::pin(large(broker))),
    ("complete", |broker| Box::pin(complete(broker))),
    ("abandon", |broker| Box::pin(abandon(broker))),
    ("max-delivery", |broker| Box::pin(max_delivery(broker))),
    ("lock-renewal", |broker| Box::pin(lock_renewal(broker))),
    ("lock-expiry", |broker| Box::pin(lock_expiry(broker))),
    ("receive-and-delete", |broker| Box::pin(receive_and_delete(broker))),
    ("wrong-key", |broker| Box::pin(wrong_key(broker))),
    ("missing-entity", |broker| Box::pin(missing_entity(broker))),
    ("oversize", |broker| Box::pin(oversize(broker))),
    ("schedule", |broker| Box::pin(schedule(broker))),
    ("duplicates", |broker| Box::pin(duplicates(broker))),
    ("time-to-live", |broker| Box::pin(time_to_live(broker))),
    ("forward", |broker| Box::pin(forward(broker))),
    ("publish", |broker| Box::pin(publish(broker))),
    ("filters", |broker| Box::pin(filters(broker))),
    ("subscription-delete", |broker| Box::pin(subscription_delete(broker))),
];

fn broker_properties(broker_properties: SettableBrokerProperties) -> SendMessageOptions {
    SendMessageOptions { broker_properties: Some(broker_properties), ..Default::default() }
}

fn custom(properties: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    properties.iter().map(owned).collect()
}

async fn send_one(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("send-one"))?;
    let text = |text: &str| Some(text.to_owned());
    let options = SendMessageOptions {
        content_type: text("text/plain"),
        broker_properties: Some(SettableBrokerProperties {
            message_id: text("id-1"),
            correlation_id: text("c-1"),
            label: text("label"),
            reply_to: text("answers"),
            to: text("you"),
            time_to_live: Some(Duration::from_millis(90_500)),
            ..Default::default()
        }),
        custom_properties: Some(custom(&[("kind", "\"a b\""), ("size", "7"), ("flag", "true")])),
    };
    queue.send("h\u{e9}llo", options).await?;
    let locked = queue.lock().await?;
    expect(locked.body(), "h\u{e9}llo".to_owned(), "the body")?;
    let known = locked.broker_properties().ok_or("no broker properties")?;
    expect((known.delivery_count, known.message_id.as_str()), (1, "id-1"), "count and id")?;
    expect((known.state.as_str(), known.sequence_number), ("Active", 1), "state and number")?;
    expect(known.time_to_live.to_string(), "90.5".to_owned(), "the time to live")?;
    let enqueued = known.enqueued_time_utc.ok_or("no time of arrival")?;
    let lock = known.locked_until_utc - enqueued;
    expect((55..=65).contains(&lock.whole_seconds()), true, "a lock of a minute")?;
    let headers = Custom::of(&locked)?;
    for (name, value) in
        [("content-type", "text/plain"), ("kind", "\"a b\""), ("size", "7"), ("flag", "true")]
    {
        expect(headers.get(name).as_deref(), Some(value), name)?;
    }
    let all = headers.get("brokerproperties").ok_or("no broker properties")?;
    for part in ["\"Label\":\"label\"", "\"CorrelationId\":\"c-1\"", "\"To\":\"you\""] {
        expect(all.contains(part), true, part)?;
    }
    locked.delete_message().await?;
    queue.expect_empty().await
}

/// The client has no call for it, but takes any content type.
async fn batch(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("batch-100"))?;
    let bodies: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let items: Vec<String> = bodies.iter().map(|body| format!("{{\"Body\":\"{body}\"}}")).collect();
    let options = SendMessageOptions {
        content_type: Some("application/vnd.microsoft.servicebus.json".to_owned()),
        ..Default::default()
    };
    queue.send(&format!("[{}]", items.join(",")), options).await?;
    let mut found = Vec::new();
    for _ in &bodies {
        found.push(queue.0.receive_and_delete_message().await?);
    }
    expect(found, bodies, "bodies")
}

async fn large(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("large"))?;
    let body = "0123456789".repeat(90 * 1024);
    queue.send(&body, None).await?;
    expect(queue.take().await? == body, true, "the same body")
}

async fn complete(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("complete"))?;
    queue.send_all(&["1", "2", "3"]).await?;
    for body in ["1", "2", "3"] {
        let locked = queue.lock().await?;
        expect(locked.body().as_str(), body, "the body")?;
        locked.delete_message().await?;
        let again = locked.delete_message().await;
        expect_status(again, StatusCode::NotFound, "what is completed already")?;
    }
    queue.expect_empty().await
}

async fn abandon(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("abandon"))?;
    queue.send_all(&["1", "2"]).await?;
    let locked = queue.lock().await?;
    locked.unlock_message().await?;
    let again = queue.lock().await?;
    expect((again.body().as_str(), count(&again)?), ("1", 2), "body and count")?;
    again.delete_message().await?;
    expect(queue.take().await?.as_str(), "2", "the next")
}

async fn max_delivery(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("max-delivery"))?;
    queue.send("1", None).await?;
    for number in 1..=3 {
        let locked = queue.lock().await?;
        expect(count(&locked)?, number, "the count")?;
        locked.unlock_message().await?;
    }
    queue.expect_empty().await?;
    let dead = broker.queue(&format!("{}/$DeadLetterQueue", queue_of("max-delivery")))?;
    let locked = dead.lock().await?;
    let reason = Custom::of(&locked)?.get("deadletterreason");
    expect(reason.as_deref(), Some("\"MaxDeliveryCountExceeded\""), "the reason")?;
    locked.delete_message().await?;
    Ok(())
}

async fn lock_renewal(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("lock-renewal"))?;
    queue.send("1", None).await?;
    let locked = queue.lock().await?;
    for _ in 0..2 {
        sleep(Duration::from_secs(3)).await;
        locked.renew_message_lock().await?;
    }
    locked.delete_message().await?;
    queue.expect_empty().await
}

async fn lock_expiry(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("lock-expiry"))?;
    queue.send("1", None).await?;
    let locked = queue.lock().await?;
    let again = queue.lock().await?;
    expect((again.body().as_str(), count(&again)?), ("1", 2), "body and count")?;
    expect_status(locked.delete_message().await, StatusCode::NotFound, "a lock that ended")?;
    expect_status(locked.renew_message_lock().await, StatusCode::NotFound, "a lock that ended")?;
    again.delete_message().await?;
    Ok(())
}

async fn receive_and_delete(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("receive-and-delete"))?;
    queue.send_all(&["1", "2"]).await?;
    expect(queue.0.receive_and_delete_message().await?.as_str(), "1", "the body")?;
    expect(queue.0.receive_and_delete_message().await?.as_str(), "2", "the body")?;
    queue.expect_empty().await
}

async fn wrong_key(broker: Broker) -> Result {
    let name = queue_of("wrong-key");
    let queue = broker.queue_with(&name, "another")?.0;
    let sent = queue.send_message("1", None).await;
    expect_status(sent, StatusCode::Unauthorized, "a send with a wrong key")?;
    let taken = queue.receive_and_delete_message().await;
    expect_status(taken, StatusCode::Unauthorized, "a receive with a wrong key")?;
    broker.queue(&name)?.expect_empty().await
}

async fn missing_entity(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("none"))?.0;
    expect_status(queue.send_message("1", None).await, StatusCode::NotFound, "a send")?;
    let taken = queue.receive_and_delete_message().await;
    expect_status(taken, StatusCode::NotFound, "a receive")
}

async fn oversize(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("oversize"))?;
    let body = "x".repeat(1_500_000);
    let sent = queue.0.send_message(&body, None).await;
    expect_status(sent, StatusCode::Forbidden, "a message that is too large")?;
    queue.send("small", None).await?;
    expect(queue.take().await?.as_str(), "small", "the body")
}

async fn schedule(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("schedule"))?;
    let due = OffsetDateTime::now_utc() + Duration::from_secs(3);
    let later = broker_properties(SettableBrokerProperties {
        scheduled_enqueue_time_utc: Some(due),
        ..Default::default()
    });
    queue.send("later", later).await?;
    queue.expect_empty().await?;
    let locked = queue.lock().await?;
    expect(locked.body().as_str(), "later", "the body")?;
    // The time that was asked for has no fraction of a second.
    let early = due - OffsetDateTime::now_utc();
    expect(early.whole_seconds(), 0, "seconds too early")?;
    locked.delete_message().await?;
    Ok(())
}

async fn duplicates(broker: Broker) -> Result {
    let queue = broker.queue(&queue_of("duplicates"))?;
    for _ in 0..2 {
        let once = broker_properties(SettableBrokerProperties {
            message_id: Some("once".to_owned()),
            ..Default::default()
        });
        queue.send("1", once).await?;
    }
    expect(queue.take().await?.as_str(), "1", "the body")?;
    queue.expect_empty().await
}

async fn time_to_live(broker: Broker) -> Result {
    let name = queue_of("time-to-live");
    let queue = broker.queue(&name)?;
    let short = broker_properties(SettableBrokerProperties {
        time_to_live: Some(EMPTY),
        ..Default::default()
    });
    queue.send("short", short).await?;
    queue.send("long", None).await?;
    let dead = broker.queue(&format!("{name}/$DeadLetterQueue"))?;
    for body in ["short", "long"] {
        let locked = dead.lock().await?;
        let reason = Custom::of(&locked)?.get("deadletterreason");
        expect(locked.body().as_str(), body, "the body")?;
        expect(reason.as_deref(), Some("\"TTLExpiredException\""), "the reason")?;
        locked.delete_message().await?;
    }
    queue.expect_empty().await
}

async fn forward(broker: Broker) -> Result {
    broker.queue(&queue_of("forward"))?.send("1", None).await?;
    let target = broker.queue(&queue_of("forward.target"))?;
    expect(target.take().await?.as_str(), "1", "the body")?;
    let source = broker.queue(&queue_of("forward"))?.0;
    let taken = source.receive_and_delete_message().await;
    expect_status(taken, StatusCode::BadRequest, "a receive where messages go on")
}

async fn publish(broker: Broker) -> Result {
    let topic = broker.topic(&queue_of("publish"))?;
    for body in ["1", "2"] {
        topic.topic_sender().send_message(body, None).await?;
    }
    for name in ["a", "b"] {
        let subscription = topic.subscription_receiver(name);
        for body in ["1", "2"] {
            let locked = subscription.peek_lock_message2(Some(EMPTY)).await?;
            expect(locked.body().as_str(), body, "the body")?;
            locked.delete_message().await?;
        }
    }
    let none = topic.subscription_receiver("none");
    let taken = none.receive_and_delete_message().await;
    expect_status(taken, StatusCode::NotFound, "a receive of a subscription that is not there")
}

async fn filters(broker: Broker) -> Result {
    let topic = broker.topic(&queue_of("filters"))?;
    let message = |label: &str, size: &str| SendMessageOptions {
        custom_properties: Some(custom(&[("size", size)])),
        ..broker_properties(SettableBrokerProperties {
            label: Some(label.to_owned()),
            ..Default::default()
        })
    };
    topic.topic_sender().send_message("red 7", Some(message("red", "7"))).await?;
    topic.topic_sender().send_message("blue 9", Some(message("blue", "9"))).await?;
    topic.topic_sender().send_message("plain", None).await?;
    for (name, bodies) in [
        ("everything", &["red 7", "blue 9", "plain"][..]),
        ("nothing", &[]),
        ("sql", &["blue 9"]),
        ("missing", &["plain"]),
        ("correlation", &["red 7"]),
        ("typed", &["red 7"]),
    ] {
        let subscription = topic.subscription_receiver(name);
        let mut found = Vec::new();
        loop {
            let locked = subscription.peek_lock_message2(Some(Duration::ZERO)).await?;
            if *locked.status() == StatusCode::NoContent {
                break;
            }
            found.push(locked.body());
        }
        let wanted: Vec<String> = bodies.iter().map(|body| (*body).to_owned()).collect();
        expect(found, wanted, name)?;
    }
    Ok(())
}

async fn subscription_delete(broker: Broker) -> Result {
    let topic = broker.topic(&queue_of("subscription-delete"))?;
    topic.topic_sender().send_message("1", None).await?;
    let subscription = topic.subscription_receiver("a");
    expect(subscription.receive_and_delete_message().await?.as_str(), "1", "the body")?;
    let locked = subscription.peek_lock_message2(Some(EMPTY)).await?;
    expect(*locked.status(), StatusCode::NoContent, "the status where there is nothing")
}
