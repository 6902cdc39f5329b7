//! A client that speaks frame by frame and says only what a test makes it say.
//!
//! Every frame it reads is held against the rules that no broker may break towards any client: no
//! frame above the announced size, descriptors as `smallulong`, errors with three elements. What
//! does not come within [`PATIENCE`] fails the test.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use peeklock_protocol::codec;
use peeklock_protocol::condition::ErrorInfo;
use peeklock_protocol::performative::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Transfer,
};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::value::Value;

use crate::raw;

/// How long an answer may take on a machine that is busy with the other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a peer announces unless a test says otherwise; Python announces the same.
pub(crate) const MAX_FRAME_SIZE: u32 = 1024 * 1024;

/// What a session announces unless a test says otherwise.
const WINDOW: u32 = 65_536;

/// One frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Octet 5 of the header.
    pub kind: u8,
    /// The channel.
    pub channel: u16,
    /// What follows the header and its extension.
    pub body: Bytes,
    /// How long the whole frame was.
    pub size: usize,
}

/// The counters of one AMQP session, §2.5.6.
#[derive(Clone, Debug, Default)]
struct Session {
    remote_channel: Option<u16>,
    next_outgoing_id: SerialNumber,
    next_incoming_id: SerialNumber,
    next_delivery_id: SerialNumber,
    next_handle: u32,
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    input: BytesMut,
    pub(crate) max_frame_size: u32,
    pub(crate) remote_open: Option<Open>,
    channel: u16,
    sessions: BTreeMap<u16, Session>,
    tags: u32,
    put_back: Option<Performative>,
    may_be_cut: bool,
    last_payload: Bytes,
}

/// One of the nine performatives, taken from the general one.
pub trait Expected: Sized {
    /// The performative, if it is this one.
    fn take(performative: &Performative) -> Option<Self>;
    /// Whether a flow may come first. Flows may come at any time (§2.5.6), so a test that waits for
    /// something else passes over them.
    const PASSES_FLOWS: bool = true;
}

macro_rules! expected {
    ($($name:ident $pattern:pat => $value:expr, $passes:literal;)*) => {$(
        impl Expected for $name {
            fn take(performative: &Performative) -> Option<Self> {
                if let $pattern = performative { Some($value) } else { None }
            }
            const PASSES_FLOWS: bool = $passes;
        }
    )*};
}
expected! {
    Open Performative::Open(open) => (**open).clone(), true;
    Begin Performative::Begin(begin) => (**begin).clone(), true;
    Attach Performative::Attach(attach) => (**attach).clone(), true;
    Flow Performative::Flow(flow) => flow.clone(), false;
    Transfer Performative::Transfer(transfer) => transfer.clone(), true;
    Disposition Performative::Disposition(disposition) => disposition.clone(), true;
    Detach Performative::Detach(detach) => detach.clone(), true;
    End Performative::End(end) => end.clone(), true;
    Close Performative::Close(close) => close.clone(), true;
}

