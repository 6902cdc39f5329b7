//! A server, a peer without manners and a caller without a plan.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::{Choices, Connection, Seen, config};
use crate::condition::{self, ErrorInfo};
use crate::connection::{AttachReply, Event, LinkId, SessionId, Stale};
use crate::delivery::{DeliveryId, OutgoingDelivery};
use crate::delivery_state::DeliveryState;
use crate::frame::{FrameHeader, FrameKind, ProtocolHeader, write_frame};
use crate::performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Role, Transfer,
};
use crate::sasl::{SaslCode, SaslFrame};
use crate::serial::SerialNumber;
use crate::terminus::{Source, TargetNode};

struct World<'a> {
    choices: Choices<'a>,
    server: Connection,
    now: Instant,
    input: BytesMut,
    /// Everything the server has written and that has not been read yet.
    written: BytesMut,
    amqp: bool,
    /// Channels on which the peer has begun a session.
    begun: BTreeSet<u16>,
    sessions: Vec<SessionId>,
    links: Vec<LinkId>,
    deliveries: Vec<(LinkId, DeliveryId)>,
    sent: Vec<(LinkId, DeliveryId)>,
    next_delivery: SerialNumber,
    seen: Seen,
}

/// Feeds a server arbitrary frames and octets in arbitrary pieces, between arbitrary commands.
/// Panics if the engine does, if its books do not balance, or if what it writes cannot be read.
pub fn connection(data: &[u8]) -> Seen {
    let now = Instant::now();
    let mut world = World {
        choices: Choices(data),
        server: Connection::server(config(), now),
        now,
        input: BytesMut::new(),
        written: BytesMut::new(),
        amqp: false,
        begun: BTreeSet::new(),
        sessions: Vec::new(),
        links: Vec::new(),
        deliveries: Vec::new(),
        sent: Vec::new(),
        next_delivery: SerialNumber(0xFFFF_FFF0),
        seen: Seen::default(),
    };
    world.handshake();
    while !world.choices.is_used_up() {
        world.step();
        world.server.check();
        world.take_events();
        world.read_output();
    }
    world.server.handle_eof();
    world.take_events();
    world.server.check();
    assert!(world.server.is_closed() && world.server.poll_event().is_none());
    world.seen
}

