//! From settings to a running broker and back: open the store, load the core, bind, say so, serve,
//! stop.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use anyhow::Context;
use peeklock_core::BrokerSettings;
use peeklock_protocol::connection::Config;
use peeklock_protocol::value::{Str, Symbol};
use peeklock_storage::Store;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::amqp::jms::{DELAYED_DELIVERY, SHARED_SUBS};
use crate::amqp::relay::ANONYMOUS_RELAY;
use crate::audit::{self, Audit, Event, Outcome};
use crate::auth::FirstAnswers;
use crate::backup::manifest::store_dir;
use crate::backup::{Backups, Source};
use crate::clock::Clock;
use crate::config::{CACHE_BYTES_MIN, Limits, ListenAddress, NamespaceSettings, Settings};
use crate::life::Life;
use crate::metrics::Metrics;
use crate::namespaces::open::{self, Declared, Rank};
use crate::namespaces::{Common, Gone, Maker, Namespace, Namespaces, Plan};
use crate::net::listener::{self, Door};
use crate::net::tls::{self, Tls};
use crate::pressure::{self, Memory};
use crate::reload::{self, Authorities};
use crate::telemetry::LogLevel;
use crate::traces::Tracer;

/// How often a broker that is not ready looks again.
const READY_POLL: Duration = Duration::from_millis(200);

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

/// Serves until a signal to stop, or until somebody asks for that.
pub async fn serve(settings: Settings, level: LogLevel) -> Result<(), ServeError> {
    let mut signals = StopSignals::wait_for().map_err(ServeError::Start)?;
    let broker = Running::start(settings, level).await.map_err(ServeError::Start)?;
    tokio::select! {
        () = signals.come() => {
            broker.audit.record(Event::new(audit::Door::Signal, "stop", Outcome::Allowed));
        }
        () = broker.life.drained() => {}
    }
    broker.stop(&mut signals).await.map_err(ServeError::Stop)
}

/// What only a start finds wrong with the settings, without starting.
pub fn check(settings: &Settings) -> Result<(), NotServed> {
    let tls = settings.tls.clone().map(Tls::load).transpose();
    tls.map(|_| ()).map_err(|error| NotServed(format!("{error:#}")))
}

/// Why a broker would not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotServed(String);

struct Running {
    namespaces: Namespaces,
    stop: watch::Sender<bool>,
    tasks: TaskTracker,
    life: Life,
    audit: Audit,
    tracer: Option<Tracer>,
    drain_delay: Duration,
    stop_within: Duration,
}

