//! Selectors on links that receive (AMQP §3.5.8, the filters registered by Apache): what is in place,
//! what is refused, what is delivered.

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::link::{Link, Received, abandoned, deleting_receiver, disposition, receiver};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, raw};

const SELECTOR: u64 = 0x0000_468c_0000_0004;
const NO_LOCAL: u64 = 0x0000_468c_0000_0003;

fn selector(text: &str) -> Map {
    Map::new().with(Symbol::from_static("jms-selector"), raw::described(SELECTOR, text.into()))
}

fn with_filter(attach: Attach, address: &str, filter: Map) -> Attach {
    Attach { source: Some(Source::new(address).with_filter(filter).into()), ..attach }
}

fn selecting(address: &str, text: &str) -> Attach {
    with_filter(receiver(address), address, selector(text))
}

/// Sends a message a color, each with its place as the body.
fn send_colors(peer: &mut Peer, address: &str, colors: &[&str]) {
    let mut link = peer.attach_sender(address);
    for (place, color) in colors.iter().enumerate() {
        let message = Message::data(place.to_string()).with_property("color", *color);
        peer.send_accepted(&mut link, &message.encode());
    }
    peer.detach(&link);
}

/// The bodies of what comes to a link that then drains.
fn drain(peer: &mut Peer, link: &mut Link, credit: u32) -> Vec<String> {
    let received = peer.drain(link, credit);
    for one in received.iter().filter(|one| !one.settled) {
        peer.send(disposition(one.id, DeliveryState::Accepted, true));
    }
    received.iter().map(Received::text).collect()
}

/// "The sending endpoint sets the filter actually in place": a selector is, whatever its name, and
/// no-local is not.
#[test]
fn the_answer_says_which_filters_are_in_place() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let by_symbol = Value::Described(Box::new((
        Symbol::from_static("apache.org:selector-filter:string").into(),
        "color = 'red'".into(),
    )));
    let named = Map::new().with(Symbol::from_static("selector"), by_symbol);
    for filter in [selector("color = 'red'"), named] {
        let attach = with_filter(receiver("q"), "q", filter.clone());
        let link = peer.attach_for_receiving(attach.clone());
        assert_eq!(link.reply.source, attach.source, "echoed as it came");
        let no_local = raw::described(NO_LOCAL, Value::List(Vec::new()));
        let more = filter.clone().with(Symbol::from_static("no-local"), no_local);
        let link = peer.attach_for_receiving(with_filter(receiver("q"), "q", more));
        let source = link.reply.source.expect("a source");
        assert_eq!(source.view().filter, Some(filter));
        assert_eq!(source.address(), Some("q"));
    }
    let unknown = Map::new().with(Symbol::from_static("x"), raw::described(7, Value::from("y")));
    let link = peer.attach_for_receiving(with_filter(receiver("q"), "q", unknown));
    assert_eq!(link.reply.source.expect("a source").view().filter, None);
}

#[test]
fn a_selector_that_is_none_is_refused_with_its_place() {
    let broker =
        TestBroker::with().queue("q", "").queue("sessions", "requires_session = true").start();
    let mut peer = broker.peer();
    let error = peer.expect_refusal(selecting("q", "color = 'red' AND"), condition::INVALID_FIELD);
    let text = error.description.expect("a text");
    assert!(text.contains("at character 18"), "{text}");
    let long = format!("color = '{}'", "x".repeat(1024));
    let error = peer.expect_refusal(selecting("q", &long), condition::INVALID_FIELD);
    let text = error.description.expect("a text");
    assert!(text.contains("more than 1024 characters"), "{text}");
    peer.expect_refusal(selecting("sessions", "color = 'red'"), condition::NOT_ALLOWED);
    let both = selector("color = 'red'")
        .with(Symbol::from_static("com.microsoft:session-filter"), Value::from("s"));
    let attach = with_filter(receiver("sessions"), "sessions", both);
    peer.expect_refusal(attach, condition::NOT_IMPLEMENTED);
    // The session is none the worse for it.
    peer.attach_receiver("q");
}

#[test]
fn a_link_gets_what_it_selects_and_the_rest_stays_for_others() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    send_colors(&mut peer, "q", &["blue", "red", "green", "red"]);
    let mut red = peer.attach_for_receiving(selecting("q", "color = 'red'"));
    peer.credit(&red, 10);
    let first = peer.receive(&mut red);
    let second = peer.receive(&mut red);
    assert_eq!((first.text(), second.text()), ("1".into(), "3".into()));
    peer.send(disposition(first.id, abandoned(), true));
    let again = peer.receive(&mut red);
    assert_eq!((again.text(), again.message().delivery_count()), ("1".into(), 1));
    peer.send(disposition(again.id, DeliveryState::Accepted, true));
    peer.send(disposition(second.id, DeliveryState::Accepted, true));
    let like = "color LIKE 'gr%' OR color BETWEEN 1 AND 2";
    let mut green = peer.attach_for_receiving(selecting("q", like));
    assert_eq!(drain(&mut peer, &mut green, 5), ["2"]);
    let mut all = peer.attach_receiver("q");
    assert_eq!(drain(&mut peer, &mut all, 5), ["0"]);
}

/// Subscriptions and dead-letter queues are selected from as queues are, also by those who delete.
#[test]
fn subscriptions_and_dead_letters_are_selected_from() {
    let broker = TestBroker::with()
        .config("[[topic]]\nname = \"t\"\n[[topic.subscription]]\nname = \"s\"\n")
        .start();
    let mut peer = broker.peer();
    send_colors(&mut peer, "t", &["blue", "red", "blue"]);
    let address = "t/Subscriptions/s";
    let attach = with_filter(deleting_receiver(address), address, selector("color = 'blue'"));
    let mut blue = peer.attach_for_receiving(attach);
    assert_eq!(drain(&mut peer, &mut blue, 5), ["0", "2"]);
    let mut all = peer.attach_receiver(address);
    peer.credit(&all, 1);
    let red = peer.receive(&mut all);
    assert_eq!(red.text(), "1");
    peer.send(disposition(red.id, DeliveryState::Rejected(None), true));
    let dead = "t/Subscriptions/s/$DeadLetterQueue";
    let mut none = peer.attach_for_receiving(selecting(dead, "color = 'blue'"));
    assert_eq!(drain(&mut peer, &mut none, 5), [""; 0]);
    let mut red = peer.attach_for_receiving(selecting(dead, "color = 'red'"));
    assert_eq!(drain(&mut peer, &mut red, 5), ["1"]);
}
