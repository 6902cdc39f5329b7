//! A client that says legal things in an order of its own.

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{
    Attach, Begin, Detach, Disposition, End, Flow, Open, Performative, Role, Transfer,
};
use peeklock_protocol::serial::SerialNumber;
use peeklock_tests::link::{deleting_receiver, plain_receiver, receiver, sender};
use peeklock_tests::message::{ENVELOPE_FORMAT, Message, envelope};
use peeklock_tests::peer::wide_begin;
use peeklock_tests::raw;

const CHANNELS: usize = 3;
const HANDLES: usize = 4;

/// A generator that needs no crate: xorshift.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.below(8)).unwrap_or_default()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn place(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or_default()
    }
}

/// What it believes of one session.
#[derive(Clone, Default)]
struct Session {
    begun: bool,
    links: [Option<Role>; HANDLES],
    /// Handles with a delivery that is not finished.
    partial: [bool; HANDLES],
    next_delivery: u32,
}

/// Mostly keeps to the rules, so that it gets somewhere, and breaks one now and then.
pub(crate) struct Confused {
    random: Random,
    sessions: [Session; CHANNELS],
}

impl Confused {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds start alike.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.below(1);
        Self { random, sessions: Default::default() }
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Bytes {
        let channel = self.random.place(CHANNELS);
        let (performative, payload) = self.say(channel);
        raw::amqp_frame(u16::try_from(channel).unwrap_or_default(), &performative, &payload)
    }

    fn say(&mut self, channel: usize) -> (Performative, Bytes) {
        let random = &mut self.random;
        let session = &mut self.sessions[channel];
        if random.one_in(5000) {
            return (Open { container_id: "again".into(), ..Open::default() }.into(), Bytes::new());
        }
        if !session.begun && !random.one_in(2000) {
            *session = Session { begun: true, ..Session::default() };
            let window = if random.one_in(3) { random.small() } else { 1000 };
            return (Begin { incoming_window: window, ..wide_begin() }.into(), Bytes::new());
        }
        let place = random.place(HANDLES);
        let handle = u32::try_from(place).unwrap_or_default();
        let silent = |performative: Performative| (performative, Bytes::new());
        match (random.below(16), session.links[place]) {
            (0, _) if random.one_in(6) => {
                session.begun = false;
                silent(End::default().into())
            }
            (1, Some(_)) => {
                session.links[place] = None;
                session.partial[place] = false;
                silent(Detach { handle, closed: !random.one_in(4), error: None }.into())
            }
            (2, Some(_)) if random.one_in(40) => silent(attach(random, handle).into()),
            (_, None) if !random.one_in(200) => {
                let attach = attach(random, handle);
                session.links[place] = Some(attach.role);
                session.partial[place] = false;
                silent(attach.into())
            }
            (3..=6, Some(Role::Sender)) => {
                let partial = &mut session.partial[place];
                let first = !*partial;
                let more = random.one_in(3);
                let aborted = !first && random.one_in(4);
                *partial = more && !aborted;
                let id = SerialNumber(session.next_delivery);
                session.next_delivery += u32::from(first);
                let message = Message::data(vec![7; random.place(2000)]).encode();
                let (message_format, payload) = if random.one_in(5) {
                    (ENVELOPE_FORMAT, envelope(&[message.clone(), message]))
                } else {
                    (0, message)
                };
                let transfer = Transfer {
                    handle,
                    delivery_id: first.then_some(id),
                    delivery_tag: first.then(|| "tag".into()),
                    message_format: first.then_some(message_format),
                    settled: random.one_in(2).then(|| random.one_in(3)),
                    more,
                    aborted,
                    ..Transfer::default()
                };
                (transfer.into(), payload)
            }
            (7 | 8, _) => silent(settlement(random).into()),
            _ => silent(flow(random, handle).into()),
        }
    }
}

fn attach(random: &mut Random, handle: u32) -> Attach {
    let address = match random.below(12) {
        0 => "missing",
        1 => "random/$DeadLetterQueue",
        2 => "random/$management",
        3 => "$cbs",
        _ => "random",
    };
    let base = match random.below(5) {
        0 | 1 => sender(address),
        2 => deleting_receiver(address),
        3 => plain_receiver(address),
        _ => receiver(address),
    };
    // Few names, so that links are stolen.
    Attach { name: random.small().to_string().into(), handle, ..base }
}

fn flow(random: &mut Random, handle: u32) -> Flow {
    Flow {
        next_incoming_id: (!random.one_in(10)).then(|| SerialNumber(random.small() * 10)),
        incoming_window: random.small() * 100,
        outgoing_window: 100,
        handle: (!random.one_in(5)).then_some(handle),
        delivery_count: random.one_in(2).then(|| SerialNumber(random.small())),
        link_credit: Some(random.small() * 5),
        drain: random.one_in(3),
        echo: random.one_in(3),
        ..Flow::default()
    }
}

fn settlement(random: &mut Random) -> Disposition {
    let state = match random.below(6) {
        0 => None,
        1 => Some(DeliveryState::Accepted),
        2 => Some(DeliveryState::Rejected(None)),
        3 => Some(DeliveryState::Released),
        4 => Some(DeliveryState::Received { section_number: 0, section_offset: 0 }),
        _ => Some(peeklock_tests::link::abandoned()),
    };
    let first = SerialNumber(random.small() * 3);
    Disposition {
        role: if random.one_in(8) { Role::Sender } else { Role::Receiver },
        first,
        last: random.one_in(2).then(|| first.advanced_by(random.small() * 10)),
        settled: random.one_in(2),
        state,
        batchable: random.one_in(2),
    }
}
