//! Topics: to publish and to receive takes no more than plain AMQP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fe2o3_amqp_types::definitions::{ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::messaging::{ApplicationProperties, MessageAnnotations, Properties};
use fe2o3_amqp_types::primitives::SimpleValue;
use serde_amqp::primitives::Timestamp;

use crate::features::{Sent, expect_refused, in_session, message, session_of};
use crate::{
    Broker, Client, DEAD, Received, Result, count, expect, modified, one, property,
    queue_of as topic_of, text,
};

fn of(topic: &str, subscription: &str) -> String {
    format!("{topic}/Subscriptions/{subscription}")
}

impl Client {
    /// What is there, which has to be that many messages and no more.
    async fn taken(&mut self, address: &str, count: usize) -> Result<Vec<Received>> {
        let mut receiver = self.receiver(address).await?;
        let mut deliveries = Vec::new();
        for _ in 0..count {
            let delivery = one(&mut receiver).await?;
            receiver.accept(&delivery).await?;
            deliveries.push(delivery);
        }
        receiver.close().await?;
        self.expect_empty(address).await?;
        Ok(deliveries)
    }

    async fn expect_bodies(&mut self, address: &str, wanted: &[&str]) -> Result {
        let found = self.taken(address, wanted.len()).await?;
        let found = found.iter().map(text).collect::<Result<Vec<_>>>()?;
        let wanted: Vec<_> = wanted.iter().map(|text| (*text).to_owned()).collect();
        expect(found, wanted, address)
    }
}

fn sized(body: &str, size: i32, colour: &str) -> Sent {
    let mut sized = message(body);
    sized.properties = Some(Properties::builder().subject(colour.to_owned()).build());
    let properties = ApplicationProperties::builder().insert("size", SimpleValue::Int(size));
    sized.application_properties = Some(properties.build());
    sized
}

pub(crate) async fn publish(broker: Broker) -> Result {
    let topic = topic_of("publish");
    let mut client = broker.connect().await?;
    client.send_bodies(&topic, &["1", "2"]).await?;
    for address in [of(&topic, "a"), format!("{topic}/subscriptions/B")] {
        client.expect_bodies(&address, &["1", "2"]).await?;
    }
    for address in [topic.clone(), of(&topic, "none")] {
        let mut other = broker.connect().await?;
        expect_refused(other.receiver(&address).await, "NotFound")?;
    }
    client.close().await
}

pub(crate) async fn publish_scheduled(broker: Broker) -> Result {
    let topic = topic_of("publish-scheduled");
    let mut client = broker.connect().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(3);
    let due = Timestamp::from_milliseconds(i64::try_from(now.as_millis())?);
    let mut later = message("later");
    let scheduled = MessageAnnotations::builder().insert("x-opt-scheduled-enqueue-time", due);
    later.message_annotations = Some(scheduled.build());
    client.send_all(&topic, vec![later, message("at once")]).await?;
    client.expect_bodies(&of(&topic, "a"), &["at once", "later"]).await?;
    client.close().await
}

pub(crate) async fn filters(broker: Broker) -> Result {
    let topic = topic_of("filters");
    let mut client = broker.connect().await?;
    let messages = vec![
        sized("one", 1, "red"),
        sized("seven", 7, "blue"),
        sized("eight", 8, "red"),
        message("none"),
    ];
    client.send_all(&topic, messages).await?;
    for (name, wanted) in [
        ("everything", &["one", "seven", "eight", "none"][..]),
        ("nothing", &[]),
        ("sql", &["seven"]),
        ("missing", &["none"]),
        ("correlation", &["one", "eight"]),
        ("typed", &["seven"]),
    ] {
        client.expect_bodies(&of(&topic, name), wanted).await?;
    }
    client.close().await
}

