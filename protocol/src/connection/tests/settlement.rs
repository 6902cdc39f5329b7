//! Dispositions, both ways.

use super::*;
use crate::condition;
use crate::delivery_state::DeliveryState;
use crate::performative::Disposition;
use crate::value::{Map, RawValue};

fn disposition(role: Role, first: u32, last: Option<u32>, settled: bool) -> Disposition {
    Disposition {
        role,
        first: START.advanced_by(first),
        last: last.map(|last| START.advanced_by(last)),
        settled,
        state: Some(DeliveryState::Accepted),
        batchable: true,
    }
}

/// `count` deliveries have been sent and written.
fn having_sent(count: u32) -> (Peer, LinkId) {
    let (mut peer, link) = Peer::attached(config(), receiver("r"));
    peer.send(1, credit_flow(0, 0, count)).unwrap();
    for n in 0..count {
        let tag = n.to_be_bytes();
        let delivery = OutgoingDelivery { tag: &tag, ..message(&[]) };
        assert_eq!(peer.server.send(link, delivery), Ok(START.advanced_by(n)));
    }
    peer.sent();
    peer.events();
    (peer, link)
}

/// `count` deliveries have come.
fn having_received(count: u32) -> (Peer, LinkId) {
    let (mut peer, link) = Peer::attached(config(), sender("s"));
    peer.server.set_credit(link, count).unwrap();
    peer.sent();
    for n in 0..count {
        peer.send(1, transfer(0, n)).unwrap();
    }
    assert_eq!(peer.events().len(), count as usize);
    peer.sent();
    (peer, link)
}

fn settled_ids(events: &[Event]) -> Vec<u32> {
    events
        .iter()
        .map(|event| {
            let Event::Settled { id, tag, .. } = event else { panic!("{event:?}") };
            let n = id.distance_from(START);
            assert_eq!(tag[..], n.to_be_bytes());
            n
        })
        .collect()
}

fn ranges(peer: &mut Peer) -> Vec<(u32, u32)> {
    peer.sent()
        .into_iter()
        .map(|(_, performative, _)| {
            let Performative::Disposition(disposition) = performative else {
                panic!("{performative:?}");
            };
            let last = disposition.last.unwrap_or(disposition.first);
            (disposition.first.distance_from(START), last.distance_from(START))
        })
        .collect()
}

#[test]
fn trap_16_ranges_meet_only_unsettled_deliveries_of_ours_in_order() {
    let (mut peer, _) = having_sent(40);
    peer.send(1, disposition(Role::Receiver, 14, Some(18), true)).unwrap();
    assert_eq!(settled_ids(&peer.events()), [14, 15, 16, 17, 18]);
    // First without last; again; never sent; backwards; everything there is.
    peer.send(1, disposition(Role::Receiver, 3, None, true)).unwrap();
    assert_eq!(settled_ids(&peer.events()), [3]);
    peer.send(1, disposition(Role::Receiver, 3, None, true)).unwrap();
    peer.send(1, disposition(Role::Receiver, 1000, Some(2000), true)).unwrap();
    peer.send(1, disposition(Role::Receiver, 30, Some(20), true)).unwrap();
    assert!(peer.events().is_empty());
    let all = Disposition {
        first: SerialNumber(0),
        last: Some(SerialNumber(u32::MAX)),
        ..disposition(Role::Receiver, 0, None, true)
    };
    peer.send(1, all).unwrap();
    peer.send(1, disposition(Role::Receiver, 0, Some(0x7FFF_FFFF), true)).unwrap();
    assert_eq!(peer.events().len(), 34);
    // Nothing was answered to any of it.
    assert!(peer.sent().is_empty());
}