impl World<'_> {
    /// Most runs begin properly, or few would come far.
    fn handshake(&mut self) {
        let kind = self.choices.octet().unwrap_or(0);
        if kind < 8 {
            return;
        }
        if kind < 64 {
            self.input.extend_from_slice(&ProtocolHeader::Sasl.to_octets());
            let init = SaslFrame::Init {
                mechanism: "ANONYMOUS".into(),
                initial_response: None,
                hostname: None,
            };
            write_frame(&mut self.input, FrameKind::Sasl, 0, |out| init.encode(out));
        }
        self.input.extend_from_slice(&ProtocolHeader::Amqp.to_octets());
        let open = Open {
            container_id: "fuzz".into(),
            hostname: None,
            max_frame_size: Some(512),
            channel_max: Some(4),
            idle_time_out: Some(1000),
            outgoing_locales: None,
            incoming_locales: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        };
        self.frame(0, &Performative::from(open), &[]);
        for channel in 0..2 {
            self.begun.insert(channel);
            self.frame(channel, &Performative::from(Self::begin()), &[]);
            for (handle, role) in [(0, Role::Sender), (1, Role::Receiver)] {
                let attach = Self::attach(handle, handle, role);
                self.frame(channel, &Performative::from(attach), &[]);
            }
        }
        self.feed();
        self.take_events();
        for link in self.links.clone() {
            self.server.accept_attach(link, AttachReply::default()).ok();
            self.server.set_credit(link, 20).ok();
        }
        for channel in 0..2 {
            let flow = Flow { handle: Some(1), link_credit: Some(20), ..Self::flow() };
            self.frame(channel, &Performative::from(flow), &[]);
        }
    }

    fn attach(name: u32, handle: u32, role: Role) -> Attach {
        Attach {
            source: Some(Source::new("s").into()),
            target: Some(TargetNode::new("t").into()),
            initial_delivery_count: Some(SerialNumber(0xFFFF_FFF0)),
            ..Attach::new(format!("link {name}"), handle, role)
        }
    }

    fn begin() -> Begin {
        Begin {
            remote_channel: None,
            next_outgoing_id: SerialNumber(0xFFFF_FFF0),
            incoming_window: 9,
            outgoing_window: 9,
            handle_max: Some(6),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        }
    }

    fn flow() -> Flow {
        Flow {
            next_incoming_id: None,
            incoming_window: 9,
            next_outgoing_id: SerialNumber(0xFFFF_FFF0),
            outgoing_window: 9,
            handle: None,
            delivery_count: None,
            link_credit: None,
            available: None,
            drain: false,
            echo: false,
            properties: None,
        }
    }

    fn frame(&mut self, channel: u16, performative: &Performative, payload: &[u8]) {
        write_frame(&mut self.input, FrameKind::Amqp, channel, |out| {
            performative.encode(out);
            out.extend_from_slice(payload);
        });
    }

    fn feed(&mut self) {
        let before = self.server.is_closed();
        let result = self.server.handle_input(&mut self.input, self.now);
        assert!(result.is_ok() || (!before && self.server.is_closed()));
        self.seen.fatal += u32::from(result.is_err());
    }

    fn step(&mut self) -> Option<()> {
        let step = self.choices.octet()?;
        match step {
            0..150 => {
                // Now and then one that no session has.
                let channel = match self.choices.octet()? {
                    0..128 => 0,
                    128..254 => 1,
                    octet => u16::from(octet) - 252,
                };
                let mut performative = self.performative()?;
                // Mostly the peer knows which of its sessions have begun, or runs would be short.
                let begun = self.begun.contains(&channel);
                if self.choices.octet()? < 250 {
                    match performative {
                        Performative::Begin(_) if begun => performative = Self::flow().into(),
                        Performative::Close(_) => performative = Self::flow().into(),
                        _ if !begun => performative = Self::begin().into(),
                        _ => {}
                    }
                }
                match performative {
                    Performative::Begin(_) => drop(self.begun.insert(channel)),
                    Performative::End(_) => drop(self.begun.remove(&channel)),
                    _ => {}
                }
                let len = usize::from(self.choices.octet()?) * 8;
                let payload = self.choices.octets(len.saturating_sub(1700)).to_vec();
                self.frame(channel, &performative, &payload);
                if self.choices.flag()? {
                    self.feed();
                }
            }
            150 if self.choices.octet()? < 32 => {
                let len = usize::from(self.choices.octet()? % 16);
                let octets = self.choices.octets(len).to_vec();
                self.input.extend_from_slice(&octets);
                self.feed();
            }
            151 if self.choices.octet()? < 64 => {
                // A valid frame with one octet changed.
                let performative = self.performative()?;
                let start = self.input.len();
                self.frame(0, &performative, &[]);
                let place = start + usize::from(self.choices.octet()?) % (self.input.len() - start);
                let octet = self.choices.octet()?;
                if let Some(changed) = self.input.get_mut(place) {
                    *changed = octet;
                }
                self.feed();
            }
            152..160 => {
                self.now += Duration::from_millis(u64::from(self.choices.octet()?) * 10);
                self.server.handle_timeout(self.now);
            }
            160..170 => {
                // Everything in small pieces.
                let mut octets = self.input.split();
                while octets.has_remaining() {
                    let len = octets.len().min(3);
                    self.input.extend_from_slice(&octets.split_to(len));
                    self.feed();
                }
            }
            _ => {
                let result = self.command()?;
                self.seen.stale += u32::from(result.is_err());
            }
        }
        Some(())
    }

    fn performative(&mut self) -> Option<Performative> {
        let choices = &mut self.choices;
        let error = || Some(ErrorInfo::new(condition::INTERNAL_ERROR, "fuzz"));
        let kind = choices.octet()?;
        let handle = match choices.octet()? {
            octet @ 0..240 => u32::from(octet) % 2,
            octet => u32::from(octet) % 9,
        };
        let small = choices.below(40)?;
        let serial = SerialNumber(0xFFFF_FFF0).advanced_by(small);
        let flags = choices.octet()?;
        let flag = |n: u8| flags >> n & 1 == 1;
        let role = if flag(0) { Role::Sender } else { Role::Receiver };
        Some(match kind {
            0..90 => {
                let first = flags < 248;
                if first {
                    self.next_delivery = self.next_delivery.advanced_by(1);
                }
                let transfer = Transfer {
                    handle: handle.saturating_sub(1),
                    delivery_id: first.then_some(self.next_delivery),
                    delivery_tag: first.then(|| Bytes::from_static(b"t")),
                    settled: flag(1).then_some(flag(2)),
                    more: flags & 0x18 == 0x18,
                    aborted: flags & 0x70 == 0x70,
                    state: (flags & 0x60 == 0x60).then_some(DeliveryState::Accepted),
                    ..Transfer::default()
                };
                Performative::from(transfer)
            }
            90..140 => Performative::from(Flow {
                next_incoming_id: flag(1).then_some(serial),
                incoming_window: choices.below(30)?,
                next_outgoing_id: serial,
                handle: flag(2).then_some(handle),
                delivery_count: flag(3).then_some(serial),
                link_credit: flag(4).then_some(choices.below(40)?),
                drain: flag(5),
                echo: flag(6),
                ..Self::flow()
            }),
            140..205 => Performative::from(Disposition {
                role,
                first: SerialNumber(0xFFFF_FFF0).advanced_by(small / 8),
                last: flag(1).then_some(serial.advanced_by(choices.below(50)?)),
                settled: flag(2),
                state: flag(3).then_some(DeliveryState::Released),
                batchable: false,
            }),
            205..222 => Performative::from(Self::attach(small % 4, handle + 2, role)),
            222..240 => Performative::from(Detach {
                handle: handle + small % 4,
                closed: flag(1),
                error: if flag(2) { error() } else { None },
            }),
            240..250 => Performative::from(Begin {
                remote_channel: (flags > 250).then_some(0),
                incoming_window: small,
                handle_max: flag(1).then_some(handle),
                ..Self::begin()
            }),
            250..252 => Performative::from(End { error: error() }),
            252..255 => Performative::from(Self::flow()),
            255 => Performative::from(Close { error: error() }),
        })
    }

    /// `Some(Err)` is a command for something that has gone, which is fine.
    fn command(&mut self) -> Option<Result<(), Stale>> {
        let kind = self.choices.below(14)?;
        // Mostly what is young, and now and then what is long gone.
        let young = 16 <= self.choices.octet()?;
        let session = self.choices.pick_young(&self.sessions, young);
        let link = self.choices.pick_young(&self.links, young).unwrap_or(LinkId::from_u64(7));
        let delivery = self.choices.pick_young(&self.deliveries, young);
        let sent = self.choices.pick_young(&self.sent, young);
        let flag = self.choices.flag()?;
        let error = flag.then(|| ErrorInfo::new(condition::INTERNAL_ERROR, "fuzz"));
        let server = &mut self.server;
        Some(match kind {
            0 | 1 => server.accept_attach(link, AttachReply::default()),
            2 => server.reject_attach(link, ErrorInfo::new(condition::NOT_FOUND, "fuzz")),
            3 => server.detach(link, flag, error),
            4 => server.set_credit(link, self.choices.below(60)?),
            5 => server.set_credit_drain(link, self.choices.below(60)?),
            6 => server.drained(link),
            7 | 8 => {
                let credit = server.link_credit(link);
                let len = usize::from(self.choices.octet()?) * 10;
                let parts = [Bytes::from(vec![7; len]), Bytes::from_static(b"end")];
                let delivery = OutgoingDelivery {
                    tag: b"t",
                    message_format: 0,
                    settled: flag,
                    state: None,
                    parts: &parts,
                };
                match server.send(link, delivery) {
                    Ok(id) => {
                        assert_eq!(server.link_credit(link), credit - 1);
                        self.sent.push((link, id));
                        Ok(())
                    }
                    Err(_) => Err(Stale),
                }
            }
            9 | 10 => {
                let (link, id) = delivery?;
                server.settle_incoming(link, id, DeliveryState::Accepted, flag)
            }
            11 | 12 => {
                let (link, id) = sent?;
                server.settle_outgoing(link, id, Some(DeliveryState::Accepted), flag)
            }
            _ if self.choices.octet()? < 30 => {
                self.server.close(error);
                Ok(())
            }
            _ if self.choices.octet()? < 30 => server.end(session?, error),
            _ => Ok(()),
        })
    }

    fn take_events(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::SaslInit { .. } | Event::SaslResponse(_) => {
                    self.server.sasl_outcome(SaslCode::Ok);
                }
                Event::Open(_) => self.seen.opened += 1,
                Event::Begin(session) => self.sessions.push(session),
                Event::Attach { link, .. } => self.links.push(link),
                Event::Delivery(delivery) => {
                    assert!(delivery.payload.len() <= 4000);
                    self.seen.deliveries += 1;
                    self.deliveries.push((delivery.link, delivery.id));
                }
                Event::Settled { .. } => self.seen.settled += 1,
                Event::Drained { .. } => self.seen.drained += 1,
                Event::Detach { .. } => self.seen.detached += 1,
                Event::End { .. } => self.seen.ended += 1,
                Event::Closed { .. } => {
                    assert_eq!(self.server.poll_event(), None, "an event after the last");
                    assert_eq!(self.server.poll_timeout(), None);
                }
                Event::SaslOutcome(_)
                | Event::AttachReply { .. }
                | Event::Credit { .. }
                | Event::SessionWindow(_)
                | Event::Oversize { .. }
                | Event::Dropped { .. }
                | Event::Aborted { .. }
                | Event::SettledBySender { .. } => {}
            }
        }
    }

    /// Whatever was written can be read, and keeps to what the peer takes.
    fn read_output(&mut self) {
        self.server.prepare_output(self.now);
        self.server.output().copy_into(&mut self.written);
        loop {
            if let Some(octets) = self.written.first_chunk::<8>()
                && octets.starts_with(b"AMQP")
            {
                self.amqp = ProtocolHeader::parse(*octets) == ProtocolHeader::Amqp;
                self.written.advance(ProtocolHeader::LEN);
                continue;
            }
            let Some(octets) = self.written.first_chunk() else { return };
            let head = FrameHeader::parse(octets, 512).expect("a frame the peer takes");
            let size = usize::try_from(head.size).expect("at most 512");
            let mut body = self.written.split_to(size).freeze();
            body.advance(head.body_offset());
            if head.kind == FrameKind::Sasl {
                assert!(!self.amqp);
                SaslFrame::decode(&body).expect("a SASL frame");
            } else if !body.is_empty() {
                Performative::decode(&body).expect("a performative");
            }
        }
    }
}
