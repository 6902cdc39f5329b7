//! `azure_messaging_servicebus`, Microsoft's Service Bus client in Rust for the REST API: SAS tokens for
//! whole addresses, always https, and always below `servicebus.windows.net`. That name is led to the
//! broker, which shows a certificate for it. The words of the command line and of the output are those of
//! `python/harness.py`.

mod scenarios;

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::error::ErrorKind;
use azure_core::headers::Headers;
use azure_core::{HttpClient, StatusCode};
use azure_messaging_servicebus::prelude::{QueueClient, TopicClient};
use azure_messaging_servicebus::service_bus::{PeekLockResponse, SendMessageOptions};
use tokio::time::timeout;

const RULE: &str = "RootManageSharedAccessKey";
const KEY: &str = "SAS_KEY_VALUE";
/// The client puts `.servicebus.windows.net` behind it.
const NAMESPACE: &str = "peeklock";
/// How long a receiver waits before the test says that a queue is empty.
const EMPTY: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(10);
/// Longer than any scenario takes: a client that waits for ever is a failure, not a stop of the tests.
const SCENARIO: Duration = Duration::from_mins(1);

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;
type Run = Pin<Box<dyn Future<Output = Result>>>;

fn queue_of(scenario: &str) -> String {
    format!("rest.{scenario}")
}

#[derive(Clone)]
struct Broker {
    http: Arc<dyn HttpClient>,
}

impl Broker {
    fn at(port: u16) -> Result<Self> {
        let folder = std::env::var("INTEROP_CERTIFICATES")
            .map_err(|_| "INTEROP_CERTIFICATES names no folder with certificates")?;
        let authority = std::fs::read(Path::new(&folder).join("ca.pem"))?;
        let host = format!("{NAMESPACE}.servicebus.windows.net");
        let http = reqwest::Client::builder()
            .resolve(&host, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .add_root_certificate(reqwest::Certificate::from_pem(&authority)?)
            .build()?;
        Ok(Self { http: Arc::new(http) })
    }

    fn queue_with(&self, name: &str, key: &str) -> Result<Queue> {
        let http = Arc::clone(&self.http);
        Ok(Queue(QueueClient::new(http, NAMESPACE, name, RULE, key.to_owned())?))
    }

    fn queue(&self, name: &str) -> Result<Queue> {
        self.queue_with(name, KEY)
    }

    fn topic(&self, name: &str) -> Result<TopicClient> {
        let http = Arc::clone(&self.http);
        Ok(TopicClient::new(http, NAMESPACE, name, RULE, KEY.to_owned())?)
    }
}

struct Queue(QueueClient);

impl Queue {
    async fn send(&self, body: &str, options: impl Into<Option<SendMessageOptions>>) -> Result {
        Ok(self.0.send_message(body, options.into()).await?)
    }

    async fn send_all(&self, bodies: &[&str]) -> Result {
        for body in bodies {
            self.send(body, None).await?;
        }
        Ok(())
    }

    /// The next message, under a lock.
    async fn lock(&self) -> Result<PeekLockResponse> {
        let locked = self.0.peek_lock_message2(Some(ANSWER)).await?;
        expect(*locked.status(), StatusCode::Created, "the status of a lock")?;
        Ok(locked)
    }

    /// The next message, completed.
    async fn take(&self) -> Result<String> {
        let locked = self.lock().await?;
        locked.delete_message().await?;
        Ok(locked.body())
    }

    async fn expect_empty(&self) -> Result {
        let locked = self.0.peek_lock_message2(Some(EMPTY)).await?;
        expect(*locked.status(), StatusCode::NoContent, "the status where there is nothing")
    }
}

fn count(locked: &PeekLockResponse) -> Result<i32> {
    Ok(locked.broker_properties().ok_or("no broker properties")?.delivery_count)
}

/// The headers of a message.
struct Custom(Headers);

impl From<Headers> for Custom {
    fn from(headers: Headers) -> Self {
        Self(headers)
    }
}

impl Custom {
    fn of(locked: &PeekLockResponse) -> Result<Self> {
        locked.custom_properties::<Self>().map_err(|never| format!("{never}").into())
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get_optional_string(&name.to_owned().into())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what is compared is mostly made for it")]
fn expect<T: PartialEq + Debug>(actual: T, wanted: T, what: &str) -> Result {
    if actual == wanted {
        return Ok(());
    }
    Err(format!("{what}: {actual:?} instead of {wanted:?}").into())
}

/// Refused with this status.
fn expect_status<T>(
    result: std::result::Result<T, azure_core::Error>,
    status: StatusCode,
    what: &str,
) -> Result {
    let Err(error) = result else { return Err(format!("{what}: no error").into()) };
    match error.kind() {
        ErrorKind::HttpResponse { status: found, .. } => expect(*found, status, what),
        _ => Err(error.into()),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output is open");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let mut port = 5671;
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--port" => port = value()?.parse()?,
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
    let broker = Broker::at(port)?;
    let all = scenarios::ALL.iter().map(|(name, _)| *name);
    let names: Vec<&str> = match &only {
        Some(only) => only.split(',').collect(),
        None => all.collect(),
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