impl Peer {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        Self {
            stream,
            input: BytesMut::new(),
            max_frame_size: MAX_FRAME_SIZE,
            remote_open: None,
            channel: 0,
            sessions: BTreeMap::new(),
            tags: 0,
            put_back: None,
            may_be_cut: false,
            last_payload: Bytes::new(),
        }
    }

    // Sessions

    /// Begins a session on channel 0, with wide windows.
    #[track_caller]
    #[must_use]
    pub fn begin(mut self) -> Self {
        self.begin_on(0);
        self
    }

    /// Begins a session and makes it the one that is spoken on.
    #[track_caller]
    pub fn begin_on(&mut self, channel: u16) {
        self.begin_with(channel, wide_begin());
    }

    /// Begins a session with this begin and makes it the one that is spoken on.
    #[track_caller]
    pub fn begin_with(&mut self, channel: u16, begin: Begin) -> Begin {
        self.began(channel, &begin);
        self.send(begin);
        self.expect_begin()
    }

    /// Takes note of a begin that a test sends by itself.
    pub fn began(&mut self, channel: u16, begin: &Begin) {
        let next = begin.next_outgoing_id;
        let session =
            Session { next_outgoing_id: next, next_delivery_id: next, ..Session::default() };
        self.sessions.insert(channel, session);
        self.channel = channel;
    }

    /// Reads the broker's begin.
    #[track_caller]
    pub fn expect_begin(&mut self) -> Begin {
        let (from, performative) = self.next_on();
        let begin = Begin::take(&performative)
            .unwrap_or_else(|| panic!("expected begin, found {performative:?}"));
        let ours = begin.remote_channel.expect("an answer to a begin names its channel");
        let session = self.sessions.get_mut(&ours).expect("a session of ours");
        session.remote_channel = Some(from);
        session.next_incoming_id = begin.next_outgoing_id;
        begin
    }

    /// Speaks on another session from here on.
    pub fn speak_on(&mut self, channel: u16) {
        self.channel = channel;
    }

    /// The channel that is spoken on.
    pub fn channel(&self) -> u16 {
        self.channel
    }

    fn session(&mut self) -> &mut Session {
        self.sessions.get_mut(&self.channel).expect("a session was begun")
    }

    /// The next handle of the session.
    pub(crate) fn take_handle(&mut self) -> u32 {
        let session = self.session();
        session.next_handle += 1;
        session.next_handle
    }

    /// The next delivery-id of the session.
    pub(crate) fn take_delivery_id(&mut self) -> SerialNumber {
        let session = self.session();
        let id = session.next_delivery_id;
        session.next_delivery_id = id.advanced_by(1);
        id
    }

    /// A delivery-tag that was not used before.
    pub(crate) fn take_tag(&mut self) -> Bytes {
        self.tags += 1;
        Bytes::copy_from_slice(&self.tags.to_be_bytes())
    }

    // Writing

    /// Writes bytes as they are.
    #[track_caller]
    pub fn write(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the broker reads");
    }

    /// Takes an end of the socket inside a frame for an end like any other: the broker is going to
    /// be killed.
    pub fn expect_to_be_cut(&mut self) {
        self.may_be_cut = true;
    }

    /// Writes bytes to a broker that may have closed the socket by now.
    pub fn write_anyway(&mut self, octets: &[u8]) {
        // It is the closing that is wanted.
        let _ = self.stream.write_all(octets);
    }

    /// Sends a performative on the session.
    #[track_caller]
    pub fn send(&mut self, performative: impl Into<Performative>) {
        self.send_with(performative, &[]);
    }

    /// Sends a performative with a payload in one frame.
    #[track_caller]
    pub fn send_with(&mut self, performative: impl Into<Performative>, payload: &[u8]) {
        let performative = performative.into();
        let channel = match performative {
            Performative::Open(_) | Performative::Close(_) => 0,
            _ => self.channel,
        };
        if let Performative::Transfer(_) = performative {
            let session = self.session();
            session.next_outgoing_id = session.next_outgoing_id.advanced_by(1);
        }
        self.write(&raw::amqp_frame(channel, &performative, payload));
    }

    /// The state of the session, to be completed by the state of a link.
    pub fn session_flow(&mut self) -> Flow {
        let session = self.session();
        Flow {
            next_incoming_id: Some(session.next_incoming_id),
            incoming_window: WINDOW,
            next_outgoing_id: session.next_outgoing_id,
            outgoing_window: WINDOW,
            ..Flow::default()
        }
    }

    // Reading

    /// Reads a protocol header.
    #[track_caller]
    pub fn read_header(&mut self) -> [u8; 8] {
        assert!(self.fill(8), "the broker closed the socket in place of a protocol header");
        let mut header = [0; 8];
        self.input.copy_to_slice(&mut header);
        header
    }

    /// Reads a frame; `None` when the broker closed the socket.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        if !self.fill(8) {
            return None;
        }
        let mut header = &self.input[..8];
        let size = header.get_u32();
        let offset = usize::from(header.get_u8()) * 4;
        let (kind, channel) = (header.get_u8(), header.get_u16());
        assert!(size <= self.max_frame_size, "a frame of {size} is above the announced size");
        let size = usize::try_from(size).expect("a 64 bit machine");
        assert!(8 <= offset && offset <= size, "data offset {offset} in a frame of {size}");
        if !self.fill(size) {
            assert!(self.may_be_cut, "the broker closed the socket inside a frame");
            return None;
        }
        let body = self.input.split_to(size).freeze().slice(offset..);
        Some(Frame { kind, channel, body, size })
    }

    /// Makes sure that `octets` are there; false when the broker closed the socket before.
    #[track_caller]
    fn fill(&mut self, octets: usize) -> bool {
        let mut buffer = [0; 16_384];
        let deadline = Instant::now() + PATIENCE;
        while self.input.len() < octets {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return false,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the broker was silent for {PATIENCE:?}")
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("reading failed: {e}"),
            }
            assert!(Instant::now() < deadline, "the broker took too long over a frame");
        }
        true
    }

    /// Reads the next performative, passing over empty frames.
    #[track_caller]
    pub fn performative(&mut self) -> Performative {
        self.next_on().1
    }

    /// Reads the next performative; `None` when the broker closed the socket.
    #[track_caller]
    pub fn performative_or_end(&mut self) -> Option<Performative> {
        self.read_performative().map(|(_, performative)| performative)
    }

    #[track_caller]
    fn next_on(&mut self) -> (u16, Performative) {
        self.read_performative().expect("the broker closed the socket")
    }

    #[track_caller]
    fn read_performative(&mut self) -> Option<(u16, Performative)> {
        if let Some(performative) = self.put_back.take() {
            return Some((self.channel, performative));
        }
        loop {
            let frame = self.frame()?;
            assert_eq!(frame.kind, raw::TYPE_AMQP, "{frame:?}");
            if frame.body.is_empty() {
                continue;
            }
            check_shape(&frame.body);
            let (performative, payload) = Performative::decode(&frame.body)
                .unwrap_or_else(|error| panic!("{error} in {:02x?}", &frame.body[..]));
            self.last_payload = payload;
            if let Performative::Transfer(_) = performative {
                let session =
                    self.sessions.values_mut().find(|s| s.remote_channel == Some(frame.channel));
                let session = session.expect("a transfer on a session of ours");
                session.next_incoming_id = session.next_incoming_id.advanced_by(1);
            }
            return Some((frame.channel, performative));
        }
    }

    /// What came with the last performative.
    pub fn payload(&self) -> &Bytes {
        &self.last_payload
    }

    /// Gives a performative back, to be read again.
    pub(crate) fn put_back(&mut self, performative: Performative) {
        assert!(self.put_back.is_none(), "one performative at a time");
        self.put_back = Some(performative);
    }

    /// Reads the next performative, which has to be a `T`; flows in between are passed over unless
    /// a flow is wanted.
    #[track_caller]
    pub fn expect<T: Expected>(&mut self) -> T {
        loop {
            let performative = self.performative();
            match (T::take(&performative), &performative) {
                (Some(wanted), _) => return wanted,
                (None, Performative::Flow(_)) if T::PASSES_FLOWS => {}
                (None, other) => {
                    panic!("expected {}, found {other:?}", std::any::type_name::<T>())
                }
            }
        }
    }

    /// Reads on until a `T` comes, passing over everything else.
    #[track_caller]
    pub fn find<T: Expected>(&mut self) -> T {
        loop {
            if let Some(wanted) = T::take(&self.performative()) {
                return wanted;
            }
        }
    }

    /// Sends `flow` as a question and makes sure that nothing but flows comes before its answer.
    ///
    /// The engine answers by itself. Where a delivery could still be on its way from the queue, ask
    /// the queue's management node something instead: its answer comes behind the delivery.
    #[track_caller]
    pub fn assert_silent(&mut self, flow: &Flow) {
        self.send(Flow { echo: true, ..flow.clone() });
        loop {
            match self.performative() {
                Performative::Flow(answer) if answer.handle.is_some() == flow.handle.is_some() => {
                    return;
                }
                Performative::Flow(_) => {}
                other => panic!("expected silence, found {other:?}"),
            }
        }
    }

    /// Lets the broker send no more than this many transfers on the session from now on.
    pub fn window_flow(&mut self, frames: u32) -> Flow {
        Flow { incoming_window: frames, ..self.session_flow() }
    }

    /// Reads up to the close, which has to carry `condition`, and to the end of the socket.
    #[track_caller]
    pub fn expect_close(&mut self, condition: &str) -> ErrorInfo {
        let close: Close = self.find();
        let error = close.error.unwrap_or_else(|| panic!("a close without error"));
        assert_eq!(error.condition, *condition, "{error:?}");
        let answer = raw::amqp_frame(0, &Close::default().into(), &[]);
        self.write_anyway(&answer);
        self.expect_socket_closed();
        error
    }

    /// Reads up to a close with an error, or to the end of the socket where `open` was not yet
    /// answered and so no close can be said.
    #[track_caller]
    pub fn expect_closed_for_cause(&mut self) {
        while let Some(performative) = self.performative_or_end() {
            if let Performative::Close(close) = performative {
                assert!(close.error.is_some(), "a close without error");
                let answer = raw::amqp_frame(0, &Close::default().into(), &[]);
                self.write_anyway(&answer);
                self.expect_socket_closed();
                return;
            }
        }
    }

    /// Reads up to the end, which has to carry `condition`, and answers it.
    #[track_caller]
    pub fn expect_end(&mut self, condition: &str) -> ErrorInfo {
        let end: End = self.find();
        let error = end.error.unwrap_or_else(|| panic!("an end without error"));
        assert_eq!(error.condition, *condition, "{error:?}");
        self.send(End::default());
        error
    }

    /// Reads up to the detach of this handle, which has to be closed with `condition`.
    #[track_caller]
    pub fn expect_detach(&mut self, condition: &str) -> ErrorInfo {
        let detach: Detach = self.find();
        assert!(detach.closed, "a broker closes, it does not suspend: {detach:?}");
        let error = detach.error.unwrap_or_else(|| panic!("a detach without error"));
        assert_eq!(error.condition, *condition, "{error:?}");
        error
    }

    /// Reads to the end of the socket.
    #[track_caller]
    pub fn expect_socket_closed(&mut self) {
        let mut buffer = [0; 16_384];
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => assert!(Instant::now() < deadline, "the broker goes on talking"),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return,
                Err(e) => panic!("the broker did not close the socket: {e}"),
            }
        }
    }

    /// Closes in good order.
    #[track_caller]
    pub fn close(mut self) {
        self.send(Close::default());
        let answer: Close = self.find();
        assert_eq!(answer.error, None);
        self.expect_socket_closed();
    }

    /// Drops the socket in the middle of whatever it is.
    pub fn cut(self) {
        // A socket that is closed already is cut too.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// A second hand on the socket, to throw away what comes while this one writes.
    #[track_caller]
    pub fn reader(&self) -> Reader {
        Reader(self.stream.try_clone().expect("a second handle of the socket"))
    }

    /// Lets reading fail after another time than [`PATIENCE`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a socket option");
    }
}

