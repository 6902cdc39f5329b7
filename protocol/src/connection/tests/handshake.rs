//! Protocol headers, SASL, open and the frames around them.

use super::*;
use crate::condition;
use crate::limits;
use crate::performative::{Close, End};
use crate::value::{Map, Value};

fn init(mechanism: &'static str) -> SaslFrame {
    SaslFrame::Init { mechanism: mechanism.into(), initial_response: None, hostname: None }
}

fn sasl_octets(frame: &SaslFrame) -> BytesMut {
    let mut out = BytesMut::new();
    write_frame(&mut out, FrameKind::Sasl, 0, |out| frame.encode(out));
    out
}

/// The SASL header is exchanged and the mechanisms are offered.
fn sasl_peer() -> Peer {
    let mut peer = Peer::silent(config());
    peer.feed(&ProtocolHeader::Sasl.to_octets()).unwrap();
    assert_eq!(peer.take_header(), ProtocolHeader::Sasl);
    let SaslFrame::Mechanisms(offered) = peer.take_sasl() else { panic!("no mechanisms") };
    assert_eq!(offered, ["MSSBCBS", "PLAIN", "ANONYMOUS"]);
    peer
}

#[test]
fn trap_11_a_whole_pipelined_handshake_waits_for_the_outcome() {
    let mut peer = Peer::silent(config());
    let mut packet = BytesMut::new();
    packet.extend_from_slice(&ProtocolHeader::Sasl.to_octets());
    packet.extend_from_slice(&sasl_octets(&init("MSSBCBS")));
    packet.extend_from_slice(&ProtocolHeader::Amqp.to_octets());
    packet.extend_from_slice(&amqp_frame(0, Peer::plain_open(), b""));
    packet.extend_from_slice(&amqp_frame(1, Peer::plain_begin(), b""));
    packet.extend_from_slice(&amqp_frame(1, receiver("r"), b""));
    // The last frame is cut: its rest comes after the outcome.
    let rest = packet.split_off(packet.len() - 10);
    peer.feed(&packet).unwrap();
    let events = peer.events();
    assert!(matches!(&events[..], [Event::SaslInit { mechanism, .. }] if *mechanism == "MSSBCBS"));
    peer.server.sasl_outcome(SaslCode::Ok);
    assert!(matches!(peer.events()[..], [Event::Open(_), Event::Begin(_)]));
    peer.feed(&rest).unwrap();
    assert!(matches!(peer.events()[..], [Event::Attach { .. }]));
    assert_eq!(peer.take_header(), ProtocolHeader::Sasl);
    assert!(matches!(peer.take_sasl(), SaslFrame::Mechanisms(_)));
    assert!(matches!(peer.take_sasl(), SaslFrame::Outcome { code: SaslCode::Ok, .. }));
    assert_eq!(peer.take_header(), ProtocolHeader::Amqp);
    let sent = peer.sent();
    assert!(matches!(sent[..], [(_, Performative::Open(_), _), (_, Performative::Begin(_), _)]));
}

#[test]
fn octet_by_octet_gives_the_same_events() {
    let mut peer = Peer::silent(config());
    let mut packet = BytesMut::new();
    packet.extend_from_slice(&ProtocolHeader::Amqp.to_octets());
    packet.extend_from_slice(&amqp_frame(0, Peer::plain_open(), b""));
    packet.extend_from_slice(&amqp_frame(7, Peer::plain_begin(), b""));
    packet.extend_from_slice(&amqp_frame(7, sender("s"), b""));
    let mut wanted = ProtocolHeader::LEN;
    for octet in &packet {
        assert!(0 < wanted && peer.server.read_hint() <= wanted);
        peer.feed(&[*octet]).unwrap();
        wanted = peer.server.read_hint();
    }
    assert!(matches!(peer.events()[..], [Event::Open(_), Event::Begin(_), Event::Attach { .. }]));
    assert!(peer.input.is_empty());
}

#[test]
fn an_unknown_header_is_answered_with_ours_and_closed() {
    for octets in [
        &b"AMQP\x00\x00\x09\x01"[..],
        b"AMQP\x02\x01\x00\x00",
        b"GET / HT",
        b"GET",
        b"\x16\x03\x01",
    ] {
        let mut peer = Peer::silent(config());
        peer.feed(octets).unwrap_err();
        assert_eq!(peer.take_header(), ProtocolHeader::Sasl);
        assert!(peer.server.output().is_empty() && peer.server.is_closed());
        assert!(matches!(peer.events()[..], [Event::Closed { error: Some(_) }]));
        peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
        assert!(peer.server.output().is_empty(), "it speaks after the end");
    }
}

#[test]
fn the_amqp_header_is_refused_where_sasl_is_required() {
    let mut config = config();
    config.sasl.required = true;
    let mut peer = Peer::silent(config);
    let mut packet = BytesMut::from(&ProtocolHeader::Amqp.to_octets()[..]);
    packet.extend_from_slice(&amqp_frame(0, Peer::plain_open(), b""));
    peer.feed(&packet).unwrap_err();
    assert_eq!(peer.take_header(), ProtocolHeader::Sasl);
    assert!(peer.server.output().is_empty());
    assert!(matches!(peer.events()[..], [Event::Closed { .. }]));
}

