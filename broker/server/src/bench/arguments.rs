//! What the load generator is asked to do. `Arguments` is what the command line says; `Plan` is
//! what is true: checked once, and the only thing that travels further.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ClientConfig;

use super::failure::Failure;
use super::stamp::Stamp;
use crate::client::server::trusting;

/// Measures a broker: any AMQP 1.0 broker, this one or another.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    /// Where the broker listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5672")]
    pub address: String,
    /// Connect with TLS
    #[arg(long)]
    pub tls: bool,
    /// Authority to trust, in PEM, in place of those of this machine
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca: Option<PathBuf>,
    /// Speak AMQP over WebSockets, with TLS or without
    #[arg(long)]
    pub websocket: bool,
    /// AMQP address to send to and to receive from
    #[arg(long, value_name = "NAME", default_value = "bench")]
    pub queue: String,
    /// AMQP address to send to, when it differs from the queue (`RabbitMQ` 4: /exchanges/NAME/KEY)
    #[arg(long, value_name = "ADDRESS")]
    pub target: Option<String>,
    /// AMQP address to receive from, when it differs from the queue (`RabbitMQ` 4: /queues/NAME)
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<String>,
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub senders: u32,
    /// Connections that receive
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub receivers: u32,
    /// Spread the messages over this many message sessions of Service Bus, each received by a
    /// connection of its own (instead of --receivers)
    #[arg(long, value_name = "N", conflicts_with = "receivers")]
    pub sessions: Option<NonZeroU32>,
    /// Bytes in the body of each message
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub size: usize,
    /// Give each message a body of its own, so that a store that compresses finds little to gain
    #[arg(long)]
    pub distinct_bodies: bool,
    /// Credit each receiver keeps granted (a sender obeys the broker's)
    #[arg(long, value_name = "N", default_value = "500")]
    pub credit: NonZeroU32,
    /// Sends without an outcome that each sender allows itself
    #[arg(long, value_name = "N", default_value = "500")]
    pub in_flight: NonZeroU32,
    /// Pace all senders together to this many messages per second; latency then counts from the
    /// moment a message was due. Without it each sender sends as fast as the broker accepts
    #[arg(long, value_name = "MSG/S")]
    pub rate: Option<NonZeroU32>,
    /// How long to measure [default: 10, when there is no --count]
    #[arg(long, value_name = "SECONDS", conflicts_with = "count")]
    pub seconds: Option<f64>,
    /// How many messages to measure, all connections together
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,
    /// Load before the measurement begins [default: 1 with --seconds, 0 otherwise]
    #[arg(long, value_name = "SECONDS")]
    pub warm_up: Option<f64>,
    /// How messages are received
    #[arg(long, value_enum, default_value_t = Mode::PeekLock)]
    pub mode: Mode,
    /// Who settles last: `second` waits for the broker's answer to each completion, as the Azure
    /// clients do. What the broker offers counts when it differs
    #[arg(long, value_enum, default_value_t = SettleMode::Second)]
    pub settle_mode: SettleMode,
    /// User for SASL PLAIN
    #[arg(long, value_name = "NAME", default_value = "RootManageSharedAccessKey")]
    pub user: String,
    /// Password for SASL PLAIN
    #[arg(long, value_name = "KEY", default_value = "SAS_KEY_VALUE")]
    pub password: String,
    /// Use SASL ANONYMOUS instead of PLAIN
    #[arg(long)]
    pub anonymous: bool,
    /// Send only, and leave a backlog behind
    #[arg(long, conflicts_with_all = ["drain", "idle_connections", "slow_connections"])]
    pub fill: bool,
    /// Receive only; without --count and --seconds until nothing has arrived for two seconds
    #[arg(long, conflicts_with_all = ["idle_connections", "slow_connections"])]
    pub drain: bool,
    /// Send nothing: open this many connections, hold them for the seconds, and see with --pid
    /// what each costs in memory
    #[arg(long, value_name = "N")]
    pub idle_connections: Option<NonZeroU32>,
    /// Send no messages: this many peers say an octet a second of a beginning without an end, and
    /// come back when they are cut off, as in an attack. Beside it, measure those who work
    #[arg(long, value_name = "N", conflicts_with_all = ["idle_connections", "tls", "websocket"])]
    pub slow_connections: Option<NonZeroU32>,
    /// The broker's process on this machine: report its CPU time per message and its memory
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Keep trying to connect for so long, to time how a broker starts
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub wait: f64,
    /// Threads of the load generator; more than one only pays with many connections
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroU32,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

