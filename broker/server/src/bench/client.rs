//! One connection to the broker: the protocol engine's client role over a TCP socket.
//!
//! Nothing is written frame by frame: what a turn of the caller's loop produced goes out in one
//! vectored write, and whatever the socket holds is read before the caller looks at events.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use peeklock_protocol::connection::{
    ClientOpen, ClientSasl, Config, Connection, Event, LinkId, SessionId,
};
use peeklock_protocol::performative::{Attach, Role};
use peeklock_protocol::sasl::SaslCode;
use peeklock_protocol::value::Str;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use super::arguments::{Login, Plan};
use super::failure::{Failure, describe};

/// Room offered to each read.
const READ_LEN: usize = 64 << 10;

/// Bytes read before the caller gets to see events.
const TURN_BYTES_MAX: usize = 256 << 10;

/// Slices handed to one vectored write: few enough for the stack, enough for a full output budget.
const SLICES_MAX: usize = 64;

/// How long a broker may take to answer an open, a begin, an attach or a close. A broker that is
/// just recovering a large store takes seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How often a connection is tried again while the broker starts. Timing a start to the millisecond
/// needs this to be short.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// A connection, its socket, and the bytes in between.
pub(super) struct Client {
    stream: TcpStream,
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

impl Client {
    /// Connects, logs in, opens, and begins the one AMQP session that the load generator uses.
    pub(super) async fn open(plan: &Plan) -> Result<(Self, SessionId), Failure> {
        let stream = dial(plan).await?;
        stream.set_nodelay(true)?;
        let sasl = match &plan.login {
            Login::Anonymous => ClientSasl::Anonymous,
            Login::Plain { user, password } => {
                ClientSasl::Plain { user: user.clone(), password: password.clone() }
            }
        };
        let open = ClientOpen {
            hostname: Some(Str::from(plan.host())),
            container_id: Some(Str::from(format!("peeklock-bench-{}", std::process::id()))),
            sasl,
            ..ClientOpen::default()
        };
        let now = Instant::now();
        let alarm_at = now + ANSWER_WITHIN;
        let mut client = Self {
            stream,
            connection: Connection::client(Arc::new(Config::default()), now, open),
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
    pub(super) async fn attach(
        &mut self,
        session: SessionId,
        attach: Attach,
    ) -> Result<(LinkId, Box<Attach>), Failure> {
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
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The next event, with the end of anything turned into the failure it is.
    pub(super) fn event(&mut self) -> Result<Option<Event>, Failure> {
        let Some(event) = self.connection.poll_event() else { return Ok(None) };
        match event {
            Event::SaslOutcome(code) if code != SaslCode::Ok => {
                Err(Failure::Login(format!("{code:?}")))
            }
            Event::Closed { error: None } if self.closing => Ok(Some(event)),
            Event::Closed { error: None } if self.ended => Err(Failure::EndOfStream),
            Event::Closed { error } => Err(Failure::Closed(describe(error.as_ref()))),
            Event::End { error, .. } if !self.closing => {
                Err(Failure::SessionEnded(describe(error.as_ref())))
            }
            Event::Detach { error, .. } if !self.closing => {
                Err(Failure::Detached(describe(error.as_ref())))
            }
            event => Ok(Some(event)),
        }
    }

    /// Writes what there is to write, then waits until the broker has said something, the socket
    /// takes more, or `other` is done.
    pub(super) async fn exchange(
        &mut self,
        other: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let all_written = self.write()?;
        let interest =
            if all_written { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let deadline = self.connection.poll_timeout();
        if let Some(deadline) = deadline.filter(|deadline| *deadline < self.alarm_at) {
            self.set_alarm(deadline);
        }
        tokio::select! {
            biased;
            ready = self.stream.ready(interest) => {
                if ready?.is_readable() {
                    self.read()?;
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

    /// Writes until the socket takes no more; says whether everything is gone.
    pub(super) fn write(&mut self) -> Result<bool, Failure> {
        self.connection.prepare_output(Instant::now());
        let output = self.connection.output();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.slices(&mut slices);
            match self.stream.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Err(Failure::EndOfStream),
                Ok(written) => output.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut taken = 0;
        let mut ended = false;
        while taken < TURN_BYTES_MAX {
            self.input.reserve(READ_LEN.max(self.connection.read_hint().min(TURN_BYTES_MAX)));
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => {
                    ended = true;
                    break;
                }
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
    async fn wait_for<T>(
        &mut self,
        what: &'static str,
        mut wanted: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, Failure> {
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
        timed.map_err(|_elapsed| Failure::Silence(ANSWER_WITHIN, what))?
    }

    /// Closes the connection in order: the broker's close has to come.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
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

fn violation(error: impl std::fmt::Display) -> Failure {
    Failure::Violation(error.to_string())
}

async fn dial(plan: &Plan) -> Result<TcpStream, Failure> {
    let give_up_at = Instant::now() + plan.wait;
    loop {
        match TcpStream::connect(&plan.address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if passes(&error) && Instant::now() < give_up_at => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(source) => return Err(Failure::Connect { address: plan.address.clone(), source }),
        }
    }
}

/// Errors of a broker that does not listen yet.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}
