//! Decode after encode is the identity for every performative, and any bytes at all do no harm.

#![expect(clippy::unwrap_used, reason = "a test that unwraps wrongly fails, and should")]

use bytes::{Bytes, BytesMut};
use peeklock_protocol::performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, ReceiverSettleMode,
    Role, SenderSettleMode, Transfer,
};
use peeklock_protocol::terminus::{Coordinator, Source, SourceField, TargetField, TargetNode};
use peeklock_protocol::value::{Map, RawMap, Str, Symbol, Value};
use peeklock_protocol::{DeliveryState, ErrorInfo, SerialNumber};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Str> {
    vec(any::<char>(), 0..40).prop_map(|chars| Str::from(chars.into_iter().collect::<String>()))
}

fn symbol() -> impl Strategy<Value = Symbol> {
    vec(0..128_u8, 0..20).prop_map(|octets| Symbol::from_ascii(octets.into()).unwrap())
}

fn symbols() -> impl Strategy<Value = Option<Vec<Symbol>>> {
    of(vec(symbol(), 0..4))
}

fn octets(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..300_u32, any::<u32>()]
}

fn serial() -> impl Strategy<Value = SerialNumber> {
    number().prop_map(SerialNumber)
}

fn map() -> impl Strategy<Value = Map> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Long),
        text().prop_map(Value::String),
        octets(300).prop_map(Value::Binary),
        (any::<u64>(), text())
            .prop_map(|(d, v)| Value::Described(Box::new((Value::Ulong(d), Value::String(v))))),
    ];
    vec((symbol().prop_map(Value::Symbol), value), 0..5).prop_map(Map::from)
}

fn error() -> impl Strategy<Value = ErrorInfo> {
    (symbol(), of(text()), of(map())).prop_map(|(condition, description, info)| ErrorInfo {
        condition,
        description,
        info,
    })
}

fn outcome() -> impl Strategy<Value = DeliveryState> {
    prop_oneof![
        Just(DeliveryState::Accepted),
        Just(DeliveryState::Released),
        of(error()).prop_map(DeliveryState::Rejected),
        (of(any::<bool>()), of(any::<bool>()), of(map())).prop_map(|(failed, here, map)| {
            DeliveryState::Modified {
                delivery_failed: failed,
                undeliverable_here: here,
                message_annotations: map,
            }
        }),
        octets(32).prop_map(|txn_id| DeliveryState::Declared { txn_id }),
    ]
}

fn state() -> impl Strategy<Value = DeliveryState> {
    prop_oneof![
        4 => outcome(),
        1 => (number(), any::<u64>()).prop_map(|(section_number, section_offset)| {
            DeliveryState::Received { section_number, section_offset }
        }),
        1 => (octets(32), of(outcome().prop_map(Box::new)))
            .prop_map(|(txn_id, outcome)| DeliveryState::Transactional { txn_id, outcome }),
    ]
}

fn source() -> impl Strategy<Value = SourceField> {
    (of(text()), number(), any::<bool>(), of(map()), of(map()), symbols()).prop_map(
        |(address, timeout, dynamic, dynamic_node_properties, filter, outcomes)| {
            Source {
                address: address.map(Value::String),
                timeout,
                dynamic,
                dynamic_node_properties,
                filter,
                outcomes,
                ..Source::default()
            }
            .into()
        },
    )
}

fn target() -> impl Strategy<Value = TargetField> {
    prop_oneof![
        text().prop_map(|address| TargetNode::new(address).into()),
        symbols().prop_map(|capabilities| Coordinator { capabilities }.into()),
    ]
}

fn open() -> impl Strategy<Value = Performative> {
    let numbers = (of(number()), of(any::<u16>()), of(number()));
    let lists = (symbols(), symbols(), symbols(), symbols());
    (text(), of(text()), numbers, lists, of(map())).prop_map(
        |(container_id, hostname, numbers, lists, properties)| {
            Open {
                container_id,
                hostname,
                max_frame_size: numbers.0,
                channel_max: numbers.1,
                idle_time_out: numbers.2,
                outgoing_locales: lists.0,
                incoming_locales: lists.1,
                offered_capabilities: lists.2,
                desired_capabilities: lists.3,
                properties,
            }
            .into()
        },
    )
}

fn begin() -> impl Strategy<Value = Performative> {
    (of(any::<u16>()), serial(), number(), number(), of(number()), symbols(), of(map())).prop_map(
        |(remote_channel, id, incoming, outgoing, handle_max, capabilities, properties)| {
            Begin {
                remote_channel,
                next_outgoing_id: id,
                incoming_window: incoming,
                outgoing_window: outgoing,
                handle_max,
                offered_capabilities: capabilities.clone(),
                desired_capabilities: capabilities,
                properties,
            }
            .into()
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Sender), Just(Role::Receiver)]
}

fn receiver_mode() -> impl Strategy<Value = ReceiverSettleMode> {
    prop_oneof![Just(ReceiverSettleMode::First), Just(ReceiverSettleMode::Second)]
}

