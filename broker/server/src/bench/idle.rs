//! Connections that are opened and then do nothing: what one costs the broker in memory.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::arguments::{Extent, Plan};
use super::client;
use super::failure::Failure;
use super::process::{Sample, raise_open_files_limit};
use super::report::{Idle, Process, Report, Run};
use super::shared::{Phase, Shared};

/// Connections that may be on their way at once; more would measure the listener's backlog.
const OPENING_MAX: usize = 64;

/// Opens the connections, holds them for the seconds, and closes them.
pub(super) async fn run(plan: Plan, connections: u32) -> Result<Report, Failure> {
    raise_open_files_limit()?;
    let hold_for = match plan.extent {
        Extent::For(length) => length,
        Extent::Count(_) | Extent::UntilQuiet => {
            return Err(Failure::Argument("--idle-connections needs --seconds".to_owned()));
        }
    };
    let sample = || plan.pid.map(Sample::take).transpose();
    let before = sample()?;
    let shared = Arc::new(Shared::new(plan.clone()));
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    let start = Instant::now();
    let mut held = JoinSet::new();
    let (ready, mut readiness) = tokio::sync::mpsc::channel(OPENING_MAX);
    for _ in 0..connections {
        held.spawn(hold(Arc::clone(&shared), Arc::clone(&opening), ready.clone()));
    }
    drop(ready);
    let mut open = 0;
    let mut failure = None;
    while open < connections && failure.is_none() {
        tokio::select! {
            Some(()) = readiness.recv() => open += 1,
            Some(ended) = held.join_next() => failure = Some(early(ended)),
        }
    }
    let open_seconds = start.elapsed().as_secs_f64();
    if failure.is_none() {
        tokio::select! {
            () = tokio::time::sleep(hold_for) => {}
            Some(ended) = held.join_next() => failure = Some(early(ended)),
        }
    }
    let after = sample()?;
    shared.enter(Phase::Stopping);
    let mut errors: Vec<String> = failure.iter().map(ToString::to_string).collect();
    while let Some(ended) = held.join_next().await {
        if let Ok(Err(failure)) = ended {
            errors.push(failure.to_string());
        }
    }
    let both = before.as_ref().zip(after.as_ref());
    let growth = both.map(|(before, after)| {
        let kib = |sample: &Sample| i64::try_from(sample.resident_kib).unwrap_or(i64::MAX);
        kib(after) - kib(before)
    });
    Ok(Report {
        run: Run::new(&plan, None),
        load: None,
        idle: Some(Idle {
            connections,
            held_seconds: hold_for.as_secs_f64(),
            open_seconds,
            memory_growth_kib: growth,
            #[expect(clippy::cast_precision_loss, reason = "KiB of memory fit 53 bits")]
            memory_kib_per_connection: growth.map(|kib| kib as f64 / f64::from(connections)),
        }),
        slow: None,
        broker: plan
            .pid
            .zip(both)
            .map(|(pid, (before, after))| Process::new(pid, before, after, 0)),
        client: None,
        errors,
    })
}

/// A connection that ends before it is told to has failed, even when it closed in good order.
fn early(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::EndedEarly,
        Ok(Err(failure)) => failure,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn hold(
    shared: Arc<Shared>,
    opening: Arc<Semaphore>,
    ready: tokio::sync::mpsc::Sender<()>,
) -> Result<(), Failure> {
    let permit = opening.acquire().await;
    let (mut client, _) = client::open(&shared.plan).await?;
    drop(permit);
    let _ = ready.send(()).await; // The run may have given up already.
    let mut phase = shared.watch_phase();
    while shared.phase() != Phase::Stopping {
        while client.event()?.is_some() {}
        let wake = async {
            drop(phase.changed().await);
            Ok(())
        };
        client.exchange(wake).await?;
    }
    Ok(client.close().await?)
}
