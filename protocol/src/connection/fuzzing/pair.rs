//! Client against server, with every octet stream cut at random: nobody breaks a rule, so nobody
//! may be accused of it, and what one end sends is what the other end receives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{Choices, Connection, Seen, config};
use crate::connection::{
    AttachReply, ClientOpen, ClientSasl, Config, Event, LinkId, SendError, SessionId,
};
use crate::delivery::{DeliveryId, OutgoingDelivery};
use crate::delivery_state::DeliveryState;
use crate::performative::{Attach, Role};
use crate::sasl::SaslCode;
use crate::terminus::{Source, TargetNode};

/// One end with everything its caller remembers.
struct End {
    connection: Connection,
    /// Octets on their way to it.
    arriving: BytesMut,
    sessions: Vec<SessionId>,
    links: Vec<LinkId>,
    /// Links the other end and this one know by the same name.
    names: BTreeMap<LinkId, String>,
    received: Vec<(LinkId, DeliveryId, u32)>,
}

struct World<'a> {
    choices: Choices<'a>,
    ends: [End; 2],
    now: Instant,
    /// What is on its way on each link, by direction and name.
    expected: BTreeMap<(usize, String), VecDeque<(u32, usize)>>,
    /// The outcomes that receivers have given, by tag.
    outcomes: BTreeMap<u32, Vec<DeliveryState>>,
    next_name: u32,
    next_tag: u32,
    seen: Seen,
}

/// Lets two ends work with each other. Panics if either finds fault with the other, or if a message
/// or an outcome changes on its way.
pub fn pair(data: &[u8]) -> Seen {
    let now = Instant::now();
    let mut choices = Choices(data);
    let sasl = if choices.flag() == Some(true) { ClientSasl::MsSbCbs } else { ClientSasl::None };
    let open = ClientOpen { sasl, ..ClientOpen::default() };
    // Nothing here is to be refused for its size or number.
    let config = Arc::new(Config {
        channel_max: 1000,
        links_max: 1000,
        handle_max: 1000,
        pending_attach_max: 1000,
        partial_bytes_max: 1 << 20,
        ..(*config()).clone()
    });
    let end = |connection| End {
        connection,
        arriving: BytesMut::new(),
        sessions: Vec::new(),
        links: Vec::new(),
        names: BTreeMap::new(),
        received: Vec::new(),
    };
    let client = Connection::client(Arc::clone(&config), now, open);
    let server = Connection::server(config, now);
    let mut world = World {
        choices,
        ends: [end(client), end(server)],
        now,
        expected: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        next_name: 0,
        next_tag: 0,
        seen: Seen::default(),
    };
    while !world.choices.is_used_up() {
        world.step();
    }
    world.settle_down();
    world.seen
}

