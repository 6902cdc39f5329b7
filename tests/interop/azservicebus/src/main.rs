//! azservicebus, a Service Bus client in Rust that is not Microsoft's: SAS token on `$cbs`, over plain
//! TCP and WebSockets; it trusts no authority but those it was built with, so not over TLS. The words of the command line and of the output are those of `python/harness.py`.

mod features;
mod scenarios;
mod topics;

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead as _, Write as _};
use std::pin::Pin;
use std::time::{Duration, Instant};

use azservicebus::authorization::AzureNamedKeyCredential;
use azservicebus::core::BasicRetryPolicy;
use azservicebus::{
    ServiceBusClient, ServiceBusClientOptions, ServiceBusMessage, ServiceBusReceivedMessage,
    ServiceBusReceiver, ServiceBusReceiverOptions, ServiceBusRetryOptions, ServiceBusSender,
    ServiceBusSenderOptions, ServiceBusTransportType, SubQueue,
};
use tokio::time::timeout;

const RULE: &str = "RootManageSharedAccessKey";
const KEY: &str = "SAS_KEY_VALUE";
/// How long a receiver waits before the test says that a queue is empty.
const EMPTY: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(10);
/// Longer than any scenario takes: a client that waits for ever is a failure, not a stop of the tests.
const SCENARIO: Duration = Duration::from_secs(150);
/// Not run unless named: the one takes 70 seconds, the other needs somebody who restarts the broker.
const ON_DEMAND: [&str; 2] = ["idle", "reconnect"];

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;
type Run = Pin<Box<dyn Future<Output = Result>>>;
type ServiceBus = ServiceBusClient<BasicRetryPolicy>;

#[derive(Clone)]
struct Broker {
    host: String,
    port: u16,
}

fn queue_of(scenario: &str) -> String {
    format!("azservicebus.{scenario}")
}

impl Broker {
    async fn open(&self, key: &str, max_retries: u32) -> Result<Client> {
        self.open_over(ServiceBusTransportType::AmqpTcp, key, max_retries).await
    }

    async fn open_over(
        &self,
        transport_type: ServiceBusTransportType,
        key: &str,
        max_retries: u32,
    ) -> Result<Client> {
        let options = ServiceBusClientOptions {
            retry_options: ServiceBusRetryOptions {
                max_retries,
                try_timeout: ANSWER,
                ..ServiceBusRetryOptions::default()
            },
            transport_type,
            ..ServiceBusClientOptions::default()
        };
        // From a connection string the client takes the host and drops the port.
        let inner = ServiceBus::unsecured()
            .new_from_named_key_credential(
                format!("{}:{}", self.host, self.port),
                AzureNamedKeyCredential::new(RULE, key),
                options,
            )
            .await?;
        Ok(Client { inner })
    }

    async fn connect_by_websocket(&self) -> Result<Client> {
        self.open_over(ServiceBusTransportType::AmqpWebSocket, KEY, 0).await
    }

    async fn connect(&self) -> Result<Client> {
        self.open(KEY, ServiceBusRetryOptions::DEFAULT_MAX_RETRIES).await
    }

    /// For scenarios that ask for what is refused: the client would ask for most of it again.
    async fn connect_without_retries(&self) -> Result<Client> {
        self.open(KEY, 0).await
    }
}

struct Client {
    inner: ServiceBus,
}

impl Client {
    async fn sender(&mut self, queue: &str) -> Result<ServiceBusSender> {
        Ok(self.inner.create_sender(queue, ServiceBusSenderOptions::default()).await?)
    }

    async fn receiver(&mut self, queue: &str) -> Result<ServiceBusReceiver> {
        self.receiver_with(queue, ServiceBusReceiverOptions::default()).await
    }

    async fn receiver_with(
        &mut self,
        queue: &str,
        options: ServiceBusReceiverOptions,
    ) -> Result<ServiceBusReceiver> {
        Ok(self.inner.create_receiver_for_queue(queue, options).await?)
    }

    async fn dead_letters(&mut self, queue: &str) -> Result<ServiceBusReceiver> {
        let sub_queue = SubQueue::DeadLetter;
        self.receiver_with(queue, ServiceBusReceiverOptions { sub_queue, ..Default::default() })
            .await
    }

    async fn send_bodies(&mut self, queue: &str, bodies: &[&str]) -> Result {
        let mut sender = self.sender(queue).await?;
        for body in bodies {
            sender.send_message(ServiceBusMessage::new(*body)).await?;
        }
        sender.dispose().await?;
        Ok(())
    }

    async fn expect_empty(&mut self, queue: &str) -> Result {
        let receiver = self.receiver(queue).await?;
        nothing_more(receiver).await
    }

    async fn expect_no_dead_letters(&mut self, queue: &str) -> Result {
        let receiver = self.dead_letters(queue).await?;
        nothing_more(receiver).await
    }

    async fn close(self) -> Result {
        timeout(ANSWER, self.inner.dispose()).await??;
        Ok(())
    }
}

async fn nothing_more(mut receiver: ServiceBusReceiver) -> Result {
    let left = receiver.receive_messages_with_max_wait_time(10, EMPTY).await?;
    expect(bodies(&left)?, Vec::new(), "messages left")?;
    receiver.dispose().await?;
    Ok(())
}

/// Exactly that many messages.
async fn take(
    receiver: &mut ServiceBusReceiver,
    count: u32,
) -> Result<Vec<ServiceBusReceivedMessage>> {
    let messages = receiver.receive_messages_with_max_wait_time(count, ANSWER).await?;
    expect(u32::try_from(messages.len())?, count, "messages received")?;
    Ok(messages)
}

async fn one(receiver: &mut ServiceBusReceiver) -> Result<ServiceBusReceivedMessage> {
    Ok(take(receiver, 1).await?.remove(0))
}

fn text(message: &ServiceBusReceivedMessage) -> Result<String> {
    Ok(String::from_utf8(message.body()?.to_vec())?)
}

fn bodies(messages: &[ServiceBusReceivedMessage]) -> Result<Vec<String>> {
    messages.iter().map(text).collect()
}

/// How often the delivery failed before. The client counts this delivery too.
fn count(message: &ServiceBusReceivedMessage) -> Result<u32> {
    let shown = message.delivery_count().ok_or("no delivery count")?;
    Ok(shown.checked_sub(1).ok_or("not even this delivery is counted")?)
}

fn seen(message: &ServiceBusReceivedMessage) -> Result<(String, u32)> {
    Ok((text(message)?, count(message)?))
}

#[expect(clippy::needless_pass_by_value, reason = "what is compared is mostly made for it")]
fn expect<T: PartialEq + Debug>(actual: T, wanted: T, what: &str) -> Result {
    if actual == wanted {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {wanted:?}").into())
}

/// The client's errors differ by their text only, and the cause is in the debug form of it.
fn expect_error<T>(result: Result<T, impl Debug>, words: &[&str], what: &str) -> Result {
    let Err(error) = result else { return Err(format!("{what}: no error").into()) };
    let shown = format!("{error:?}");
    match words.iter().find(|word| !shown.contains(**word)) {
        None => Ok(()),
        Some(word) => Err(format!("{what}: no {word} in {shown}").into()),
    }
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
    let mut broker = Broker { host: "localhost".to_owned(), port: 5672 };
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
