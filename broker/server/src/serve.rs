//! From settings to a running broker and back: open the store, load the core, bind, say so, serve,
//! stop.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use anyhow::Context;
use peeklock_core::{Broker, Command, EntityPath, IdSource, LockToken, Origin, TopicCommand};
use peeklock_protocol::connection::Config;
use peeklock_protocol::value::{Str, Symbol};
use peeklock_storage::{MemStore, Store, Table};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::amqp::EndpointSettings;
use crate::clock::Clock;
use crate::config::{ListenAddress, Settings, SubscriptionDeclaration, TopicDeclaration};
use crate::driver::{self, OpenShard, ShardHandle};
use crate::http::gateway::Gateway;
use crate::http::{self, HttpContext};
use crate::net::listener::{self, Door};
use crate::net::tls::{self, Tls};

/// How often a broker that is not ready looks again.
const READY_POLL: Duration = Duration::from_millis(200);

/// Rows of entities read at once while loading.
const LOAD_ROWS: usize = 4096;
const LOAD_BYTES: usize = 4 * 1024 * 1024;

/// How serving ended, when it did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing was served.
    #[error("the broker cannot start: {0:#}")]
    Start(anyhow::Error),
    /// Everything answered is on disk, but the store did not close in order.
    #[error("the broker did not stop cleanly: {0:#}")]
    Stop(anyhow::Error),
}

/// Threads for the broker's tasks: half of the processors. The other half is for the store's writer,
/// for RocksDB, and for the kernel. With fewer threads a task more often wakes one that runs already,
/// which costs a tenth of waking another processor.
pub fn runtime() -> io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = (processors / 2).max(1);
    runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// Serves until a signal to stop.
pub async fn serve(settings: Settings) -> Result<(), ServeError> {
    let broker = Running::start(settings).await.map_err(ServeError::Start)?;
    stop_signal().await.map_err(ServeError::Start)?;
    broker.stop().await.map_err(ServeError::Stop)
}

struct Running {
    shard: ShardHandle,
    stop: watch::Sender<bool>,
    tasks: TaskTracker,
    stop_within: Duration,
}

impl Running {
    async fn start(settings: Settings) -> anyhow::Result<Self> {
        let listeners = bind(&settings.listeners).await?;
        let tls = settings.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let store = open_store(&settings)?;
        let clock = if settings.virtual_time { Clock::steerable() } else { Clock::real() };
        let open = open_shard(&settings, clock.clone());
        let shard = driver::start(Arc::clone(&store), clock.clone(), open)?;
        let (stop, stopped) = watch::channel(false);
        let tasks = TaskTracker::new();
        let http = HttpContext {
            shard: shard.clone(),
            gateway: Gateway::start(shard.clone()).await?,
            started_at: clock.now(),
            settings: Arc::new(endpoint_settings(&settings, clock)),
            store: Arc::clone(&store),
            origins: Arc::new(settings.allowed_origins),
        };
        let door = Door {
            routes: http::router(http.clone()),
            http,
            tls: tls.clone(),
            plain_text: settings.plain_text,
            connections_max: settings.limits.connections_max,
            connections: Arc::new(AtomicUsize::new(0)),
            next_id: Arc::new(AtomicU64::new(1)),
            handshake_within: settings.limits.handshake_timeout,
            stop: stopped,
            tasks: tasks.clone(),
        };
        let mut addresses = Vec::new();
        for listener in listeners {
            addresses.push(listener.local_addr()?);
            tasks.spawn(listener::serve(listener, door.clone()));
        }
        if let Some(tls) = tls {
            tasks.spawn(tls::watch(tls, door.stop.clone()));
        }
        tasks.spawn(announce(store, addresses, settings.emulator, door.stop));
        Ok(Self { shard, stop, tasks, stop_within: settings.limits.stop_within })
    }

    /// Tells the peers, waits for them within bounds, and closes the store.
    async fn stop(self) -> anyhow::Result<()> {
        info!("stopping");
        self.stop.send_replace(true);
        self.tasks.close();
        if tokio::time::timeout(self.stop_within, self.tasks.wait()).await.is_err() {
            warn!(connections = self.tasks.len(), "some connections did not close in time");
        }
        self.shard.stop().await?.context("the store did not close cleanly")?;
        info!("stopped");
        Ok(())
    }
}

