//! What the codec costs for what happens once a message: `cargo bench -p peeklock-protocol`.
//!
//! Prints nanoseconds per operation, the best of many short rounds. Nothing is asserted: a machine
//! under load would fail it.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::hint::black_box;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use peeklock_protocol::message::{Header, Message, Properties, Sections};
use peeklock_protocol::performative::{Disposition, Performative, Role, Transfer};
use peeklock_protocol::value::{Map, Symbol};
use peeklock_protocol::{DeliveryState, SerialNumber};

const ROUNDS: u32 = 500;
const TURNS: u32 = 4_000;

fn measure(name: &str, mut turn: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..TURNS {
            turn();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(TURNS));
    }
    println!("{name:<44}{best:>8.1} ns");
}

fn encoded(performative: &Performative) -> Bytes {
    let mut out = BytesMut::new();
    performative.encode(&mut out);
    out.freeze()
}

fn measure_both(name: &str, performative: &Performative) {
    let body = encoded(performative);
    measure(&format!("decode {name} ({} octets)", body.len()), || {
        black_box(Performative::decode(black_box(&body))).ok();
    });
    let mut out = BytesMut::with_capacity(4096);
    measure(&format!("encode {name}"), || {
        out.clear();
        black_box(performative).encode(&mut out);
        black_box(&out);
    });
}

fn main() {
    let kilobyte = [7_u8; 1126];
    measure("for scale: copy 1.1 KiB into new bytes", || {
        black_box(Bytes::copy_from_slice(black_box(&kilobyte)));
    });
    let transfer = Transfer {
        handle: 1,
        delivery_id: Some(SerialNumber(70_000)),
        delivery_tag: Some(Bytes::from_static(&[7; 16])),
        message_format: Some(0),
        settled: Some(false),
        ..Transfer::default()
    };
    measure_both("transfer", &transfer.into());
    let disposition = Disposition {
        role: Role::Receiver,
        first: SerialNumber(70_000),
        last: None,
        settled: true,
        state: Some(DeliveryState::Accepted),
        batchable: false,
    };
    measure_both("disposition", &disposition.into());

    let annotation = Map::new().with(Symbol::from_static("x-opt-partition-key"), "k");
    let message = Message {
        header: Some(Header { durable: Some(true), ..Header::default() }),
        message_annotations: Some(annotation),
        properties: Some(Properties {
            message_id: Some("7f1c2e0c9d6b4c37".into()),
            content_type: Some("application/json".into()),
            ..Properties::default()
        }),
        application_properties: Some(Map::new().with("tenant", "t").with("attempt", 1_i32)),
        ..Message::data(vec![b'x'; 1024])
    };
    let full = message.to_bytes();
    measure("index sections of 1 KiB, six sections", || {
        black_box(Sections::index(black_box(&full))).ok();
    });
    let plain = Message::data(vec![b'x'; 1024]);
    let plain = Message { header: message.header.clone(), properties: message.properties, ..plain };
    let plain = plain.to_bytes();
    measure("index sections of 1 KiB, three sections", || {
        black_box(Sections::index(black_box(&plain))).ok();
    });
    measure("decode its properties", || {
        if let Ok(sections) = Sections::index(black_box(&plain))
            && let Some(place) = sections.properties()
        {
            black_box(Properties::decode(&plain.slice(place))).ok();
        }
    });
}
