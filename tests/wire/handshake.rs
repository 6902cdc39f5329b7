//! Protocol headers (AMQP §2.2), SASL (AMQP §5.3) and open (AMQP §2.7.1).

use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use peeklock_protocol::condition;
use peeklock_protocol::performative::{Attach, Begin, Close, Flow, Open};
use peeklock_protocol::value::Value;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::peer::{Expected, wide_begin};
use peeklock_tests::requests::{cbs_status, put_token};
use peeklock_tests::{Peer, TestBroker, raw, sas};

/// AMQP §2.2: "If the server can't accept the protocol header it MUST write a valid protocol header
/// to the socket and close it."
#[test]
fn an_unsupported_header_is_answered_with_the_one_of_sasl_and_the_socket_closed() {
    let broker = TestBroker::start();
    for header in [*b"AMQP\x00\x02\x00\x00", *b"AMQP\x07\x01\x00\x00", *b"AMQP\x00\x00\x09\x01"] {
        let mut peer = broker.connect();
        peer.write(&header);
        assert_eq!(&peer.read_header(), raw::SASL, "answer to {header:?}");
        peer.expect_socket_closed();
    }
    broker.assert_nothing_above_info_was_logged();
}

/// A scanner that speaks another protocol is turned away without harm to anybody.
#[test]
fn bytes_that_are_no_header_close_the_socket() {
    let broker = TestBroker::start();
    for octets in [&b"HELO there\r\n"[..], &[0xff; 64], &[0; 16], b"AMQQ\x00\x01\x00\x00"] {
        let mut peer = broker.connect();
        peer.write(octets);
        peer.expect_socket_closed();
    }
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP §5.3.3.1: sasl-mechanisms is an array of symbols. .NET looks for MSSBCBS, Python fails
/// without ANONYMOUS, and EXTERNAL means nothing without a client certificate.
#[test]
fn the_mechanisms_are_those_the_clients_look_for() {
    let broker = TestBroker::start();
    let mechanisms = broker.connect().sasl_mechanisms();
    for wanted in ["MSSBCBS", "PLAIN", "ANONYMOUS"] {
        assert!(mechanisms.iter().any(|m| m == wanted), "{wanted} in {mechanisms:?}");
    }
    assert!(!mechanisms.iter().any(|m| m == "EXTERNAL"), "{mechanisms:?}");
}

/// .NET chooses MSSBCBS, sends no initial response and expects no challenge.
#[test]
fn mssbcbs_without_an_initial_response_succeeds() {
    let broker = TestBroker::start();
    broker.connect().sasl("MSSBCBS", None).open().begin().close();
}

/// JS sends the name of its key with ANONYMOUS, Go and Java "anonymous", Python nothing.
#[test]
fn anonymous_takes_any_initial_response() {
    let broker = TestBroker::start();
    for response in [None, Some(&b""[..]), Some(b"anonymous"), Some(b"\xff\x00 any octets")] {
        broker.connect().sasl("ANONYMOUS", response).open().begin().close();
    }
}

/// PLAIN with the name and a key of a rule gives the rights of the rule without `$cbs`: this is how
/// JMS and plain AMQP clients come in.
#[test]
fn plain_with_either_key_of_a_rule_grants_its_rights() {
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[[rule]]\nname = \"both\"\nprimary_key = \"first\"\nsecondary_key = \"second\"")
        .config("rights = [\"Send\"]")
        .start();
    for key in ["first", "second"] {
        let mut peer = broker.connect().plain("both", key).open().begin();
        let mut link = peer.attach_sender("q");
        peer.send_accepted(&mut link, &Message::data("by PLAIN").encode());
        peer.close();
    }
}

