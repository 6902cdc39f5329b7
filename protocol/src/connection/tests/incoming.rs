//! Transfers that come in.

use super::*;
use crate::condition;
use crate::delivery_state::DeliveryState;

fn receiving(config: Config, credit: u32) -> (Peer, LinkId) {
    let request = Attach { initial_delivery_count: Some(START), ..sender("s") };
    let (mut peer, link) = Peer::attached(config, request);
    peer.server.set_credit(link, credit).unwrap();
    let sent = peer.sent();
    assert!(
        matches!(&sent[..], [(_, Performative::Flow(flow), _)] if flow.link_credit == Some(credit))
    );
    (peer, link)
}

fn more(transfer: Transfer) -> Transfer {
    Transfer { more: true, ..transfer }
}

fn continuation(more: bool) -> Transfer {
    Transfer { handle: 0, more, ..Transfer::default() }
}

#[test]
fn trap_03_a_delivery_without_credit_detaches_the_link() {
    let (mut peer, link) = receiving(config(), 2);
    peer.send(1, transfer(0, 0)).unwrap();
    peer.send(1, transfer(0, 1)).unwrap();
    assert_eq!(peer.events().len(), 2);
    assert_eq!(peer.server.credit(link), 0);
    peer.send(1, transfer(0, 2)).unwrap();
    peer.assert_detached(condition::LINK_TRANSFER_LIMIT_EXCEEDED);
    // Before the attach is answered there is no credit at all.
    let mut peer = Peer::begun(config());
    peer.attach_pending(sender("s"));
    peer.send(1, transfer(0, 0)).unwrap();
    peer.assert_detached(condition::LINK_TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn trap_03_credit_may_shrink_while_transfers_are_under_way() {
    let (mut peer, link) = receiving(config(), 10);
    peer.send(1, transfer(0, 0)).unwrap();
    peer.server.set_credit(link, 2).unwrap();
    peer.sent();
    // The peer sent these before it heard of the cut.
    for n in 1..6 {
        peer.send(1, transfer(0, n)).unwrap();
    }
    assert_eq!(peer.events().len(), 6);
    assert_eq!(peer.server.credit(link), 0);
    // New credit counts from the deliveries that have come, across the wrap.
    peer.server.set_credit(link, 20).unwrap();
    let sent = peer.sent();
    let [(_, Performative::Flow(flow), _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(flow.delivery_count, Some(START.advanced_by(6)));
    assert_eq!(flow.link_credit, Some(20));
    for n in 6..26 {
        peer.send(1, transfer(0, n)).unwrap();
    }
    assert_eq!(peer.events().len(), 20);
    assert_eq!(peer.server.credit(link), 0);
}

#[test]
fn credit_is_said_once_and_only_when_it_is_news() {
    let (mut peer, link) = receiving(config(), 10);
    peer.server.set_credit(link, 10).unwrap();
    assert!(peer.sent().is_empty());
    peer.send(1, transfer(0, 0)).unwrap();
    peer.server.set_credit(link, 9).unwrap();
    assert!(peer.sent().is_empty());
    for credit in 10..20 {
        peer.server.set_credit(link, credit).unwrap();
    }
    let sent = peer.sent();
    assert!(
        matches!(&sent[..], [(_, Performative::Flow(flow), _)] if flow.link_credit == Some(19))
    );
}

#[test]
fn trap_03_a_delivery_of_many_frames_uses_one_credit() {
    let (mut peer, link) = receiving(config(), 2);
    peer.send_with(1, more(transfer(0, 0)), b"a").unwrap();
    assert_eq!(peer.server.credit(link), 1);
    peer.send_with(1, continuation(true), b"b").unwrap();
    peer.send_with(1, continuation(false), b"c").unwrap();
    let events = peer.events();
    let [delivery] = deliveries(&events)[..] else { panic!("{events:?}") };
    assert_eq!(delivery.payload[..], *b"abc");
    assert_eq!(peer.server.credit(link), 1);
}

#[test]
fn trap_06_continuations_may_repeat_or_leave_out_what_the_first_frame_said() {
    let (mut peer, link) = receiving(config(), 9);
    let first = Transfer {
        message_format: Some(0x8001_3700),
        state: Some(DeliveryState::Released),
        ..more(transfer(0, 0))
    };
    peer.send_with(1, first.clone(), b"1").unwrap();
    peer.send_with(1, first, b"2").unwrap();
    peer.send_with(1, continuation(false), b"3").unwrap();
    let events = peer.events();
    let [delivery] = deliveries(&events)[..] else { panic!("{events:?}") };
    assert_eq!(
        *delivery,
        Delivery {
            link,
            id: START,
            tag: Bytes::from_static(b"t"),
            message_format: 0x8001_3700,
            settled: false,
            state: Some(DeliveryState::Released),
            payload: Bytes::from_static(b"123"),
        }
    );
}

#[test]
fn trap_06_settled_on_any_frame_settles() {
    for place in 0..3 {
        let (mut peer, link) = receiving(config(), 1);
        let said = |n: i32| if n == place { Some(true) } else { None };
        peer.send(1, Transfer { settled: said(0), ..more(transfer(0, 0)) }).unwrap();
        peer.send(1, Transfer { settled: said(1), ..continuation(true) }).unwrap();
        peer.send(1, Transfer { settled: said(2), ..continuation(false) }).unwrap();
        let events = peer.events();
        assert!(matches!(&events[..], [Event::Delivery(Delivery { settled: true, .. })]));
        // There is nothing to settle.
        let settled = peer.server.settle_incoming(link, START, DeliveryState::Accepted, true);
        assert_eq!(settled, Err(Stale));
    }
}

#[test]
fn trap_06_an_aborted_delivery_is_forgotten() {
    let (mut peer, link) = receiving(config(), 3);
    peer.send_with(1, more(transfer(0, 0)), b"half").unwrap();
    let abort = Transfer { aborted: true, ..continuation(false) };
    peer.send_with(1, abort, b"ignored").unwrap();
    peer.send(1, Transfer { aborted: true, ..transfer(0, 1) }).unwrap();
    assert_eq!(peer.events(), [Event::Aborted { link }, Event::Aborted { link }]);
    assert_eq!((peer.server.credit(link), peer.server.partial_bytes), (1, 0));
    let settled = peer.server.settle_incoming(link, START, DeliveryState::Accepted, true);
    assert_eq!(settled, Err(Stale));
    // The next one starts afresh.
    peer.send_with(1, transfer(0, 2), b"new").unwrap();
    let events = peer.events();
    assert_eq!(deliveries(&events)[0].payload[..], *b"new");
}

#[test]
fn trap_06_links_may_interleave_their_frames_but_one_link_may_not() {
    let (mut peer, first) = receiving(config(), 5);
    let second = peer.attach(Attach { handle: 1, ..sender("other") });
    peer.server.set_credit(second, 5).unwrap();
    peer.sent();
    peer.send_with(1, more(transfer(0, 0)), b"a").unwrap();
    peer.send_with(1, more(transfer(1, 1)), b"x").unwrap();
    peer.send_with(1, continuation(false), b"b").unwrap();
    peer.send_with(1, Transfer { handle: 1, ..continuation(false) }, b"y").unwrap();
    let events = peer.events();
    let bodies: Vec<_> = deliveries(&events).iter().map(|d| (d.link, d.payload.clone())).collect();
    assert_eq!(bodies, [(first, Bytes::from("ab")), (second, Bytes::from("xy"))]);
    // Both can be settled, in any order.
    for (link, n) in [(second, 1), (first, 0)] {
        let id = START.advanced_by(n);
        peer.server.settle_incoming(link, id, DeliveryState::Accepted, true).unwrap();
    }
    peer.sent();
    peer.send(1, more(transfer(0, 2))).unwrap();
    peer.send(1, transfer(0, 3)).unwrap();
    peer.assert_detached(condition::NOT_ALLOWED);
}

#[test]
fn trap_06_bytes_of_incomplete_deliveries_are_bounded() {
    let (mut peer, _) = receiving(Config { partial_bytes_max: 1000, ..config() }, 5);
    let other = peer.attach(Attach { handle: 1, ..sender("other") });
    peer.server.set_credit(other, 5).unwrap();
    peer.sent();
    peer.send_with(1, more(transfer(0, 0)), &[0; 600]).unwrap();
    peer.send_with(1, more(transfer(1, 1)), &[0; 400]).unwrap();
    assert!(peer.events().is_empty());
    peer.send_with(1, Transfer { handle: 1, ..continuation(true) }, &[0]).unwrap();
    peer.assert_detached(condition::RESOURCE_LIMIT_EXCEEDED);
    assert_eq!(peer.server.partial_bytes, 600);
    peer.send_with(1, continuation(false), &[0; 400]).unwrap();
    assert!(matches!(&peer.events()[..], [Event::Delivery(d)] if d.payload.len() == 1000));
    assert_eq!(peer.server.partial_bytes, 0);
}

#[test]
fn incomplete_deliveries_can_be_thrown_away_and_their_ends_are_told() {
    let (mut peer, link) = receiving(config(), 5);
    let other = peer.attach(Attach { handle: 1, ..sender("other") });
    peer.server.set_credit(other, 5).unwrap();
    peer.sent();
    peer.send_with(1, more(transfer(0, 0)), &[0; 600]).unwrap();
    peer.send_with(1, more(transfer(1, 1)), &[]).unwrap();
    assert_eq!(peer.server.partial_bytes(), 600);
    peer.server.drop_partial();
    assert_eq!(peer.server.partial_bytes(), 0);
    peer.send_with(1, continuation(true), &[0; 600]).unwrap();
    assert_eq!(peer.server.partial_bytes(), 0, "nothing more of it is kept");
    assert_eq!(peer.events(), []);
    peer.send_with(1, continuation(false), &[0; 10]).unwrap();
    let id = START;
    assert_eq!(peer.events(), [Event::Dropped { link, id, settled: false, state: None }]);
    // Of this one nothing was there to be thrown away.
    peer.send_with(1, Transfer { handle: 1, ..continuation(false) }, &[1, 2]).unwrap();
    assert!(matches!(&peer.events()[..], [Event::Delivery(d)] if d.payload[..] == [1, 2]));
}

#[test]
fn a_message_above_the_maximum_is_dropped_and_the_connection_lives() {
    let (mut peer, link) = receiving(Config { max_message_size: 1000, ..config() }, 9);
    peer.send_with(1, transfer(0, 0), &[0; 1000]).unwrap();
    assert!(matches!(peer.events()[..], [Event::Delivery(_)]));
    peer.send_with(1, transfer(0, 1), &[0; 1001]).unwrap();
    let id = START.advanced_by(1);
    assert_eq!(peer.events(), [Event::Oversize { link, id, settled: false, state: None }]);
    // In frames: nothing of it is kept, and the event comes at its end.
    peer.send_with(1, more(transfer(0, 2)), &[0; 600]).unwrap();
    peer.send_with(1, continuation(true), &[0; 600]).unwrap();
    assert_eq!(peer.server.partial_bytes, 0);
    peer.send_with(1, continuation(true), &[0; 600]).unwrap();
    assert!(peer.events().is_empty());
    peer.send_with(1, continuation(false), &[0; 1]).unwrap();
    let id = START.advanced_by(2);
    assert_eq!(peer.events(), [Event::Oversize { link, id, settled: false, state: None }]);
    let rejected = DeliveryState::Rejected(None);
    peer.server.settle_incoming(link, id, rejected, true).unwrap();
    assert!(matches!(peer.sent()[..], [(_, Performative::Disposition(_), _)]));
}

#[test]
fn a_first_frame_without_id_or_tag_or_with_a_long_tag_detaches() {
    for broken in [
        Transfer { delivery_id: None, ..transfer(0, 0) },
        Transfer { delivery_tag: None, ..transfer(0, 0) },
        Transfer { delivery_tag: Some(Bytes::from_static(&[0; 33])), ..transfer(0, 0) },
    ] {
        let (mut peer, _) = receiving(config(), 5);
        peer.send(1, broken).unwrap();
        peer.assert_detached(condition::INVALID_FIELD);
    }
}

#[test]
fn trap_01_delivery_ids_go_on_over_the_wrap_and_never_back() {
    let (mut peer, _) = receiving(config(), 50);
    for n in (0..40).step_by(3) {
        peer.send(1, transfer(0, n)).unwrap();
    }
    assert_eq!(peer.events().len(), 14);
    peer.send(1, transfer(0, 39)).unwrap();
    peer.assert_ended(condition::INVALID_FIELD);
}

#[test]
fn a_transfer_from_a_receiver_detaches() {
    let (mut peer, _) = Peer::attached(config(), receiver("r"));
    peer.send(1, transfer(0, 0)).unwrap();
    peer.assert_detached(condition::NOT_ALLOWED);
}

#[test]
fn trap_04_the_peer_gives_up_credit_when_it_is_drained() {
    let (mut peer, link) = receiving(config(), 10);
    peer.server.set_credit_drain(link, 10).unwrap();
    let sent = peer.sent();
    assert!(matches!(&sent[..], [(_, Performative::Flow(flow), _)] if flow.drain));
    peer.send(1, transfer(0, 0)).unwrap();
    let answer = Flow { drain: true, ..credit_flow(0, 10, 0) };
    peer.send(1, answer).unwrap();
    let events = peer.events();
    assert!(matches!(events[..], [Event::Delivery(_), Event::Drained { .. }]));
    assert_eq!(peer.server.credit(link), 0);
    peer.send(1, transfer(0, 1)).unwrap();
    peer.assert_detached(condition::LINK_TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn payloads_are_slices_of_the_read_buffer() {
    let (mut peer, _) = receiving(config(), 1);
    let frame = amqp_frame(1, transfer(0, 0), &[7; 2000]);
    let mut buffer = BytesMut::from(&frame[..]);
    let place = buffer.as_ptr() as usize + frame.len() - 2000;
    peer.server.handle_input(&mut buffer, peer.now).unwrap();
    let events = peer.events();
    assert_eq!(deliveries(&events)[0].payload.as_ptr() as usize, place);
}
