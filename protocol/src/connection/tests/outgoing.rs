//! Deliveries that go out: credit, drain, echo, frames.

use super::*;

fn sending(credit: u32) -> (Peer, LinkId) {
    let (mut peer, link) = Peer::attached(config(), receiver("r"));
    peer.send(1, credit_flow(0, 0, credit)).unwrap();
    assert_eq!(peer.events(), [Event::Credit { link, credit, drain: false }]);
    (peer, link)
}

fn flows(peer: &mut Peer) -> Vec<Flow> {
    peer.sent()
        .into_iter()
        .filter_map(
            |(_, performative, _)| {
                if let Performative::Flow(flow) = performative { Some(flow) } else { None }
            },
        )
        .collect()
}

#[test]
fn the_first_frame_says_everything_and_the_others_only_what_they_must() {
    let open = Open { max_frame_size: Some(512), ..Peer::plain_open() };
    let mut peer = Peer::open_as(config(), open);
    peer.send(1, Peer::plain_begin()).unwrap();
    peer.sent();
    peer.events();
    let link = peer.attach(receiver("r"));
    peer.send(1, credit_flow(0, 0, 1)).unwrap();
    let parts = [Bytes::from(vec![1; 700]), Bytes::new(), Bytes::from(vec![2; 3000])];
    peer.server.send(link, message(&parts)).unwrap();
    peer.server.prepare_output(peer.now);
    // No frame is longer than the peer takes.
    let mut octets = BytesMut::new();
    peer.server.output().copy_into(&mut octets);
    let mut sizes = Vec::new();
    while let Some(head) = octets.first_chunk() {
        let size = FrameHeader::parse(head, 512).unwrap().size;
        let frame = octets.split_to(size as usize);
        peer.server.output().append(|out| out.extend_from_slice(&frame));
        sizes.push(size);
    }
    assert!(sizes.iter().rev().skip(1).all(|size| *size == 512), "{sizes:?}");
    let sent = peer.sent();
    let mut payload = Vec::new();
    for (n, (_, performative, part)) in sent.iter().enumerate() {
        let Performative::Transfer(transfer) = performative else { panic!("{performative:?}") };
        let first = n == 0;
        assert_eq!(transfer.delivery_id, first.then_some(START));
        assert_eq!(transfer.delivery_tag.as_deref(), first.then_some(&b"tag"[..]));
        assert_eq!(transfer.message_format, first.then_some(0));
        assert_eq!(transfer.settled, Some(false));
        assert_eq!(transfer.more, n + 1 < sent.len());
        payload.extend_from_slice(part);
    }
    assert_eq!(payload, parts.concat());
}

#[test]
fn trap_03_credit_is_counted_from_what_the_receiver_had_seen() {
    let (mut peer, link) = sending(20);
    for _ in 0..18 {
        peer.server.send(link, message(&[])).unwrap();
    }
    // Past the wrap: the receiver had seen 10 and wants 10 more from there.
    peer.send(1, credit_flow(0, 10, 10)).unwrap();
    assert_eq!(peer.server.link_credit(link), 2);
    // A cut below what is under way is no credit, not a huge one.
    peer.send(1, credit_flow(0, 10, 3)).unwrap();
    assert_eq!((peer.server.link_credit(link), peer.server.sendable(link)), (0, 0));
    assert_eq!(peer.server.send(link, message(&[])), Err(SendError::NoCredit));
    // A receiver that has seen nothing counts from the start.
    peer.send(1, Flow { delivery_count: None, ..credit_flow(0, 0, 19) }).unwrap();
    assert_eq!(peer.server.link_credit(link), 1);
    assert_eq!(peer.server.delivered_count(link), 18);
}

#[test]
fn credit_cut_to_nothing_stops_at_once() {
    let (mut peer, link) = sending(20);
    peer.send(1, credit_flow(0, 0, 0)).unwrap();
    assert_eq!(peer.events(), [Event::Credit { link, credit: 0, drain: false }]);
    assert_eq!(peer.server.sendable(link), 0);
    assert!(peer.sent().is_empty());
}