/// AMQP §5.3.3.6: code 1, auth: "Connection authentication failed due to an unspecified problem
/// with the supplied credentials." Nothing follows it.
#[test]
fn plain_without_the_right_key_ends_with_the_outcome_auth() {
    let broker = TestBroker::start();
    let refused: [&[u8]; 7] = [
        b"\0RootManageSharedAccessKey\0wrong",
        b"\0RootManageSharedAccessKey\0",
        b"\0RootManageSharedAccessKey",
        b"\0nobody\0SAS_KEY_VALUE",
        b"no separators",
        b"",
        b"\0\0\0\0\0",
    ];
    for response in refused {
        let mut peer = broker.connect();
        peer.sasl_mechanisms();
        peer.sasl_init("PLAIN", Some(response));
        assert_eq!(peer.sasl_outcome(), 1, "{response:?}");
        peer.expect_socket_closed();
    }
}

/// AMQP §5.3.2: the client chooses among the mechanisms that were offered.
#[test]
fn a_mechanism_that_was_not_offered_ends_with_the_outcome_auth() {
    let broker = TestBroker::start();
    for mechanism in ["SCRAM-SHA-256", "EXTERNAL", "PLAI", "PLAINX", ""] {
        let mut peer = broker.connect();
        peer.sasl_mechanisms();
        peer.sasl_init(mechanism, Some(b"\0RootManageSharedAccessKey\0SAS_KEY_VALUE"));
        assert_eq!(peer.sasl_outcome(), 1, "{mechanism:?}");
        peer.expect_socket_closed();
    }
}

/// amqpnetlite skips the SASL layer when its URL has no user. Such a connection is anonymous: it
/// may open `$cbs` and nothing else.
#[test]
fn a_connection_without_sasl_is_anonymous() {
    let broker = TestBroker::start();
    let mut peer = broker.connect().open().begin();
    peer.expect_refusal(receiver("q"), condition::UNAUTHORIZED_ACCESS);
    let mut cbs = peer.open_cbs();
    peer.authorize(&mut cbs, "q");
    peer.attach_receiver("q");
    peer.close();
}

/// Frames of the AMQP layer before the outcome of SASL once let peers in unauthenticated (Proton,
/// 2026): they have to end the connection before anything handles them.
#[test]
fn an_amqp_frame_inside_the_sasl_layer_ends_the_connection() {
    let broker = TestBroker::start();
    let open = Open { container_id: "early".into(), ..Open::default() };
    let open = raw::amqp_frame(0, &open.into(), &[]);
    // In place of the init.
    let mut peer = broker.connect();
    peer.sasl_mechanisms();
    peer.write(&open);
    peer.expect_socket_closed();
    // An open whose frame says SASL.
    let mut peer = broker.connect();
    peer.sasl_mechanisms();
    peer.write(&raw::frame(raw::TYPE_SASL, 0, &open[8..]));
    peer.expect_socket_closed();
    // An outcome from the client.
    let mut peer = broker.connect();
    peer.sasl_mechanisms();
    let outcome = raw::described(0x44, Value::List(vec![Value::Ubyte(0)]));
    peer.write(&raw::frame(raw::TYPE_SASL, 0, &outcome.to_bytes()));
    peer.expect_socket_closed();
}

/// The other way round: what belongs to the SASL layer has no place behind its outcome.
#[test]
fn a_sasl_frame_after_the_outcome_ends_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.sasl_init("ANONYMOUS", None);
    peer.expect_closed_for_cause();
}

/// The same for the header of the AMQP layer where that of SASL was sent first.
#[test]
fn leaving_the_sasl_layer_before_its_outcome_ends_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.connect();
    peer.sasl_mechanisms();
    peer.write(raw::AMQP);
    peer.expect_socket_closed();
}

