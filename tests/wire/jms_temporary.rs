//! Temporary queues and topics (AMQP §3.5.3, §3.5.4 `dynamic`), as qpid-jms and request-reply clients
//! have them made.

use peeklock_protocol::condition;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::{Source, Target, TargetNode};
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::link::{Link, receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, raw};

use crate::jms::{drain, source, symbols, wait_until_gone};

const DELETE_ON_CLOSE: u64 = 0x2b;

fn policy() -> Map {
    let policy = raw::described(DELETE_ON_CLOSE, Value::List(Vec::new()));
    Map::new().with(Symbol::from_static("lifetime-policy"), policy)
}

/// "sender attach, target dynamic = true, dynamic-node-properties {lifetime-policy: delete-on-close},
/// capability `temporary-queue` / `temporary-topic`".
fn maker(capability: &'static str) -> Attach {
    let target = TargetNode {
        dynamic: true,
        dynamic_node_properties: Some(policy()),
        capabilities: Some(symbols(&[capability])),
        ..TargetNode::default()
    };
    Attach { target: Some(target.into()), ..sender("unused") }
}

/// Attaches the maker and gives the address it is told.
fn make(peer: &mut Peer, capability: &'static str) -> (Link, String) {
    let link = peer.attach_for_sending(maker(capability));
    let target = link.reply.target.as_ref().expect("a target").view();
    let Target::Node(node) = target else { panic!("{target:?}") };
    assert!(node.dynamic);
    assert_eq!(node.dynamic_node_properties, Some(policy()));
    assert_eq!(node.capabilities, Some(symbols(&[capability])));
    let address = node.address().expect("an address").to_owned();
    (link, address)
}

fn consumer(address: &str, capability: &'static str) -> Attach {
    Attach { source: Some(source(address, capability).into()), ..receiver(address) }
}

fn send(peer: &mut Peer, address: &str, text: &str) {
    let mut link = peer.attach_sender(address);
    peer.send_accepted(&mut link, &Message::data(text.to_owned()).encode());
    peer.detach(&link);
}

/// "reply carries the generated address in target; entity lives until that link closes".
#[test]
fn a_temporary_queue_lives_as_long_as_its_link() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let (link, address) = make(&mut peer, "temporary-queue");
    let (_, second) = make(&mut peer, "temporary-queue");
    assert_ne!(address, second);
    let mut other = broker.peer();
    send(&mut other, &address, "reply");
    let mut consumer = peer.attach_for_receiving(consumer(&address, "temporary-queue"));
    assert_eq!(drain(&mut peer, &mut consumer, 5), ["reply"]);
    peer.detach(&link);
    peer.expect_detach(condition::NOT_FOUND);
    other.expect_refusal(sender(&address), condition::NOT_FOUND);
    // The other one goes with the connection.
    send(&mut other, &second, "reply");
    peer.close();
    wait_until_gone(&broker, &second);
}

/// "their own connection only": who else could guess the name of a queue gets no replies by it.
#[test]
fn only_the_connection_that_made_it_receives_from_it() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut other = broker.peer();
    for capability in ["temporary-queue", "temporary-topic"] {
        let (_, address) = make(&mut peer, capability);
        send(&mut peer, &address, "for me");
        let dead = format!("{address}/$DeadLetterQueue");
        let management = format!("{address}/$management");
        for attach in [
            consumer(&address, capability),
            receiver(&address),
            receiver(&dead),
            receiver(&management),
            sender(&management),
        ] {
            other.expect_refusal(attach, condition::NOT_ALLOWED);
        }
    }
}

#[test]
fn a_temporary_topic_gives_to_its_subscribers() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let (link, address) = make(&mut peer, "temporary-topic");
    let attach = consumer(&address, "temporary-topic");
    let mut links = [(); 2].map(|()| peer.attach_for_receiving(attach_again(&attach)));
    let mut other = broker.peer();
    send(&mut other, &address, "news");
    for one in &mut links {
        assert_eq!(drain(&mut peer, one, 5), ["news"]);
    }
    peer.detach(&link);
    other.expect_refusal(sender(&address), condition::NOT_FOUND);
}

/// The same under a name of its own.
fn attach_again(attach: &Attach) -> Attach {
    Attach { name: receiver("t").name, ..attach.clone() }
}

/// Clients that ask and wait for an answer have the queue made by the link that receives.
#[test]
fn a_queue_is_made_for_a_link_that_receives() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let asked = Source { dynamic: true, ..Source::default() };
    let attach = Attach { source: Some(asked.clone().into()), ..receiver("unused") };
    let mut link = peer.attach_for_receiving(attach);
    let source = link.reply.source.as_ref().expect("a source").view().clone();
    let address = source.address().expect("an address").to_owned();
    assert!(source.dynamic);
    assert_eq!(source.dynamic_node_properties, Some(policy()));
    let mut other = broker.peer();
    send(&mut other, &address, "answer");
    let received = peer.receive_one(&mut link);
    assert_eq!(received.text(), "answer");
    peer.complete(&received);
    other.expect_refusal(receiver(&address), condition::NOT_ALLOWED);
    peer.detach(&link);
    other.expect_refusal(sender(&address), condition::NOT_FOUND);
    let topic = Source { capabilities: Some(symbols(&["temporary-topic"])), ..asked };
    let attach = Attach { source: Some(topic.into()), ..receiver("unused") };
    peer.expect_refusal(attach, condition::NOT_IMPLEMENTED);
}

/// To make an entity takes the right Manage, whoever it is for.
#[test]
fn temporary_entities_are_made_by_those_who_manage() {
    let broker = TestBroker::with().rule("uses", "k", "[\"Send\", \"Listen\"]").start();
    let mut peer = broker.connect().plain("uses", "k").open().begin();
    peer.expect_refusal(maker("temporary-queue"), condition::UNAUTHORIZED_ACCESS);
    let asked = Source { dynamic: true, ..Source::default() };
    let attach = Attach { source: Some(asked.into()), ..receiver("unused") };
    peer.expect_refusal(attach, condition::UNAUTHORIZED_ACCESS);
    // To answer to one takes Send.
    let mut manager = broker.peer();
    let (_, address) = make(&mut manager, "temporary-queue");
    send(&mut peer, &address, "reply");
}