#[test]
fn an_amqp_frame_inside_sasl_closes_and_no_handler_runs() {
    let frame = || amqp_frame(0, Peer::plain_open(), b"");
    // Instead of init.
    let mut peer = sasl_peer();
    peer.feed(&frame()).unwrap_err();
    assert!(matches!(peer.take_sasl(), SaslFrame::Outcome { code: SaslCode::Auth, .. }));
    assert!(matches!(peer.events()[..], [Event::Closed { .. }]));
    // While the caller decides: nothing is looked at, and it is no AMQP header afterwards.
    let mut peer = sasl_peer();
    peer.send_sasl(&init("ANONYMOUS")).unwrap();
    peer.feed(&frame()).unwrap();
    assert!(matches!(peer.events()[..], [Event::SaslInit { .. }]));
    peer.server.sasl_outcome(SaslCode::Ok);
    assert!(matches!(peer.events()[..], [Event::Closed { error: Some(_) }]));
    // Instead of a response.
    let mut peer = sasl_peer();
    peer.send_sasl(&init("ANONYMOUS")).unwrap();
    peer.server.sasl_challenge(Bytes::from_static(b"?"));
    peer.feed(&frame()).unwrap_err();
    assert!(matches!(peer.events()[..], [Event::SaslInit { .. }, Event::Closed { .. }]));
}

#[test]
fn a_sasl_frame_after_sasl_closes() {
    let octets = sasl_octets(&init("ANONYMOUS"));
    // Instead of open, and after it.
    let mut peer = Peer::silent(config());
    peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
    peer.take_header();
    peer.feed(&octets).unwrap_err();
    peer.assert_closed(condition::CONNECTION_FRAMING_ERROR);
    let mut peer = Peer::open(config());
    peer.feed(&octets).unwrap_err();
    peer.assert_closed(condition::CONNECTION_FRAMING_ERROR);
}

#[test]
fn sasl_frames_out_of_order_close() {
    let response = SaslFrame::Response(Bytes::new());
    let outcome = SaslFrame::Outcome { code: SaslCode::Ok, additional_data: None };
    for frame in [response, outcome, SaslFrame::Mechanisms(vec!["PLAIN".into()])] {
        let mut peer = sasl_peer();
        peer.send_sasl(&frame).unwrap_err();
        assert!(matches!(peer.take_sasl(), SaslFrame::Outcome { code: SaslCode::Auth, .. }));
        assert!(peer.server.is_closed());
    }
}

#[test]
fn a_mechanism_that_was_not_offered_is_refused_without_asking() {
    let mut peer = sasl_peer();
    peer.send_sasl(&init("EXTERNAL")).unwrap_err();
    assert!(matches!(peer.take_sasl(), SaslFrame::Outcome { code: SaslCode::Auth, .. }));
    assert!(matches!(peer.events()[..], [Event::Closed { .. }]));
}

