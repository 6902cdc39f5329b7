//! fe2o3-amqp, a plain AMQP 1.0 client in Rust: SASL PLAIN, and the settle modes that it has by
//! default. The words of the command line and of the output are those of `python/harness.py`.

mod features;
mod scenarios;
mod topics;

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead as _, Write as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use fe2o3_amqp::connection::{ConnectionHandle, OpenError};
use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use fe2o3_amqp_types::definitions::{ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::messaging::{Body, Message, Modified, Outcome};
use serde_amqp::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEAD: &str = "/$DeadLetterQueue";
const RULE: &str = "RootManageSharedAccessKey";
const KEY: &str = "SAS_KEY_VALUE";
/// How long a receiver waits before the test says that a queue is empty.
const EMPTY: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(15);
/// Longer than any scenario takes: a client that waits for ever is a failure, not a stop of the tests.
const SCENARIO: Duration = Duration::from_secs(150);
/// Not run unless named: the one takes 70 seconds, the other needs somebody who restarts the broker.
const ON_DEMAND: [&str; 2] = ["idle", "reconnect"];

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;
type Run = Pin<Box<dyn Future<Output = Result>>>;
type Received = Delivery<Body<Value>>;

#[derive(Clone)]
struct Broker {
    host: String,
    port: u16,
}

fn queue_of(scenario: &str) -> String {
    format!("fe2o3.{scenario}")
}

impl Broker {
    async fn open(&self, key: &str) -> Result<ConnectionHandle<()>, OpenError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // The client writes its frames one by one; with Nagle's algorithm each would wait.
        stream.set_nodelay(true)?;
        Connection::builder()
            .container_id("interop-fe2o3")
            .hostname(self.host.as_str())
            .scheme("amqp")
            .sasl_profile(SaslProfile::Plain { username: RULE.into(), password: key.into() })
            .open_with_stream(stream)
            .await
    }

    async fn connect(&self) -> Result<Client> {
        let mut connection = timeout(ANSWER, self.open(KEY)).await??;
        let session = timeout(ANSWER, Session::begin(&mut connection)).await??;
        Ok(Client { connection, session, links: 0 })
    }
}

struct Client {
    connection: ConnectionHandle<()>,
    session: SessionHandle<()>,
    links: u32,
}

impl Client {
    fn link_name(&mut self) -> String {
        self.links += 1;
        format!("link-{}", self.links)
    }

    async fn sender(&mut self, queue: &str) -> Result<Sender> {
        let name = self.link_name();
        Ok(timeout(ANSWER, Sender::attach(&mut self.session, name, queue)).await??)
    }

    async fn receiver(&mut self, queue: &str) -> Result<Receiver> {
        self.receiver_with(queue, SenderSettleMode::Mixed, ReceiverSettleMode::First).await
    }

    async fn receiver_with(
        &mut self,
        queue: &str,
        sender_mode: SenderSettleMode,
        receiver_mode: ReceiverSettleMode,
    ) -> Result<Receiver> {
        let attach = Receiver::builder()
            .name(self.link_name())
            .source(queue)
            .sender_settle_mode(sender_mode)
            .receiver_settle_mode(receiver_mode)
            .credit_mode(CreditMode::Manual)
            .attach(&mut self.session);
        Ok(timeout(ANSWER, attach).await??)
    }

    async fn send_bodies(&mut self, queue: &str, bodies: &[&str]) -> Result {
        let mut sender = self.sender(queue).await?;
        for body in bodies {
            let outcome = timeout(ANSWER, sender.send(Message::builder().value(*body).build()));
            expect_accepted(&outcome.await??)?;
        }
        sender.close().await?;
        Ok(())
    }

    async fn expect_empty(&mut self, queue: &str) -> Result {
        let mut receiver = self.receiver(queue).await?;
        receiver.set_credit(10).await?;
        if let Ok(left) = timeout(EMPTY, receiver.recv::<Body<Value>>()).await {
            return Err(format!("message left: {}", text(&left?)?).into());
        }
        receiver.close().await?;
        Ok(())
    }

    async fn close(mut self) -> Result {
        timeout(ANSWER, self.session.end()).await??;
        timeout(ANSWER, self.connection.close()).await??;
        Ok(())
    }
}

/// The next message, for which credit is given.
async fn one(receiver: &mut Receiver) -> Result<Received> {
    receiver.set_credit(1).await?;
    take(receiver).await
}

async fn take(receiver: &mut Receiver) -> Result<Received> {
    Ok(timeout(ANSWER, receiver.recv::<Body<Value>>()).await.map_err(|_| "no message")??)
}

fn text(delivery: &Received) -> Result<String> {
    match delivery.body() {
        Body::Value(value) => match &value.0 {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("a body of another type: {other:?}").into()),
        },
        _ => Err("not a body of one value".into()),
    }
}

fn bytes(delivery: &Received) -> Result<Vec<u8>> {
    let Body::Data(sections) = delivery.body() else { return Err("not a body of bytes".into()) };
    Ok(sections.iter().flat_map(|section| section.0.iter().copied()).collect())
}

fn modified(delivery_failed: bool) -> Modified {
    Modified {
        delivery_failed: Some(delivery_failed),
        undeliverable_here: None,
        message_annotations: None,
    }
}

fn count(delivery: &Received) -> u32 {
    delivery.message().header.as_ref().map_or(0, |header| header.delivery_count)
}

fn property(delivery: &Received, name: &str) -> Option<String> {
    let properties = delivery.message().application_properties.as_ref()?;
    match properties.0.get(name)? {
        fe2o3_amqp_types::primitives::SimpleValue::String(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what is compared is mostly made for it")]
fn expect<T: PartialEq + Debug>(actual: T, wanted: T, what: &str) -> Result {
    if actual == wanted {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {wanted:?}").into())
}

fn expect_accepted(outcome: &Outcome) -> Result {
    if matches!(outcome, Outcome::Accepted(_)) {
        return Ok(());
    }
    Err(format!("not accepted: {outcome:?}").into())
}

/// Says that the broker may be restarted now, and waits until somebody says that it was.
async fn wait_for_restart() -> Result {
    say("READY: restart the broker, then press Enter");
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)
    });
    expect(read.await?? > 0, true, "somebody restarted the broker")
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output is open");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let mut broker = Broker { host: "127.0.0.1".to_owned(), port: 5672 };
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--host" => broker.host = value()?,
            "--port" => broker.port = value()?.parse()?,
            "--only" => only = Some(value()?),
            "--list" => {
                for (name, _) in scenarios::ALL {
                    say(name);
                }
                return Ok(());
            }
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let all = scenarios::ALL.iter().map(|(name, _)| *name);
    let names: Vec<&str> = match &only {
        Some(only) => only.split(',').collect(),
        None => all.filter(|name| !ON_DEMAND.contains(name)).collect(),
    };
    let mut failed = false;
    for name in names {
        let (_, run) =
            scenarios::ALL.iter().find(|(known, _)| *known == name).ok_or("no such scenario")?;
        let started = Instant::now();
        let result = match timeout(SCENARIO, run(broker.clone())).await {
            Ok(result) => result,
            Err(late) => Err(late.into()),
        };
        match result {
            Ok(()) => say(&format!("PASS {name} {:.1}s", started.elapsed().as_secs_f32())),
            Err(error) => {
                failed = true;
                let line: Vec<String> =
                    error.to_string().split_whitespace().map(str::to_owned).collect();
                say(&format!("FAIL {name} {}", line.join(" ")));
            }
        }
    }
    std::process::exit(i32::from(failed));
}
