//! The engine from the outside: against itself ([`Pair`]), and against frames written by hand
//! ([`Peer`]). The names that begin with `trap_` are the ways in which AMQP engines are known to go
//! wrong. Serial numbers start just before their wrap in all of them.

mod conversation;
mod handshake;
mod idle;
mod incoming;
mod links;
mod outgoing;
mod sessions;
mod settlement;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::*;
use crate::delivery::{Delivery, OutgoingDelivery};
use crate::frame::{FrameHeader, ProtocolHeader};
use crate::performative::{Attach, Begin, Flow, Transfer};
use crate::sasl::{SaslCode, SaslFrame};
use crate::serial::SerialNumber;
use crate::terminus::{Source, TargetNode};

/// Sixteen steps before the wrap.
const START: SerialNumber = SerialNumber(0xFFFF_FFF0);

fn config() -> Config {
    Config {
        container_id: "test".into(),
        incoming_window: 100,
        outgoing_window: 100,
        first_serial: START,
        ..Config::default()
    }
}

fn sender(name: &str) -> Attach {
    Attach {
        source: Some(Source::new("here").into()),
        target: Some(TargetNode::new("queue").into()),
        ..Attach::new(name, 0, Role::Sender)
    }
}

fn receiver(name: &str) -> Attach {
    Attach {
        source: Some(Source::new("queue").into()),
        target: Some(TargetNode::new("here").into()),
        ..Attach::new(name, 0, Role::Receiver)
    }
}

fn message(parts: &[Bytes]) -> OutgoingDelivery<'_> {
    OutgoingDelivery { tag: b"tag", message_format: 0, settled: false, state: None, parts }
}

fn drain_events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

fn deliveries(events: &[Event]) -> Vec<&Delivery> {
    events
        .iter()
        .filter_map(
            |event| if let Event::Delivery(delivery) = event { Some(delivery) } else { None },
        )
        .collect()
}

/// A client and a server with nothing between them.
struct Pair {
    client: Connection,
    server: Connection,
    now: Instant,
    to_server: BytesMut,
    to_client: BytesMut,
}

impl Pair {
    fn new(client: Config, server: Config, open: ClientOpen) -> Self {
        let now = Instant::now();
        Self {
            client: Connection::client(Arc::new(client), now, open),
            server: Connection::server(Arc::new(server), now),
            now,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
        }
    }

    /// Both open, with a session.
    fn open() -> (Self, SessionId, SessionId) {
        Self::open_with(config(), config())
    }

    fn open_with(client: Config, server: Config) -> (Self, SessionId, SessionId) {
        let open = ClientOpen { sasl: ClientSasl::None, ..ClientOpen::default() };
        let mut pair = Self::new(client, server, open);
        let session = pair.client.begin().unwrap();
        let (client_events, server_events) = pair.exchange();
        assert!(matches!(client_events[..], [Event::Open(_), Event::Begin(_)]));
        let [Event::Open(_), Event::Begin(server_session)] = server_events[..] else {
            panic!("{server_events:?}");
        };
        (pair, session, server_session)
    }

    /// Passes bytes to and fro until both are silent, and returns the events of both. Every SASL
    /// question is answered with `Ok`.
    fn exchange(&mut self) -> (Vec<Event>, Vec<Event>) {
        let (mut client_events, mut server_events) = (Vec::new(), Vec::new());
        loop {
            self.client.prepare_output(self.now);
            self.client.output().copy_into(&mut self.to_server);
            let _ = self.server.handle_input(&mut self.to_server, self.now);
            while let Some(event) = self.server.poll_event() {
                if let Event::SaslInit { .. } = event {
                    self.server.sasl_outcome(SaslCode::Ok);
                }
                server_events.push(event);
            }
            self.server.prepare_output(self.now);
            if self.server.output().is_empty() {
                return (client_events, server_events);
            }
            self.server.output().copy_into(&mut self.to_client);
            let _ = self.client.handle_input(&mut self.to_client, self.now);
            client_events.extend(drain_events(&mut self.client));
        }
    }

