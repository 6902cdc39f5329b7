//! One AMQP connection as a value: bytes and commands in; bytes, events and a deadline out.
//!
//! No socket, no clock, no task. The caller feeds what it has read to [`Connection::handle_input`],
//! drains [`Connection::poll_event`], gives commands, and writes what [`Connection::output`] holds.
//! Commands take ids and never borrow, because the answer to an event may come minutes later; an id
//! whose session or link has gone meanwhile is `Err(Stale)`.
//!
//! Acknowledgements and credit are not written when the command is given but at the next
//! [`Connection::prepare_output`], merged into ranges: batching is what makes a broker fast.
//!
//! The parts: `header` and `sasl` (the layers below AMQP), `open` (open and close), `idle` (every
//! deadline), `dispatch` (frames to sessions), then one file per theme of the session: `begin`,
//! `attach`, `flow`, `receive`, `send`, `disposition`.

mod attach;
mod begin;
#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod config;
mod detach;
mod dispatch;
mod disposition;
mod event;
mod fault;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod header;
mod idle;
mod open;
mod receive;
mod sasl;
mod send;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

pub use self::attach::AttachReply;
pub use self::config::{ClientOpen, ClientSasl, Config, Reached, SaslPolicy};
pub use self::event::{
    AttachError, Event, Fatal, LimitReached, LinkId, SendError, SessionId, Stale,
};
use self::fault::{Fault, Scope};
use self::idle::Timers;
use crate::condition::ErrorInfo;
use crate::frame::{FrameKind, write_frame};
use crate::link::Link;
use crate::numbers::{NumberMap, NumberPool};
use crate::output::Output;
use crate::performative::{Close, Detach, End, Open, Performative, Role};
use crate::sasl_exchange::SaslStage;
use crate::session::Session;
use crate::slots::Slots;
use crate::value::Str;

/// ```text
///  Header ──SASL──▶ Sasl ──outcome ok──▶ AmqpHeader ──▶ Opening ──open──▶ Open
///     └──────AMQP──────────────────────────────────────────▲               │ our close
///                                                                          ▼
///  Closed ◀──── peer's close, a violation, a timeout, the end of input ── Closing
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The peer's first protocol header is awaited.
    Header,
    /// SASL frames only.
    Sasl(SaslStage),
    /// After SASL the AMQP header is awaited.
    AmqpHeader,
    /// The peer's open is awaited.
    Opening,
    /// Everything else.
    Open,
    /// Our close is out: whatever comes is dropped until the peer's (§2.4.6).
    Closing,
    /// Nothing is taken in any more. What is in the output is still to be written.
    Closed,
}

/// Which end we are. It matters only until the connection is open.
#[derive(Debug)]
enum Side {
    Server,
    Client(Box<ClientOpen>),
}

/// One end of an AMQP connection.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    side: Side,
    phase: Phase,
    timers: Timers,
    output: Output,
    /// AMQP frames of commands given before our open could be written.
    staged: Output,
    open_sent: bool,
    close_sent: bool,
    events: VecDeque<Event>,
    /// Input that came while the caller is thinking about SASL.
    held: BytesMut,
    read_hint: usize,
    remote_open: Option<Box<Open>>,
    /// The largest frame the peer takes.
    remote_max_frame_size: u32,
    remote_channel_max: u16,

    sessions: Slots<Session>,
    links: Slots<Link>,
    /// By the peer's channel.
    channels: NumberMap<SessionId>,
    /// The peer's channels whose sessions it has ended, the latest last.
    ended_channels: VecDeque<u16>,
    /// By our channel, for sessions whose begin the peer has not answered.
    beginning: NumberMap<SessionId>,
    channel_pool: NumberPool,
    /// Sessions with something to write at the next flush.
    flush_sessions: Vec<SessionId>,
    pending_attaches: usize,
    partial_bytes: usize,
    /// Bounds the peer came to, since they were asked for.
    reached: Reached,
    /// Where delivery-tags are copied to on their way out, so that none is allocated.
    tags: BytesMut,
}

