//! What one identity may take of the broker, and what happens to who takes more.

use peeklock_protocol::DeliveryState;
use peeklock_protocol::performative::Performative;
use peeklock_tests::TestBroker;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;

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