/// How messages are received.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each message is locked, and completed by a disposition.
    PeekLock,
    /// The broker forgets a message as it sends it.
    ReceiveAndDelete,
}

/// The receiver settle mode asked for (AMQP §2.8.3).
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettleMode {
    /// The receiver settles by itself and expects no answer.
    First,
    /// The receiver settles once the sender has.
    Second,
}

/// How a connection says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    Anonymous,
    Plain { user: String, password: String },
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    For(Duration),
    /// So many messages: sent when there are senders, received otherwise.
    Count(u64),
    /// Receivers only: until the queue seems to be empty.
    UntilQuiet,
}

/// Connections that move no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    Idle(u32),
    Slow(u32),
}

impl Apart {
    fn of(arguments: &Arguments) -> Option<Self> {
        let idle = arguments.idle_connections.map(|count| Self::Idle(count.get()));
        idle.or(arguments.slow_connections.map(|count| Self::Slow(count.get())))
    }

    fn count(self) -> u32 {
        let (Self::Idle(count) | Self::Slow(count)) = self;
        count
    }
}

/// What a run consists of, checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: String,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) websocket: bool,
    pub(super) target: String,
    pub(super) source: String,
    pub(super) senders: u32,
    pub(super) receivers: u32,
    /// How many message sessions there are, if there are any.
    pub(super) sessions: Option<NonZeroU32>,
    pub(super) size: usize,
    pub(super) distinct_bodies: bool,
    pub(super) credit: u32,
    pub(super) in_flight: u32,
    pub(super) rate: Option<NonZeroU32>,
    pub(super) extent: Extent,
    pub(super) warm_up: Duration,
    pub(super) mode: Mode,
    pub(super) settle_mode: SettleMode,
    pub(super) login: Login,
    /// Connections without messages, in place of senders and receivers.
    pub(super) apart: Option<Apart>,
    pub(super) pid: Option<u32>,
    pub(super) wait: Duration,
    pub(super) threads: usize,
    pub(super) json: bool,
}

/// Long enough for any run; keeps the arithmetic on moments far from its bounds.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;

/// Connections a run may ask for: more than one machine has ports for.
const CONNECTIONS_MAX: u32 = 60_000;

/// The largest body the broker can be configured to take.
const SIZE_MAX: usize = 100 << 20;

