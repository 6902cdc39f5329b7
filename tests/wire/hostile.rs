//! Peers that mean harm: what has brought other AMQP brokers down has to cost the one connection it
//! came over, and no memory.

use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, Close, Detach, End, Flow, Transfer};
use peeklock_protocol::value::Map;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE, show};
use peeklock_tests::link::{deleting_receiver, receiver, rejection, sender};
use peeklock_tests::message::Message;
use peeklock_tests::raw::{self, Nest};
use peeklock_tests::{Peer, TestBroker};

use crate::confused::{Confused, Random};

/// What all attacks of a test together may leave behind: allocators keep some of what they had.
const GROWTH_MAX: u64 = 16 * 1024 * 1024;

/// Runs the attack while another client goes about its business, and looks at what it cost.
#[track_caller]
fn beside_an_honest_client(broker: &TestBroker, attack: impl FnOnce(&TestBroker)) {
    let mut honest = broker.peer();
    let mut to = honest.attach_sender("q");
    let mut from = honest.attach_receiver("q");
    let mut exchange = |text: &str| {
        honest.send_accepted(&mut to, &Message::data(text.to_owned()).encode());
        let received = honest.receive_one(&mut from);
        assert_eq!(received.text(), text);
        honest.complete(&received);
    };
    exchange("before");
    let before = broker.resident_bytes();
    attack(broker);
    exchange("after");
    let after = broker.resident_bytes();
    assert!(after < before + GROWTH_MAX, "memory grew from {before} to {after}");
    honest.close();
    broker.assert_nothing_above_info_was_logged();
}

/// The constructors whose values take no octets.
const ZERO_WIDTH: [u8; 5] = [0x40, 0x41, 0x42, 0x43, 0x44];

/// An open with `properties` in its last field.
fn open_with_properties(properties: &[u8]) -> Bytes {
    let null: &[u8] = &[0x40];
    raw::described_list(
        0x10,
        &[b"\xa1\x01x", null, null, null, null, null, null, null, null, properties],
    )
}

/// A map with one entry whose value is this.
fn map_of(value: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    let size = 4 + 3 + value.len();
    out.put_u8(0xd1);
    out.put_u32(u32::try_from(size).unwrap_or(u32::MAX));
    out.put_u32(2);
    out.put_slice(b"\xa3\x01k");
    out.put_slice(value);
    out.freeze()
}

/// Nine octets that declare 2^32-1 elements ate the memory of `RabbitMQ` before anybody had
/// authenticated (CVE-2026-66079; Qpid had the same fourteen years earlier).
#[test]
fn arrays_of_elements_without_width_cost_nothing() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        for constructor in ZERO_WIDTH {
            let array = raw::zero_width_array(constructor, u32::MAX);
            // In the first SASL frame.
            let mut peer = broker.connect();
            peer.sasl_mechanisms();
            let init = raw::described_list(0x41, &[b"\xa3\x09ANONYMOUS", b"\x40", &array]);
            peer.write(&raw::frame(raw::TYPE_SASL, 0, &init));
            peer.expect_socket_closed();
            // In open.
            let mut peer = broker.connect().anonymous();
            peer.write(raw::AMQP);
            let open = open_with_properties(&map_of(&array));
            peer.write(&raw::frame(raw::TYPE_AMQP, 0, &open));
            peer.expect_socket_closed();
            // In begin.
            let mut peer = broker.connect().anonymous().open();
            let zero: &[u8] = &[0x43];
            let null: &[u8] = &[0x40];
            let map = map_of(&array);
            let begin =
                raw::described_list(0x11, &[null, zero, zero, zero, null, null, null, &map]);
            peer.write(&raw::frame(raw::TYPE_AMQP, 0, &begin));
            peer.expect_close(condition::DECODE_ERROR);
        }
    });
}