    /// A link in both ends' terms: the client's, then the server's.
    fn attach(&mut self, session: SessionId, attach: Attach) -> (LinkId, LinkId) {
        let link = self.client.attach(session, attach).unwrap();
        let (_, events) = self.exchange();
        let [Event::Attach { link: server_link, .. }] = events[..] else { panic!("{events:?}") };
        self.server.accept_attach(server_link, AttachReply::default()).unwrap();
        let (events, _) = self.exchange();
        assert!(matches!(events[..], [Event::AttachReply { .. }]), "{events:?}");
        (link, server_link)
    }
}

/// A server under test, and a peer that writes its frames by hand.
struct Peer {
    server: Connection,
    now: Instant,
    input: BytesMut,
}

impl Peer {
    /// Nothing has been said.
    fn silent(config: Config) -> Self {
        let now = Instant::now();
        let server = Connection::server(Arc::new(config), now);
        Self { server, now, input: BytesMut::new() }
    }

    fn plain_open() -> Open {
        Open {
            container_id: "peer".into(),
            hostname: None,
            max_frame_size: Some(65_536),
            channel_max: None,
            idle_time_out: None,
            outgoing_locales: None,
            incoming_locales: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        }
    }

    fn plain_begin() -> Begin {
        Begin {
            remote_channel: None,
            next_outgoing_id: START,
            incoming_window: 100,
            outgoing_window: 100,
            handle_max: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        }
    }

    /// Header and open are exchanged.
    fn open(config: Config) -> Self {
        Self::open_as(config, Self::plain_open())
    }

    fn open_as(config: Config, open: Open) -> Self {
        let mut peer = Self::silent(config);
        peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
        peer.send(0, open).unwrap();
        assert!(matches!(drain_events(&mut peer.server)[..], [Event::Open(_)]));
        assert_eq!(peer.take_header(), ProtocolHeader::Amqp);
        assert!(matches!(peer.sent()[..], [(0, Performative::Open(_), _)]));
        peer
    }

    /// A session has begun on channel 1.
    fn begun(config: Config) -> Self {
        let mut peer = Self::open(config);
        peer.send(1, Self::plain_begin()).unwrap();
        assert!(matches!(drain_events(&mut peer.server)[..], [Event::Begin(_)]));
        assert!(matches!(peer.sent()[..], [(0, Performative::Begin(_), _)]));
        peer
    }

    /// A link of that handle is attached on channel 1 and accepted.
    fn attached(config: Config, attach: Attach) -> (Self, LinkId) {
        let mut peer = Self::begun(config);
        let link = peer.attach(attach);
        (peer, link)
    }

    fn attach(&mut self, attach: Attach) -> LinkId {
        let link = self.attach_pending(attach);
        self.server.accept_attach(link, AttachReply::default()).unwrap();
        assert!(matches!(self.sent()[..], [(0, Performative::Attach(_), _)]));
        link
    }

    fn attach_pending(&mut self, attach: Attach) -> LinkId {
        self.send(1, attach).unwrap();
        let events = drain_events(&mut self.server);
        let [Event::Attach { link, .. }] = events[..] else { panic!("{events:?}") };
        link
    }

    fn feed(&mut self, octets: &[u8]) -> Result<(), Fatal> {
        self.input.extend_from_slice(octets);
        self.server.handle_input(&mut self.input, self.now)
    }

    fn send(&mut self, channel: u16, performative: impl Into<Performative>) -> Result<(), Fatal> {
        self.send_with(channel, performative, b"")
    }

    fn send_with(
        &mut self,
        channel: u16,
        performative: impl Into<Performative>,
        payload: &[u8],
    ) -> Result<(), Fatal> {
        let frame = amqp_frame(channel, performative, payload);
        self.feed(&frame)
    }

    fn send_sasl(&mut self, frame: &SaslFrame) -> Result<(), Fatal> {
        let mut out = BytesMut::new();
        write_frame(&mut out, FrameKind::Sasl, 0, |out| frame.encode(out));
        self.feed(&out)
    }

    fn events(&mut self) -> Vec<Event> {
        drain_events(&mut self.server)
    }

    fn take_header(&mut self) -> ProtocolHeader {
        self.server.prepare_output(self.now);
        let octets = *self.server.output().chunk().first_chunk().expect("a protocol header");
        self.server.output().advance(ProtocolHeader::LEN);
        ProtocolHeader::parse(octets)
    }

