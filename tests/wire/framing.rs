//! Frames (AMQP §2.3), their sizes before and after open, and idle time-outs (AMQP §2.4.5).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::condition;
use peeklock_protocol::performative::{Close, Open};
use peeklock_tests::link::{deleting_receiver, receiver};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, raw};

/// What a refused frame may cost the broker, with room for the noise of its allocator.
const GROWTH_MAX: u64 = 8 * 1024 * 1024;

fn opened_with_frames_of(broker: &TestBroker, size: u32) -> Peer {
    let open = Open { container_id: "tests".into(), max_frame_size: Some(size), ..Open::default() };
    broker.connect().plain("RootManageSharedAccessKey", "SAS_KEY_VALUE").open_with(open).begin()
}

/// AMQP §2.4.1: "Prior to any explicit negotiation, the maximum frame size is 512". Clients with much
/// to say in their open need somewhat more; a header that promises a lot is enough to know.
#[test]
fn a_large_frame_before_open_ends_the_connection_before_it_is_read() {
    let broker = TestBroker::start();
    let before = broker.resident_bytes();
    for size in [8193, 64 * 1024 * 1024, u32::MAX] {
        let mut in_sasl = broker.connect();
        in_sasl.sasl_mechanisms();
        in_sasl.write(&raw::frame_header(size, 2, raw::TYPE_SASL));
        in_sasl.expect_socket_closed();

        let mut before_open = broker.connect().anonymous();
        before_open.write(raw::AMQP);
        before_open.write(&raw::frame_header(size, 2, raw::TYPE_AMQP));
        before_open.expect_socket_closed();
    }
    assert!(broker.resident_bytes() < before + GROWTH_MAX);
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP §2.7.1: "A peer that receives an oversized frame MUST close the connection with the
/// framing-error error-code."
#[test]
fn a_frame_above_the_announced_size_closes_with_framing_error() {
    let broker = TestBroker::start();
    let before = broker.resident_bytes();
    for extra in [1, 1024 * 1024] {
        let mut peer = broker.peer();
        let size = peer.frame_size_max() + extra;
        peer.write(&raw::frame_header(size, 2, raw::TYPE_AMQP));
        peer.expect_close(condition::CONNECTION_FRAMING_ERROR);
    }
    let mut peer = broker.peer();
    peer.write(&raw::frame_header(u32::MAX, 2, raw::TYPE_AMQP));
    peer.expect_close(condition::CONNECTION_FRAMING_ERROR);
    assert!(broker.resident_bytes() < before + GROWTH_MAX);
}

/// AMQP §2.7.1: max-frame-size is the largest frame that may be sent, not the first that may not.
#[test]
fn a_frame_of_just_the_announced_size_is_taken() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let transfer = peer.first_transfer(&mut link, 0, false);
    let id = transfer.delivery_id.unwrap_or_default();
    let empty = raw::amqp_frame(0, &transfer.clone().into(), &Message::data("").encode());
    // Three more octets for the long form of a binary.
    let room = usize::try_from(peer.frame_size_max()).unwrap_or_default() - empty.len() - 3;
    let message = Message::data(vec![7; room]).encode();
    peer.send_with(transfer, &message);
    assert_eq!(peer.expect_outcome(id), peeklock_protocol::delivery_state::DeliveryState::Accepted);
}

/// AMQP §2.3.1: "The frame is malformed if the size is less than the size of the frame header (8
/// bytes)", and "malformed if the value [of doff] is less than 2".
#[test]
fn a_frame_that_cannot_hold_its_own_header_closes_with_framing_error() {
    let broker = TestBroker::start();
    for (size, offset) in [(0, 2), (7, 2), (8, 0), (8, 1), (8, 3), (16, 5), (64, 255)] {
        let mut peer = broker.peer();
        peer.write(&raw::frame_header(size, offset, raw::TYPE_AMQP));
        peer.expect_close(condition::CONNECTION_FRAMING_ERROR);
    }
}