/// Many smaller ones in a single frame come to the same (CVE-2026-67414): the sum is what counts.
#[test]
fn many_arrays_in_one_frame_cost_nothing() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        for constructor in ZERO_WIDTH {
            let array = raw::zero_width_array(constructor, 60_000);
            let items = vec![&array[..]; 2000];
            let mut peer = broker.connect().anonymous().open();
            let list = map_of(&raw::list(&items));
            let zero: &[u8] = &[0x43];
            let null: &[u8] = &[0x40];
            let begin =
                raw::described_list(0x11, &[null, zero, zero, zero, null, null, null, &list]);
            peer.write(&raw::frame(raw::TYPE_AMQP, 0, &begin));
            peer.expect_close(condition::DECODE_ERROR);
        }
    });
}

/// Small arrays of elements without width are legal, and are decoded.
#[test]
fn small_arrays_of_elements_without_width_are_legal() {
    let broker = TestBroker::start();
    for constructor in ZERO_WIDTH {
        let mut peer = broker.connect().anonymous();
        peer.write(raw::AMQP);
        let open = open_with_properties(&map_of(&raw::zero_width_array(constructor, 20)));
        peer.write(&raw::frame(raw::TYPE_AMQP, 0, &open));
        assert_eq!(&peer.read_header(), raw::AMQP);
        peer.expect_open();
        peer.begin().close();
    }
}

/// 19 KiB of nested types overflowed the stack of fe2o3-amqp, and a body was enough for Proton-C
/// (CVE-2026-105042): 32 levels are decoded, more are refused.
#[test]
fn nesting_ends_the_connection_and_not_the_broker() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        for kind in [Nest::List, Nest::Map, Nest::Array, Nest::Described] {
            for depth in [40, 1000, 15_000] {
                let mut peer = broker.connect().anonymous().open();
                let nested = map_of(&raw::nested(kind, depth));
                let zero: &[u8] = &[0x43];
                let null: &[u8] = &[0x40];
                let begin =
                    raw::described_list(0x11, &[null, zero, zero, zero, null, null, null, &nested]);
                peer.write(&raw::frame(raw::TYPE_AMQP, 0, &begin));
                peer.expect_close(condition::DECODE_ERROR);
            }
        }
    });
}

/// The same inside messages, where it costs the delivery alone. Nobody reads into a body, so one
/// with a size is carried as it is.
#[test]
fn nesting_inside_a_message_is_rejected() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut peer = broker.peer();
        let mut link = peer.attach_sender("q");
        for kind in [Nest::List, Nest::Map, Nest::Array, Nest::Described] {
            for depth in [40, 80_000] {
                let nested = raw::nested(kind, depth);
                for section in [0x71, 0x72, 0x74, 0x78] {
                    let mut message = BytesMut::from(&[0x00, 0x53, section][..]);
                    message.put_slice(&map_of(&nested));
                    let id = peer.transfer(&mut link, &message);
                    peer.expect_rejected(id, condition::DECODE_ERROR);
                }
                let mut message = BytesMut::from(&[0x00, 0x53, 0x77][..]);
                message.put_slice(&nested);
                let id = peer.transfer(&mut link, &message);
                let outcome = peer.expect_outcome(id);
                if kind == Nest::Described {
                    rejection(outcome, condition::DECODE_ERROR);
                } else if outcome == DeliveryState::Accepted {
                    let mut from = peer.attach_for_receiving(deleting_receiver("q"));
                    assert!(peer.receive_one(&mut from).payload.ends_with(&message));
                    peer.detach(&from);
                }
            }
        }
    });
}

/// Ten levels are what real programs send.
#[test]
fn moderate_nesting_is_legal() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for kind in [Nest::List, Nest::Map, Nest::Array, Nest::Described] {
        let mut message = BytesMut::from(&[0x00, 0x53, 0x77][..]);
        message.put_slice(&raw::nested(kind, 10));
        peer.send_accepted(&mut link, &message);
    }
}