async fn bind(addresses: &[ListenAddress]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind((address.host(), address.port()))
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Prints the ready line once a send would succeed: scripts and containers wait for it.
async fn announce(
    store: Arc<dyn Store>,
    addresses: Vec<SocketAddr>,
    is_emulator: bool,
    mut stop: watch::Receiver<bool>,
) {
    if !store.sends_allowed() {
        warn!("free disk space is below the reserve, the broker is not ready for sends");
    }
    while !store.sends_allowed() {
        tokio::select! {
            () = tokio::time::sleep(READY_POLL) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    crate::telemetry::print_ready(&addresses, is_emulator);
}

fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    if settings.ephemeral {
        warn!("messages are kept in memory only and are gone when the broker stops");
        return Ok(Arc::new(MemStore::new()));
    }
    open_rocks(settings)
}

#[cfg(feature = "rocksdb")]
fn open_rocks(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    use peeklock_storage::rocks::{Options, Reserve, RocksStore};
    let path = &settings.data_dir;
    let bytes = settings.storage.free_space_reserve;
    let reserve = if bytes == Reserve::DEFAULT.bytes {
        Reserve::DEFAULT
    } else {
        // Who names a number means that number, on a disk of any size.
        Reserve { bytes, percent: 0 }
    };
    let accept_data_loss = settings.storage.accept_data_loss;
    let options = Options { reserve, accept_data_loss, ..Options::default() };
    let store = RocksStore::open(path, options)
        .with_context(|| format!("cannot open the store in {}", path.display()))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "rocksdb"))]
fn open_rocks(_: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    anyhow::bail!("this build keeps messages in memory only; start it with --ephemeral")
}

/// Loads the core from a store that has just been opened, and declares the configured entities.
fn open_shard(settings: &Settings, clock: Clock) -> OpenShard {
    let core_settings = settings.core;
    let (queues, topics) = (settings.queues.clone(), settings.topics.clone());
    Box::new(move |store| {
        let rows = entity_rows(store)?;
        let ids = Box::new(OsIds(StdRng::from_os_rng()));
        let mut core = Broker::load(core_settings, ids, rows)?;
        for queue in &queues {
            let path = queue.path.clone();
            if queue.only_if_missing && core.queue_stats().any(|known| known.path == path) {
                continue;
            }
            let settings = queue.settings.clone();
            let command = Command::EnsureQueue { origin: STARTUP, path, settings };
            core.declare_entity(clock.now(), command)
                .with_context(|| format!("the queue {} cannot be as configured", queue.path))?;
        }
        for topic in &topics {
            for (path, command) in declarations(topic) {
                core.declare_entity(clock.now(), Command::OfTopic(Box::new(command)))
                    .with_context(|| format!("{path} cannot be as configured"))?;
            }
        }
        Ok(core)
    })
}

/// Who declares what the configuration says: nobody has this connection.
const STARTUP: Option<Origin> = Some(Origin { connection: 0, link: 0, delivery: 0 });

/// What makes a topic and its subscriptions as they are declared.
fn declarations(topic: &TopicDeclaration) -> impl Iterator<Item = (EntityPath, TopicCommand)> {
    let (path, settings) = (topic.path.clone(), topic.settings.clone());
    let own = TopicCommand::EnsureTopic { origin: STARTUP, path, settings };
    let subscriptions = topic.subscriptions.iter().map(|subscription| {
        let SubscriptionDeclaration { path, settings, rules } = subscription.clone();
        let of = path.clone();
        (of, TopicCommand::EnsureSubscription { origin: STARTUP, path, settings, rules })
    });
    std::iter::once((topic.path.clone(), own)).chain(subscriptions)
}

fn entity_rows(store: &dyn Store) -> anyhow::Result<Vec<(peeklock_storage::Key, bytes::Bytes)>> {
    let mut range = Broker::load_range();
    let mut rows = Vec::new();
    loop {
        let page = store.scan(Table::State, &range, LOAD_ROWS, LOAD_BYTES)?;
        let Some((last, _)) = page.last() else { return Ok(rows) };
        range.start = last.successor();
        rows.extend(page);
    }
}

fn endpoint_settings(settings: &Settings, clock: Clock) -> EndpointSettings {
    let engine = engine_config(settings);
    let mut with_certificate = engine.clone();
    // First, because some clients take the first that they know.
    with_certificate.sasl.mechanisms.insert(0, Symbol::from_static("EXTERNAL"));
    EndpointSettings {
        engine: Arc::new(engine),
        engine_with_certificate: Arc::new(with_certificate),
        clock,
        authority: Arc::clone(&settings.authority),
        authorize_within: settings.limits.authorize_within,
    }
}

fn engine_config(settings: &Settings) -> Config {
    let limits = &settings.limits;
    Config {
        container_id: Str::from(format!("peeklock-{}", std::process::id())),
        max_frame_size: limits.max_frame_size,
        channel_max: limits.sessions_per_connection.saturating_sub(1),
        links_max: limits.links_per_connection,
        idle_timeout: Some(limits.idle_timeout),
        handshake_timeout: limits.handshake_timeout,
        ..Config::default()
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Lock tokens from a generator seeded by the operating system: whoever holds one may settle, so
/// none may be guessed.
struct OsIds(StdRng);

impl IdSource for OsIds {
    fn lock_token(&mut self) -> LockToken {
        let mut random = [0; 16];
        self.0.fill_bytes(&mut random);
        LockToken::from_random(random)
    }
}