impl Running {
    async fn start(settings: Settings, level: LogLevel) -> anyhow::Result<Self> {
        let listeners = bind(&settings.listeners).await?;
        let authorities = Authorities::of(&settings);
        let tls = settings.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        if settings.ephemeral {
            warn!("messages are kept in memory only and are gone when the broker stops");
        }
        let metrics = Metrics::new(settings.metrics.clone());
        if let Some(tls) = &tls {
            metrics.watch_certificate(tls);
        }
        let memory = Memory::new(settings.limits.shares);
        let (life, reloads) = Life::new(level);
        let audit = Audit::start(settings.audit.file.as_deref())?;
        let start = |tracing| Tracer::start(tracing, Arc::clone(&metrics));
        let tracer = settings.tracing.as_ref().map(start).transpose().context("spans")?;
        let (told, traced) = (audit.clone(), tracer.clone());
        let common = common(
            &settings,
            Arc::clone(&metrics),
            Arc::clone(&memory),
            life.clone(),
            told,
            traced,
        );
        let default = Namespace::start(&common, default_plan(&settings)?)?;
        let maker = settings.test_control.then(|| Maker {
            common: common.clone(),
            core: settings.core,
            virtual_time: settings.virtual_time,
        });
        let namespaces = Namespaces::new(default, maker);
        let back_up = |namespace: &str, store: &Arc<dyn Store>| {
            if !settings.ephemeral {
                let (namespace, store) = (namespace.to_owned(), Arc::clone(store));
                let dir = store_dir(&settings.data_dir, &namespace);
                common.backups.add(Source { namespace, dir, store });
            }
        };
        back_up("", namespaces.default().store());
        for declared in &settings.namespaces {
            let name = declared.name.clone();
            let started = further_plan(&settings, declared)
                .and_then(|plan| Namespace::start(&common, plan))
                .with_context(|| format!("the namespace {name}"))?;
            back_up(name.as_str(), started.store());
            namespaces.add(name, started);
        }
        let (stop, stopped) = watch::channel(false);
        let tasks = TaskTracker::new();
        let others = settings.namespaces.iter().map(|declared| &declared.authority);
        let all = others.chain([&settings.authority]);
        let first = all.map(|authority| authority.start_issuers(&tasks, &stopped));
        FirstAnswers::wait(first.collect::<anyhow::Result<_>>()?).await;
        let door = Door {
            namespaces: namespaces.clone(),
            tls: tls.clone(),
            networks: Arc::new(settings.allowed_networks),
            plain_text: settings.plain_text,
            connections_max: settings.limits.connections_max,
            connections: Arc::new(AtomicUsize::new(0)),
            next_id: Arc::new(AtomicU64::new(1)),
            handshake_within: settings.limits.handshake_timeout,
            stop: stopped,
            tasks: tasks.clone(),
            metrics,
        };
        let mut addresses = Vec::new();
        for listener in listeners {
            addresses.push(listener.local_addr()?);
            tasks.spawn(listener::serve(listener, door.clone()));
        }
        if let Some(tls) = tls {
            tasks.spawn(tls::watch(tls, door.stop.clone()));
        }
        let stopped = door.stop.clone();
        tasks.spawn_blocking(move || pressure::watch(&memory, &stopped));
        let reader = reload::Reader::new(
            settings.source,
            settings.given,
            authorities,
            life.clone(),
            audit.clone(),
        );
        tasks.spawn(reload::watch(reader, reloads, door.stop.clone()));
        tasks.spawn(announce(namespaces.clone(), addresses, settings.emulator, door.stop));
        let Limits { drain_delay, stop_within, .. } = settings.limits;
        Ok(Self { namespaces, stop, tasks, life, audit, tracer, drain_delay, stop_within })
    }

    /// Says that it is not ready any more, stops to listen, tells the peers, waits for them within
    /// bounds, and closes the stores. Another signal cuts each wait short.
    async fn stop(self, signals: &mut StopSignals) -> anyhow::Result<()> {
        self.life.drain();
        if !self.drain_delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(self.drain_delay) => {}
                () = signals.come() => {}
            }
        }
        info!("stopping");
        self.stop.send_replace(true);
        self.namespaces.tell_all(Gone::Stopping);
        self.tasks.close();
        let is_over = tokio::select! {
            waited = tokio::time::timeout(self.stop_within, self.tasks.wait()) => waited.is_ok(),
            () = signals.come() => false,
        };
        if !is_over {
            warn!(connections = self.tasks.len(), "some connections did not close in time");
        }
        let stopped = self.namespaces.stop().await;
        if let Some(tracer) = &self.tracer {
            tracer.finish().await;
        }
        self.audit.finish().await;
        stopped?.context("the store did not close cleanly")?;
        info!("stopped");
        Ok(())
    }
}

/// What the default namespace has for itself.
fn default_plan(settings: &Settings) -> anyhow::Result<Plan> {
    let store = if settings.ephemeral {
        open::memory()
    } else {
        open::on_disk(&settings.data_dir, &settings.storage, Rank::First)?
    };
    Ok(Plan {
        // It is where everybody goes who is not found to belong elsewhere.
        hosts: Vec::new(),
        authority: Arc::clone(&settings.authority),
        store,
        clock: clock(settings),
        core: share(settings),
        declared: Declared { queues: settings.queues.clone(), topics: settings.topics.clone() },
        made: false,
    })
}