/// Properties behind the body once escaped a check of the user id (`RabbitMQ`, 2026).
#[test]
fn sections_out_of_order_or_twice_are_rejected() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let data = Message::data("a").encode();
    let value = Message::value(1_i32).encode();
    let properties = Message::default().with_id("x").encode();
    let application = Message::default().with_property("k", "v").encode();
    let annotations = Message::default().with_annotation("k", "v").encode();
    let footer = Bytes::from_static(b"\x00\x53\x78\xc1\x01\x00");
    let wrong: [&[&Bytes]; 9] = [
        &[&data, &properties],
        &[&application, &properties, &data],
        &[&properties, &properties, &data],
        &[&properties, &annotations, &data],
        &[&data, &value],
        &[&value, &value],
        &[&value, &data],
        &[&footer, &data],
        &[&data, &footer, &footer],
    ];
    for sections in wrong {
        let message: Vec<u8> =
            sections.iter().flat_map(|section| section.iter().copied()).collect();
        let id = peer.transfer(&mut link, &message);
        peer.expect_rejected(id, condition::DECODE_ERROR);
    }
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
}

/// A symbolic descriptor was once compared by its beginning (CVE-2026-67416). The whole symbol means
/// what its number means; one character more, less or other means nothing.
#[test]
fn a_symbolic_descriptor_has_to_be_the_whole_symbol() {
    let broker = TestBroker::start();
    let open = |descriptor: &[u8]| {
        let mut body = BytesMut::from(&[0x00][..]);
        body.put_slice(descriptor);
        body.put_slice(&raw::list(&[b"\xa1\x01x"]));
        let mut peer = broker.connect().anonymous();
        peer.write(raw::AMQP);
        peer.write(&raw::frame(raw::TYPE_AMQP, 0, &body));
        peer
    };
    for twin in [
        &b"\xa3\x0eamqp:open:list"[..],
        b"\xb3\x00\x00\x00\x0eamqp:open:list",
        b"\x80\x00\x00\x00\x00\x00\x00\x00\x10",
        b"\x53\x10",
    ] {
        let mut peer = open(twin);
        assert_eq!(&peer.read_header(), raw::AMQP);
        peer.expect_open();
        peer.begin().close();
    }
    for wrong in [
        &b"\xa3\x0damqp:open:lis"[..],
        b"\xa3\x0famqp:open:list2",
        b"\xa3\x0eamqp:open:lisu",
        b"\xa3\x0eAMQP:open:list",
        b"\xa3\x00",
        b"\xa1\x0eamqp:open:list",
        b"\x70\x00\x00\x00\x10",
        b"\x80\x00\x00\x00\x01\x00\x00\x00\x10",
        b"\x53\x19",
        b"\x40",
    ] {
        open(wrong).expect_socket_closed();
    }
    broker.assert_nothing_above_info_was_logged();
}

/// What does not decode is answered with the condition of the specification, and ends there.
#[test]
fn undecodable_performatives_close_with_decode_error() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let bodies: [&[u8]; 12] = [
            b"\x00",
            b"\x00\x53",
            b"\x00\x53\x12",
            b"\x00\x53\x12\x45",
            b"\x00\x53\x12\xc0\x00\x00",
            b"\x00\x53\x12\xc0\xff\x03\xa1\x01x",
            b"\x00\x53\x12\xd0\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x00\x53\x12\xc0\x07\x03\xa1\x01\xff\x52\x03\x41",
            b"\x00\x53\x12\xc0\x05\x03\x52\x01\x52\x02",
            b"\x00\x53\x99\x45",
            b"\x53\x10\x45",
            b"\xff\xff\xff\xff",
        ];
        for body in bodies {
            let mut peer = broker.peer();
            peer.write(&raw::frame(raw::TYPE_AMQP, 0, body));
            peer.expect_close(condition::DECODE_ERROR);
        }
    });
}

/// A socket that ends inside a frame, a handshake or a delivery is a client that died.
#[test]
fn connections_cut_anywhere_leave_nothing_behind() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        for n in 0..50 {
            let mut peer = broker.connect();
            peer.write(&raw::SASL[..n % 8]);
            peer.cut();
            let mut peer = broker.peer();
            let mut link = peer.attach_sender("q");
            let first = peer.first_transfer(&mut link, 0, false);
            peer.send_with(Transfer { more: true, ..first }, &[0; 1000]);
            peer.write(&raw::frame_header(4000, 2, 0));
            peer.cut();
        }
    });
}