/// pyamqp sends header, open, begin and the two attaches of `$cbs` without waiting for any answer.
#[test]
fn python_pipelines_everything_from_the_header_on() {
    let broker = TestBroker::start();
    let mut peer = broker.connect().anonymous();
    let open =
        Open { container_id: "python".into(), max_frame_size: Some(1_048_576), ..Open::default() };
    let requests = Attach { handle: 1, ..sender("$cbs") };
    let answers = Attach { handle: 2, ..receiver("$cbs") };
    let mut everything = BytesMut::from(&raw::AMQP[..]);
    for (channel, performative) in [
        (0, open.into()),
        (1, wide_begin().into()),
        (1, requests.clone().into()),
        (1, answers.clone().into()),
    ] {
        everything.extend_from_slice(&raw::amqp_frame(channel, &performative, &[]));
    }
    peer.began(1, &wide_begin());
    peer.write(&everything);

    assert_eq!(&peer.read_header(), raw::AMQP);
    peer.expect_open();
    assert_eq!(peer.expect_begin().remote_channel, Some(1));
    let first: Attach = peer.expect();
    assert_eq!(first.name, requests.name);
    assert!(first.max_message_size > Some(0), "the broker receives on this one");
    // Credit may come before the second answer or behind it.
    let mut next = peer.performative();
    let mut credit = Flow::take(&next);
    if credit.is_some() {
        next = peer.performative();
    }
    let second = Attach::take(&next).expect("the second answer");
    assert_eq!(second.name, answers.name);
    assert!(second.initial_delivery_count.is_some(), "the broker sends on this one");
    let credit = credit.take().unwrap_or_else(|| peer.expect());
    assert_eq!(credit.handle, Some(first.handle));
    assert!(credit.link_credit > Some(0));
}

/// The headers of both layers, SASL and open in a single packet: nothing is dropped because an
/// earlier frame has not been answered yet.
#[test]
fn the_whole_handshake_may_come_in_one_packet() {
    let broker = TestBroker::start();
    let mut peer = broker.connect();
    peer.write(&whole_handshake());
    read_whole_handshake(&mut peer);
    peer.close();
}

/// TCP has no packets: the same octet by octet.
#[test]
fn every_octet_of_the_handshake_may_come_alone() {
    let broker = TestBroker::start();
    let mut peer = broker.connect();
    for octet in whole_handshake() {
        peer.write(&[octet]);
    }
    read_whole_handshake(&mut peer);
    peer.close();
}

fn whole_handshake() -> BytesMut {
    let init = Value::List(vec![
        Value::Symbol("PLAIN".into()),
        Value::Binary(format!("\0{DEV_RULE}\0{DEV_KEY}").into()),
    ]);
    let open =
        Open { container_id: "packet".into(), max_frame_size: Some(65_536), ..Open::default() };
    let mut packet = BytesMut::from(&raw::SASL[..]);
    packet.extend_from_slice(&raw::frame(1, 0, &raw::described(0x41, init).to_bytes()));
    packet.extend_from_slice(raw::AMQP);
    packet.extend_from_slice(&raw::amqp_frame(0, &open.into(), &[]));
    packet
}

fn read_whole_handshake(peer: &mut Peer) {
    assert_eq!(&peer.read_header(), raw::SASL);
    let mechanisms = peer.frame().expect("the mechanisms");
    assert_eq!(mechanisms.kind, raw::TYPE_SASL);
    assert_eq!(peer.sasl_outcome(), 0);
    assert_eq!(&peer.read_header(), raw::AMQP);
    peer.expect_open();
}

/// Java appends the port to the host name of its open, and host names have no case.
#[test]
fn the_hostname_of_open_may_carry_a_port() {
    let broker = TestBroker::start();
    for host in [Some("localhost:5671"), Some("LOCALHOST"), Some("anything.example:443"), None] {
        let open =
            Open { container_id: "java".into(), hostname: host.map(Into::into), ..Open::default() };
        let mut peer = broker.connect().anonymous().open_with(open).begin();
        let mut cbs = peer.open_cbs();
        peer.authorize(&mut cbs, "q");
        peer.attach_receiver("q");
        peer.close();
    }
}