fn further_plan(settings: &Settings, namespace: &NamespaceSettings) -> anyhow::Result<Plan> {
    let store = if settings.ephemeral {
        open::memory()
    } else {
        let path = store_dir(&settings.data_dir, namespace.name.as_str());
        open::on_disk(&path, &settings.storage, Rank::Further)?
    };
    Ok(Plan {
        hosts: namespace.hosts.clone(),
        authority: Arc::clone(&namespace.authority),
        store,
        clock: clock(settings),
        core: share(settings),
        declared: Declared { queues: namespace.queues.clone(), topics: namespace.topics.clone() },
        made: false,
    })
}

/// Each namespace has one of its own.
fn clock(settings: &Settings) -> Clock {
    if settings.virtual_time { Clock::steerable() } else { Clock::real() }
}

/// The part of the memory for messages that each namespace gets.
fn share(settings: &Settings) -> BrokerSettings {
    let parts = 1 + settings.namespaces.len();
    let least = CACHE_BYTES_MIN.min(settings.core.cache_bytes_max);
    let cache_bytes_max = (settings.core.cache_bytes_max / parts).max(least);
    // As one of them would have it for itself: see the configuration.
    let window_bytes_max = (settings.core.window_bytes_max / parts).max(least / 8);
    BrokerSettings { cache_bytes_max, window_bytes_max, ..settings.core }
}

async fn bind(addresses: &[ListenAddress]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match TcpListener::bind((address.host(), address.port())).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if !address.is_needed => info!(%address, %error, "not listened at"),
            Err(error) => return Err(error).context(format!("cannot listen on {address}")),
        }
    }
    Ok(listeners)
}

/// Prints the ready line once a send and a receive have succeeded: scripts and containers wait for it.
async fn announce(
    namespaces: Namespaces,
    addresses: Vec<SocketAddr>,
    is_emulator: bool,
    mut stop: watch::Receiver<bool>,
) {
    if !namespaces.default().store().sends_allowed() {
        warn!("free disk space is below the reserve, the broker is not ready for sends");
    }
    for namespace in namespaces.all() {
        while namespace.probe().outcome().await.is_err() {
            tokio::select! {
                () = tokio::time::sleep(READY_POLL) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    crate::telemetry::print_ready(&addresses, is_emulator);
}

fn common(
    settings: &Settings,
    metrics: Arc<Metrics>,
    memory: Arc<Memory>,
    life: Life,
    audit: Audit,
    tracer: Option<Tracer>,
) -> Common {
    let engine = engine_config(settings);
    let mut with_certificate = engine.clone();
    // First, because some clients take the first that they know.
    with_certificate.sasl.mechanisms.insert(0, Symbol::from_static("EXTERNAL"));
    Common {
        engine: Arc::new(engine),
        engine_with_certificate: Arc::new(with_certificate),
        limits: settings.limits.clone(),
        origins: Arc::new(settings.allowed_origins.clone()),
        faults: settings.test_control,
        backups: Backups::new(settings.backup.clone(), metrics.backups()),
        metrics,
        memory,
        life,
        audit,
        tracer,
    }
}

/// Octets of incomplete messages of a connection: one of the largest there may be (100 MiB), and parts of
/// others beside it. What all connections hold is bounded by the memory they share.
const PARTIAL_BYTES_MAX: usize = 128 << 20;

/// What every connection is told that the broker does.
const CAPABILITIES: [&str; 3] = [SHARED_SUBS, DELAYED_DELIVERY, ANONYMOUS_RELAY];

fn engine_config(settings: &Settings) -> Config {
    let limits = &settings.limits;
    Config {
        container_id: Str::from(format!("peeklock-{}", std::process::id())),
        max_frame_size: limits.max_frame_size,
        channel_max: limits.sessions_per_connection.saturating_sub(1),
        links_max: limits.links_per_connection,
        partial_bytes_max: PARTIAL_BYTES_MAX,
        idle_timeout: Some(limits.idle_timeout),
        handshake_timeout: limits.handshake_timeout,
        // qpid-jms uses what it finds here.
        offered_capabilities: Some(CAPABILITIES.map(Symbol::from_static).to_vec()),
        ..Config::default()
    }
}

/// SIGTERM, and SIGINT of a terminal.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on they end nothing by themselves.
    fn wait_for() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