/// AMQP §2.3.2: "The treatment of [the extended header] is determined by the frame type" and for
/// AMQP frames it is ignored.
#[test]
fn an_extended_header_is_passed_over() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let attach = receiver("q");
    let whole = raw::amqp_frame(0, &attach.clone().into(), &[]);
    peer.write(&raw::extended_frame(raw::TYPE_AMQP, 0, &[0xee; 20], &whole[8..]));
    let reply: peeklock_protocol::performative::Attach = peer.expect();
    assert_eq!(reply.name, attach.name);
}

/// AMQP §2.3.2: "An AMQP frame with no body MAY be used to generate artificial traffic"; whatever
/// its channel says.
#[test]
fn empty_frames_are_ignored() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    for channel in [0, 1, 500, u16::MAX] {
        peer.write(&raw::frame(raw::TYPE_AMQP, channel, &[]));
        peer.write(&raw::extended_frame(raw::TYPE_AMQP, channel, &[0; 8], &[]));
    }
    peer.attach_receiver("q");
    peer.close();
}

/// AMQP §2.3.1: the type octet tells what is in a frame, and there are two types.
#[test]
fn a_frame_of_an_unknown_type_ends_the_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.write(&raw::frame(2, 0, &[0x00, 0x53, 0x10, 0x45]));
    peer.expect_closed_for_cause();
}

/// AMQP §2.7.1: "A peer MUST NOT send frames larger than its partner can handle." The harness looks
/// at the size of each frame; here a message of a mebibyte meets the smallest frames there are, and
/// those of .NET, Java and Go.
#[test]
fn a_large_message_reaches_clients_with_small_frames() {
    let broker = TestBroker::with().queue("q", "max_message_size = \"2 MiB\"").start();
    let body: Vec<u8> = (0..1_048_576_u32).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect();
    let body = Bytes::from(body);
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for _ in 0..2 {
        peer.send_accepted(&mut link, &Message::data(body.clone()).encode());
    }
    for size in [512, 65_536] {
        let mut small = opened_with_frames_of(&broker, size);
        let mut link = small.attach_for_receiving(deleting_receiver("q"));
        let received = small.receive_one(&mut link);
        assert_eq!(received.message().data_octets(), &body);
        let least = body.len() / usize::try_from(size).unwrap_or(1);
        assert!(least < received.frames, "{} frames", received.frames);
        small.close();
    }
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP §2.4.5: a peer that announced an idle-time-out hears something before it has passed.
#[test]
fn a_peer_with_an_idle_time_out_hears_empty_frames() {
    let broker = TestBroker::start();
    let open =
        Open { container_id: "impatient".into(), idle_time_out: Some(1000), ..Open::default() };
    let mut peer = broker.connect().anonymous().open_with(open);
    peer.set_patience(Duration::from_secs(1));
    for _ in 0..3 {
        let frame = peer.frame().expect("an empty frame");
        assert_eq!((frame.kind, frame.size), (raw::TYPE_AMQP, 8), "{frame:?}");
    }
}

/// AMQP §2.4.5: "If the threshold is exceeded, then a peer SHOULD try to gracefully close the
/// connection using a close frame with an error". Empty frames are enough to stay.
#[test]
fn a_silent_peer_is_closed_and_one_that_sends_empty_frames_is_not() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nidle_timeout = \"10s\"").start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let beating = scope.spawn(|| {
            let mut peer = broker.peer();
            while !over.load(Ordering::Relaxed) {
                peer.write(&raw::frame(raw::TYPE_AMQP, 0, &[]));
                // The beat is the subject of the test.
                thread::sleep(Duration::from_millis(500));
            }
            peer.attach_receiver("q");
            peer.close();
        });
        let mut silent = broker.peer();
        assert_eq!(silent.remote_open().idle_time_out, Some(5000), "half of it is announced");
        let close: Close = silent.find();
        let error = close.error.expect("the reason");
        assert!(
            [condition::RESOURCE_LIMIT_EXCEEDED, condition::CONNECTION_FORCED]
                .contains(&error.condition.as_str()),
            "{error:?}"
        );
        silent.expect_socket_closed();
        over.store(true, Ordering::Relaxed);
        beating.join().expect("the beating peer stays connected");
    });
}