impl Connection {
    /// The end that waits for the peer's header.
    pub fn server(config: Arc<Config>, now: Instant) -> Self {
        Self::new(config, Side::Server, now)
    }

    /// The end that speaks first. What may be said at once is in the output already.
    pub fn client(config: Arc<Config>, now: Instant, open: ClientOpen) -> Self {
        let mut connection = Self::new(config, Side::Client(Box::new(open)), now);
        connection.write_first_header();
        connection
    }

    fn new(config: Arc<Config>, side: Side, now: Instant) -> Self {
        let idle = match &side {
            Side::Client(open) => open.idle_time_out.or(config.idle_timeout),
            Side::Server => config.idle_timeout,
        };
        Self {
            timers: Timers::new(now, idle, config.handshake_timeout),
            config,
            side,
            phase: Phase::Header,
            output: Output::default(),
            staged: Output::default(),
            open_sent: false,
            close_sent: false,
            events: VecDeque::new(),
            held: BytesMut::new(),
            read_hint: 0,
            remote_open: None,
            remote_max_frame_size: crate::limits::MIN_MAX_FRAME_SIZE,
            remote_channel_max: u16::MAX,
            sessions: Slots::default(),
            links: Slots::default(),
            channels: NumberMap::default(),
            ended_channels: VecDeque::new(),
            beginning: NumberMap::default(),
            channel_pool: NumberPool::default(),
            flush_sessions: Vec::new(),
            pending_attaches: 0,
            partial_bytes: 0,
            reached: Reached::default(),
            tags: BytesMut::new(),
        }
    }

    // ---- inputs

    /// Takes every whole frame from `buffer` and leaves the rest of it there.
    ///
    /// Payloads of events are slices of the buffer's memory: copy what is to stay. An error means
    /// the connection is over, with what the peer is to be told already in the output; input is
    /// ignored from then on.
    pub fn handle_input(&mut self, buffer: &mut BytesMut, now: Instant) -> Result<(), Fatal> {
        if !buffer.is_empty() {
            self.timers.received(now);
        }
        let result = self.consume(buffer);
        self.conclude(result)
    }

    /// How often the peer came to which bound since this was asked last. What it is told of it, it has been
    /// told; this is for whoever counts.
    pub fn take_reached(&mut self) -> Reached {
        std::mem::take(&mut self.reached)
    }

