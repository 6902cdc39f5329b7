//! A connection of the load generator: [`amqp::Client`] over plain TCP.

use std::io;
use std::time::{Duration, Instant};

use peeklock_protocol::connection::{ClientOpen, ClientSasl, Config, SessionId};
use peeklock_protocol::value::Str;
use tokio::net::TcpStream;

use super::arguments::{Login, Plan};
use super::failure::Failure;
use crate::client::amqp;

/// How often a connection is tried again while the broker starts. Timing a start to the millisecond
/// needs this to be short.
const RETRY_AFTER: Duration = Duration::from_millis(1);

pub(super) type Client = amqp::Client<TcpStream>;

/// Connects, logs in, opens, and begins the one AMQP session that the load generator uses.
pub(super) async fn open(plan: &Plan) -> Result<(Client, SessionId), Failure> {
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
    Ok(Client::open(stream, Config::default(), open).await?)
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
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}