pub(crate) async fn actions(broker: Broker) -> Result {
    let topic = topic_of("actions");
    let mut client = broker.connect().await?;
    client.send_all(&topic, vec![sized("small", 1, "red"), sized("big", 7, "blue")]).await?;
    let copies = client.taken(&of(&topic, "a"), 2).await?;
    let mut rules: Vec<_> = copies.iter().map(|copy| property(copy, "RuleName")).collect();
    rules.sort();
    expect(rules, vec![None, Some("double".to_owned())], "rules")?;
    let mut sizes: Vec<_> = copies.iter().map(|copy| property(copy, "size")).collect();
    sizes.sort();
    // 2 is a long in SQL, and so is what comes of it.
    expect(sizes, vec![Some("Int(7)".to_owned()), Some("Long(14)".to_owned())], "sizes")?;
    client.close().await
}

pub(crate) async fn subscription_delete(broker: Broker) -> Result {
    let topic = topic_of("subscription-delete");
    let mut client = broker.connect().await?;
    client.send_bodies(&topic, &["1", "2"]).await?;
    let address = of(&topic, "a");
    let (settled, first) = (SenderSettleMode::Settled, ReceiverSettleMode::First);
    let mut receiver = client.receiver_with(&address, settled, first).await?;
    for wanted in ["1", "2"] {
        expect(text(&one(&mut receiver).await?)?.as_str(), wanted, "body")?;
    }
    receiver.close().await?;
    client.expect_empty(&address).await?;
    client.close().await
}

/// The subscription allows two deliveries.
pub(crate) async fn subscription_dead_letter(broker: Broker) -> Result {
    let topic = topic_of("subscription-dead-letter");
    let mut client = broker.connect().await?;
    client.send_bodies(&topic, &["poison", "good"]).await?;
    let address = of(&topic, "a");
    let mut receiver = client.receiver(&address).await?;
    for failed in 0..2 {
        let delivery = one(&mut receiver).await?;
        expect((text(&delivery)?.as_str(), count(&delivery)), ("poison", failed), "body, count")?;
        receiver.modify(&delivery, modified(true)).await?;
    }
    receiver.close().await?;
    client.expect_bodies(&address, &["good"]).await?;
    let dead = client.taken(&format!("{address}{DEAD}"), 1).await?;
    let reason = property(&dead[0], "DeadLetterReason");
    expect(reason.as_deref(), Some("MaxDeliveryCountExceeded"), "reason")?;
    client.expect_bodies(&of(&topic, "b"), &["poison", "good"]).await?;
    client.close().await
}

pub(crate) async fn subscription_sessions(broker: Broker) -> Result {
    let topic = topic_of("subscription-sessions");
    let mut client = broker.connect().await?;
    let pairs = [("x", "x1"), ("y", "y1"), ("x", "x2")];
    let messages = pairs.iter().map(|(session, body)| in_session(session, body)).collect();
    client.send_all(&topic, messages).await?;
    let address = of(&topic, "a");
    for (asked, given, bodies) in [(Some("x"), "x", &["x1", "x2"][..]), (None, "y", &["y1"])] {
        let mut receiver = client.session(&address, asked).await?;
        expect(session_of(&receiver), Some(given), "session")?;
        for wanted in bodies {
            let delivery = one(&mut receiver).await?;
            expect(text(&delivery)?.as_str(), *wanted, "body")?;
            receiver.accept(&delivery).await?;
        }
        receiver.close().await?;
    }
    client.close().await
}

/// One subscription forwards to a queue, the other to a topic that takes what is big.
pub(crate) async fn subscription_forward(broker: Broker) -> Result {
    let topic = topic_of("subscription-forward");
    let mut client = broker.connect().await?;
    client.send_all(&topic, vec![sized("small", 1, "red"), sized("big", 7, "blue")]).await?;
    client.expect_bodies(&format!("{topic}.queue"), &["small", "big"]).await?;
    client.expect_bodies(&of(&format!("{topic}.topic"), "end"), &["big"]).await?;
    client.close().await
}
