//! What a plain AMQP client can say of message sessions, schedules, duplicates, lifetimes and
//! transactions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::transaction::{
    Controller, Transaction, TransactionDischarge as _, TransactionPosting as _,
    TransactionRetirement as _,
};
use fe2o3_amqp_types::definitions::Fields;
use fe2o3_amqp_types::messaging::{
    AmqpValue, Header, Message, MessageAnnotations, Outcome, Properties, Source,
};
use serde_amqp::Value;
use serde_amqp::primitives::{Symbol, Timestamp};
use tokio::time::{sleep, timeout};

use crate::{
    ANSWER, Broker, Client, DEAD, Received, Result, count, expect, expect_accepted, modified, one,
    property, queue_of, text,
};

const SESSION: &str = "com.microsoft:session-filter";

pub(crate) type Sent = Message<AmqpValue<String>>;

pub(crate) fn message(body: &str) -> Sent {
    Message::builder().value(body.to_owned()).build()
}

pub(crate) fn in_session(session: &str, body: &str) -> Sent {
    let properties = Properties::builder().group_id(session.to_owned()).build();
    Message::builder().properties(properties).value(body.to_owned()).build()
}

fn named(id: &str, body: &str) -> Sent {
    let properties = Properties::builder().message_id(id.to_owned()).build();
    Message::builder().properties(properties).value(body.to_owned()).build()
}

impl Client {
    pub(crate) async fn send_all(&mut self, queue: &str, messages: Vec<Sent>) -> Result {
        let mut sender = self.sender(queue).await?;
        for message in messages {
            expect_accepted(&timeout(ANSWER, sender.send(message)).await??)?;
        }
        sender.close().await?;
        Ok(())
    }

    /// This session, or the next one that the broker finds within two seconds.
    pub(crate) async fn session(&mut self, queue: &str, name: Option<&str>) -> Result<Receiver> {
        let filter = name.map_or(Value::Null, |name| Value::String(name.to_owned()));
        let source = Source::builder()
            .address(queue)
            .add_to_filter_using_legacy_format(SESSION, filter)
            .build();
        let mut properties = Fields::new();
        if name.is_none() {
            properties.insert(Symbol::from("com.microsoft:timeout"), Value::Uint(2000));
        }
        let attach = Receiver::builder()
            .name(self.link_name())
            .source(source)
            .properties(properties)
            .credit_mode(CreditMode::Manual)
            .attach(&mut self.session);
        Ok(timeout(ANSWER, attach).await??)
    }
}

pub(crate) fn session_of(receiver: &Receiver) -> Option<&str> {
    let filters = receiver.source().as_ref()?.filter.as_ref()?;
    match filters.get(&Symbol::from(SESSION))? {
        Value::String(name) => Some(name),
        _ => None,
    }
}

/// The client may forget a refused link before it has read why: see the scenario of a missing entity.
pub(crate) fn expect_refused(receiver: Result<Receiver>, condition: &str) -> Result {
    let error = receiver.err().ok_or_else(|| format!("no {condition}"))?;
    let shown = format!("{error:?}");
    let why = shown.contains(condition) || shown == "IllegalState";
    expect(why, true, &format!("the error {shown}"))
}

pub(crate) async fn session_named(broker: Broker) -> Result {
    let queue = queue_of("session-named");
    let mut client = broker.connect().await?;
    let pairs = [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")];
    let messages = pairs.iter().map(|(session, body)| in_session(session, body)).collect();
    client.send_all(&queue, messages).await?;
    let mut receiver = client.session(&queue, Some("b")).await?;
    expect(session_of(&receiver), Some("b"), "session")?;
    for wanted in ["b1", "b2"] {
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), wanted, "body")?;
        receiver.accept(&delivery).await?;
    }
    let mut other = broker.connect().await?;
    expect_refused(other.session(&queue, Some("b")).await, "session-cannot-be-locked")?;
    receiver.close().await?;
    let mut receiver = client.session(&queue, Some("a")).await?;
    let delivery = one(&mut receiver).await?;
    expect((text(&delivery)?.as_str(), count(&delivery)), ("a1", 0), "body, count")?;
    receiver.modify(&delivery, modified(true)).await?;
    for wanted in [("a1", 1), ("a2", 0)] {
        let delivery = one(&mut receiver).await?;
        expect((text(&delivery)?.as_str(), count(&delivery)), wanted, "body, count")?;
        receiver.accept(&delivery).await?;
    }
    receiver.close().await?;
    let mut other = broker.connect().await?;
    expect_refused(other.receiver(&queue).await, "NotAllowed")?;
    let mut sender = client.sender(&queue).await?;
    match timeout(ANSWER, sender.send(message("of no session"))).await?? {
        Outcome::Rejected(_) => {}
        outcome => return Err(format!("another outcome: {outcome:?}").into()),
    }
    client.close().await
}

pub(crate) async fn session_next(broker: Broker) -> Result {
    let queue = queue_of("session-next");
    let mut waiting = broker.connect().await?;
    expect_refused(waiting.session(&queue, None).await, "com.microsoft:timeout")?;
    let mut client = broker.connect().await?;
    let messages = vec![in_session("x", "x1"), in_session("y", "y1")];
    client.send_all(&queue, messages).await?;
    let mut first = client.session(&queue, None).await?;
    let mut second = client.session(&queue, None).await?;
    let names = (session_of(&first), session_of(&second));
    expect(names, (Some("x"), Some("y")), "sessions")?;
    let delivery = one(&mut first).await?;
    expect(text(&delivery)?.as_str(), "x1", "body")?;
    first.accept(&delivery).await?;
    let delivery = one(&mut second).await?;
    expect(text(&delivery)?.as_str(), "y1", "body")?;
    first.close().await?;
    // Closed without settling.
    second.close().await?;
    let mut again = client.session(&queue, None).await?;
    expect(session_of(&again), Some("y"), "session")?;
    let delivery = one(&mut again).await?;
    expect((text(&delivery)?.as_str(), count(&delivery)), ("y1", 0), "body, count")?;
    again.accept(&delivery).await?;
    again.close().await?;
    client.close().await
}

