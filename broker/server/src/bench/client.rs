//! A connection of the load generator: [`amqp::Client`] by any door.

use std::io;
use std::time::{Duration, Instant};

use peeklock_protocol::connection::{ClientOpen, ClientSasl, Config, SessionId};
use peeklock_protocol::value::Str;

use super::arguments::{Login, Plan};
use super::failure::Failure;
use crate::client::amqp;
use crate::client::carrier::{Carrier, connect};

/// How often a connection is tried again while the broker starts. Timing a start to the millisecond
/// needs this to be short.
const RETRY_AFTER: Duration = Duration::from_millis(1);

pub(super) type Client = amqp::Client<Carrier>;

/// Connects, logs in, opens, and begins the one AMQP session that the load generator uses.
pub(super) async fn open(plan: &Plan) -> Result<(Client, SessionId), Failure> {
    let carrier = dial(plan).await?;
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
    Ok(Client::open(carrier, Config::default(), open).await?)
}

async fn dial(plan: &Plan) -> Result<Carrier, Failure> {
    let give_up_at = Instant::now() + plan.wait;
    loop {
        match dial_once(plan).await {
            Ok(carrier) => return Ok(carrier),
            Err(error) if passes(&error) && Instant::now() < give_up_at => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(source) => return Err(Failure::Connect { address: plan.address.clone(), source }),
        }
    }
}

async fn dial_once(plan: &Plan) -> io::Result<Carrier> {
    let stream = connect(plan.tls.as_ref(), plan.host(), &plan.address).await?;
    if !plan.websocket {
        return Ok(stream.into());
    }
    Carrier::websocket(stream, &plan.address, Config::default().max_frame_size).await
}

/// Errors of a broker that does not listen yet.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}