/// azure-amqp refuses a broker whose idle-time-out is below 5 s, pyamqp one whose frames are below
/// 512 bytes, and JS, .NET and Java open a session for each link.
#[test]
fn the_open_announces_what_the_clients_ask_for() {
    let broker = TestBroker::start();
    let mut peer = broker.connect().anonymous().open();
    let open = peer.remote_open().clone();
    assert!(!open.container_id.is_empty());
    assert!(open.max_frame_size.is_none_or(|size| 65_536 <= size), "{open:?}");
    assert!(open.channel_max.is_none_or(|max| 8190 <= max), "{open:?}");
    assert!(open.idle_time_out.is_none_or(|millis| 5000 <= millis), "{open:?}");
    let begin = peer.begin_with(0, wide_begin());
    assert!(begin.handle_max.is_none_or(|max| 255 <= max), "{begin:?}");
    assert!(0 < begin.incoming_window && 0 < begin.outgoing_window, "{begin:?}");
}

/// AMQP §2.4.1: "The open performative can only be sent once".
#[test]
fn a_second_open_closes_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send(Open { container_id: "again".into(), ..Open::default() });
    peer.expect_closed_for_cause();
}

/// AMQP §2.4.1: open comes first. The broker says its own open before it says why it closes.
#[test]
fn a_performative_before_open_closes_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.connect().anonymous();
    peer.write(raw::AMQP);
    peer.write(&raw::amqp_frame(0, &Begin::default().into(), &[]));
    assert_eq!(&peer.read_header(), raw::AMQP);
    peer.expect_closed_for_cause();
}

/// AMQP §2.4.3: a close is answered by a close, and then both sides close the socket.
#[test]
fn a_close_is_answered_and_the_socket_closed() {
    let broker = TestBroker::start();
    broker.peer().close();
    // The channel of a close does not matter (AMQP §2.4.6).
    let mut peer = broker.peer();
    peer.write(&raw::amqp_frame(77, &Close::default().into(), &[]));
    assert_eq!(peer.expect::<Close>().error, None);
    peer.expect_socket_closed();
    broker.assert_nothing_above_info_was_logged();
}

/// A connection that has said nothing, or not enough, holds no socket for long.
#[test]
fn a_handshake_that_does_not_go_on_is_cut_off() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nhandshake_timeout = \"1s\"").start();
    let silent = broker.connect();
    let mut inside_header = broker.connect();
    inside_header.write(b"AMQ");
    let mut inside_sasl = broker.connect();
    inside_sasl.sasl_mechanisms();
    let mut before_open = broker.connect().anonymous();
    before_open.write(raw::AMQP);
    for mut peer in [silent, inside_header, inside_sasl, before_open] {
        peer.expect_socket_closed();
    }
}

/// The service drops a connection that authorised nothing for a while; one that did stays.
#[test]
fn a_connection_that_authorises_nothing_is_closed() {
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[limits]\nauthorization_timeout = \"1s\"")
        .start();
    let mut good = broker.anonymous_peer();
    let mut cbs = good.open_cbs();
    good.authorize(&mut cbs, "q");
    let mut idle = broker.anonymous_peer();
    idle.expect_closed_for_cause();
    let token = sas::token("sb://localhost/q", DEV_RULE, DEV_KEY, sas::now() + 60);
    let again = put_token("sb://localhost/q", &token).with_id("again");
    assert_eq!(cbs_status(&good.ask(&mut cbs, &again)), 202);
}

/// Rights that came with PLAIN do not expire, so there is nothing to look after: qpid-jms and Proton
/// hold such connections for days.
#[test]
fn a_connection_authorised_by_plain_costs_nothing_while_it_is_idle() {
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[limits]\nauthorization_timeout = \"1s\"")
        .start();
    let mut peer = broker.peer();
    peer.attach_receiver("q");
    // Past the time in which a connection has to prove a right.
    thread::sleep(Duration::from_secs(2));
    let before = broker.processor_time();
    thread::sleep(Duration::from_secs(1));
    let spent = broker.processor_time().saturating_sub(before);
    assert!(spent < Duration::from_millis(300), "{spent:?} in a second of doing nothing");
    peer.close();
}
