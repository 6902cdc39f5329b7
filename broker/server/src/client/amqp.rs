//! One connection to a broker: the protocol engine's client role over any transport. The load
//! generator and the commands for people drive it.
//!
//! Nothing is written frame by frame: what a turn of the caller's loop produced goes out in one
//! vectored write, and whatever the socket holds is read before the caller looks at events.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use peeklock_protocol::condition::ErrorInfo;
use peeklock_protocol::connection::{ClientOpen, Config, Connection, Event, LinkId, SessionId};
use peeklock_protocol::performative::{Attach, Role};
use peeklock_protocol::sasl::SaslCode;
use tokio::time::{Sleep, sleep_until};

use crate::net::transport::{Ready, Transport};

/// Room offered to each read.
const READ_LEN: usize = 64 << 10;

/// Bytes read before the caller gets to see events.
const TURN_BYTES_MAX: usize = 256 << 10;

/// Slices handed to one vectored write: few enough for the stack, enough for a full output budget.
const SLICES_MAX: usize = 64;

/// How long a broker may take to answer an open, a begin, an attach or a close. A broker that is
/// just recovering a large store takes seconds.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why a connection, or something on it, came to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AmqpError {
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
    #[error("the broker closed the connection without a word")]
    EndOfStream,
    #[error("the broker refused the login: SASL outcome {0}")]
    Login(String),
    #[error("the broker closed the connection: {}", describe(.0.as_ref()))]
    Closed(Option<ErrorInfo>),
    #[error("the broker ended the AMQP session: {}", describe(.0.as_ref()))]
    SessionEnded(Option<ErrorInfo>),
    #[error("the broker detached the link: {}", describe(.0.as_ref()))]
    Detached(Option<ErrorInfo>),
    #[error("the broker broke the protocol: {0}")]
    Violation(String),
    #[error("nothing was heard for {0:?} while {1}")]
    Silence(Duration, &'static str),
}

/// What an error on the wire says, in one line.
pub(crate) fn describe(error: Option<&ErrorInfo>) -> String {
    match error {
        None => "no reason given".to_owned(),
        Some(ErrorInfo { condition, description: None, .. }) => condition.as_str().to_owned(),
        Some(ErrorInfo { condition, description: Some(text), .. }) => {
            format!("{}: {}", condition.as_str(), &**text)
        }
    }
}

/// A connection, what carries it, and the bytes in between.
pub(crate) struct Client<T> {
    transport: T,
    connection: Connection,
    input: BytesMut,
    /// Wakes for the engine's own deadlines. It may fire early: moving it for every frame read would
    /// cost more than looking at the clock once in a while.
    alarm: Pin<Box<Sleep>>,
    alarm_at: Instant,
    closing: bool,
    /// The broker hung up.
    ended: bool,
}

impl<T: Transport> Client<T> {
    /// Logs in, opens, and begins the one AMQP session that clients use here.
    pub(crate) async fn open(
        transport: T,
        config: Config,
        open: ClientOpen,
    ) -> Result<(Self, SessionId), AmqpError> {
        let now = Instant::now();
        let alarm_at = now + ANSWER_WITHIN;
        let mut client = Self {
            transport,
            connection: Connection::client(Arc::new(config), now, open),
            input: BytesMut::new(),
            alarm: Box::pin(sleep_until(alarm_at.into())),
            alarm_at,
            closing: false,
            ended: false,
        };
        let wait_for_open = client.wait_for("waiting for the open", |event| {
            matches!(event, Event::Open(_)).then_some(())
        });
        wait_for_open.await?;
        let session = client.connection.begin().map_err(violation)?;
        let wait_for_begin = client.wait_for("waiting for the begin", |event| {
            matches!(event, Event::Begin(_)).then_some(())
        });
        wait_for_begin.await?;
        Ok((client, session))
    }

    /// Attaches a link and waits for the broker's answer.
    pub(crate) async fn attach(
        &mut self,
        session: SessionId,
        attach: Attach,
    ) -> Result<(LinkId, Box<Attach>), AmqpError> {
        let link = self.connection.attach(session, attach).map_err(violation)?;
        let reply = self
            .wait_for("waiting for the attach", |event| match event {
                Event::AttachReply { attach, .. } => Some(attach),
                _ => None,
            })
            .await?;
        // §2.6.3: a refused attach is answered without the terminus that the answering side would
        // make, and with a detach that says why. RabbitMQ leaves the other one out of every answer.
        let refused = match reply.role {
            Role::Sender => reply.source.is_none(),
            Role::Receiver => reply.target.is_none(),
        };
        if refused {
            let wait_for_detach =
                self.wait_for("waiting for the reason of a refused attach", |_| None::<()>);
            wait_for_detach.await?;
        }
        Ok((link, reply))
    }