fn sender_mode() -> impl Strategy<Value = SenderSettleMode> {
    use SenderSettleMode::{Mixed, Settled, Unsettled};
    prop_oneof![Just(Unsettled), Just(Settled), Just(Mixed)]
}

fn attach() -> impl Strategy<Value = Performative> {
    let modes = (of(sender_mode()), of(receiver_mode()));
    let rest = (of(map()), of(any::<bool>()), of(serial()), of(any::<u64>()), symbols(), of(map()));
    (text(), number(), role(), modes, of(source()), of(target()), rest).prop_map(
        |(name, handle, role, modes, source, target, rest)| {
            Attach {
                snd_settle_mode: modes.0,
                rcv_settle_mode: modes.1,
                source,
                target,
                unsettled: rest.0.as_ref().map(RawMap::from),
                incomplete_unsettled: rest.1,
                initial_delivery_count: rest.2,
                max_message_size: rest.3,
                offered_capabilities: rest.4.clone(),
                desired_capabilities: rest.4,
                properties: rest.5,
                ..Attach::new(name, handle, role)
            }
            .into()
        },
    )
}

fn flow() -> impl Strategy<Value = Performative> {
    let session = (of(serial()), number(), serial(), number());
    let link = (of(number()), of(serial()), of(number()), of(number()));
    (session, link, any::<bool>(), any::<bool>(), of(map())).prop_map(
        |(session, link, drain, echo, properties)| {
            Flow {
                next_incoming_id: session.0,
                incoming_window: session.1,
                next_outgoing_id: session.2,
                outgoing_window: session.3,
                handle: link.0,
                delivery_count: link.1,
                link_credit: link.2,
                available: link.3,
                drain,
                echo,
                properties,
            }
            .into()
        },
    )
}

fn transfer() -> impl Strategy<Value = Performative> {
    let delivery = (of(serial()), of(octets(33)), of(number()));
    let flags = (of(any::<bool>()), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (number(), delivery, flags, of(receiver_mode()), of(state())).prop_map(
        |(handle, delivery, flags, rcv_settle_mode, state)| {
            Transfer {
                handle,
                delivery_id: delivery.0,
                delivery_tag: delivery.1,
                message_format: delivery.2,
                settled: flags.0,
                more: flags.1,
                rcv_settle_mode,
                state,
                resume: flags.2,
                aborted: flags.3,
                batchable: flags.4,
            }
            .into()
        },
    )
}

fn disposition() -> impl Strategy<Value = Performative> {
    (role(), serial(), of(serial()), any::<bool>(), of(state()), any::<bool>()).prop_map(
        |(role, first, last, settled, state, batchable)| {
            Disposition { role, first, last, settled, state, batchable }.into()
        },
    )
}

fn performative() -> impl Strategy<Value = Performative> {
    prop_oneof![
        open(),
        begin(),
        attach(),
        flow(),
        transfer(),
        disposition(),
        (number(), any::<bool>(), of(error())).prop_map(|(handle, closed, error)| Detach {
            handle,
            closed,
            error
        }
        .into()),
        of(error()).prop_map(|error| End { error }.into()),
        of(error()).prop_map(|error| Close { error }.into()),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(performative in performative(), payload in octets(50)) {
        let mut out = BytesMut::new();
        performative.encode(&mut out);
        prop_assert_eq!(&out[..2], &[0x00, 0x53], "descriptors are written in one octet");
        out.extend_from_slice(&payload);
        prop_assert_eq!(Performative::decode(&out.freeze()), Ok((performative, payload)));
    }

    /// Every field is written, so that a reader by position finds it.
    #[test]
    fn performatives_are_written_whole(performative in performative()) {
        let mut out = BytesMut::new();
        performative.encode(&mut out);
        let count = match out[3] {
            0xc0 => u32::from(out[5]),
            0xd0 => u32::from_be_bytes([out[8], out[9], out[10], out[11]]),
            other => panic!("0x{other:02x} is no list that pyamqp reads"),
        };
        let fields = match performative.name() {
            "attach" => 14,
            "transfer" | "flow" => 11,
            "open" => 10,
            "begin" => 8,
            "disposition" => 6,
            "detach" => 3,
            _ => 1,
        };
        prop_assert_eq!(count, fields);
    }

    /// A frame that was cut or bent decodes or is refused; nothing else happens.
    #[test]
    fn damaged_performatives_do_no_harm(
        performative in performative(),
        cut in any::<prop::sample::Index>(),
        bend in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut out = BytesMut::new();
        performative.encode(&mut out);
        let whole = out.clone().freeze();
        let cut = cut.index(whole.len());
        prop_assert!(Performative::decode(&whole.slice(..cut)).is_err());
        let bend = bend.index(out.len());
        out[bend] = octet;
        if let Ok((bent, rest)) = Performative::decode(&out.freeze()) {
            let mut again = BytesMut::new();
            bent.encode(&mut again);
            again.extend_from_slice(&rest);
            prop_assert_eq!(Performative::decode(&again.freeze()), Ok((bent, rest)));
        }
    }
}
