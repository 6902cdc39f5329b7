//! Subscriptions as qpid-jms makes, shares, leaves and deletes them: by the names and capabilities of
//! links.

use peeklock_protocol::condition;
use peeklock_protocol::condition::ErrorInfo;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{
    Attach, Detach, Open, ReceiverSettleMode, Role, SenderSettleMode,
};
use peeklock_protocol::terminus::{ExpiryPolicy, Source, TargetNode, TerminusDurability};
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::link::{Link, disposition, receiver};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, raw};

use crate::jms::{drain, selector, send_colors, source, symbols, wait_until_gone};

const NO_LOCAL: u64 = 0x0000_468c_0000_0003;
const OWN: &str = "t/Subscriptions/sub$tests$D";

fn start() -> TestBroker {
    TestBroker::with()
        .config("[[topic]]\nname = \"t\"\n[[topic]]\nname = \"u\"\n")
        .queue("q", "")
        .start()
}

/// A subscriber of a topic, whose link has this name, with these capabilities besides that of a topic.
fn subscriber(name: &str, capabilities: &[&'static str], durable: bool) -> Attach {
    let capabilities: Vec<_> = ["topic"].iter().chain(capabilities).copied().collect();
    let source = Source { capabilities: Some(symbols(&capabilities)), ..source("t", "topic") };
    let source = if durable {
        Source {
            durable: TerminusDurability::UnsettledState,
            expiry_policy: ExpiryPolicy::Never,
            distribution_mode: Some(Symbol::from_static("copy")),
            ..source
        }
    } else {
        Source { expiry_policy: ExpiryPolicy::LinkDetach, ..source }
    };
    Attach {
        name: name.into(),
        source: Some(source.into()),
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        ..receiver("t")
    }
}

fn with_selector(attach: Attach, text: &str) -> Attach {
    let source = attach.source.as_ref().expect("a source").view().clone();
    Attach { source: Some(source.with_filter(selector(text)).into()), ..attach }
}

/// An attach without a source, by which qpid-jms finds the subscription to delete.
fn lookup(name: &str, desired: &[&'static str]) -> Attach {
    Attach {
        name: name.into(),
        target: Some(TargetNode::default().into()),
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        desired_capabilities: Some(symbols(desired)),
        ..Attach::new(name, 0, Role::Receiver)
    }
}

/// Leaves a link that may be come back to, as the consumer of a durable subscription does.
fn leave(peer: &mut Peer, link: &Link) {
    peer.send(Detach { handle: link.handle, closed: false, error: None });
    let answer: Detach = peer.find();
    assert_eq!(answer, Detach { handle: link.remote_handle, closed: false, error: None });
}

/// Accepts what comes, settled at once, as qpid-jms does.
fn take(peer: &mut Peer, link: &mut Link, credit: u32) -> Vec<String> {
    let received = peer.drain(link, credit);
    for one in &received {
        assert!(!one.settled);
        peer.send(disposition(one.id, DeliveryState::Accepted, true));
    }
    received.iter().map(peeklock_tests::link::Received::text).collect()
}

fn peer_of(broker: &TestBroker, container: &str) -> Peer {
    let open = Open { container_id: container.into(), ..Open::default() };
    broker.connect().plain(DEV_RULE, DEV_KEY).open_with(open).begin()
}

/// "durable unshared subscription: link name = subscription name, source durable 2, expiry-policy
/// never"; "detach closed=false keeps the subscription".
#[test]
fn a_durable_subscription_is_there_while_its_subscriber_is_not() {
    let broker = start();
    let mut peer = broker.peer();
    let attach = subscriber("sub", &[], true);
    let mut link = peer.attach_for_receiving(attach.clone());
    assert_eq!(link.reply.source, attach.source, "the source as it was asked for");
    send_colors(&mut peer, "t", &["blue", "red"]);
    assert_eq!(take(&mut peer, &mut link, 5), ["0", "1"]);
    leave(&mut peer, &link);
    send_colors(&mut peer, "t", &["green"]);
    peer.close();
    let mut peer = broker.peer();
    send_colors(&mut peer, "t", &["red"]);
    let mut link = peer.attach_for_receiving(attach);
    assert_eq!(take(&mut peer, &mut link, 5), ["0", "0"]);
    // It is a subscription like others, under the name of Service Bus.
    send_colors(&mut peer, "t", &["red"]);
    let mut other = peer.attach_receiver(OWN);
    assert_eq!(take(&mut peer, &mut other, 5), ["0"]);
    // A link that is closed keeps it as well: only those that look it up delete it.
    peer.detach(&link);
    send_colors(&mut peer, "t", &["red"]);
    assert_eq!(take(&mut peer, &mut other, 5), ["0"]);
}

/// JMS: a subscription of one's own is the client's, by its id. Here the id of the container.
#[test]
fn another_client_has_another_subscription() {
    let broker = start();
    let mut one = peer_of(&broker, "one");
    let mut other = peer_of(&broker, "ID:other-1:1");
    let mut links = [&mut one, &mut other].map(|peer| {
        let link = peer.attach_for_receiving(subscriber("sub", &[], true));
        leave(peer, &link);
        link
    });
    send_colors(&mut one, "t", &["red"]);
    for (peer, link) in [&mut one, &mut other].into_iter().zip(&mut links) {
        *link = peer.attach_for_receiving(subscriber("sub", &[], true));
        assert_eq!(take(peer, link, 5), ["0"]);
    }
    // A second one of the same client is refused while there is one.
    let mut same = peer_of(&broker, "one");
    same.expect_refusal(subscriber("sub", &[], true), condition::RESOURCE_LOCKED);
}

/// The selector is a rule of the subscription: what it does not let through is not kept for it. Another
/// selector makes another subscription.
#[test]
fn a_selector_decides_what_a_subscription_gets() {
    let broker = start();
    let mut peer = broker.peer();
    let attach = with_selector(subscriber("sub", &[], true), "color = 'red'");
    let mut link = peer.attach_for_receiving(attach.clone());
    assert_eq!(link.reply.source, attach.source);
    send_colors(&mut peer, "t", &["blue", "red", "blue"]);
    let mut all = peer.attach_receiver(OWN);
    assert_eq!(take(&mut peer, &mut all, 5), ["1"], "nothing else is there");
    peer.detach(&all);
    leave(&mut peer, &link);
    send_colors(&mut peer, "t", &["red"]);
    link = peer.attach_for_receiving(attach);
    assert_eq!(take(&mut peer, &mut link, 5), ["0"]);
    leave(&mut peer, &link);
    send_colors(&mut peer, "t", &["red"]);
    let blue =
        with_selector(subscriber("sub", &[], true), "color BETWEEN 1 AND 2 OR color = 'blue'");
    let mut link = peer.attach_for_receiving(blue);
    send_colors(&mut peer, "t", &["blue", "red"]);
    assert_eq!(take(&mut peer, &mut link, 5), ["0"]);
    let mut node = peer.open_management(OWN);
    let rules = peer.list_rules(&mut node, 0, 10);
    assert_eq!(rules.len(), 1);
    let broken = with_selector(subscriber("other", &[], true), "color = ");
    peer.expect_refusal(broken, condition::INVALID_FIELD);
}

/// "no-local: ignored by the service", and so not among the filters that are in place.
#[test]
fn no_local_is_ignored() {
    let broker = start();
    let mut peer = broker.peer();
    let no_local = raw::described(NO_LOCAL, Value::List(Vec::new()));
    let filter = Map::new().with(Symbol::from_static("no-local"), no_local);
    let attach = subscriber("sub", &[], true);
    let source = attach.source.as_ref().expect("a source").view().clone().with_filter(filter);
    let mut link = peer.attach_for_receiving(Attach { source: Some(source.into()), ..attach });
    assert_eq!(link.reply.source.as_ref().expect("a source").view().filter, None);
    send_colors(&mut peer, "t", &["red"]);
    assert_eq!(take(&mut peer, &mut link, 5), ["0"]);
}

/// "shared durable: link name `sub` or `sub|global` (no client id), further consumers `sub|2`; source
/// capabilities `shared` and, without client id, `global`".
#[test]
fn consumers_share_a_durable_subscription() {
    let broker = start();
    let mut one = peer_of(&broker, "one");
    let mut two = peer_of(&broker, "two");
    let global = ["shared", "global"];
    let mut desires = subscriber("sub|global", &global, true);
    desires.desired_capabilities = Some(symbols(&["SHARED-SUBS"]));
    let mut first = one.attach_for_receiving(desires);
    let offered = first.reply.offered_capabilities.clone();
    assert_eq!(offered, Some(symbols(&["SHARED-SUBS"])), "qpid-jms looks for it");
    let mut second = two.attach_for_receiving(subscriber("sub|global2", &global, true));
    send_colors(&mut one, "t", &["red", "blue"]);
    one.credit(&first, 1);
    let got = one.receive(&mut first);
    one.send(disposition(got.id, DeliveryState::Accepted, true));
    assert_eq!(got.text(), "0");
    assert_eq!(take(&mut two, &mut second, 5), ["1"], "each message to one of them");
    // Those of a client with an id are its own, whatever the names of their links.
    let mut own = two.attach_for_receiving(subscriber("sub", &["shared"], true));
    let mut third = two.attach_for_receiving(subscriber("sub|2", &["shared"], true));
    send_colors(&mut two, "t", &["red"]);
    assert_eq!(take(&mut two, &mut own, 1), ["0"]);
    assert_eq!(take(&mut two, &mut third, 1), [""; 0]);
    assert_eq!(take(&mut two, &mut second, 1), ["0"]);
}

/// "shared non-durable: lives until its last link closes", however that goes.
#[test]
fn a_subscription_that_is_not_durable_goes_with_its_last_link() {
    let broker = start();
    let mut peer = broker.peer();
    let address = "t/Subscriptions/sub$$ND";
    let mut other = peer_of(&broker, "other");
    let global = ["shared", "global"];
    let first = peer.attach_for_receiving(subscriber("sub|global-volatile1", &global, false));
    let mut second = other.attach_for_receiving(subscriber("sub|global-volatile1", &global, false));
    peer.detach(&first);
    send_colors(&mut peer, "t", &["red"]);
    assert_eq!(take(&mut other, &mut second, 5), ["0"]);
    other.close();
    wait_until_gone(&broker, address);
    let mut again = peer.attach_for_receiving(subscriber("sub|global-volatile1", &global, false));
    assert_eq!(take(&mut peer, &mut again, 5), [""; 0]);
}

/// A plain consumer of a topic has a subscription that nobody else has.
#[test]
fn a_plain_consumer_gets_what_comes_while_it_is_there() {
    let broker = start();
    let mut peer = broker.peer();
    send_colors(&mut peer, "t", &["red"]);
    let name = "qpid-jms:receiver:ID:4c:1:1:1:t";
    let mut one = peer.attach_for_receiving(subscriber(name, &[], false));
    let attach =
        with_selector(subscriber("qpid-jms:receiver:ID:4c:1:1:2:t", &[], false), "color = 'blue'");
    let mut two = peer.attach_for_receiving(attach);
    send_colors(&mut peer, "t", &["red", "blue"]);
    assert_eq!(take(&mut peer, &mut one, 5), ["0", "1"]);
    assert_eq!(take(&mut peer, &mut two, 5), ["1"]);
    peer.detach(&one);
    let mut again = peer.attach_for_receiving(subscriber(name, &[], false));
    assert_eq!(take(&mut peer, &mut again, 5), [""; 0]);
}

/// "unsubscribe: receiver attach with that link name and null source; broker answers with the full
/// source of the subscription, then the client detaches closed=true: delete. Unknown: null source and
/// detach amqp:not-found".
#[test]
fn an_attach_without_a_source_finds_a_subscription_to_delete() {
    let broker = start();
    let mut peer = broker.peer();
    peer.expect_refusal(lookup("sub", &[]), condition::NOT_FOUND);
    let attach = with_selector(subscriber("sub", &[], true), "color = 'red'");
    let link = peer.attach_for_receiving(attach.clone());
    let mut other = broker.peer();
    other.expect_refusal(lookup("sub", &[]), condition::RESOURCE_LOCKED);
    leave(&mut peer, &link);
    send_colors(&mut peer, "t", &["red"]);
    let found = peer.attach_for_receiving(lookup("sub", &[]));
    let source = found.reply.source.as_ref().expect("a source").view();
    assert_eq!(source.address(), Some("t"));
    assert_eq!(source.durable, TerminusDurability::UnsettledState);
    assert_eq!(source.expiry_policy, ExpiryPolicy::Never);
    assert_eq!(source.filter, Some(selector("color = 'red'")));
    // Whoever only leaves has deleted nothing.
    leave(&mut peer, &found);
    let found = peer.attach_for_receiving(lookup("sub", &[]));
    peer.detach(&found);
    peer.expect_refusal(lookup("sub", &[]), condition::NOT_FOUND);
    peer.expect_refusal(receiver(OWN), condition::NOT_FOUND);
    let mut link = peer.attach_for_receiving(attach);
    assert_eq!(take(&mut peer, &mut link, 5), [""; 0]);
    // Those of no client are meant by capabilities.
    let shared = subscriber("sub|global", &["shared", "global"], true);
    let link = peer.attach_for_receiving(shared);
    peer.detach(&link);
    let found = peer.attach_for_receiving(lookup("sub|global", &["shared", "global"]));
    let source = found.reply.source.as_ref().expect("a source").view();
    assert_eq!(source.capabilities, Some(symbols(&["topic", "shared", "global"])));
    peer.detach(&found);
    peer.expect_refusal(lookup("sub|global", &["shared", "global"]), condition::NOT_FOUND);
}

/// Between looking it up and deleting it another consumer may come.
#[test]
fn a_subscription_that_is_in_use_again_stays() {
    let broker = start();
    let mut peer = broker.peer();
    let link = peer.attach_for_receiving(subscriber("sub", &[], true));
    leave(&mut peer, &link);
    let found = peer.attach_for_receiving(lookup("sub", &[]));
    let mut other = broker.peer();
    let mut link = other.attach_for_receiving(subscriber("sub", &[], true));
    peer.detach(&found);
    send_colors(&mut peer, "t", &["red"]);
    assert_eq!(take(&mut other, &mut link, 5), ["0"]);
}

/// A monitor that only looks keeps nobody from receiving.
#[test]
fn who_looks_at_a_subscription_does_not_use_it() {
    let broker = start();
    let mut peer = broker.peer();
    let link = peer.attach_for_receiving(subscriber("sub", &[], true));
    leave(&mut peer, &link);
    let mut monitor = broker.peer();
    let copy = Some(Symbol::from_static("copy"));
    let looks = Source { distribution_mode: copy, ..source(OWN, "queue") };
    let attach = Attach { source: Some(looks.into()), ..receiver(OWN) };
    let mut looking = monitor.attach_for_receiving(attach);
    send_colors(&mut peer, "t", &["red"]);
    assert_eq!(drain(&mut monitor, &mut looking, 5), ["0"]);
    let mut link = peer.attach_for_receiving(subscriber("sub", &[], true));
    assert_eq!(take(&mut peer, &mut link, 5), ["0"]);
    leave(&mut peer, &link);
    let found = peer.attach_for_receiving(lookup("sub", &[]));
    peer.detach(&found);
    monitor.expect_detach(condition::NOT_FOUND);
}

/// What a consumer had prefetched is there for the next as soon as it has gone.
#[test]
fn what_was_not_settled_is_free_when_the_link_goes() {
    let broker = start();
    let mut peer = broker.peer();
    let attach = subscriber("sub", &[], true);
    let mut link = peer.attach_for_receiving(attach.clone());
    send_colors(&mut peer, "t", &["red", "blue", "green"]);
    let held = peer.drain(&mut link, 3);
    peer.send(disposition(held[1].id, DeliveryState::Accepted, true));
    leave(&mut peer, &link);
    let mut link = peer.attach_for_receiving(attach.clone());
    let again = peer.drain(&mut link, 3);
    let counts: Vec<_> = again.iter().map(|one| one.message().delivery_count()).collect();
    assert_eq!((again.len(), counts), (2, vec![0, 0]));
    leave(&mut peer, &link);
    let mut link = peer.attach_for_receiving(attach);
    assert_eq!(take(&mut peer, &mut link, 5), ["0", "2"]);
    // The same when the connection goes, and for consumers of queues.
    let mut other = broker.peer();
    let capabilities = Some(symbols(&["queue"]));
    let source = Source { capabilities, ..source("q", "queue") };
    let queue = Attach { source: Some(source.into()), ..receiver("q") };
    let mut consumer = other.attach_for_receiving(queue);
    send_colors(&mut other, "q", &["red"]);
    assert_eq!(drain(&mut other, &mut consumer, 3), ["0"]);
    let mut next = peer.attach_receiver("q");
    peer.credit(&next, 1);
    other.close();
    let again = peer.receive(&mut next);
    assert_eq!((again.text().as_str(), again.message().delivery_count()), ("0", 0));
}

/// To make or to delete a subscription takes the right Manage, to join it Listen.
#[test]
fn subscriptions_are_made_and_deleted_by_those_who_manage() {
    let broker = TestBroker::with()
        .config("[[topic]]\nname = \"t\"\n")
        .rule("listens", "k", "[\"Listen\"]")
        .rule("sends", "k", "[\"Send\"]")
        .start();
    let open = || Open { container_id: "tests".into(), ..Open::default() };
    let mut listener = broker.connect().plain("listens", "k").open_with(open()).begin();
    let mut sender = broker.connect().plain("sends", "k").open_with(open()).begin();
    let shared = ["shared", "global"];
    for attach in [
        subscriber("sub", &[], true),
        subscriber("sub|volatile1", &shared, false),
        subscriber("plain", &[], false),
    ] {
        sender.expect_refusal(attach.clone(), condition::UNAUTHORIZED_ACCESS);
        let error: ErrorInfo = listener.expect_refusal(attach, condition::UNAUTHORIZED_ACCESS);
        let text = error.description.expect("a text");
        assert!(text.contains("'Manage' claim(s) are required"), "{text}");
    }
    let mut manager = broker.peer();
    let link = manager.attach_for_receiving(subscriber("sub", &[], true));
    leave(&mut manager, &link);
    send_colors(&mut manager, "t", &["red"]);
    let mut link = listener.attach_for_receiving(subscriber("sub", &[], true));
    assert_eq!(take(&mut listener, &mut link, 5), ["0"]);
    // Who may not even receive from it does not hear that it is there, in use or not.
    sender.expect_refusal(lookup("sub", &[]), condition::NOT_FOUND);
    let mut other = broker.connect().plain("listens", "k").open_with(open()).begin();
    let error = other.expect_refusal(lookup("sub", &[]), condition::RESOURCE_LOCKED);
    assert!(error.description.expect("a text").contains(OWN));
    leave(&mut listener, &link);
    let other = with_selector(subscriber("sub", &[], true), "color = 'red'");
    listener.expect_refusal(other, condition::UNAUTHORIZED_ACCESS);
    listener.expect_refusal(lookup("sub", &[]), condition::UNAUTHORIZED_ACCESS);
    sender.expect_refusal(lookup("sub", &[]), condition::NOT_FOUND);
    let found = manager.attach_for_receiving(lookup("sub", &[]));
    manager.detach(&found);
}

/// What is no topic, and links that do not say what they want of one, are refused as before.
#[test]
fn other_links_to_topics_are_refused() {
    let broker = start();
    let mut peer = broker.peer();
    peer.expect_refusal(receiver("t"), condition::NOT_FOUND);
    let elsewhere = |address: &str, attach: Attach| {
        let mut source = attach.source.as_ref().expect("a source").view().clone();
        source.address = Some(address.into());
        Attach { source: Some(source.into()), ..attach }
    };
    for address in ["q", "nowhere"] {
        peer.expect_refusal(elsewhere(address, subscriber("sub", &[], true)), condition::NOT_FOUND);
    }
    let bad = subscriber("a name/that is none", &[], true);
    peer.expect_refusal(bad, condition::INVALID_FIELD);
    // Other clients say of any link that it is durable.
    let durable = TerminusDurability::UnsettledState;
    let source = Source { durable, ..Source::new("q") };
    let attach = Attach { source: Some(source.into()), ..receiver("q") };
    let mut link = peer.attach_for_receiving(attach);
    send_colors(&mut peer, "q", &["red"]);
    assert_eq!(take(&mut peer, &mut link, 5), ["0"]);
    // And make subscriptions by it, too.
    let source = Source { durable, ..Source::new("t") };
    let attach = Attach { source: Some(source.into()), name: "sub".into(), ..receiver("t") };
    let link = peer.attach_for_receiving(attach);
    leave(&mut peer, &link);
    let mut sender = peer.attach_sender("t");
    peer.send_accepted(&mut sender, &Message::data("x").encode());
    assert_eq!(peer.drain_texts(OWN), ["x"]);
}