#[test]
fn trap_04_a_drain_uses_up_the_credit_and_is_answered_once() {
    let (mut peer, link) = sending(5);
    peer.send(1, Flow { drain: true, ..credit_flow(0, 0, 5) }).unwrap();
    assert_eq!(peer.events(), [Event::Credit { link, credit: 5, drain: true }]);
    assert!(peer.server.is_draining(link));
    peer.server.send(link, message(&[])).unwrap();
    peer.server.drained(link).unwrap();
    assert!(!peer.server.is_draining(link));
    peer.server.drained(link).unwrap();
    let sent = peer.sent();
    let [(_, Performative::Transfer(_), _), (_, Performative::Flow(flow), _)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(flow.delivery_count, Some(START.advanced_by(5)));
    assert_eq!((flow.link_credit, flow.drain, flow.echo), (Some(0), true, false));
    assert_eq!(peer.server.delivered_count(link), 1);
    assert_eq!(peer.server.send(link, message(&[])), Err(SendError::NoCredit));
}

#[test]
fn trap_04_a_drain_without_credit_is_answered_as_well() {
    let (mut peer, link) = sending(0);
    peer.send(1, Flow { drain: true, ..credit_flow(0, 0, 0) }).unwrap();
    assert_eq!(peer.events(), [Event::Credit { link, credit: 0, drain: true }]);
    peer.server.drained(link).unwrap();
    let flows = flows(&mut peer);
    assert!(matches!(&flows[..], [flow] if flow.drain && flow.delivery_count == Some(START)));
}

#[test]
fn trap_04_a_new_flow_without_drain_cancels_it() {
    let (mut peer, link) = sending(5);
    peer.send(1, Flow { drain: true, ..credit_flow(0, 0, 5) }).unwrap();
    peer.send(1, credit_flow(0, 0, 8)).unwrap();
    assert!(!peer.server.is_draining(link));
    peer.server.drained(link).unwrap();
    assert!(flows(&mut peer).is_empty());
    assert_eq!(peer.server.sendable(link), 8);
}

#[test]
fn trap_04_the_answer_to_a_drain_waits_for_what_is_queued() {
    let (mut peer, link) = sending(5);
    peer.send(1, Flow { incoming_window: 1, drain: true, ..credit_flow(0, 0, 5) }).unwrap();
    peer.server.send(link, message(&[])).unwrap();
    peer.server.send(link, message(&[])).unwrap();
    peer.server.drained(link).unwrap();
    assert!(matches!(peer.sent()[..], [(_, Performative::Transfer(_), _)]));
    let window = Flow { next_incoming_id: Some(START.advanced_by(1)), ..session_flow() };
    peer.send(1, window).unwrap();
    let sent = peer.sent();
    let [(_, Performative::Transfer(_), _), (_, Performative::Flow(flow), _)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((flow.drain, flow.delivery_count), (true, Some(START.advanced_by(5))));
}

#[test]
fn trap_04_an_echo_is_answered_once_and_never_with_an_echo() {
    let (mut peer, _) = sending(5);
    for _ in 0..5 {
        peer.send(1, Flow { echo: true, ..credit_flow(0, 0, 5) }).unwrap();
    }
    let answers = flows(&mut peer);
    let [flow] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((flow.handle, flow.link_credit), (Some(0), Some(5)));
    assert_eq!((flow.delivery_count, flow.echo, flow.drain), (Some(START), false, false));
    // Of the session: no link in it.
    peer.send(1, Flow { echo: true, ..session_flow() }).unwrap();
    let answers = flows(&mut peer);
    let [flow] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((flow.handle, flow.link_credit, flow.echo), (None, None, false));
    // With a drain, the answer to the drain is the answer.
    peer.send(1, Flow { echo: true, drain: true, ..credit_flow(0, 0, 5) }).unwrap();
    assert!(flows(&mut peer).is_empty());
    // Of a link we receive on.
    peer.events();
    peer.attach(Attach { handle: 1, ..sender("s") });
    peer.send(1, Flow { echo: true, ..credit_flow(1, 0, 0) }).unwrap();
    let answers = flows(&mut peer);
    assert!(matches!(&answers[..], [flow] if flow.handle == Some(1) && !flow.echo));
}

#[test]
fn trap_04_an_echo_does_not_count_what_the_window_holds_back() {
    let (mut peer, link) = sending(5);
    peer.send(1, Flow { incoming_window: 1, ..credit_flow(0, 0, 5) }).unwrap();
    for _ in 0..3 {
        peer.server.send(link, message(&[])).unwrap();
    }
    peer.sent();
    let seen = Flow { next_incoming_id: Some(START.advanced_by(1)), ..credit_flow(0, 1, 4) };
    peer.send(1, Flow { incoming_window: 0, echo: true, ..seen }).unwrap();
    let answers = flows(&mut peer);
    let [flow] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((flow.delivery_count, flow.link_credit), (Some(START.advanced_by(1)), Some(4)));
}

#[test]
fn nothing_is_sendable_while_too_much_waits_to_be_written() {
    let config = Config { output_bytes_max: 5000, ..config() };
    let (mut peer, link) = Peer::attached(config, receiver("r"));
    peer.send(1, credit_flow(0, 0, 50)).unwrap();
    assert_eq!(peer.server.sendable(link), 50);
    let parts = [Bytes::from(vec![0; 6000])];
    peer.server.send(link, message(&parts)).unwrap();
    assert_eq!(peer.server.sendable(link), 0);
    peer.sent();
    assert_eq!(peer.server.sendable(link), 49);
}

#[test]
fn a_tag_that_is_too_long_is_refused_before_anything_is_counted() {
    let (mut peer, link) = sending(5);
    let tag = [0; 33];
    let delivery = OutgoingDelivery { tag: &tag, ..message(&[]) };
    assert_eq!(peer.server.send(link, delivery), Err(SendError::TagTooLong));
    assert_eq!(peer.server.link_credit(link), 5);
    assert_eq!(peer.server.send(link, message(&[])), Ok(START));
}

#[test]
fn a_detach_drops_what_is_queued_for_the_link_and_nothing_else() {
    let (mut peer, link) = sending(5);
    let other = peer.attach(Attach { handle: 1, ..receiver("other") });
    peer.send(1, Flow { incoming_window: 0, ..credit_flow(1, 0, 5) }).unwrap();
    peer.server.send(link, message(&[])).unwrap();
    peer.server.send(other, message(&[Bytes::from_static(b"stays")])).unwrap();
    peer.server.detach(link, true, None).unwrap();
    peer.sent();
    peer.send(1, session_flow()).unwrap();
    let sent = peer.sent();
    let [(_, Performative::Transfer(_), payload)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(payload[..], *b"stays");
}