#[test]
fn trap_14_second_mode_ends_with_our_settled_answer() {
    let (mut peer, link) = having_sent(3);
    let state = DeliveryState::Rejected(Some(ErrorInfo::new(condition::DEAD_LETTER, "x")));
    let wish = Disposition {
        state: Some(state.clone()),
        ..disposition(Role::Receiver, 0, Some(1), false)
    };
    peer.send(1, wish).unwrap();
    let events = peer.events();
    assert_eq!(settled_ids(&events), [0, 1]);
    for event in &events {
        let Event::Settled { settled: false, state: told, .. } = event else { panic!("{event:?}") };
        assert_eq!(*told, Some(state.clone()));
    }
    // Storage answers: our own outcome, not the peer's.
    for n in 0..2 {
        let answer = Some(DeliveryState::Rejected(None));
        peer.server.settle_outgoing(link, START.advanced_by(n), answer, true).unwrap();
    }
    let sent = peer.sent();
    let [(_, Performative::Disposition(answer), _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(
        *answer,
        Disposition {
            state: Some(DeliveryState::Rejected(None)),
            batchable: false,
            ..disposition(Role::Sender, 0, Some(1), true)
        }
    );
    assert_eq!(peer.server.settle_outgoing(link, START, None, true), Err(Stale));
    // The peer may settle late; that is no news.
    peer.send(1, disposition(Role::Receiver, 0, Some(1), true)).unwrap();
    assert!(peer.events().is_empty());
}

#[test]
fn an_unsettled_outcome_is_told_once_however_often_it_is_repeated() {
    let (mut peer, link) = having_sent(3);
    for _ in 0..100 {
        peer.send(1, disposition(Role::Receiver, 0, Some(2), false)).unwrap();
    }
    assert_eq!(peer.events().len(), 3);
    // A state on the way is none yet.
    let (mut other, _) = having_sent(1);
    let received = DeliveryState::Received { section_number: 0, section_offset: 0 };
    for state in [None, Some(received)] {
        let on_the_way = Disposition { state, ..disposition(Role::Receiver, 0, None, false) };
        other.send(1, on_the_way).unwrap();
    }
    assert!(other.events().is_empty());
    // After an answer that does not settle, the next outcome is news; and so is the settlement.
    peer.server.settle_outgoing(link, START, None, false).unwrap();
    peer.send(1, disposition(Role::Receiver, 0, Some(2), false)).unwrap();
    assert_eq!(settled_ids(&peer.events()), [0]);
    peer.send(1, disposition(Role::Receiver, 0, Some(2), true)).unwrap();
    assert_eq!(settled_ids(&peer.events()), [0, 1, 2]);
}

#[test]
fn trap_15_an_unknown_state_reaches_the_caller_as_it_came() {
    let (mut peer, _) = having_sent(1);
    let raw = Bytes::from_static(b"\x00\x80\x00\x00\x00\x99\x00\x00\x00\x01\xc0\x03\x01\x52\x07");
    let state = DeliveryState::Unknown(RawValue::new(raw).unwrap());
    let unknown =
        Disposition { state: Some(state.clone()), ..disposition(Role::Receiver, 0, None, false) };
    peer.send(1, unknown).unwrap();
    let events = peer.events();
    assert!(matches!(&events[..], [Event::Settled { state: Some(told), .. }] if *told == state));
    assert!(peer.server.is_open());
}

#[test]
fn a_long_state_over_a_long_range_is_not_copied_without_end() {
    let (mut peer, _) = having_sent(50);
    let info = Map::new().with("reason", "x".repeat(40_000).as_str());
    let error = ErrorInfo { info: Some(info), ..ErrorInfo::new(condition::DEAD_LETTER, "x") };
    let state = Some(DeliveryState::Rejected(Some(error)));
    let wish =
        Disposition { state: state.clone(), ..disposition(Role::Receiver, 0, Some(19), false) };
    peer.send(1, wish).unwrap();
    assert_eq!(peer.events().len(), 20);
    let wish = Disposition { state, ..disposition(Role::Receiver, 0, Some(49), false) };
    peer.send(1, wish).unwrap();
    peer.assert_ended(condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn consecutive_acknowledgements_are_one_range_over_the_wrap() {
    let (mut peer, link) = having_received(30);
    for n in 0..30 {
        let id = START.advanced_by(n);
        peer.server.settle_incoming(link, id, DeliveryState::Accepted, true).unwrap();
    }
    assert_eq!(ranges(&mut peer), [(0, 29)]);
}

#[test]
fn another_outcome_or_a_gap_starts_another_range() {
    let (mut peer, link) = having_received(10);
    for n in [0, 1, 2, 4, 5, 3, 9] {
        let state = if n == 2 { DeliveryState::Released } else { DeliveryState::Accepted };
        peer.server.settle_incoming(link, START.advanced_by(n), state, true).unwrap();
    }
    peer.server
        .settle_incoming(link, START.advanced_by(8), DeliveryState::Accepted, false)
        .unwrap();
    assert_eq!(ranges(&mut peer), [(0, 1), (2, 2), (4, 5), (3, 3), (9, 9), (8, 8)]);
    // What is settled is gone, what is not can be settled still.
    let again = peer.server.settle_incoming(link, START, DeliveryState::Accepted, true);
    assert_eq!(again, Err(Stale));
    peer.server.settle_incoming(link, START.advanced_by(8), DeliveryState::Accepted, true).unwrap();
    assert_eq!(ranges(&mut peer), [(8, 8)]);
}

#[test]
fn a_delivery_is_settled_on_its_own_link_only() {
    let (mut peer, link) = having_received(1);
    let other = peer.attach(Attach { handle: 1, ..sender("other") });
    let settled = peer.server.settle_incoming(other, START, DeliveryState::Accepted, true);
    assert_eq!(settled, Err(Stale));
    peer.server.settle_incoming(link, START, DeliveryState::Accepted, true).unwrap();
}

#[test]
fn the_senders_settlement_ends_a_delivery_we_received() {
    let (mut peer, link) = having_received(3);
    peer.send(1, disposition(Role::Sender, 0, Some(1), false)).unwrap();
    assert!(peer.events().is_empty());
    peer.send(1, disposition(Role::Sender, 0, Some(1), true)).unwrap();
    let told = |n: u32| Event::SettledBySender {
        link,
        id: START.advanced_by(n),
        state: Some(DeliveryState::Accepted),
    };
    assert_eq!(peer.events(), [told(0), told(1)]);
    let settled = peer.server.settle_incoming(link, START, DeliveryState::Accepted, true);
    assert_eq!(settled, Err(Stale));
}

#[test]
fn a_detached_links_deliveries_are_not_reported_any_more() {
    let (mut peer, link) = having_sent(5);
    let other = peer.attach(Attach { handle: 1, ..receiver("other") });
    peer.send(1, credit_flow(1, 0, 1)).unwrap();
    peer.server.send(other, message(&[])).unwrap();
    peer.server.detach(link, true, None).unwrap();
    peer.events();
    peer.send(1, disposition(Role::Receiver, 0, Some(9), true)).unwrap();
    let events = peer.events();
    assert!(matches!(&events[..], [Event::Settled { link, .. }] if *link == other));
}