    /// Lets time pass: call it when [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
    }

    /// The peer will send no more.
    pub fn handle_eof(&mut self) {
        self.finish(None);
    }

    /// How many bytes the frame at hand still wants; 0 when nothing is known.
    pub fn read_hint(&self) -> usize {
        self.read_hint
    }

    // ---- outputs

    /// The next event. Drain them all before the next input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, whatever else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline()
    }

    /// Writes what was put off to be merged: dispositions and flows. Call it before looking at
    /// [`output`](Self::output), once for all the work done since the last write.
    pub fn prepare_output(&mut self, now: Instant) {
        self.flush();
        if !self.output.is_empty() {
            self.timers.sent(now);
        }
        if self.phase == Phase::Closing {
            self.timers.wait_for_close(now);
        }
    }

    /// The bytes to write.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How many of them there are.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Everything has been said: close the socket once the output is empty.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Both opens are exchanged and neither end has closed.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    // ---- getters

    /// What the peer said when it opened.
    pub fn remote_open(&self) -> Option<&Open> {
        self.remote_open.as_deref()
    }

    /// The largest frame the peer takes.
    pub fn remote_max_frame_size(&self) -> u32 {
        self.remote_max_frame_size
    }

    /// Sessions that exist, those being ended included.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Links that exist, those being detached included.
    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    /// The session of a link.
    pub fn session_of(&self, link: LinkId) -> Option<SessionId> {
        self.links.get(link.0).map(|link| link.session)
    }

    /// The name of a link, as in its attach.
    pub fn link_name(&self, link: LinkId) -> Option<&Str> {
        self.links.get(link.0).map(|link| &link.name)
    }

    /// Our role on a link.
    pub fn link_role(&self, link: LinkId) -> Option<Role> {
        self.links.get(link.0).map(|link| link.role)
    }

    // ---- shared by the parts

    /// Where AMQP frames go: aside until our open has been written.
    fn amqp_output(&mut self) -> &mut Output {
        if self.open_sent { &mut self.output } else { &mut self.staged }
    }

    /// Writes a frame without payload. `false`: the peer takes no frame as long as that, and
    /// nothing was written. What says an error is shortened instead.
    fn write(&mut self, channel: u16, performative: &Performative) -> bool {
        let max = match &self.remote_open {
            Some(_) => self.remote_max_frame_size as usize,
            None => usize::MAX,
        };
        self.amqp_output().append(|out| {
            let start = out.len();
            write_frame(out, FrameKind::Amqp, channel, |out| performative.encode(out));
            if out.len() - start <= max {
                return true;
            }
            out.truncate(start);
            let Some(short) = shortened(performative) else { return false };
            write_frame(out, FrameKind::Amqp, channel, |out| short.encode(out));
            true
        })
    }

    fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id.0)
    }

    /// Puts a session on the list for the next flush.
    fn flush_later(flush_sessions: &mut Vec<SessionId>, id: SessionId, session: &mut Session) {
        if !session.flush_due {
            session.flush_due = true;
            flush_sessions.push(id);
        }
    }

    /// Makes a fault that is left over into the end of the connection.
    fn conclude(&mut self, result: Result<(), Fault>) -> Result<(), Fatal> {
        result.map_err(|fault| {
            self.fail((*fault.error).clone());
            Fatal { error: *fault.error }
        })
    }

    /// Limits the damage of a fault to where it belongs; only one of the connection comes back.
    fn contain(&mut self, result: Result<(), Fault>) -> Result<(), Fault> {
        let Err(fault) = result else { return Ok(()) };
        match fault.scope {
            Scope::Connection => return Err(fault),
            Scope::Session(session) => self.fail_session(session, *fault.error),
            Scope::Link(link) => self.fail_link(link, *fault.error),
        }
        Ok(())
    }

    /// The peer broke a rule of the connection: say so as far as the layer reached allows.
    fn fail(&mut self, error: ErrorInfo) {
        self.write_last_words(Some(error.clone()));
        self.finish(Some(error));
    }

    /// The end, once.
    fn finish(&mut self, error: Option<ErrorInfo>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.read_hint = 0;
        self.staged = Output::default();
        self.held = BytesMut::new();
        self.sessions.clear();
        self.links.clear();
        self.channels.clear();
        self.ended_channels.clear();
        self.beginning.clear();
        self.flush_sessions.clear();
        self.pending_attaches = 0;
        self.partial_bytes = 0;
        self.events.push_back(Event::Closed { error });
    }
}

/// The same with the bare condition: what is left fits the smallest frame there is.
fn shortened(performative: &Performative) -> Option<Performative> {
    let bare = |error: &Option<ErrorInfo>| {
        let condition = error.as_ref()?.condition.clone();
        Some(ErrorInfo { condition, description: None, info: None })
    };
    match performative {
        Performative::Detach(detach) => {
            let error = bare(&detach.error);
            Some(Performative::Detach(Detach { error, ..detach.clone() }))
        }
        Performative::End(end) => Some(Performative::End(End { error: bare(&end.error) })),
        Performative::Close(close) => {
            Some(Performative::Close(Close { error: bare(&close.error) }))
        }
        Performative::Open(_)
        | Performative::Begin(_)
        | Performative::Attach(_)
        | Performative::Flow(_)
        | Performative::Transfer(_)
        | Performative::Disposition(_) => None,
    }
}