impl World<'_> {
    fn step(&mut self) -> Option<()> {
        let what = self.choices.octet()?;
        let side = usize::from(self.choices.flag()?);
        match what {
            0..90 => {
                let len = usize::from(self.choices.octet()?) * 4;
                self.carry(side, len);
            }
            90..100 => {
                let end = self.ends.get_mut(side)?;
                if end.sessions.len() < 3
                    && let Ok(session) = end.connection.begin()
                {
                    end.sessions.push(session);
                }
            }
            100..115 => self.attach(side)?,
            115..150 => {
                let credit = self.choices.below(20)?;
                let end = self.ends.get_mut(side)?;
                let link = self.choices.pick(&end.links)?;
                if credit == 0 {
                    end.connection.set_credit_drain(link, 5).ok();
                } else {
                    end.connection.set_credit(link, credit).ok();
                }
            }
            150..200 => self.send(side)?,
            200..245 => self.settle(side)?,
            245..250 => {
                let end = self.ends.get_mut(side)?;
                let link = self.choices.pick(&end.links)?;
                end.connection.detach(link, true, None).ok();
            }
            250..253 => {
                let end = self.ends.get_mut(side)?;
                let session = self.choices.pick(&end.sessions)?;
                end.connection.end(session, None).ok();
            }
            253.. => self.settle_down(),
        }
        for end in &self.ends {
            end.connection.check();
        }
        Some(())
    }

    fn attach(&mut self, side: usize) -> Option<()> {
        let role = if self.choices.flag()? { Role::Sender } else { Role::Receiver };
        let end = self.ends.get_mut(side)?;
        let session = self.choices.pick(&end.sessions)?;
        let name = format!("{side}/{}", self.next_name);
        let attach = Attach {
            source: Some(Source::new("s").into()),
            target: Some(TargetNode::new("t").into()),
            ..Attach::new(name.as_str(), 0, role)
        };
        if let Ok(link) = end.connection.attach(session, attach) {
            self.next_name += 1;
            end.links.push(link);
            end.names.insert(link, name);
        }
        Some(())
    }

    fn send(&mut self, side: usize) -> Option<()> {
        let len = usize::from(self.choices.octet()?) * 12;
        let settled = self.choices.flag()?;
        let end = self.ends.get_mut(side)?;
        let link = self.choices.pick(&end.links)?;
        let tag = self.next_tag;
        let octet = tag.to_be_bytes()[3];
        let parts = [Bytes::from(vec![octet; len / 3]), Bytes::from(vec![octet; len - len / 3])];
        let delivery = OutgoingDelivery {
            tag: &tag.to_be_bytes(),
            message_format: 0,
            settled,
            state: None,
            parts: &parts,
        };
        match end.connection.send(link, delivery) {
            Ok(_) => {
                self.next_tag += 1;
                let name = end.names.get(&link)?.clone();
                self.expected.entry((side, name)).or_default().push_back((tag, len));
            }
            Err(SendError::NoCredit | SendError::Stale) => {}
            Err(SendError::TagTooLong) => unreachable!("four octets"),
        }
        Some(())
    }

    fn settle(&mut self, side: usize) -> Option<()> {
        let accepted = self.choices.flag()?;
        let settled = self.choices.below(4)? != 0;
        let end = self.ends.get_mut(side)?;
        let index = usize::from(self.choices.octet()?).checked_rem(end.received.len())?;
        let (link, id, tag) = *end.received.get(index)?;
        let state = if accepted { DeliveryState::Accepted } else { DeliveryState::Released };
        if end.connection.settle_incoming(link, id, state.clone(), settled).is_ok() {
            self.outcomes.entry(tag).or_default().push(state);
            if settled {
                end.received.swap_remove(index);
            }
        }
        Some(())
    }

    /// Moves up to `len` octets to one end.
    fn carry(&mut self, to: usize, len: usize) {
        let [client, server] = &mut self.ends;
        let (from, end) = if to == 0 { (server, client) } else { (client, server) };
        from.connection.prepare_output(self.now);
        let mut len = len;
        while 0 < len && !from.connection.output().is_empty() {
            let chunk = from.connection.output().chunk();
            let taken = chunk.len().min(len);
            end.arriving.extend_from_slice(chunk.get(..taken).unwrap_or_default());
            from.connection.output().advance(taken);
            len -= taken;
        }
        let result = end.connection.handle_input(&mut end.arriving, self.now);
        assert_eq!(result, Ok(()), "an end was accused of breaking a rule");
        while let Some(event) = self.ends.get_mut(to).and_then(|end| end.connection.poll_event()) {
            self.handle(to, event);
        }
    }

    fn handle(&mut self, side: usize, event: Event) {
        let Some(end) = self.ends.get_mut(side) else { return };
        match event {
            Event::SaslInit { .. } => end.connection.sasl_outcome(SaslCode::Ok),
            Event::Open(_) => self.seen.opened += 1,
            Event::Begin(session) => {
                if !end.sessions.contains(&session) {
                    end.sessions.push(session);
                }
            }
            Event::End { session, error, links } => {
                assert_eq!(error, None, "an end was accused of breaking a rule");
                end.sessions.retain(|kept| *kept != session);
                end.links.retain(|kept| !links.contains(kept));
                self.seen.ended += 1;
            }
            Event::Attach { link, attach } => {
                end.names.insert(link, attach.name.to_string());
                end.links.push(link);
                // Its detach may have come right behind it.
                end.connection.accept_attach(link, AttachReply::default()).ok();
            }
            Event::Detach { link, error, .. } => {
                assert_eq!(error, None, "an end was accused of breaking a rule");
                end.links.retain(|kept| *kept != link);
                self.seen.detached += 1;
            }
            Event::Credit { link, drain: true, .. } => {
                end.connection.drained(link).ok();
            }
            Event::Delivery(delivery) => {
                let name = end.names.get(&delivery.link).expect("a known link").clone();
                let expected = self.expected.get_mut(&(1 - side, name));
                let (tag, len) = expected.and_then(VecDeque::pop_front).expect("it was sent");
                assert_eq!(
                    (&delivery.tag[..], delivery.payload.len()),
                    (&tag.to_be_bytes()[..], len)
                );
                assert!(delivery.payload.iter().all(|octet| *octet == tag.to_be_bytes()[3]));
                if !delivery.settled {
                    end.received.push((delivery.link, delivery.id, tag));
                }
                self.seen.deliveries += 1;
                self.seen.long += u32::from(1024 < len);
            }
            Event::Settled { tag, state, .. } => {
                let tag = u32::from_be_bytes(tag.as_ref().try_into().expect("four octets"));
                let given = self.outcomes.get(&tag).expect("an outcome was given");
                assert!(given.contains(&state.expect("an outcome was given")));
                self.seen.settled += 1;
            }
            Event::Drained { .. } => self.seen.drained += 1,
            Event::Closed { .. } => panic!("nobody closed"),
            Event::SaslOutcome(_)
            | Event::SaslResponse(_)
            | Event::AttachReply { .. }
            | Event::Credit { .. }
            | Event::SessionWindow(_)
            | Event::Oversize { .. }
            | Event::Dropped { .. }
            | Event::Aborted { .. }
            | Event::SettledBySender { .. } => {}
        }
    }

    /// Carries everything to and fro until both are silent: then nothing is on its way any more on
    /// a link that still stands.
    fn settle_down(&mut self) {
        loop {
            self.carry(0, usize::MAX);
            self.carry(1, usize::MAX);
            for end in &mut self.ends {
                end.connection.prepare_output(self.now);
            }
            if self.ends.iter_mut().all(|end| end.connection.output().is_empty()) {
                break;
            }
        }
        for (side, end) in self.ends.iter().enumerate() {
            end.connection.check();
            for link in &end.links {
                let name = end.names.get(link).expect("a known link").clone();
                let waiting = self.expected.get(&(1 - side, name)).map_or(0, VecDeque::len);
                assert_eq!(waiting, 0, "a message was lost");
            }
        }
    }
}
