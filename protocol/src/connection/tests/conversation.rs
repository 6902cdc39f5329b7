//! Client and server through a whole life: SASL to close.

use super::*;
use crate::condition;
use crate::delivery_state::DeliveryState;

#[test]
fn client_and_server_from_sasl_to_close() {
    let open = ClientOpen {
        hostname: Some("host:5671".into()),
        sasl: ClientSasl::Plain { user: "me".into(), password: "secret".into() },
        ..ClientOpen::default()
    };
    let mut pair = Pair::new(config(), config(), open);
    // Everything up to the credit is said before the server has answered anything.
    let session = pair.client.begin().unwrap();
    let out = pair.client.attach(session, sender("out")).unwrap();
    let back = pair.client.attach(session, receiver("back")).unwrap();
    pair.client.set_credit(back, 10).unwrap();

    let (client_events, server_events) = pair.exchange();
    let [
        Event::SaslInit { mechanism, initial_response, hostname },
        Event::Open(open),
        Event::Begin(_),
        Event::Attach { link: incoming, attach: out_attach },
        Event::Attach { link: outgoing, .. },
    ] = &server_events[..]
    else {
        panic!("{server_events:?}");
    };
    assert_eq!(*mechanism, "PLAIN");
    assert_eq!(initial_response.as_deref(), Some(&b"\0me\0secret"[..]));
    assert_eq!(hostname.as_deref(), Some("host:5671"));
    assert_eq!(open.hostname.as_deref(), Some("host:5671"));
    assert_eq!(out_attach.target.as_ref().unwrap().address(), Some("queue"));
    assert!(matches!(
        client_events[..],
        [Event::SaslOutcome(SaslCode::Ok), Event::Open(_), Event::Begin(_)]
    ));

    // Attach and credit.
    pair.server.accept_attach(*incoming, AttachReply::default()).unwrap();
    pair.server.set_credit(*incoming, 5).unwrap();
    pair.server.accept_attach(*outgoing, AttachReply::default()).unwrap();
    let (client_events, server_events) = pair.exchange();
    assert!(matches!(
        client_events[..],
        [Event::AttachReply { .. }, Event::AttachReply { .. }, Event::Credit { credit: 5, .. }]
    ));
    assert_eq!(server_events, [Event::Credit { link: *outgoing, credit: 10, drain: false }]);

    // A message to the server, accepted.
    let body = [Bytes::from_static(b"hello")];
    let sent = pair.client.send(out, message(&body)).unwrap();
    assert_eq!(sent, START);
    let (_, server_events) = pair.exchange();
    let [delivery] = deliveries(&server_events)[..] else { panic!("{server_events:?}") };
    assert_eq!((&delivery.payload[..], &delivery.tag[..]), (&b"hello"[..], &b"tag"[..]));
    assert!(!delivery.settled);
    pair.server.settle_incoming(*incoming, delivery.id, DeliveryState::Accepted, true).unwrap();
    let (client_events, _) = pair.exchange();
    let [Event::Settled { link, id, tag, state, settled: true }] = &client_events[..] else {
        panic!("{client_events:?}");
    };
    assert_eq!((*link, *id, &tag[..]), (out, sent, &b"tag"[..]));
    assert_eq!(*state, Some(DeliveryState::Accepted));

    // A message back, settled in second mode.
    assert_eq!(pair.server.sendable(*outgoing), 10);
    let sent = pair.server.send(*outgoing, message(&body)).unwrap();
    let (client_events, _) = pair.exchange();
    let [delivery] = deliveries(&client_events)[..] else { panic!("{client_events:?}") };
    pair.client.settle_incoming(back, delivery.id, DeliveryState::Released, false).unwrap();
    let (_, server_events) = pair.exchange();
    assert!(matches!(server_events[..], [Event::Settled { settled: false, .. }]));
    pair.server.settle_outgoing(*outgoing, sent, Some(DeliveryState::Released), true).unwrap();
    let (client_events, _) = pair.exchange();
    assert_eq!(
        client_events,
        [Event::SettledBySender {
            link: back,
            id: delivery.id,
            state: Some(DeliveryState::Released)
        }]
    );

    // Detach, end, close.
    pair.client.detach(out, true, None).unwrap();
    let (client_events, server_events) = pair.exchange();
    let detached = |link| Event::Detach { link, closed: true, error: None };
    assert_eq!(client_events, [detached(out)]);
    assert_eq!(server_events, [detached(*incoming)]);
    pair.client.end(session, None).unwrap();
    let (client_events, server_events) = pair.exchange();
    assert!(matches!(&client_events[..], [Event::End { session: ended, .. }] if *ended == session));
    assert!(matches!(&server_events[..], [Event::End { links, .. }] if links == &[*outgoing]));
    pair.client.close(None);
    let (client_events, server_events) = pair.exchange();
    assert_eq!(client_events, [Event::Closed { error: None }]);
    assert_eq!(server_events, [Event::Closed { error: None }]);
    assert!(pair.client.is_closed() && pair.server.is_closed());
}

#[test]
fn a_refused_attach_reaches_the_client_with_its_reason() {
    let (mut pair, session, _) = Pair::open();
    let link = pair.client.attach(session, receiver("r")).unwrap();
    let (_, events) = pair.exchange();
    let [Event::Attach { link: server_link, .. }] = events[..] else { panic!("{events:?}") };
    let refusal = ErrorInfo::new(condition::NOT_FOUND, "no such queue");
    pair.server.reject_attach(server_link, refusal.clone()).unwrap();
    let (client_events, server_events) = pair.exchange();
    let [Event::AttachReply { attach, .. }, detach] = &client_events[..] else {
        panic!("{client_events:?}");
    };
    assert!(attach.source.is_none() && attach.target.is_none());
    assert_eq!(*detach, Event::Detach { link, closed: true, error: Some(refusal) });
    assert_eq!(server_events, []);
    assert_eq!((pair.client.link_count(), pair.server.link_count()), (0, 0));
}

#[test]
fn a_megabyte_goes_through_the_smallest_frames() {
    let small = || Config { max_frame_size: 512, max_message_size: 0, ..config() };
    let (mut pair, session, _) = Pair::open_with(small(), small());
    let (out, incoming) = pair.attach(session, sender("out"));
    pair.server.set_credit(incoming, 1).unwrap();
    pair.exchange();
    let body: Vec<u8> = (0..=255u8).cycle().take(1 << 20).collect();
    let parts = [Bytes::from(body.clone())];
    pair.client.send(out, message(&parts)).unwrap();
    // The server's window is 100 frames, so its renewals carry the message through.
    let (_, events) = pair.exchange();
    let [delivery] = deliveries(&events)[..] else { panic!("{events:?}") };
    assert!(delivery.payload == body);
}