impl Plan {
    /// Checks what the command line says.
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let a = arguments.clone();
        let apart = Apart::of(arguments);
        let senders = if a.drain || apart.is_some() { 0 } else { a.senders };
        let receivers = a.sessions.map_or(a.receivers, NonZeroU32::get);
        let receivers = if a.fill || apart.is_some() { 0 } else { receivers };
        if senders == 0 && receivers == 0 && apart.is_none() {
            return Err(refused("no senders and no receivers: nothing to do"));
        }
        if CONNECTIONS_MAX < senders.max(receivers).max(apart.map_or(0, Apart::count)) {
            return Err(refused(&format!("more than {CONNECTIONS_MAX} connections")));
        }
        if a.size < Stamp::LEN || SIZE_MAX < a.size {
            let least = Stamp::LEN;
            return Err(refused(&format!(
                "--size must be {least} (the time stamp) to {SIZE_MAX} bytes"
            )));
        }
        if a.rate.is_some() && senders == 0 {
            return Err(refused("--rate paces senders, and there are none"));
        }
        let extent = match (a.seconds, a.count) {
            (Some(seconds), _) => Extent::For(span("--seconds", seconds)?),
            (None, Some(count)) => Extent::Count(count.get()),
            (None, None) if a.drain => Extent::UntilQuiet,
            (None, None) => Extent::For(Duration::from_secs(10)),
        };
        let warm_up = match (a.warm_up, extent) {
            (Some(_), _) if a.drain => {
                return Err(refused("--warm-up needs senders: draining has nothing to warm up"));
            }
            (Some(seconds), _) => span("--warm-up", seconds)?,
            (None, Extent::For(_)) if !a.drain => Duration::from_secs(1),
            (None, _) => Duration::ZERO,
        };
        let tls = a.tls.then(|| trusting(a.ca.as_deref())).transpose();
        let tls = tls.map_err(|error| Failure::Argument(error.to_string()))?;
        Ok(Self {
            tls,
            websocket: a.websocket,
            target: a.target.unwrap_or_else(|| a.queue.clone()),
            source: a.source.unwrap_or(a.queue),
            address: a.address,
            senders,
            receivers,
            sessions: a.sessions,
            size: a.size,
            distinct_bodies: a.distinct_bodies,
            credit: a.credit.get(),
            in_flight: a.in_flight.get(),
            rate: a.rate,
            extent,
            warm_up,
            mode: a.mode,
            settle_mode: a.settle_mode,
            login: if a.anonymous {
                Login::Anonymous
            } else {
                Login::Plain { user: a.user, password: a.password }
            },
            apart,
            pid: a.pid,
            wait: span("--wait", a.wait)?,
            threads: usize::try_from(a.threads.get().min(256)).unwrap_or(1),
            json: a.json,
        })
    }

    /// The part of `count` that falls to one of `parts` connections: no two differ by more than one.
    pub(super) fn share(count: u64, parts: u32, index: u32) -> u64 {
        let (parts, index) = (u64::from(parts.max(1)), u64::from(index));
        count / parts + u64::from(index < count % parts)
    }

    /// The host part of the address, which `open` carries as its hostname.
    pub(super) fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn span(option: &str, seconds: f64) -> Result<Duration, Failure> {
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(refused(&format!("{option} must be 0 to {SECONDS_MAX} seconds")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn refused(why: &str) -> Failure {
    Failure::Argument(why.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(line: &str) -> Result<Plan, Failure> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        Plan::new(&Line::try_parse_from(words).expect("the line parses").arguments)
    }

    #[track_caller]
    fn refuses(line: &str, part: &str) {
        let text = plan(line).expect_err("refused").to_string();
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn without_options_it_measures_one_queue_for_ten_seconds() {
        let plan = plan("").expect("valid");
        assert_eq!((plan.senders, plan.receivers, plan.size), (1, 1, 1024));
        assert_eq!((plan.target.as_str(), plan.source.as_str()), ("bench", "bench"));
        assert_eq!(plan.extent, Extent::For(Duration::from_secs(10)));
        assert_eq!(plan.warm_up, Duration::from_secs(1));
        let password = "SAS_KEY_VALUE".to_owned();
        assert_eq!(
            plan.login,
            Login::Plain { user: "RootManageSharedAccessKey".to_owned(), password }
        );
    }

    #[test]
    fn target_and_source_replace_the_queue() {
        let plan = plan("--queue a --target /exchanges/x/k --source /queues/a").expect("valid");
        assert_eq!((plan.target.as_str(), plan.source.as_str()), ("/exchanges/x/k", "/queues/a"));
    }

    #[test]
    fn fill_and_drain_leave_one_side_out() {
        let fill = plan("--fill --count 5 --receivers 3").expect("valid");
        assert_eq!((fill.senders, fill.receivers, fill.extent), (1, 0, Extent::Count(5)));
        let drain = plan("--drain").expect("valid");
        assert_eq!((drain.senders, drain.receivers, drain.extent), (0, 1, Extent::UntilQuiet));
    }

    #[test]
    fn each_session_has_a_receiver() {
        let both = plan("--sessions 5").expect("valid");
        assert_eq!((both.senders, both.receivers, both.sessions), (1, 5, NonZeroU32::new(5)));
        assert_eq!(plan("--sessions 5 --fill").expect("valid").receivers, 0);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        refuses("--senders 0 --receivers 0", "nothing to do");
        refuses("--size 8", "--size must be");
        refuses("--drain --rate 5", "--rate paces senders");
        refuses("--drain --warm-up 1", "--warm-up needs senders");
        refuses("--seconds NaN", "--seconds must be");
        refuses("--seconds 1e9", "--seconds must be");
        refuses("--senders 100000", "connections");
        refuses("--slow-connections 100000", "connections");
    }

    #[test]
    fn shares_differ_by_at_most_one_and_add_up() {
        let shares: Vec<u64> = (0..3).map(|index| Plan::share(11, 3, index)).collect();
        assert_eq!(shares, [4, 4, 3]);
    }

    #[test]
    fn the_host_loses_its_port_and_brackets() {
        assert_eq!(plan("--address broker.local:5672").expect("valid").host(), "broker.local");
        assert_eq!(plan("--address [::1]:5672").expect("valid").host(), "::1");
    }
}