#[test]
fn challenge_and_response_and_a_refusal() {
    let mut peer = sasl_peer();
    peer.send_sasl(&init("PLAIN")).unwrap();
    peer.server.sasl_challenge(Bytes::from_static(b"who?"));
    assert!(matches!(peer.take_sasl(), SaslFrame::Challenge(_)));
    peer.send_sasl(&SaslFrame::Response(Bytes::from_static(b"me"))).unwrap();
    let events = peer.events();
    let [Event::SaslInit { .. }, Event::SaslResponse(response)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(response[..], *b"me");
    peer.server.sasl_outcome(SaslCode::Auth);
    assert!(matches!(peer.take_sasl(), SaslFrame::Outcome { code: SaslCode::Auth, .. }));
    assert_eq!(peer.events(), [Event::Closed { error: None }]);
    assert!(peer.server.is_closed());
    // Late answers of the caller change nothing.
    peer.server.sasl_outcome(SaslCode::Ok);
    peer.server.sasl_challenge(Bytes::new());
    assert!(peer.server.output().is_empty());
}

#[test]
fn what_is_sent_ahead_of_the_outcome_is_bounded() {
    let mut peer = sasl_peer();
    peer.send_sasl(&init("PLAIN")).unwrap();
    peer.feed(&vec![0; limits::HELD_BYTES_MAX]).unwrap();
    peer.feed(&[0]).unwrap_err();
    assert!(peer.server.is_closed());
}

#[test]
fn before_open_a_large_frame_is_refused_by_its_head_alone() {
    let states: [fn() -> Peer; 2] = [sasl_peer, || {
        let mut peer = Peer::silent(config());
        peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
        peer
    }];
    for state in states {
        for size in [limits::EARLY_FRAME_SIZE_MAX + 1, 64 << 20, u32::MAX] {
            let mut peer = state();
            let mut head = size.to_be_bytes().to_vec();
            head.extend_from_slice(&[2, u8::from(peer.server.open_sent), 0, 0]);
            peer.feed(&head).unwrap_err();
            assert!(peer.server.is_closed());
        }
    }
}

#[test]
fn an_open_as_long_as_real_clients_send_it_is_taken() {
    let mut open = Peer::plain_open();
    open.properties = Some(Map::new().with("user-agent", "x".repeat(3000).as_str()));
    let peer = Peer::open_as(config(), open);
    let properties = peer.server.remote_open().unwrap().properties.as_ref().unwrap();
    assert_eq!(properties.get("user-agent").and_then(Value::as_str).map(str::len), Some(3000));
}

#[test]
fn trap_12_frame_heads() {
    // An extended header is skipped; a frame of a head alone is a sign of life.
    let mut peer = Peer::open(config());
    let plain = amqp_frame(3, Peer::plain_begin(), b"");
    let size = u32::try_from(plain.len() + 4).unwrap();
    let mut long = size.to_be_bytes().to_vec();
    long.extend_from_slice(&[3, 0, 0, 3, 9, 9, 9, 9]);
    long.extend_from_slice(&plain[8..]);
    peer.feed(&[0, 0, 0, 8, 2, 0, 0, 77]).unwrap();
    peer.feed(&long).unwrap();
    assert!(matches!(peer.events()[..], [Event::Begin(_)]));
    // The channel of a close means nothing.
    peer.send(999, Close { error: None }).unwrap();
    assert!(matches!(peer.events()[..], [Event::Closed { error: None }]));
    for head in [
        [0, 0, 0, 7, 2, 0, 0, 0],
        [0, 0, 0, 8, 1, 0, 0, 0],
        [0, 0, 0, 8, 3, 0, 0, 0],
        [0, 0, 0, 8, 2, 9, 0, 0],
        [0xFF, 0, 0, 0, 2, 0, 0, 0],
    ] {
        let mut peer = Peer::open(config());
        peer.feed(&head).unwrap_err();
        peer.assert_closed(condition::CONNECTION_FRAMING_ERROR);
    }
}

#[test]
fn trap_13_an_end_in_unusual_encoding_is_an_end() {
    // The descriptor as ulong and as symbol; the list as list0, list8 and with a null error.
    for body in [
        &b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x17\x45"[..],
        b"\x00\xa3\x0damqp:end:list\x45",
        b"\x00\x53\x17\xc0\x01\x00",
        b"\x00\x53\x17\xc0\x02\x01\x40",
    ] {
        let mut peer = Peer::begun(config());
        let mut frame = BytesMut::new();
        write_frame(&mut frame, FrameKind::Amqp, 1, |out| out.extend_from_slice(body));
        peer.feed(&frame).unwrap();
        assert!(matches!(peer.events()[..], [Event::End { error: None, .. }]));
        assert!(matches!(peer.sent()[..], [(0, Performative::End(End { error: None }), _)]));
    }
}

#[test]
fn trap_18_deep_nesting_ends_one_connection_and_nothing_else() {
    let mut body = b"\x00\x53\x10\xd0\x00\x00\x27\x20\x00\x00\x00\x0a\xa1\x01c".to_vec();
    body.extend_from_slice(&[0x40; 8]);
    body.extend_from_slice(&[0x00; 5_000]);
    let mut peer = Peer::silent(config());
    peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
    peer.take_header();
    let mut frame = BytesMut::new();
    write_frame(&mut frame, FrameKind::Amqp, 0, |out| out.extend_from_slice(&body));
    peer.feed(&frame).unwrap_err();
    peer.assert_closed(condition::DECODE_ERROR);
}

#[test]
fn open_comes_first_and_once() {
    let mut peer = Peer::silent(config());
    peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
    peer.take_header();
    peer.send(0, Peer::plain_begin()).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
    let mut peer = Peer::open(config());
    peer.send(0, Peer::plain_open()).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
}

#[test]
fn what_is_no_performative_closes_with_a_decode_error() {
    for body in [&b"\x00\x53\x99\x45"[..], b"\x45", b"\x00\xa3\x0eamqp:end:listx\x45"] {
        let mut peer = Peer::begun(config());
        let mut frame = BytesMut::new();
        write_frame(&mut frame, FrameKind::Amqp, 1, |out| out.extend_from_slice(body));
        peer.feed(&frame).unwrap_err();
        peer.assert_closed(condition::DECODE_ERROR);
    }
}

#[test]
fn our_open_says_what_the_configuration_says() {
    let mut peer = Peer::silent(Config { channel_max: 9, ..config() });
    peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
    peer.take_header();
    peer.server.open();
    peer.server.open();
    let sent = peer.sent();
    let [(0, Performative::Open(open), _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((open.container_id.as_str(), open.channel_max), ("test", Some(9)));
    assert_eq!((open.max_frame_size, open.idle_time_out), (Some(1_048_576), Some(120_000)));
    peer.send(0, Peer::plain_open()).unwrap();
    assert!(peer.sent().is_empty(), "a second open");
}

#[test]
fn a_client_gives_up_where_its_mechanism_is_not_offered() {
    let open = ClientOpen { sasl: ClientSasl::External, ..ClientOpen::default() };
    let mut pair = Pair::new(config(), config(), open);
    let (client_events, _) = pair.exchange();
    assert!(matches!(client_events[..], [Event::Closed { error: Some(_) }]));
}