/// See [`Peer::reader`].
#[derive(Debug)]
pub struct Reader(TcpStream);

impl Reader {
    /// Reads to the end of the socket and keeps nothing.
    pub fn discard(mut self) {
        let mut buffer = [0; 16_384];
        while self.0.read(&mut buffer).is_ok_and(|octets| 0 < octets) {}
    }
}

/// A begin with windows that no test fills by accident.
pub fn wide_begin() -> Begin {
    Begin { incoming_window: WINDOW, outgoing_window: WINDOW, ..Begin::default() }
}

/// pyamqp skips a fixed number of octets in place of a descriptor, and reads errors by position.
#[track_caller]
fn check_shape(body: &Bytes) {
    assert_eq!(body.get(..2), Some(&[0x00, 0x53][..]), "a performative starts with 00 53");
    let mut reader = codec::Reader::new(body);
    let value = Value::decode(&mut reader).expect("a performative is one value");
    check_errors(&value);
}

#[track_caller]
fn check_errors(value: &Value) {
    if let Some((descriptor, described)) = value.as_described() {
        if *descriptor == Value::Ulong(0x1d) {
            assert_eq!(described.as_list().map(<[Value]>::len), Some(3), "{value:?}");
        }
        check_errors(described);
    }
    for item in value.as_list().unwrap_or_default() {
        check_errors(item);
    }
}