/// One message in endless frames: the limit on its size is a limit on memory, not on patience.
#[test]
fn an_endless_message_is_cut_at_the_limit() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut peer = broker.peer();
        let mut link = peer.attach_sender("q");
        let part = vec![0; 60_000];
        let mut transfer = peer.first_transfer(&mut link, 0, false);
        let id = transfer.delivery_id.unwrap_or_default();
        for _ in 0..1000 {
            peer.send_with(Transfer { more: true, ..transfer }, &part);
            transfer = Transfer { handle: link.handle, ..Transfer::default() };
        }
        peer.send(transfer);
        peer.expect_rejected(id, condition::LINK_MESSAGE_SIZE_EXCEEDED);
    });
}

/// Many messages at once, none of them finished: what is kept of them has a limit for the
/// connection.
#[test]
fn unfinished_messages_of_many_links_are_bounded_together() {
    let broker = TestBroker::start();
    let before = broker.resident_bytes();
    let mut peer = broker.peer();
    let part = vec![0; 100_000];
    let mut links: Vec<_> = (0..200).map(|_| peer.attach_sender("q")).collect();
    // The broker may take all 180 MB by throwing them away, or end links or the connection. It keeps
    // what one message of the largest size needs, and some more.
    for link in &mut links {
        let first = peer.first_transfer(link, 0, false);
        let mut transfer = Transfer { more: true, ..first };
        for _ in 0..9 {
            let frame = raw::amqp_frame(peer.channel(), &transfer.into(), &part);
            peer.write_anyway(&frame);
            transfer = Transfer { handle: link.handle, more: true, ..Transfer::default() };
        }
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 150 * 1024 * 1024, "grew by {grown}");
    peer.cut();
    broker.peer().send_texts("q", &["somebody else"]);
}

/// Flows are cheap to write: a hundred thousand of them, with drains and odd windows, are answered or
/// ignored, and cost the others nothing.
#[test]
fn a_storm_of_flows_is_survived() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut peer = broker.peer();
        let link = peer.attach_receiver("q/$DeadLetterQueue");
        let base = peer.credit_flow(&link, 1);
        let mut storm = BytesMut::new();
        for n in 0..20_000_u32 {
            let flow = Flow {
                drain: n % 3 == 0,
                echo: n % 7 == 0,
                link_credit: Some(n.wrapping_mul(0x9e37_79b9)),
                delivery_count: (n % 5 != 0)
                    .then(|| link.delivery_count.advanced_by(n.wrapping_mul(77))),
                incoming_window: n.wrapping_mul(0x0101_0101),
                ..base.clone()
            };
            storm.put_slice(&raw::amqp_frame(peer.channel(), &flow.into(), &[]));
        }
        // A peer that never reads would stop the broker's writing, which is its right.
        thread::scope(|scope| {
            let reader = peer.reader();
            scope.spawn(move || reader.discard());
            peer.write_anyway(&storm);
            peer.cut();
        });
    });
}

/// A client that never reads what it is sent holds up itself.
#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let broker = TestBroker::with().queue("q", "").queue("large", "").start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("large");
    for _ in 0..30 {
        peer.send_accepted(&mut link, &Message::data(vec![0; 900_000]).encode());
    }
    let before = broker.resident_bytes();
    beside_an_honest_client(&broker, |broker| {
        for _ in 0..3 {
            let mut deaf = broker.peer();
            let link = deaf.attach_receiver("large");
            deaf.credit(&link, 1000);
            std::mem::forget(deaf);
        }
    });
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "grew by {grown}");
}

