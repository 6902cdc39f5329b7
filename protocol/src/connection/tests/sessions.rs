//! Sessions: channels, windows, ends.

use super::*;
use crate::condition;
use crate::delivery_state::DeliveryState;
use crate::limits;
use crate::performative::{Begin, Close, Detach, Disposition, End};

#[test]
fn trap_02_transfer_ids_count_frames_and_delivery_ids_deliveries() {
    let open = Open { max_frame_size: Some(512), ..Peer::plain_open() };
    let mut peer = Peer::open_as(config(), open);
    peer.send(1, Peer::plain_begin()).unwrap();
    peer.sent();
    peer.events();
    let link = peer.attach(receiver("r"));
    peer.send(1, credit_flow(0, 0, 10)).unwrap();
    let long = [Bytes::from(vec![1; 1000])];
    assert_eq!(peer.server.send(link, message(&long)), Ok(START));
    assert_eq!(peer.server.send(link, message(&long)), Ok(START.advanced_by(1)));
    let frames = peer.sent().len();
    assert!(4 < frames);
    peer.send(1, Flow { echo: true, next_incoming_id: None, ..session_flow() }).unwrap();
    let sent = peer.sent();
    let [(_, Performative::Flow(flow), _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(flow.next_outgoing_id, START.advanced_by(u32::try_from(frames).unwrap()));
}

#[test]
fn trap_05_a_frame_beyond_the_window_ends_the_session() {
    let config = Config { incoming_window: 4, ..config() };
    let (mut peer, link) = Peer::attached(config, sender("s"));
    peer.server.set_credit(link, 100).unwrap();
    // A flow was sent with it, so the window is whole.
    assert_eq!(peer.sent().len(), 1);
    for n in 0..4 {
        peer.send(1, transfer(0, n)).unwrap();
    }
    assert_eq!(peer.events().len(), 4);
    peer.send(1, transfer(0, 4)).unwrap();
    peer.assert_ended(condition::SESSION_WINDOW_VIOLATION);
}

#[test]
fn trap_05_the_window_is_renewed_before_it_is_half_used() {
    let config = Config { incoming_window: 100, ..config() };
    let (mut peer, link) = Peer::attached(config, sender("s"));
    peer.server.set_credit(link, 1000).unwrap();
    peer.sent();
    for n in 0..500 {
        peer.send(1, transfer(0, n)).unwrap();
        let renewals = peer.sent();
        // Every fiftieth frame, and with the whole window from there.
        assert_eq!(renewals.len(), usize::from(n % 50 == 49), "after {n}");
        if let [(0, Performative::Flow(flow), _)] = &renewals[..] {
            assert_eq!(flow.next_incoming_id, Some(START.advanced_by(n + 1)));
            assert_eq!((flow.incoming_window, flow.handle), (100, None));
        }
    }
}

#[test]
fn trap_05_a_closed_window_pauses_inside_a_delivery_and_other_sessions_go_on() {
    let open = Open { max_frame_size: Some(512), ..Peer::plain_open() };
    let mut peer = Peer::open_as(config(), open);
    peer.send(1, Begin { incoming_window: 2, ..Peer::plain_begin() }).unwrap();
    peer.send(2, Peer::plain_begin()).unwrap();
    peer.sent();
    let events = peer.events();
    let [Event::Begin(narrow), Event::Begin(_)] = events[..] else { panic!("{events:?}") };
    let link = peer.attach(receiver("r"));
    peer.send(2, receiver("r")).unwrap();
    let events = peer.events();
    let [Event::Attach { link: other, .. }] = events[..] else { panic!("{events:?}") };
    peer.server.accept_attach(other, AttachReply::default()).unwrap();
    peer.send(1, Flow { incoming_window: 2, ..credit_flow(0, 0, 10) }).unwrap();
    peer.send(2, credit_flow(0, 0, 10)).unwrap();
    peer.sent();
    peer.events();
    assert_eq!(peer.server.sendable(link), 2);

    let long = [Bytes::from((0..200u8).cycle().take(1400).collect::<Vec<_>>())];
    peer.server.send(link, message(&long)).unwrap();
    let begun = peer.sent();
    assert_eq!(begun.len(), 2);
    assert_eq!(peer.server.sendable(link), 0);
    peer.server.send(link, message(&[Bytes::from_static(b"next")])).unwrap();
    assert!(peer.sent().is_empty(), "a frame beyond the window");
    peer.server.send(other, message(&[Bytes::from_static(b"other")])).unwrap();
    assert_eq!(peer.sent().len(), 1);

    // The window opens for the rest of the delivery and not for the next.
    let window = |seen: u32, incoming_window| Flow {
        next_incoming_id: Some(START.advanced_by(seen)),
        incoming_window,
        ..session_flow()
    };
    peer.send(1, window(2, 1)).unwrap();
    let rest = peer.sent();
    assert_eq!(rest.len(), 1);
    assert!(peer.events().is_empty());
    let payload: Vec<u8> =
        begun.iter().chain(&rest).flat_map(|(_, _, payload)| payload.to_vec()).collect();
    assert_eq!(payload, long[0]);
    peer.send(1, window(3, 10)).unwrap();
    assert_eq!(peer.sent().len(), 1);
    assert_eq!(peer.events(), [Event::SessionWindow(narrow)]);
    assert_eq!(peer.server.sendable(link), 8);
}

#[test]
fn a_window_that_ignores_frames_under_way_is_corrected() {
    let (mut peer, link) = Peer::attached(config(), receiver("r"));
    peer.send(1, credit_flow(0, 0, 50)).unwrap();
    for _ in 0..20 {
        peer.server.send(link, message(&[])).unwrap();
    }
    // The peer wrote this when it had seen 18 of the 20, across the wrap.
    let flow = Flow {
        next_incoming_id: Some(START.advanced_by(18)),
        incoming_window: 5,
        ..credit_flow(0, 18, 32)
    };
    peer.send(1, flow).unwrap();
    assert_eq!(peer.server.sendable(link), 3);
    assert_eq!(peer.server.link_credit(link), 30);
    // One that claims to have seen what was never sent gains nothing by it.
    let flow = Flow {
        next_incoming_id: Some(START.advanced_by(1_000)),
        incoming_window: 5,
        ..credit_flow(0, 1_000, 7)
    };
    peer.send(1, flow).unwrap();
    assert_eq!((peer.server.sendable(link), peer.server.link_credit(link)), (5, 7));
}

#[test]
fn channels_are_checked() {
    let mut peer = Peer::open(Config { channel_max: 3, ..config() });
    peer.send(3, Peer::plain_begin()).unwrap();
    peer.sent();
    peer.send(4, Peer::plain_begin()).unwrap_err();
    peer.assert_closed(condition::CONNECTION_FRAMING_ERROR);
    assert_eq!(peer.server.take_reached(), Reached { sessions: 1, ..Reached::default() });
    assert_eq!(peer.server.take_reached(), Reached::default(), "since it was asked last");
    let mut peer = Peer::begun(config());
    peer.send(1, Peer::plain_begin()).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
    let mut peer = Peer::begun(config());
    peer.send(2, session_flow()).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
    // An answer to a begin that was never sent.
    let mut peer = Peer::open(config());
    peer.send(1, Begin { remote_channel: Some(0), ..Peer::plain_begin() }).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
}

#[test]
fn a_peer_with_fewer_channels_than_we_have_is_told_so() {
    let open = Open { channel_max: Some(0), ..Peer::plain_open() };
    let mut peer = Peer::open_as(config(), open);
    peer.send(5, Peer::plain_begin()).unwrap();
    peer.sent();
    peer.send(6, Peer::plain_begin()).unwrap_err();
    peer.assert_closed(condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn three_hundred_sessions_with_a_link_each() {
    let mut peer = Peer::open(config());
    for channel in 0..300 {
        peer.send(channel, Peer::plain_begin()).unwrap();
        peer.send(channel, receiver("the same name")).unwrap();
    }
    let events = peer.events();
    let links: Vec<LinkId> = events
        .iter()
        .filter_map(|event| if let Event::Attach { link, .. } = event { Some(*link) } else { None })
        .collect();
    assert_eq!(links.len(), 300);
    peer.sent();
    for (channel, link) in (0u16..).zip(links) {
        peer.server.accept_attach(link, AttachReply::default()).unwrap();
        assert!(matches!(peer.sent()[..], [(ours, Performative::Attach(_), _)] if ours == channel));
    }
    // A channel is free again after its end.
    peer.send(7, End { error: None }).unwrap();
    peer.send(7, Peer::plain_begin()).unwrap();
    let sent = peer.sent();
    assert!(matches!(sent[..], [(7, Performative::End(_), _), (7, Performative::Begin(_), _)]));
    assert_eq!(peer.server.session_count(), 300);
    assert_eq!(peer.server.link_count(), 299);
}

#[test]
fn trap_09_after_our_end_everything_is_dropped_until_the_peers() {
    let (mut peer, link) = Peer::attached(config(), sender("s"));
    let session = peer.server.session_of(link).unwrap();
    peer.server.end(session, Some(ErrorInfo::new(condition::INTERNAL_ERROR, "x"))).unwrap();
    assert_eq!(peer.server.end(session, None), Err(Stale));
    assert!(matches!(peer.sent()[..], [(0, Performative::End(_), _)]));
    // What was under way: transfers without credit, a new attach, a flow for nothing.
    peer.send(1, transfer(0, 0)).unwrap();
    peer.send(1, sender("late")).unwrap();
    peer.send(1, credit_flow(9, 0, 1)).unwrap();
    peer.send(1, Detach { handle: 0, closed: true, error: None }).unwrap();
    assert!(peer.events().is_empty() && peer.sent().is_empty());
    peer.send(1, End { error: None }).unwrap();
    assert!(matches!(&peer.events()[..], [Event::End { session: ended, .. }] if *ended == session));
    assert!(peer.sent().is_empty(), "the end was answered twice");
    // And the channel is free again.
    peer.send(1, Peer::plain_begin()).unwrap();
    assert!(matches!(peer.events()[..], [Event::Begin(_)]));
}

/// What pyamqp does when it closes: its `Session.end` writes the end, then detaches the links.
#[test]
fn late_frames_on_an_ended_channel_are_dropped() {
    let settled = Disposition {
        role: Role::Receiver,
        first: START,
        last: None,
        settled: true,
        state: Some(DeliveryState::Accepted),
        batchable: false,
    };
    let late: [Performative; 4] = [
        Detach { handle: 0, closed: true, error: None }.into(),
        credit_flow(0, 0, 1).into(),
        settled.into(),
        End { error: None }.into(),
    ];
    let (mut peer, _) = Peer::attached(config(), sender("s"));
    peer.send(1, End { error: None }).unwrap();
    assert!(matches!(peer.sent()[..], [(0, Performative::End(_), _)]));
    peer.events();
    for frame in &late {
        peer.send(1, frame.clone()).unwrap();
    }
    assert!(peer.events().is_empty() && peer.sent().is_empty());
    // The same after an end of ours that the peer has answered.
    peer.send(1, Peer::plain_begin()).unwrap();
    let events = peer.events();
    let [Event::Begin(session)] = events[..] else { panic!("{events:?}") };
    peer.server.end(session, None).unwrap();
    peer.send(1, End { error: None }).unwrap();
    peer.sent();
    peer.events();
    for frame in late.clone() {
        peer.send(1, frame).unwrap();
    }
    assert!(peer.events().is_empty() && peer.sent().is_empty());
    // A new session on the channel has nothing to do with the old one.
    peer.send(1, Peer::plain_begin()).unwrap();
    assert!(matches!(peer.events()[..], [Event::Begin(_)]));
    peer.sent();
    peer.send(1, Detach { handle: 0, closed: true, error: None }).unwrap();
    peer.send(1, credit_flow(0, 0, 1)).unwrap();
    peer.assert_ended(condition::SESSION_UNATTACHED_HANDLE);

    // Whoever wants something on an ended channel is wrong, and so is everything on a fresh one.
    for frame in [Performative::from(sender("s")), transfer(0, 0).into()] {
        let mut peer = Peer::begun(config());
        peer.send(1, End { error: None }).unwrap();
        peer.send(1, frame).unwrap_err();
        peer.assert_closed(condition::NOT_ALLOWED);
    }
    for frame in late {
        let mut peer = Peer::begun(config());
        peer.send(1, End { error: None }).unwrap();
        peer.send(2, frame).unwrap_err();
        peer.assert_closed(condition::NOT_ALLOWED);
    }
}

#[test]
fn no_more_ended_channels_are_remembered_than_the_limit() {
    let mut peer = Peer::open(config());
    let last = u16::try_from(limits::ENDED_CHANNELS_KEPT).unwrap();
    for channel in 0..=last {
        peer.send(channel, Peer::plain_begin()).unwrap();
        peer.send(channel, End { error: None }).unwrap();
    }
    peer.sent();
    peer.send(1, End { error: None }).unwrap();
    peer.send(last, End { error: None }).unwrap();
    peer.send(0, End { error: None }).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
}

#[test]
fn trap_09_close_is_said_once_whoever_begins() {
    let mut peer = Peer::begun(config());
    peer.send(0, Close { error: Some(ErrorInfo::new(condition::INTERNAL_ERROR, "bye")) }).unwrap();
    assert!(matches!(peer.sent()[..], [(0, Performative::Close(Close { error: None }), _)]));
    assert!(matches!(peer.events()[..], [Event::Closed { error: Some(_) }]));
    peer.server.close(None);
    peer.server.handle_eof();
    assert!(peer.sent().is_empty() && peer.events().is_empty());

    let mut peer = Peer::begun(config());
    peer.server.close(Some(ErrorInfo::new(condition::CONNECTION_FORCED, "maintenance")));
    peer.server.close(None);
    assert!(matches!(peer.sent()[..], [(0, Performative::Close(_), _)]));
    // Dropped: even what would be a violation.
    peer.send(1, sender("late")).unwrap();
    peer.send(77, session_flow()).unwrap();
    assert!(peer.events().is_empty() && !peer.server.is_closed());
    peer.send(0, Close { error: None }).unwrap();
    assert!(peer.sent().is_empty() && peer.server.is_closed());
    assert_eq!(peer.events(), [Event::Closed { error: None }]);
}

#[test]
fn trap_17_commands_for_what_has_gone_are_stale() {
    let (mut peer, link) = Peer::attached(config(), sender("s"));
    let pending = peer.attach_pending(Attach { handle: 1, ..receiver("r") });
    let session = peer.server.session_of(link).unwrap();
    peer.server.set_credit(link, 1).unwrap();
    peer.sent();
    peer.send(1, transfer(0, 0)).unwrap();
    peer.send(1, End { error: None }).unwrap();
    let events = peer.events();
    let [Event::Delivery(delivery), Event::End { links, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(links[..], [link, pending]);
    // Storage answers now. A new session and link stand where the old ones stood.
    peer.send(1, Peer::plain_begin()).unwrap();
    peer.send(1, sender("s")).unwrap();
    peer.sent();
    let server = &mut peer.server;
    let settled = server.settle_incoming(link, delivery.id, DeliveryState::Accepted, true);
    assert_eq!(settled, Err(Stale));
    assert_eq!(server.settle_outgoing(link, delivery.id, None, true), Err(Stale));
    assert_eq!(server.accept_attach(pending, AttachReply::default()), Err(Stale));
    let error = ErrorInfo::new(condition::NOT_FOUND, "x");
    assert_eq!(server.reject_attach(pending, error), Err(Stale));
    assert_eq!(server.set_credit(link, 9), Err(Stale));
    assert_eq!(server.set_credit_drain(link, 9), Err(Stale));
    assert_eq!(server.drained(pending), Err(Stale));
    assert_eq!(server.detach(link, true, None), Err(Stale));
    assert_eq!(server.end(session, None), Err(Stale));
    assert_eq!(server.attach(session, sender("x")), Err(AttachError::Stale));
    assert_eq!(server.send(pending, message(&[])), Err(SendError::Stale));
    assert_eq!((server.sendable(pending), server.credit(link)), (0, 0));
    assert!(peer.sent().is_empty());
    // Numbers that never were ids do no harm either.
    assert_eq!(peer.server.set_credit(LinkId::from_u64(u64::MAX), 1), Err(Stale));
}
