//! AMQP sessions (AMQP §2.5): channels, windows, ends that cross, and the limits of a connection.

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{
    Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Transfer,
};
use peeklock_protocol::serial::SerialNumber;
use peeklock_tests::TestBroker;
use peeklock_tests::link::{deleting_receiver, receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::peer::wide_begin;
use peeklock_tests::raw;

/// JS, .NET and Java open a session for every link.
#[test]
fn three_hundred_sessions_with_a_link_each_work_on_one_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut links = Vec::new();
    for channel in 1..=300 {
        peer.begin_on(channel);
        links.push(peer.attach_sender("q"));
    }
    for link in &mut links {
        peer.send_accepted(link, &Message::data(link.channel.to_string()).encode());
    }
    peer.speak_on(0);
    let mut texts = peer.drain_texts("q");
    assert_eq!(texts.len(), 300);
    texts.dedup();
    assert_eq!(texts.len(), 300, "each session sent its own");
    peer.close();
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP §2.7.1: "If a session is begun on a channel number outside the range indicated by the
/// channel-max value, the connection MUST be closed with the framing-error error-code" (§2.4.1).
#[test]
fn a_channel_above_channel_max_closes_the_connection() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nsessions_per_connection = 4").start();
    let mut peer = broker.peer();
    assert_eq!(peer.remote_open().channel_max, Some(3));
    peer.begin_on(3);
    peer.attach_receiver("q");
    peer.began(4, &wide_begin());
    peer.send(wide_begin());
    peer.expect_close(condition::CONNECTION_FRAMING_ERROR);
}

/// AMQP §2.5.1: a session begins with a begin. Frames on a channel without one are nobody's.
#[test]
fn frames_on_a_channel_that_was_not_begun_close_the_connection() {
    let broker = TestBroker::start();
    let strays: [Performative; 5] = [
        receiver("q").into(),
        Flow { incoming_window: 1, outgoing_window: 1, ..Flow::default() }.into(),
        Transfer::default().into(),
        Detach::default().into(),
        End::default().into(),
    ];
    for stray in strays {
        let mut peer = broker.peer();
        peer.write(&raw::amqp_frame(9, &stray, &[]));
        peer.expect_closed_for_cause();
    }
}

/// AMQP §2.5.1: a channel is in use from begin to end.
#[test]
fn a_second_begin_on_a_channel_closes_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send(wide_begin());
    peer.expect_closed_for_cause();
}

/// AMQP §2.5.4: "Sessions end ... when either peer sends an end"; its channel is free again.
#[test]
fn an_ended_channel_may_be_begun_again() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    for round in 0..10 {
        let mut link = peer.attach_sender("q");
        peer.send_accepted(&mut link, &Message::data(round.to_string()).encode());
        peer.send(End::default());
        assert_eq!(peer.expect::<End>().error, None);
        peer.begin_on(0);
    }
    assert_eq!(peer.drain_texts("q").len(), 10);
    peer.close();
}

/// AMQP §2.5.5: "simultaneous end": each side answers an end once, and an end that crosses ours is
/// that answer.
#[test]
fn ends_that_cross_are_both_taken_as_answers() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    // The broker ends the session because of the first frame, while the second is on its way.
    peer.send(Transfer { handle: 99, ..first_transfer() });
    peer.send(End::default());
    let end: End = peer.expect();
    assert_eq!(
        end.error.map(|error| error.condition.to_string()).as_deref(),
        Some(condition::SESSION_UNATTACHED_HANDLE)
    );
    peer.begin_on(0);
    peer.attach_receiver("q");
    peer.close();
}

/// AMQP §2.4.3, the same for close: exactly one comes.
#[test]
fn closes_that_cross_are_both_taken_as_answers() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut both = raw::amqp_frame(9, &Detach::default().into(), &[]).to_vec();
    both.extend_from_slice(&raw::amqp_frame(0, &Close::default().into(), &[]));
    peer.write(&both);
    let close: Close = peer.expect();
    assert!(close.error.is_some());
    assert!(peer.performative_or_end().is_none(), "a second close");
}

/// AMQP §2.5.6, DISCARDING: what comes on a session that was ended with an error is thrown away,
/// up to the peer's own end.
#[test]
fn frames_after_an_end_with_error_are_thrown_away() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    peer.send(Transfer { handle: 99, ..first_transfer() });
    let late = Message::data("too late").encode();
    peer.transfer_settled(&mut link, &late);
    peer.send_attach(receiver("q"));
    peer.expect_end(condition::SESSION_UNATTACHED_HANDLE);
    peer.begin_on(0);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
    peer.close();
}

fn first_transfer() -> Transfer {
    Transfer {
        delivery_id: Some(SerialNumber(0)),
        delivery_tag: Some("tag".into()),
        message_format: Some(0),
        settled: Some(false),
        ..Transfer::default()
    }
}

