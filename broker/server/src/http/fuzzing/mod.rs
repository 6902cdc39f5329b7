//! Requests that nobody would write, over all routes: generated from octets, out of what clients do
//! write, against a core over a store in memory. A test feeds it noise; `PEEKLOCK_HTTP_SEED` names one
//! seed to run again, `PEEKLOCK_HTTP_SEEDS` says how many to run.
//!
//! Whatever comes: no panic, no error of the broker's own, an answer in time that reads as what it says
//! it is, and nothing left behind by requests that were given up.

mod requests;
pub(super) mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;

use self::requests::Choices;
use self::world::World;
use super::atom::ERROR_TYPE;

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Seeds of one run, and requests of one seed.
const SEEDS: u64 = 150;
const REQUESTS: usize = 60;

/// Octets that are the same on every machine (xorshift).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[2]
    })
    .take(len)
    .collect()
}

/// How often each status was answered.
type Seen = BTreeMap<u16, u32>;

async fn run(seed: u64, seen: &mut Seen) {
    let world = World::new().await;
    let data = noise(seed, 64 * 1024);
    let mut choices = Choices::new(&data);
    for number in 0..REQUESTS {
        let (request, told) = choices.request();
        let gives_up = choices.one_in(20);
        let asked = world.ask(request);
        if gives_up {
            // It is asked, and perhaps carried out, and nobody hears of it.
            let _ = tokio::time::timeout(Duration::from_millis(1), asked).await;
            continue;
        }
        let why = || format!("seed {seed}, request {number}: {told}");
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer: {}", why()));
        let status = answer.status();
        let is_ours = status.is_server_error()
            && !matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::SERVICE_UNAVAILABLE);
        assert!(!is_ours, "{status}: {}", why());
        *seen.entry(status.as_u16()).or_default() += 1;
        let kind = answer.headers().get(CONTENT_TYPE).cloned();
        let body = answer.into_body().collect().await;
        let body = body.unwrap_or_else(|error| panic!("{error}: {}", why())).to_bytes();
        // The answer to HEAD has none.
        let is_refusal = status.is_client_error() && !body.is_empty();
        if is_refusal && kind.is_some_and(|kind| kind == ERROR_TYPE) {
            let readable = super::atom::is_readable(&body);
            assert!(readable, "{}: {}", String::from_utf8_lossy(&body), why());
        }
    }
    world.assert_nothing_is_left().await;
}

#[tokio::test]
async fn whatever_is_asked_is_answered() {
    let mut seen = Seen::new();
    let given = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    if let Some(seed) = given("PEEKLOCK_HTTP_SEED") {
        return run(seed, &mut seen).await;
    }
    for seed in 0..given("PEEKLOCK_HTTP_SEEDS").unwrap_or(SEEDS) {
        run(seed, &mut seen).await;
    }
    for status in [200, 201, 204, 400, 401, 403, 404, 405, 409, 412] {
        assert!(seen.get(&status).is_some_and(|count| 3 < *count), "{status}: {seen:?}");
    }
}
