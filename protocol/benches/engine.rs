//! What the engine costs a broker for each message that comes in, goes out and is settled on both
//! sides: `cargo bench -p peeklock-protocol --bench engine`.
//!
//! A client sends to a server, which passes on to another client, 64 messages a turn. Only the
//! server's share is timed. Prints nanoseconds a message, the best of many rounds.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use peeklock_protocol::DeliveryState;
use peeklock_protocol::connection::{
    AttachReply, ClientOpen, ClientSasl, Config, Connection, Event, LinkId,
};
use peeklock_protocol::delivery::OutgoingDelivery;
use peeklock_protocol::performative::{Attach, Role};
use peeklock_protocol::terminus::{Source, TargetNode};

const BATCH: u32 = 64;
const TURNS: u32 = 2_000;
const ROUNDS: u32 = 10;

/// A client and the server's end of its connection, with one link.
struct Wire {
    client: Connection,
    server: Connection,
    client_link: LinkId,
    server_link: LinkId,
    to_server: BytesMut,
    to_client: BytesMut,
}

impl Wire {
    fn new(role: Role, now: Instant) -> Self {
        let config = Arc::new(Config::default());
        let open = ClientOpen { sasl: ClientSasl::None, ..ClientOpen::default() };
        let mut client = Connection::client(Arc::clone(&config), now, open);
        let mut server = Connection::server(config, now);
        let session = client.begin().expect("a channel is free");
        let attach = Attach {
            source: Some(Source::new("s").into()),
            target: Some(TargetNode::new("t").into()),
            ..Attach::new("link", 0, role)
        };
        let client_link = client.attach(session, attach).expect("the session has begun");
        let mut buffer = BytesMut::new();
        let mut server_link = None;
        for _ in 0..3 {
            client.prepare_output(now);
            client.output().copy_into(&mut buffer);
            server.handle_input(&mut buffer, now).expect("no rule is broken");
            while let Some(event) = server.poll_event() {
                if let Event::Attach { link, .. } = event {
                    server.accept_attach(link, AttachReply::default()).expect("it is pending");
                    server_link = Some(link);
                }
            }
            server.prepare_output(now);
            server.output().copy_into(&mut buffer);
            client.handle_input(&mut buffer, now).expect("no rule is broken");
            while client.poll_event().is_some() {}
        }
        let server_link = server_link.expect("the attach has come");
        let (to_server, to_client) = (BytesMut::new(), BytesMut::new());
        Self { client, server, client_link, server_link, to_server, to_client }
    }

    fn client_speaks(&mut self, now: Instant) {
        self.client.prepare_output(now);
        self.client.output().copy_into(&mut self.to_server);
    }

    fn client_listens(&mut self, now: Instant) {
        self.client.handle_input(&mut self.to_client, now).expect("no rule is broken");
    }

    /// As a socket would: nothing is joined, the bytes are looked at and dropped.
    fn server_speaks(&mut self, now: Instant) {
        self.server.prepare_output(now);
    }

    fn server_written(&mut self) {
        self.server.output().copy_into(&mut self.to_client);
    }
}

/// Passes one batch through and returns the server's time.
fn turn(from: &mut Wire, to: &mut Wire, body: &Bytes, tag: &mut u64) -> Duration {
    let now = Instant::now();
    for _ in 0..BATCH {
        *tag += 1;
        let delivery = OutgoingDelivery {
            tag: &tag.to_be_bytes(),
            message_format: 0,
            settled: false,
            state: None,
            parts: std::slice::from_ref(body),
        };
        from.client.send(from.client_link, delivery).expect("there is credit");
    }
    from.client_speaks(now);

    let start = Instant::now();
    from.server.handle_input(&mut from.to_server, now).expect("no rule is broken");
    let head = Bytes::from_static(&[0; 40]);
    while let Some(event) = from.server.poll_event() {
        let Event::Delivery(delivery) = event else { continue };
        let settled =
            from.server.settle_incoming(delivery.link, delivery.id, DeliveryState::Accepted, true);
        settled.expect("it has just come");
        let outgoing = OutgoingDelivery {
            tag: &delivery.tag,
            message_format: delivery.message_format,
            settled: false,
            state: None,
            parts: &[head.clone(), delivery.payload],
        };
        to.server.send(to.server_link, outgoing).expect("there is credit");
    }
    from.server.set_credit(from.server_link, 200).expect("the link is attached");
    from.server_speaks(now);
    to.server_speaks(now);
    let mut spent = start.elapsed();

    from.server_written();
    to.server_written();
    from.client_listens(now);
    while from.client.poll_event().is_some() {}
    to.client_listens(now);
    while let Some(event) = to.client.poll_event() {
        let Event::Delivery(delivery) = event else { continue };
        let settled =
            to.client.settle_incoming(delivery.link, delivery.id, DeliveryState::Accepted, true);
        settled.expect("it has just come");
    }
    to.client.set_credit(to.client_link, 200).expect("the link is attached");
    to.client_speaks(now);

    let start = Instant::now();
    to.server.handle_input(&mut to.to_server, now).expect("no rule is broken");
    let mut settled = 0;
    while let Some(event) = to.server.poll_event() {
        settled += u32::from(matches!(event, Event::Settled { .. }));
    }
    to.server_speaks(now);
    spent += start.elapsed();
    assert_eq!(settled, BATCH);
    to.server_written();
    spent
}

fn main() {
    for len in [64, 1024, 16 << 10] {
        let now = Instant::now();
        let mut from = Wire::new(Role::Sender, now);
        let mut to = Wire::new(Role::Receiver, now);
        from.server.set_credit(from.server_link, 200).expect("the link is attached");
        from.server_speaks(now);
        from.server_written();
        from.client_listens(now);
        to.client.set_credit(to.client_link, 200).expect("the link is attached");
        to.client_speaks(now);
        to.server.handle_input(&mut to.to_server, now).expect("no rule is broken");
        let body = Bytes::from(vec![7; len]);
        let mut tag = 0;
        let best = (0..ROUNDS)
            .map(|_| {
                (0..TURNS).map(|_| turn(&mut from, &mut to, &body, &mut tag)).sum::<Duration>()
            })
            .min()
            .unwrap_or_default();
        let each = best.as_secs_f64() * 1e9 / f64::from(TURNS * BATCH);
        println!("{len:>6} octets a message: {each:>7.0} ns of the server for one in and out");
    }
}