/// AMQP §2.5.6: "handle-in-use: An attach was received using a handle that is already in use for an
/// attached link."
#[test]
fn attaching_a_handle_in_use_ends_the_session() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let link = peer.attach_receiver("q");
    peer.send(peeklock_protocol::performative::Attach { handle: link.handle, ..sender("q") });
    peer.expect_end(condition::SESSION_HANDLE_IN_USE);
    peer.begin_on(0);
    peer.attach_receiver("q");
}

/// AMQP §2.8.17: "unattached-handle: A frame (other than attach) was received referencing a handle
/// which is not currently in use".
#[test]
fn using_a_handle_that_is_not_attached_ends_the_session_alone() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.begin_on(1);
    let mut good = peer.attach_sender("q");
    peer.speak_on(0);
    let flow = Flow { handle: Some(7), link_credit: Some(1), ..peer.session_flow() };
    peer.send(flow);
    peer.expect_end(condition::SESSION_UNATTACHED_HANDLE);
    peer.send_accepted(&mut good, &Message::data("on the other session").encode());
}

/// AMQP §2.7.2: handle-max; "MUST close the connection with the framing-error error-code".
#[test]
fn a_handle_above_handle_max_closes_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.connect().plain("RootManageSharedAccessKey", "SAS_KEY_VALUE").open();
    let begin = peer.begin_with(0, wide_begin());
    let max = begin.handle_max.expect("a broker limits handles");
    let highest = peeklock_protocol::performative::Attach { handle: max, ..receiver("q") };
    peer.send(highest);
    peer.expect::<peeklock_protocol::performative::Attach>();
    peer.send(peeklock_protocol::performative::Attach { handle: max + 1, ..sender("q") });
    peer.expect_close(condition::CONNECTION_FRAMING_ERROR);
}

/// AMQP §2.5.6: "the remote-incoming-window reflects the maximum number of outgoing transfers that
/// can be sent without exceeding the remote endpoint's incoming-window".
#[test]
fn deliveries_stop_at_the_session_window_and_go_on_when_it_opens() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4", "5"]);
    peer.begin_with(1, Begin { incoming_window: 2, ..wide_begin() });
    let mut link = peer.attach_receiver("q");
    let credit = Flow { incoming_window: 2, ..peer.credit_flow(&link, 10) };
    peer.send(credit);
    assert_eq!(peer.receive(&mut link).text(), "1");
    assert_eq!(peer.receive(&mut link).text(), "2");
    let closed = peer.window_flow(0);
    peer.assert_silent(&closed);
    let open = peer.window_flow(10);
    peer.send(open);
    for text in ["3", "4", "5"] {
        assert_eq!(peer.receive(&mut link).text(), text);
    }
}

/// The window counts frames, not deliveries: it may close in the middle of one, while other
/// sessions go on.
#[test]
fn the_session_window_may_close_inside_a_delivery() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let body = vec![5; 4000];
    let mut to = peer.attach_sender("q");
    peer.send_accepted(&mut to, &Message::data(body.clone()).encode());
    peer.send_accepted(&mut to, &Message::data("next").encode());

    let open = Open { container_id: "small".into(), max_frame_size: Some(512), ..Open::default() };
    let peer = broker.connect().plain("RootManageSharedAccessKey", "SAS_KEY_VALUE");
    let mut peer = peer.open_with(open);
    peer.begin_with(0, Begin { incoming_window: 3, ..wide_begin() });
    peer.begin_on(1);
    peer.speak_on(0);
    let link = peer.attach_receiver("q");
    let credit = Flow { incoming_window: 3, ..peer.credit_flow(&link, 1) };
    peer.send(credit);
    let mut octets = 0;
    for _ in 0..3 {
        let transfer: Transfer = peer.expect();
        assert!(transfer.more);
        octets += peer.payload().len();
    }
    let closed = peer.window_flow(0);
    peer.assert_silent(&closed);
    // The other session is not held up.
    peer.speak_on(1);
    let mut other = peer.attach_receiver("q");
    assert_eq!(peer.receive_one(&mut other).text(), "next");
    peer.speak_on(0);
    let open = peer.window_flow(100);
    peer.send(open);
    loop {
        let transfer: Transfer = peer.expect();
        octets += peer.payload().len();
        if !transfer.more {
            break;
        }
    }
    assert!(body.len() < octets, "{octets} octets came");
}

