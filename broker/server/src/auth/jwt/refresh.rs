//! The task that keeps the keys of an issuer fresh: on schedule, again after a failure, and when a token
//! names a key that is not known.
//!
//! Whatever goes wrong, the keys that are there stay, until they are too old to be believed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::fetch::{self, FetchError};
use super::issuer::Issuer;
use super::keys::{KeySet, KeySetError};
use super::limits::{RETRY_MAX, RETRY_MIN};
use super::url::Url;

/// Where an issuer says what it is like (`OpenID` Connect Discovery §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum NoKeys {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    KeySet(#[from] KeySetError),
    #[error("the document at {DISCOVERY} cannot be read")]
    Discovery,
    #[error("the document at {DISCOVERY} is about another issuer")]
    OtherIssuer,
    #[error("the document at {DISCOVERY} names an address of keys that cannot be asked")]
    Address,
    #[error("the address of the keys is without TLS, and plain_text is not set")]
    PlainText,
    #[error("{0:#}")]
    Authorities(anyhow::Error),
}

/// Asks again and again until the broker stops. Says once when the first answer is there, good or bad.
pub(super) async fn run(
    issuer: Arc<Issuer>,
    changed: impl Fn() + Send + Sync,
    asked: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let name = issuer.settings.issuer.clone();
    let mut retry = RETRY_MIN;
    let mut said = None;
    loop {
        let asked_at = Instant::now();
        let answer = tokio::select! {
            answer = ask(&issuer) => answer,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let wait = match answer {
            Ok(keys) => {
                let count = keys.len();
                if issuer.take(Some(keys), asked_at) {
                    info!(issuer = name, keys = count, "the issuer has new keys");
                    changed();
                } else if said.is_some() {
                    info!(issuer = name, "the issuer gives its keys again");
                }
                (retry, said) = (RETRY_MIN, None);
                issuer.settings.refresh_every
            }
            Err(reason) => {
                issuer.take(None, asked_at);
                complain(&issuer, &reason, &mut said);
                let wait = retry.min(issuer.settings.refresh_every);
                retry = (retry * 2).min(RETRY_MAX);
                wait
            }
        };
        asked.send_replace(true);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = unknown_key(&issuer) => issuer.asks_for_unknown_key(Instant::now()),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Waits until a key is wanted and may be asked for.
async fn unknown_key(issuer: &Issuer) {
    issuer.wanted.notified().await;
    tokio::time::sleep(issuer.pause(Instant::now())).await;
}

/// Says what is wrong when it is news: not the same every minute.
fn complain(issuer: &Issuer, reason: &NoKeys, said: &mut Option<(String, bool)>) {
    let has_keys = issuer.has_keys(Instant::now());
    let news = (reason.to_string(), has_keys);
    if said.as_ref() == Some(&news) {
        return;
    }
    let name = &issuer.settings.issuer;
    if has_keys {
        warn!(issuer = name, %reason, "the issuer gives no keys, those it had stay");
    } else {
        error!(issuer = name, %reason, "the issuer gives no keys, its tokens are refused");
    }
    *said = Some(news);
}

async fn ask(issuer: &Issuer) -> Result<KeySet, NoKeys> {
    let settings = &issuer.settings;
    let ca_file = settings.ca_file.clone();
    let tls = tokio::task::spawn_blocking(move || fetch::tls(ca_file.as_deref())).await;
    let tls = tls.map_err(anyhow::Error::from).flatten().map_err(NoKeys::Authorities)?;
    let keys = if let Some(keys) = &settings.keys {
        keys.clone()
    } else {
        let home: Url = settings.issuer.parse().map_err(|_| NoKeys::Address)?;
        allow(&home, settings.plain_text)?;
        discovered(&fetch::get(&home.join(DISCOVERY), &tls).await?, &settings.issuer)?
    };
    allow(&keys, settings.plain_text)?;
    Ok(KeySet::read(&fetch::get(&keys, &tls).await?, &settings.algorithms)?)
}

fn allow(url: &Url, plain_text: bool) -> Result<(), NoKeys> {
    if url.is_secure() || plain_text { Ok(()) } else { Err(NoKeys::PlainText) }
}

/// Where the keys are, by the issuer's own document. It must be its own: §4.3.
fn discovered(document: &[u8], issuer: &str) -> Result<Url, NoKeys> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let document: Document = serde_json::from_slice(document).map_err(|_| NoKeys::Discovery)?;
    if document.issuer != issuer {
        return Err(NoKeys::OtherIssuer);
    }
    document.jwks_uri.parse().map_err(|_| NoKeys::Address)
}

/// How long a start waits for the first answers. A broker whose issuers do not answer starts all the same.
pub(super) const FIRST_WITHIN: Duration = Duration::from_secs(3);
