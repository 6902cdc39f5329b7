//! Attach and detach.

use super::*;
use crate::condition;
use crate::performative::{Detach, ReceiverSettleMode, SenderSettleMode};
use crate::terminus::{Coordinator, Target};
use crate::value::{Map, RawMap, Value};

fn detach(handle: u32, closed: bool) -> Detach {
    Detach { handle, closed, error: None }
}

fn only_attach(peer: &mut Peer) -> Attach {
    let mut sent = peer.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let (_, Performative::Attach(attach), _) = sent.remove(0) else { panic!("no attach") };
    *attach
}

#[test]
fn the_reply_echoes_termini_byte_for_byte_and_modes_exactly() {
    let mut peer = Peer::begun(config());
    let request = Attach {
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        source: Some(
            Source::new("queue").with_filter(Map::new().with("any:filter", "value")).into(),
        ),
        ..receiver("r")
    };
    let link = peer.attach_pending(request.clone());
    peer.server.accept_attach(link, AttachReply::default()).unwrap();
    let reply = only_attach(&mut peer);
    assert_eq!((&reply.source, &reply.target), (&request.source, &request.target));
    assert_eq!(reply.snd_settle_mode, request.snd_settle_mode);
    assert_eq!(reply.rcv_settle_mode, request.rcv_settle_mode);
    assert_eq!(reply.name, request.name);
    assert_eq!(reply.role, Role::Sender);
    assert_eq!(reply.initial_delivery_count, Some(START));
}

#[test]
fn what_the_request_leaves_out_is_filled_in() {
    let mut peer = Peer::begun(config());
    // azure-amqp sends neither initial-delivery-count nor modes on some links.
    let request = Attach { source: None, initial_delivery_count: None, ..sender("s") };
    let link = peer.attach_pending(request);
    peer.server.accept_attach(link, AttachReply::default()).unwrap();
    let reply = only_attach(&mut peer);
    assert!(reply.source.is_some() && reply.target.is_some());
    assert_eq!(reply.snd_settle_mode, Some(SenderSettleMode::Mixed));
    assert_eq!(reply.rcv_settle_mode, Some(ReceiverSettleMode::First));
    assert_eq!(reply.max_message_size, Some(1_048_576));
    // Its delivery-count is taken to start at 0.
    peer.server.set_credit(link, 3).unwrap();
    let sent = peer.sent();
    let [(_, Performative::Flow(flow), _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(SerialNumber(0)), Some(3)));
}

#[test]
fn the_caller_may_answer_otherwise_than_it_was_asked() {
    let mut peer = Peer::begun(config());
    let link = peer.attach_pending(sender("s"));
    let reply = AttachReply {
        target: Some(TargetNode::new("another").into()),
        max_message_size: Some(99),
        properties: Some(Map::new().with("a", "b")),
        ..AttachReply::default()
    };
    peer.server.accept_attach(link, reply).unwrap();
    let reply = only_attach(&mut peer);
    assert_eq!(reply.target.unwrap().address(), Some("another"));
    assert_eq!(reply.max_message_size, Some(99));
    assert!(reply.properties.is_some());
}

#[test]
fn a_coordinator_target_is_an_ordinary_link() {
    let mut peer = Peer::begun(config());
    let target = Coordinator { capabilities: Some(vec!["amqp:local-transactions".into()]) };
    let request = Attach { target: Some(target.into()), ..sender("txn") };
    peer.send(1, request.clone()).unwrap();
    let events = peer.events();
    let [Event::Attach { link, attach }] = &events[..] else { panic!("{events:?}") };
    assert!(matches!(attach.target.as_ref().unwrap().view(), Target::Coordinator(_)));
    peer.server.accept_attach(*link, AttachReply::default()).unwrap();
    assert_eq!(only_attach(&mut peer).target, request.target);
}