/// A link that goes in the middle of a delivery gets no more of it, and its handle means nothing any
/// more; the next link starts with a delivery of its own.
#[test]
fn a_link_that_leaves_inside_a_delivery_gets_no_more_of_it() {
    let broker = TestBroker::start();
    let mut sends = broker.peer();
    let mut to = sends.attach_sender("q");
    for end_session in [false, true] {
        sends.send_accepted(&mut to, &Message::data(vec![5; 200_000]).encode());
        sends.send_accepted(&mut to, &Message::data("next").encode());
        let open =
            Open { container_id: "small".into(), max_frame_size: Some(512), ..Open::default() };
        let peer = broker.connect().plain("RootManageSharedAccessKey", "SAS_KEY_VALUE");
        let mut peer = peer.open_with(open);
        peer.begin_with(0, Begin { incoming_window: 3, ..wide_begin() });
        let link = peer.attach_receiver("q");
        let credit = Flow { incoming_window: 3, ..peer.credit_flow(&link, 1) };
        peer.send(credit);
        for _ in 0..3 {
            let transfer: Transfer = peer.expect();
            assert!(transfer.more);
        }
        if end_session {
            peer.send(End::default());
            let _: End = peer.expect();
            peer.begin_on(0);
        } else {
            peer.detach(&link);
            let open = peer.window_flow(10_000);
            peer.assert_silent(&open);
        }
        // The large message stays locked, as its link left with it.
        let mut link = peer.attach_for_receiving(deleting_receiver("q"));
        assert_eq!(peer.receive_one(&mut link).text(), "next");
        assert!(peer.drain(&mut link, 1).is_empty());
        peer.close();
    }
}

/// .NET and Go stop sending when the broker's window is used up, so it has to be opened in time.
#[test]
fn the_broker_opens_its_own_window_again() {
    let broker = TestBroker::with().queue("q", "max_message_size = \"1 MiB\"").start();
    let mut peer = broker.connect().plain("RootManageSharedAccessKey", "SAS_KEY_VALUE").open();
    let begin = peer.begin_with(0, wide_begin());
    let mut link = peer.attach_sender("q");
    let message = Message::data("through three windows").encode();
    let mut window = begin.incoming_window;
    let mut sent = SerialNumber(0);
    // A message in frames without a payload, its only octets in the last frame.
    let mut transfer = peer.first_transfer(&mut link, 0, false);
    let id = transfer.delivery_id.unwrap_or_default();
    for _ in 0..begin.incoming_window.saturating_mul(3) {
        while window == 0 {
            let flow: Flow = peer.expect();
            let next = flow.next_incoming_id.expect("both sides have begun");
            window = next.advanced_by(flow.incoming_window).distance_from(sent);
        }
        peer.send(Transfer { more: true, ..transfer });
        transfer = Transfer { handle: link.handle, ..Transfer::default() };
        sent = sent.advanced_by(1);
        window -= 1;
    }
    while window == 0 {
        let flow: Flow = peer.expect();
        let next = flow.next_incoming_id.expect("both sides have begun");
        window = next.advanced_by(flow.incoming_window).distance_from(sent);
    }
    peer.send_with(transfer, &message);
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
}

/// AMQP §2.8.8: serial numbers wrap. A session that starts just below the wrap goes on over it, in
/// both directions and with ranges across it.
#[test]
fn transfer_ids_and_delivery_ids_wrap() {
    let broker = TestBroker::start();
    let mut peer = broker.connect().plain("RootManageSharedAccessKey", "SAS_KEY_VALUE").open();
    let start = SerialNumber(0xffff_fff0);
    peer.begin_with(0, Begin { next_outgoing_id: start, ..wide_begin() });
    let mut link = peer.attach_for_sending(peeklock_protocol::performative::Attach {
        initial_delivery_count: Some(start),
        ..sender("q")
    });
    for n in 0..40 {
        peer.transfer(&mut link, &Message::data(n.to_string()).encode());
    }
    let outcomes = peer.expect_outcomes(start, 40);
    assert!(outcomes.iter().all(|outcome| *outcome == DeliveryState::Accepted));

    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 40);
    let first = peer.receive(&mut link);
    for _ in 1..40 {
        peer.receive(&mut link);
    }
    // A range that begins before any delivery and ends behind all of them, over the wrap.
    peer.send(Disposition {
        role: peeklock_protocol::performative::Role::Receiver,
        first: SerialNumber(first.id.0.wrapping_sub(100)),
        last: Some(first.id.advanced_by(100)),
        settled: true,
        state: Some(DeliveryState::Accepted),
        batchable: false,
    });
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
}

/// One connection may hold so many links and no more, whatever its sessions.
#[test]
fn links_above_the_limit_are_refused_and_the_others_go_on() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nlinks_per_connection = 3").start();
    let mut peer = broker.peer();
    peer.begin_on(1);
    peer.speak_on(0);
    let mut good = peer.attach_sender("q");
    peer.attach_receiver("q");
    peer.speak_on(1);
    peer.attach_receiver("q");
    peer.expect_refusal(receiver("q"), condition::RESOURCE_LIMIT_EXCEEDED);
    peer.send_accepted(&mut good, &Message::data("still here").encode());
}

/// Connections above the limit are turned away, those below go on, and a place is free again when
/// one of them leaves.
#[test]
fn connections_above_the_limit_are_closed() {
    let broker = TestBroker::with().queue("q", "").config("[limits]\nconnections = 2").start();
    let mut first = broker.peer();
    let second = broker.peer();
    let mut third = broker.connect();
    third.write_anyway(raw::SASL);
    third.expect_socket_closed();
    second.close();
    first.send_texts("q", &["still here"]);
}