fn enqueued(delivery: &Received) -> Result<i64> {
    let annotations = delivery.message().message_annotations.as_ref().ok_or("no annotations")?;
    let key = Symbol::from("x-opt-enqueued-time");
    match annotations.0.iter().find(|(name, _)| **name == key.clone().into()) {
        Some((_, Value::Timestamp(time))) => Ok(time.milliseconds()),
        other => Err(format!("enqueued: {other:?}").into()),
    }
}

pub(crate) async fn schedule(broker: Broker) -> Result {
    let queue = queue_of("schedule");
    let mut client = broker.connect().await?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let due = now + 3000;
    let mut messages = Vec::new();
    for (body, at) in [("later", due + 1000), ("sooner", due), ("at once", now - 1000)] {
        let mut scheduled = message(body);
        let time = Timestamp::from_milliseconds(at);
        let annotations =
            MessageAnnotations::builder().insert("x-opt-scheduled-enqueue-time", time).build();
        scheduled.message_annotations = Some(annotations);
        messages.push(scheduled);
    }
    client.send_all(&queue, messages).await?;
    let mut receiver = client.receiver(&queue).await?;
    for (wanted, earliest) in [("at once", now), ("sooner", due), ("later", due + 1000)] {
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), wanted, "body")?;
        expect(enqueued(&delivery)? >= earliest, true, "enqueued when it was due")?;
        receiver.accept(&delivery).await?;
    }
    client.expect_empty(&queue).await?;
    client.close().await
}

/// The queue remembers ids for a minute.
pub(crate) async fn duplicates(broker: Broker) -> Result {
    let queue = queue_of("duplicates");
    let mut client = broker.connect().await?;
    let messages = ["a", "b", "a", "c", "b"].map(|id| named(id, id)).into();
    client.send_all(&queue, messages).await?;
    let mut receiver = client.receiver(&queue).await?;
    for wanted in ["a", "b", "c"] {
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), wanted, "body")?;
        receiver.accept(&delivery).await?;
    }
    client.send_all(&queue, vec![named("a", "after completion")]).await?;
    client.expect_empty(&queue).await?;
    client.close().await
}

/// Messages of the queue live for three seconds at most, and end in the dead-letter queue.
pub(crate) async fn time_to_live(broker: Broker) -> Result {
    let queue = queue_of("time-to-live");
    let mut client = broker.connect().await?;
    let mut messages = Vec::new();
    for (body, ttl) in [("short", Some(1000)), ("long", Some(3_600_000)), ("unset", None)] {
        let mut limited = message(body);
        limited.header = Some(Header { ttl, ..Header::default() });
        messages.push(limited);
    }
    client.send_all(&queue, messages).await?;
    sleep(Duration::from_secs(4)).await;
    client.expect_empty(&queue).await?;
    let dead_queue = format!("{queue}{DEAD}");
    let mut dead = client.receiver(&dead_queue).await?;
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let delivery = one(&mut dead).await?;
        let reason = property(&delivery, "DeadLetterReason");
        expect(reason.as_deref(), Some("TTLExpiredException"), "reason")?;
        bodies.push(text(&delivery)?);
        dead.accept(&delivery).await?;
    }
    bodies.sort();
    expect(bodies, ["long", "short", "unset"].map(str::to_owned).to_vec(), "dead letters")?;
    client.expect_empty(&dead_queue).await?;
    client.close().await
}

/// Takes a message of one queue and sends to another, rolled back and then committed. The queue locks
/// for five seconds, after which the message of the first round is there again.
pub(crate) async fn transaction(broker: Broker) -> Result {
    let (queue, results) = (queue_of("transaction"), queue_of("transaction.results"));
    let mut client = broker.connect().await?;
    client.send_bodies(&queue, &["work"]).await?;
    let attach = Controller::attach(&mut client.session, "transactions");
    let controller = timeout(ANSWER, attach).await??;
    let mut sender = client.sender(&results).await?;
    let mut receiver = client.receiver(&queue).await?;
    for commit in [false, true] {
        let delivery = one(&mut receiver).await?;
        expect(text(&delivery)?.as_str(), "work", "body")?;
        let work = timeout(ANSWER, Transaction::declare(&controller, None)).await??;
        let result = message(if commit { "committed" } else { "rolled back" });
        expect_accepted(&timeout(ANSWER, work.post(&mut sender, result)).await??)?;
        work.accept(&mut receiver, &delivery).await?;
        client.expect_empty(&results).await?;
        if commit {
            timeout(ANSWER, work.commit()).await??;
        } else {
            timeout(ANSWER, work.rollback()).await??;
        }
    }
    client.expect_empty(&queue).await?;
    let mut receiver = client.receiver(&results).await?;
    let delivery = one(&mut receiver).await?;
    expect(text(&delivery)?.as_str(), "committed", "body")?;
    receiver.accept(&delivery).await?;
    client.expect_empty(&results).await?;
    controller.close().await?;
    client.close().await
}