    /// Commands and questions to the engine.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The next event, with the end of anything turned into the failure it is.
    pub(crate) fn event(&mut self) -> Result<Option<Event>, AmqpError> {
        let Some(event) = self.connection.poll_event() else { return Ok(None) };
        match event {
            Event::SaslOutcome(code) if code != SaslCode::Ok => {
                Err(AmqpError::Login(format!("{code:?}")))
            }
            Event::Closed { error: None } if self.closing => Ok(Some(event)),
            Event::Closed { error: None } if self.ended => Err(AmqpError::EndOfStream),
            Event::Closed { error } => Err(AmqpError::Closed(error)),
            Event::End { error, .. } if !self.closing => Err(AmqpError::SessionEnded(error)),
            Event::Detach { error, .. } if !self.closing => Err(AmqpError::Detached(error)),
            event => Ok(Some(event)),
        }
    }

    /// Writes what there is to write, then waits until the broker has said something, the socket
    /// takes more, or `other` is done.
    pub(crate) async fn exchange(
        &mut self,
        other: impl Future<Output = io::Result<()>>,
    ) -> Result<(), AmqpError> {
        let blocked = !self.write()?;
        let deadline = self.connection.poll_timeout();
        if let Some(deadline) = deadline.filter(|deadline| *deadline < self.alarm_at) {
            self.set_alarm(deadline);
        }
        self.make_room();
        tokio::select! {
            biased;
            ready = self.transport.ready(&mut self.input, true, blocked) => {
                if let Ready::Read(count) = ready? {
                    self.read(count)?;
                }
            }
            result = other => result?,
            () = self.alarm.as_mut() => {
                let now = Instant::now();
                self.connection.handle_timeout(now);
                self.set_alarm(self.connection.poll_timeout().unwrap_or(now + ANSWER_WITHIN));
            }
        }
        Ok(())
    }

    fn set_alarm(&mut self, at: Instant) {
        // Not sooner than in a millisecond: a deadline in the past must not become a busy loop.
        self.alarm_at = at.max(Instant::now() + Duration::from_millis(1));
        self.alarm.as_mut().reset(self.alarm_at.into());
    }

    /// Writes until the transport takes no more; says whether everything is gone.
    pub(crate) fn write(&mut self) -> Result<bool, AmqpError> {
        self.connection.prepare_output(Instant::now());
        let output = self.connection.output();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.slices(&mut slices);
            match self.transport.try_write(&slices[..filled]) {
                Ok(0) => return Err(AmqpError::EndOfStream),
                Ok(written) => output.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.transport.try_flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn make_room(&mut self) {
        self.input.reserve(READ_LEN.max(self.connection.read_hint().min(TURN_BYTES_MAX)));
    }

    /// Takes what was read, and what more there is.
    fn read(&mut self, first: usize) -> Result<(), AmqpError> {
        let mut taken = first;
        let mut ended = first == 0;
        while !ended && taken < TURN_BYTES_MAX {
            self.make_room();
            match self.transport.try_read(&mut self.input) {
                Ok(0) => ended = true,
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.connection.handle_input(&mut self.input, Instant::now()).map_err(violation)?;
        if ended {
            // What the broker said before it hung up still comes out as events.
            self.ended = true;
            self.connection.handle_eof();
        }
        Ok(())
    }

    /// Runs the connection until `wanted` picks something out of an event.
    async fn wait_for<U>(
        &mut self,
        what: &'static str,
        mut wanted: impl FnMut(Event) -> Option<U>,
    ) -> Result<U, AmqpError> {
        let waiting = async {
            loop {
                while let Some(event) = self.event()? {
                    if let Some(found) = wanted(event) {
                        return Ok(found);
                    }
                }
                self.exchange(std::future::pending()).await?;
            }
        };
        let timed = tokio::time::timeout(ANSWER_WITHIN, waiting).await;
        timed.map_err(|_elapsed| AmqpError::Silence(ANSWER_WITHIN, what))?
    }

    /// Closes the connection in order: the broker's close has to come.
    pub(crate) async fn close(mut self) -> Result<(), AmqpError> {
        self.closing = true;
        self.connection.close(None);
        let closed = self.wait_for("waiting for the close", |event| {
            matches!(event, Event::Closed { .. }).then_some(())
        });
        closed.await?;
        self.write()?;
        Ok(())
    }
}

fn violation(error: impl std::fmt::Display) -> AmqpError {
    AmqpError::Violation(error.to_string())
}