    fn take_sasl(&mut self) -> SaslFrame {
        let (kind, _, body) = self.take_frame().expect("a SASL frame");
        assert_eq!(kind, FrameKind::Sasl);
        SaslFrame::decode(&body).unwrap()
    }

    fn take_frame(&mut self) -> Option<(FrameKind, u16, Bytes)> {
        self.server.prepare_output(self.now);
        let mut waiting = BytesMut::new();
        self.server.output().copy_into(&mut waiting);
        let head = waiting.first_chunk()?;
        let head = FrameHeader::parse(head, u32::MAX).unwrap();
        let mut frame = waiting.split_to(head.size as usize).freeze();
        // What follows goes back.
        self.server.output().append(|out| out.extend_from_slice(&waiting));
        frame.advance(head.body_offset());
        Some((head.kind, head.channel, frame))
    }

    /// Every AMQP frame that waits: channel, performative, payload. Empty frames have none.
    fn sent(&mut self) -> Vec<(u16, Performative, Bytes)> {
        let mut frames = Vec::new();
        while let Some((kind, channel, body)) = self.take_frame() {
            assert_eq!(kind, FrameKind::Amqp);
            if !body.is_empty() {
                let (performative, payload) = Performative::decode(&body).unwrap();
                frames.push((channel, performative, payload));
            }
        }
        frames
    }

    /// The connection was closed with `condition`, and says nothing after.
    #[track_caller]
    fn assert_closed(&mut self, condition: &str) {
        let frames = self.sent();
        let Some((_, Performative::Close(close), _)) = frames.last() else {
            panic!("no close at the end of {frames:?}");
        };
        assert_eq!(close.error.as_ref().unwrap().condition, *condition);
        assert!(self.server.is_closed());
        let events = self.events();
        assert!(matches!(events.last(), Some(Event::Closed { error: Some(_) })), "{events:?}");
    }

    /// The session was ended with `condition`, and the connection lives.
    #[track_caller]
    fn assert_ended(&mut self, condition: &str) {
        let frames = self.sent();
        let Some((_, Performative::End(end), _)) = frames.last() else {
            panic!("no end at the end of {frames:?}");
        };
        assert_eq!(end.error.as_ref().unwrap().condition, *condition);
        let events = self.events();
        let Some(Event::End { error: Some(error), .. }) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(error.condition, *condition);
        assert!(self.server.is_open());
    }

    /// The link was detached with `condition`, and the session lives.
    #[track_caller]
    fn assert_detached(&mut self, condition: &str) {
        let frames = self.sent();
        let Some((_, Performative::Detach(detach), _)) = frames.last() else {
            panic!("no detach at the end of {frames:?}");
        };
        assert!(detach.closed);
        assert_eq!(detach.error.as_ref().unwrap().condition, *condition);
        let events = self.events();
        let Some(Event::Detach { error: Some(error), closed: true, .. }) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(error.condition, *condition);
        assert!(self.server.is_open());
    }
}

fn amqp_frame(channel: u16, performative: impl Into<Performative>, payload: &[u8]) -> BytesMut {
    let performative = performative.into();
    let mut out = BytesMut::new();
    write_frame(&mut out, FrameKind::Amqp, channel, |out| {
        performative.encode(out);
        out.extend_from_slice(payload);
    });
    out
}

/// The `n`th delivery of a test, complete in one frame.
fn transfer(handle: u32, n: u32) -> Transfer {
    Transfer {
        handle,
        delivery_id: Some(START.advanced_by(n)),
        delivery_tag: Some(Bytes::from_static(b"t")),
        message_format: Some(0),
        settled: Some(false),
        ..Transfer::default()
    }
}

/// A flow for a link whose sender has sent `sent` deliveries as far as the receiver knows.
fn credit_flow(handle: u32, sent: u32, credit: u32) -> Flow {
    Flow {
        handle: Some(handle),
        delivery_count: Some(START.advanced_by(sent)),
        link_credit: Some(credit),
        ..session_flow()
    }
}

/// A flow of a peer that has seen none of our transfers.
fn session_flow() -> Flow {
    Flow {
        next_incoming_id: Some(START),
        incoming_window: 100,
        next_outgoing_id: START,
        outgoing_window: 100,
        handle: None,
        delivery_count: None,
        link_credit: None,
        available: None,
        drain: false,
        echo: false,
        properties: None,
    }
}

#[test]
fn a_connection_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
}
