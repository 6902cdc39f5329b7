//! What one identity, and one connection, may take of the broker, and what happens to who takes more.

use peeklock_protocol::DeliveryState;
use peeklock_protocol::performative::Performative;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::http::HttpClient;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::raw::frame_header;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::{Peer, TestBroker};

const RESOURCE_LIMIT_EXCEEDED: &str = "amqp:resource-limit-exceeded";
const SERVER_BUSY: &str = "com.microsoft:server-busy";

fn limited(limits: &str) -> TestBroker {
    let config = format!("[limits]\n{limits}");
    TestBroker::with().queue("q", "").config(&config).start()
}

/// All who log in with the same key are one.
#[test]
fn connections_of_an_identity_are_counted() {
    let broker = limited("connections_per_identity = 2");
    let (first, second) = (broker.peer(), broker.peer());
    let mut third = broker.connect().plain(DEV_RULE, DEV_KEY).open();
    third.expect_close(RESOURCE_LIMIT_EXCEEDED);
    first.close();
    broker.peer().send_texts("q", &["there is room for another one"]);
    second.close();
}

/// Over all its connections.
#[test]
fn links_of_an_identity_are_counted() {
    let broker = limited("links_per_identity = 3");
    let (mut first, mut second) = (broker.peer(), broker.peer());
    let link = first.attach_sender("q");
    first.attach_receiver("q");
    second.attach_receiver("q");
    second.expect_refusal(sender("q"), RESOURCE_LIMIT_EXCEEDED);
    second.expect_refusal(receiver("q"), RESOURCE_LIMIT_EXCEEDED);
    first.detach(&link);
    second.attach_sender("q");
}

/// Who uses up the credit that it is given is never refused, only made to wait for more.
#[test]
fn messages_beyond_the_rate_of_an_identity_wait_for_credit() {
    let broker = limited("sends_per_second_per_identity = 20");
    let mut peer = broker.peer();
    let mut link = peer.attach(sender("q"));
    let message = Message::data("x").encode();
    let (mut sent, mut allowed, mut accepted) = (0, 0, 0);
    while accepted < 60 {
        while sent < allowed {
            peer.transfer(&mut link, &message);
            sent += 1;
        }
        match peer.performative() {
            Performative::Flow(flow) => {
                let count = flow.delivery_count.unwrap_or_default();
                let credit = flow.link_credit.unwrap_or_default();
                assert!(credit <= 20, "a second's worth: {flow:?}");
                allowed = count.0 + credit;
            }
            Performative::Disposition(settled) => {
                assert_eq!(settled.state, Some(DeliveryState::Accepted));
                let last = settled.last.unwrap_or(settled.first);
                accepted += last.0 - settled.first.0 + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(20 <= sent, "{sent}");
}

/// Messages that come in batches are counted one by one.
#[test]
fn a_flood_of_messages_is_refused_and_told_to_try_again() {
    let broker = limited("sends_per_second_per_identity = 1");
    let (mut peer, mut other) = (broker.peer(), broker.peer());
    let (mut link, mut second) = (peer.attach_sender("q"), other.attach_sender("q"));
    let batch: Vec<_> = (0..1000).map(|_| Message::data("x").encode()).collect();
    let id = peer.transfer_batch(&mut link, &batch);
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    let id = other.transfer(&mut second, &batch[0]);
    other.expect_rejected(id, SERVER_BUSY);
}

const SEND: &str = "/q/messages";
const BATCH: (&str, &str) = ("Content-Type", "application/vnd.microsoft.servicebus.json");
const HITS: &str = "peeklock_limit_hits_total{limit=\"send_rate_per_identity\"}";

fn batch_of_json(count: usize) -> String {
    format!("[{}]", vec![r#"{"Body":"x"}"#; count].join(","))
}

/// A broker where nobody may send much, with somebody besides the well-known identity.
fn slow() -> TestBroker {
    let setup = TestBroker::with().queue("q", "").rule("other", "k", "[\"send\"]");
    setup.config("[limits]\nsends_per_second_per_identity = 1").start()
}

/// Sends a thousand seconds' worth over HTTP.
#[track_caller]
fn go_into_debt(broker: &TestBroker) {
    let batch = batch_of_json(1000);
    broker.http().ask("POST", SEND, &[BATCH], batch.as_bytes()).expect(201);
}

/// It is the identity that is slow, not the broker.
#[test]
fn messages_over_http_beyond_the_rate_of_an_identity_are_refused() {
    let broker = slow();
    go_into_debt(&broker);
    let mut client = broker.http();
    for (headers, body) in [(&[][..], "x".to_owned()), (&[BATCH], batch_of_json(2))] {
        let answer = client.ask("POST", SEND, headers, body.as_bytes()).expect(429);
        let seconds = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
        assert!(seconds.is_some_and(|seconds| (500..1000).contains(&seconds)), "{seconds:?}");
        assert!(answer.text().contains("SubCode=50004."), "{}", answer.text());
    }
    assert_eq!(broker.sample(HITS), 2);
    let mut other = HttpClient::connect(broker.address()).rule("other", "k", "");
    other.ask("POST", SEND, &[], b"x").expect(201);
    // Only sending is slow.
    client.ask("DELETE", "/q/messages/head", &[], b"").expect(200);
    broker.assert_nothing_above_info_was_logged();
}

#[track_caller]
fn schedule(peer: &mut Peer, management: &mut Requests, count: usize) -> Answer {
    let message = Message::data("x").encode();
    let entry = Map::new().with("message-id", "m").with("message", message);
    let body = Map::new().with("messages", vec![Value::Map(entry); count]);
    peer.manage(management, "com.microsoft:schedule-message", body)
}

/// Whoever has sent too much over HTTP has so over AMQP, by links and by requests.
#[test]
fn messages_of_all_doors_are_counted_together() {
    let broker = slow();
    let mut peer = broker.peer();
    let (mut link, mut management) = (peer.attach_sender("q"), peer.open_management("q"));
    go_into_debt(&broker);
    let answer = schedule(&mut peer, &mut management, 1);
    assert_eq!((answer.status, answer.condition()), (503, SERVER_BUSY));
    assert_eq!(broker.sample(HITS), 1);
    let id = peer.transfer(&mut link, &Message::data("x").encode());
    peer.expect_rejected(id, SERVER_BUSY);
    assert_eq!(broker.sample(HITS), 2);

    // And the other way round.
    let mut other = broker.connect().plain("other", "k").open().begin();
    let mut management = other.open_management("q");
    let answer = schedule(&mut other, &mut management, 1000);
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut client = HttpClient::connect(broker.address()).rule("other", "k", "");
    client.ask("POST", SEND, &[], b"x").expect(429);
}

const HELD: &str = "peeklock_memory_bytes{owner=\"connections\"}";

/// A frame is kept until its last octet is there, so what has come of it counts.
#[test]
fn a_part_of_a_frame_counts_as_memory_of_its_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.write(&frame_header(200_000, 2, 0));
    peer.write(&vec![0; 100_000]);
    broker.await_sample(HELD, |held| 100_000 <= held);
    drop(peer);
    broker.await_sample(HELD, |held| held == 0);
}

/// Thousands of them may wait for hours, each after something large.
#[test]
fn a_connection_that_is_quiet_gives_its_memory_back() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let id = peer.transfer(&mut link, &Message::data(vec![b'x'; 200_000]).encode());
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    broker.await_sample(HELD, |held| held != 0);
    broker.await_sample(HELD, |held| held == 0);
    peer.close();
}
