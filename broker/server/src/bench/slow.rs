//! Peers that take their time: what they cost the broker, and those who mean to work with it.
//!
//! Each says one octet of a beginning a second, as if it meant to go on, and comes back when it is cut
//! off. They speak at moments that are spread over the second: all at once would be another attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

use super::arguments::{Extent, Plan};
use super::failure::Failure;
use super::process::{Sample, raise_open_files_limit};
use super::report::{Process, Report, Run, Slow};

/// From one octet of a peer to its next.
const PAUSE: Duration = Duration::from_secs(1);

/// What they begin with: AMQP with SASL and a frame without an end, a request with a long path, and the
/// greeting of TLS. Behind it they repeat its last octet.
const BEGINNINGS: [&[u8]; 3] = [
    b"AMQP\x03\x01\x00\x00\x00\x00\x02\x00\x02\x01\x00\x00\x00",
    b"GET /aaaa",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
];

#[derive(Debug, Default)]
struct Counts {
    octets: AtomicU64,
    cut_off: AtomicU64,
}

/// Lets the peers speak for the seconds, and hangs up.
pub(super) async fn run(plan: Plan, peers: u32) -> Result<Report, Failure> {
    raise_open_files_limit()?;
    let Extent::For(length) = plan.extent else {
        return Err(Failure::Argument("--slow-connections needs --seconds".to_owned()));
    };
    let counts = Arc::new(Counts::default());
    let (stop, stopped) = watch::channel(());
    let mut speaking = JoinSet::new();
    let start = Instant::now();
    for index in 0..peers {
        let peer = Peer {
            address: plan.address.clone(),
            beginning: BEGINNINGS[index as usize % BEGINNINGS.len()],
            counts: Arc::clone(&counts),
        };
        let first = start + PAUSE.mul_f64(f64::from(index) / f64::from(peers));
        speaking.spawn(peer.speak(first, stopped.clone()));
    }
    tokio::time::sleep(plan.warm_up).await;
    let sample = || plan.pid.map(Sample::take).transpose();
    let before = sample()?;
    tokio::time::sleep(length).await;
    let after = sample()?;
    drop(stop);
    speaking.join_all().await;
    let process = |((pid, before), after)| Process::new(pid, &before, &after, 0);
    Ok(Report {
        run: Run::new(&plan, None),
        load: None,
        idle: None,
        slow: Some(Slow {
            connections: peers,
            held_seconds: (plan.warm_up + length).as_secs_f64(),
            octets: counts.octets.load(Ordering::Relaxed),
            cut_off: counts.cut_off.load(Ordering::Relaxed),
        }),
        broker: plan.pid.zip(before).zip(after).map(process),
        client: None,
        errors: Vec::new(),
    })
}

struct Peer {
    address: String,
    beginning: &'static [u8],
    counts: Arc<Counts>,
}

impl Peer {
    /// Says an octet after each pause until told to stop.
    async fn speak(self, first: Instant, mut stopped: watch::Receiver<()>) {
        let mut pauses = interval_at(first.into(), PAUSE);
        pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        let mut place = 0;
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                _ = pauses.tick() => {}
            }
            if let Some(taken) = &connection {
                if self.say(taken, place) {
                    place += 1;
                    continue;
                }
                self.counts.cut_off.fetch_add(1, Ordering::Relaxed);
            }
            // Nobody answers while the broker is full: it tries again after the next pause.
            connection = TcpStream::connect(&self.address).await.ok();
            place = 0;
        }
    }

    /// Says the octet at this place; false when nobody is there to hear it.
    fn say(&self, connection: &TcpStream, place: usize) -> bool {
        let octet = self.beginning.get(place).or(self.beginning.last());
        let said = octet.is_some_and(|octet| connection.try_write(&[*octet]).is_ok());
        self.counts.octets.fetch_add(u64::from(said), Ordering::Relaxed);
        said
    }
}