/// Attaching and detaching, beginning and ending in a loop leaves nothing behind.
#[test]
fn churn_leaves_nothing_behind() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut peer = broker.peer();
        for _ in 0..500 {
            for attach in [sender("q"), receiver("q/$DeadLetterQueue")] {
                peer.send(Attach { handle: 7, ..attach });
                peer.send(Detach { handle: 7, closed: true, error: None });
                peer.expect::<Attach>();
                peer.expect::<Detach>();
            }
        }
        for channel in 1..500 {
            peer.begin_on(channel);
            peer.send(End::default());
            peer.expect::<End>();
        }
        peer.speak_on(0);
        peer.close();
    });
}

/// A hundred thousand credits for a client without messages, a million tiny deliveries: a receiver
/// that settles nothing gets no more than the broker can afford, and what it has stays its own.
#[test]
fn a_receiver_that_never_settles_is_bounded() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let batch = vec![Message::data("x").encode(); 1000];
    for _ in 0..20 {
        let id = peer.transfer_batch(&mut link, &batch);
        assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    }
    let before = broker.resident_bytes();
    let mut link = peer.attach_receiver("q");
    let flow = Flow { incoming_window: u32::MAX, ..peer.credit_flow(&link, u32::MAX) };
    peer.send(flow);
    for _ in 0..1000 {
        peer.receive(&mut link);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "grew by {grown}");
    broker.peer().send_texts("q", &["somebody else"]);
}

/// Legal performatives in an order that makes little sense: each connection ends or goes on, and none
/// takes the broker with it. `PEEKLOCK_WIRE_SEEDS` says how many connections try.
#[test]
fn performatives_in_random_order_never_bring_the_broker_down() {
    let seeds: u64 =
        std::env::var("PEEKLOCK_WIRE_SEEDS").map_or(300, |text| text.parse().expect("a number"));
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("random", "max_size = \"1 MiB\"\nmax_message_size = \"512 KiB\"")
        .start();
    // What came of it: how many connections ended without an error, how many deliveries came.
    let (mut unharmed, mut deliveries) = (0, 0);
    beside_an_honest_client(&broker, |broker| {
        // Its answers come when the queues have seen what was said before.
        let mut pace = broker.peer();
        let mut management = pace.open_management("q");
        for seed in 1..=seeds {
            let mut confused = Confused::new(seed);
            let mut peer = broker.connect().plain(DEV_RULE, DEV_KEY).open();
            peer.expect_to_be_cut();
            for _ in 0..15 {
                let mut octets = BytesMut::new();
                for _ in 0..20 {
                    octets.put_slice(&confused.frame());
                }
                peer.write_anyway(&octets);
                pace.manage(&mut management, "com.microsoft:no-such-operation", Map::new());
            }
            peer.write_anyway(&raw::amqp_frame(0, &Close::default().into(), &[]));
            while let Some(frame) = peer.frame() {
                match (frame.body.get(2), frame.body.len()) {
                    (Some(0x14), _) => deliveries += 1,
                    // A close that says nothing.
                    (Some(0x18), ..10) => unharmed += 1,
                    _ => {}
                }
            }
        }
    });
    show(&format!("{seeds} connections, {unharmed} unharmed, {deliveries} deliveries"));
    assert!(
        seeds / 10 < unharmed && seeds / 4 < deliveries,
        "{unharmed} and {deliveries} of {seeds}"
    );
}

/// Random octets behind a good handshake.
#[test]
fn noise_ends_the_connection_and_nothing_else() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        for seed in 1..=40 {
            let mut random = Random(seed);
            let noise: Vec<u8> =
                (0..4096).map(|_| u8::try_from(random.below(256)).unwrap_or_default()).collect();
            let mut after_handshake: Peer = broker.peer();
            after_handshake.write_anyway(&noise);
            after_handshake.write_anyway(&raw::frame_header(0, 0, 0));
            after_handshake.expect_socket_closed();
            // Inside the body of a well-formed frame.
            let mut inside: Peer = broker.peer();
            inside.write_anyway(&raw::frame(raw::TYPE_AMQP, 0, &noise));
            inside.expect_closed_for_cause();
        }
    });
}