#[test]
fn trap_07_a_flow_for_a_pending_link_is_told_after_the_answer() {
    let mut peer = Peer::begun(config());
    let link = peer.attach_pending(receiver("r"));
    peer.send(1, credit_flow(0, 0, 5)).unwrap();
    peer.send(1, Flow { echo: true, ..credit_flow(0, 0, 7) }).unwrap();
    assert!(peer.events().is_empty() && peer.sent().is_empty());
    assert_eq!(peer.server.sendable(link), 0);
    peer.server.accept_attach(link, AttachReply::default()).unwrap();
    assert_eq!(peer.events(), [Event::Credit { link, credit: 7, drain: false }]);
    let sent = peer.sent();
    let [(_, Performative::Attach(_), _), (_, Performative::Flow(flow), _)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(flow.link_credit, Some(7));
    assert_eq!(peer.server.sendable(link), 7);
}

#[test]
fn trap_07_a_detach_of_a_pending_link_is_answered_with_attach_and_detach() {
    let mut peer = Peer::begun(config());
    let link = peer.attach_pending(receiver("r"));
    peer.send(1, detach(0, false)).unwrap();
    assert_eq!(peer.events(), [Event::Detach { link, closed: false, error: None }]);
    let sent = peer.sent();
    let [(_, Performative::Attach(attach), _), (_, Performative::Detach(answer), _)] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert!(attach.source.is_none() && attach.target.is_none());
    assert_eq!(*answer, detach(0, false));
    assert_eq!(peer.server.accept_attach(link, AttachReply::default()), Err(Stale));
    assert!(peer.sent().is_empty());
    // The name and the handle are free.
    peer.attach(receiver("r"));
}

#[test]
fn trap_07_the_end_of_connection_or_session_finds_pending_links() {
    let mut peer = Peer::begun(config());
    let link = peer.attach_pending(receiver("r"));
    peer.send(1, crate::performative::End { error: None }).unwrap();
    assert!(matches!(&peer.events()[..], [Event::End { links, .. }] if links == &[link]));
    let mut peer = Peer::begun(config());
    let link = peer.attach_pending(receiver("r"));
    peer.server.handle_eof();
    assert_eq!(peer.events(), [Event::Closed { error: None }]);
    assert_eq!(peer.server.accept_attach(link, AttachReply::default()), Err(Stale));
}

#[test]
fn trap_07_our_handles_and_the_peers_are_different_spaces() {
    let mut peer = Peer::begun(config());
    peer.attach(Attach { handle: 200, ..receiver("a") });
    let link = peer.attach_pending(Attach { handle: 0, ..receiver("b") });
    peer.server.accept_attach(link, AttachReply::default()).unwrap();
    assert_eq!(only_attach(&mut peer).handle, 1);
    peer.send(1, credit_flow(0, 0, 4)).unwrap();
    assert_eq!(peer.events(), [Event::Credit { link, credit: 4, drain: false }]);
    peer.server.send(link, message(&[])).unwrap();
    assert!(matches!(&peer.sent()[..], [(_, Performative::Transfer(t), _)] if t.handle == 1));
}

#[test]
fn trap_08_a_refusal_is_attach_and_detach_side_by_side() {
    let mut peer = Peer::begun(config());
    let other = peer.attach(Attach { handle: 1, ..sender("other") });
    let request = Attach { rcv_settle_mode: Some(ReceiverSettleMode::Second), ..receiver("r") };
    let link = peer.attach_pending(request);
    peer.server.set_credit(other, 5).unwrap();
    let error = ErrorInfo::new(condition::NOT_FOUND, "no such queue");
    peer.server.reject_attach(link, error.clone()).unwrap();
    let sent = peer.sent();
    let [
        (_, Performative::Flow(_), _),
        (_, Performative::Attach(attach), _),
        (_, Performative::Detach(reason), _),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert!(attach.source.is_none() && attach.target.is_none());
    assert_eq!(attach.initial_delivery_count, Some(START));
    assert_eq!(attach.rcv_settle_mode, Some(ReceiverSettleMode::Second));
    assert_eq!(reason.error, Some(error));
    assert!(reason.closed);
    // Frames on that handle are ignored until the peer's detach, which is not answered.
    peer.send(1, Flow { echo: true, ..credit_flow(0, 0, 5) }).unwrap();
    peer.send(1, detach(0, true)).unwrap();
    assert!(peer.sent().is_empty() && peer.events().is_empty());
    assert_eq!(peer.server.link_count(), 1);
    // At once again, under the same name and handle.
    peer.attach(receiver("r"));
}

#[test]
fn handle_in_use_unattached_and_errant() {
    let (mut peer, _) = Peer::attached(config(), sender("s"));
    peer.send(1, sender("another")).unwrap();
    peer.assert_ended(condition::SESSION_HANDLE_IN_USE);

    let (mut peer, _) = Peer::attached(config(), sender("s"));
    peer.send(1, transfer(3, 0)).unwrap();
    peer.assert_ended(condition::SESSION_UNATTACHED_HANDLE);
    let mut peer = Peer::begun(config());
    peer.send(1, credit_flow(3, 0, 1)).unwrap();
    peer.assert_ended(condition::SESSION_UNATTACHED_HANDLE);

    let (mut peer, link) = Peer::attached(config(), sender("s"));
    peer.server
        .detach(link, true, Some(ErrorInfo::new(condition::LINK_DETACH_FORCED, "x")))
        .unwrap();
    peer.send(1, detach(0, true)).unwrap();
    peer.sent();
    peer.events();
    peer.send(1, transfer(0, 0)).unwrap();
    peer.assert_ended(condition::SESSION_ERRANT_LINK);
}

#[test]
fn a_handle_above_the_maximum_closes() {
    let mut peer = Peer::begun(Config { handle_max: 7, ..config() });
    peer.attach(Attach { handle: 7, ..sender("s") });
    peer.send(1, Attach { handle: 8, ..sender("t") }).unwrap_err();
    peer.assert_closed(condition::CONNECTION_FRAMING_ERROR);
}

#[test]
fn a_peer_with_fewer_handles_than_it_uses_is_told_so() {
    let mut peer = Peer::open(config());
    let begin = crate::performative::Begin { handle_max: Some(0), ..Peer::plain_begin() };
    peer.send(1, begin).unwrap();
    peer.events();
    peer.sent();
    peer.attach(Attach { handle: 4, ..sender("s") });
    peer.send(1, Attach { handle: 5, ..sender("t") }).unwrap();
    peer.assert_ended(condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn an_attach_of_the_same_name_and_role_steals_the_link() {
    let (mut peer, link) = Peer::attached(config(), sender("same"));
    peer.attach(Attach { handle: 5, ..receiver("same") });
    peer.send(1, Attach { handle: 1, ..sender("same") }).unwrap();
    let events = peer.events();
    let [
        Event::Detach { link: stolen, closed: true, error: Some(error) },
        Event::Attach { link: thief, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*stolen, &*error.condition), (link, condition::LINK_STOLEN));
    assert!(matches!(&peer.sent()[..], [(_, Performative::Detach(d), _)] if d.handle == 0));
    peer.server.accept_attach(*thief, AttachReply::default()).unwrap();
    // The old one's detach comes late and takes nothing from the new one.
    peer.send(1, detach(0, true)).unwrap();
    peer.server.set_credit(*thief, 1).unwrap();
    peer.sent();
    peer.send(1, transfer(1, 0)).unwrap();
    assert!(matches!(peer.events()[..], [Event::Delivery(_)]));
    // A pending link can be stolen as well.
    let (mut peer, _) = Peer::attached(config(), sender("x"));
    let pending = peer.attach_pending(Attach { handle: 1, ..sender("same") });
    peer.send(1, Attach { handle: 2, ..sender("same") }).unwrap();
    let events = peer.events();
    assert!(matches!(&events[..], [Event::Detach { link, .. }, _] if *link == pending));
    let sent = peer.sent();
    assert!(matches!(sent[..], [(_, Performative::Attach(_), _), (_, Performative::Detach(_), _)]));
}

#[test]
fn an_unsettled_map_on_attach_is_ignored() {
    let mut peer = Peer::begun(config());
    let unsettled = RawMap::from(&Map::new().with("tag", Value::Null));
    let request =
        Attach { unsettled: Some(unsettled), incomplete_unsettled: Some(true), ..receiver("r") };
    let link = peer.attach_pending(request);
    peer.server.accept_attach(link, AttachReply::default()).unwrap();
    let reply = only_attach(&mut peer);
    assert_eq!((reply.unsettled, reply.incomplete_unsettled), (None, None));
}

#[test]
fn trap_09_detach_mirrors_closed_and_is_answered_once() {
    for closed in [true, false] {
        let (mut peer, link) = Peer::attached(config(), sender("s"));
        peer.send(1, detach(0, closed)).unwrap();
        assert_eq!(peer.events(), [Event::Detach { link, closed, error: None }]);
        assert!(
            matches!(&peer.sent()[..], [(_, Performative::Detach(d), _)] if d.closed == closed)
        );
        // A second one is nobody's.
        peer.send(1, detach(0, closed)).unwrap();
        assert!(peer.sent().is_empty() && peer.events().is_empty());
        assert!(peer.server.is_open());
    }
    // Both at once.
    let (mut peer, link) = Peer::attached(config(), sender("s"));
    peer.server.detach(link, true, None).unwrap();
    assert_eq!(peer.server.detach(link, true, None), Err(Stale));
    peer.send(1, detach(0, true)).unwrap();
    assert!(matches!(peer.sent()[..], [(_, Performative::Detach(_), _)]));
    assert_eq!(peer.events(), [Event::Detach { link, closed: true, error: None }]);
}

#[test]
fn acknowledgements_are_written_before_the_detach() {
    let (mut peer, link) = Peer::attached(config(), sender("s"));
    peer.server.set_credit(link, 1).unwrap();
    peer.sent();
    peer.send(1, transfer(0, 0)).unwrap();
    let state = crate::delivery_state::DeliveryState::Accepted;
    peer.server.settle_incoming(link, START, state, true).unwrap();
    peer.server.detach(link, true, None).unwrap();
    let sent = peer.sent();
    assert!(matches!(
        sent[..],
        [(_, Performative::Disposition(_), _), (_, Performative::Detach(_), _)]
    ));
}

#[test]
fn links_and_pending_attaches_are_bounded() {
    let limited = Config { links_max: 3, pending_attach_max: 2, ..config() };
    let mut peer = Peer::begun(limited.clone());
    let named = |n: u32| Attach { handle: n, ..sender(&format!("s{n}")) };
    let first = peer.attach_pending(named(0));
    peer.attach_pending(named(1));
    // Two wait: the third is refused.
    peer.send(1, named(2)).unwrap();
    assert!(peer.events().is_empty());
    let sent = peer.sent();
    let [(_, Performative::Attach(_), _), (_, Performative::Detach(refusal), _)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(refusal.error.as_ref().unwrap().condition, *condition::RESOURCE_LIMIT_EXCEEDED);
    peer.send(1, detach(2, true)).unwrap();
    peer.server.accept_attach(first, AttachReply::default()).unwrap();
    peer.sent();
    peer.attach(named(2));
    // Three are there: the fourth is refused, and who does not let go is cut off.
    for n in 3..6 {
        peer.send(1, named(n)).unwrap();
        assert!(peer.events().is_empty());
        assert_eq!(peer.sent().len(), 2);
    }
    peer.send(1, named(6)).unwrap_err();
    peer.assert_closed(condition::RESOURCE_LIMIT_EXCEEDED);
    assert_eq!(peer.server.take_reached(), Reached { links: 4, ..Reached::default() });
}

#[test]
fn an_attach_that_is_too_long_is_refused() {
    let mut peer = Peer::begun(config());
    let properties = Map::new().with("a", "x".repeat(crate::limits::ATTACH_LEN_MAX).as_str());
    peer.send(1, Attach { properties: Some(properties), ..sender("s") }).unwrap();
    assert!(peer.events().is_empty());
    let sent = peer.sent();
    assert!(matches!(sent[..], [(_, Performative::Attach(_), _), (_, Performative::Detach(_), _)]));
}

#[test]
fn no_frame_is_longer_than_the_peer_takes_whatever_has_to_be_said() {
    let open = Open { max_frame_size: Some(512), ..Peer::plain_open() };
    let mut peer = Peer::open_as(config(), open);
    peer.send(1, Peer::plain_begin()).unwrap();
    peer.events();
    peer.sent();
    // A long error loses its text and keeps its condition.
    let link = peer.attach_pending(sender("s"));
    let error = ErrorInfo::new(condition::NOT_FOUND, "x".repeat(600));
    peer.server.reject_attach(link, error).unwrap();
    let sent = peer.sent();
    let [_, (_, Performative::Detach(answer), _)] = &sent[..] else { panic!("{sent:?}") };
    let error = answer.error.as_ref().unwrap();
    assert_eq!((&*error.condition, &error.description), (condition::NOT_FOUND, &None));
    // An attach that cannot be repeated is refused.
    let target = Some(TargetNode::new("q".repeat(600).as_str()).into());
    let link = peer.attach_pending(Attach { handle: 1, target, ..sender("t") });
    assert_eq!(peer.server.accept_attach(link, AttachReply::default()), Err(Stale));
    peer.assert_detached(condition::FRAME_SIZE_TOO_SMALL);
    // Nor is one of ours.
    let link = peer.attach_pending(Attach { handle: 2, ..sender("u") });
    let session = peer.server.session_of(link).unwrap();
    let refused = peer.server.attach(session, sender(&"n".repeat(600)));
    assert_eq!(refused, Err(AttachError::TooLong));
    peer.server.check();
}

#[test]
fn a_client_may_give_a_link_up_before_it_is_answered() {
    let (mut pair, session, _) = Pair::open();
    let link = pair.client.attach(session, sender("s")).unwrap();
    assert_eq!(pair.client.attach(session, sender("s")), Err(AttachError::NameInUse));
    pair.client.detach(link, true, None).unwrap();
    let (client_events, server_events) = pair.exchange();
    assert_eq!(client_events, [Event::Detach { link, closed: true, error: None }]);
    let [Event::Attach { link: pending, .. }, Event::Detach { link: gone, .. }] =
        &server_events[..]
    else {
        panic!("{server_events:?}");
    };
    assert_eq!(pending, gone);
    assert_eq!((pair.client.link_count(), pair.server.link_count()), (0, 0));
    pair.attach(session, sender("s"));
}
