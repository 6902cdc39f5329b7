//! The core under seeded faults: a world of clients, a store that crashes, and a model that knows
//! only what clients can see.
//!
//! `tests/run sim SEED` replays one seed. `PEEKLOCK_SIM_SEEDS` sets how many run.

mod clients;
mod model;
mod random;
mod seen;
mod workload;
mod world;

use seen::Seen;
use workload::Workload;
use world::{Faults, World};

/// Steps of a run, and runs of a test by default: seconds together, without optimization.
const STEPS: u32 = 2_000;
const SEEDS: u64 = 100;

/// What happens only when things go wrong.
const FAULTS: &[&str] =
    &["refused_as_unavailable", "failed_reads", "crashes", "failed_writes", "unknown"];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn run(seed: u64, faults: Faults, workload: &Workload) -> Seen {
    let replay = Replay(seed);
    let mut world = World::new(seed, faults, workload);
    for _ in 0..STEPS {
        world.step(workload);
    }
    finish(&mut world);
    drop(replay);
    world.model.seen
}

fn finish(world: &mut World) {
    world.heal();
    world.check_reload();
    world.drain();
    world.check_reload();
    world.model.check_at_the_end();
}

/// Runs the seeds that are wanted. Over all of them each thing must have happened, but for those
/// named: a check that never saw the thing it guards shows nothing.
fn run_seeds(faults: Faults, workload: &Workload, not_expected: &[&str]) {
    if let Some(seed) = number("PEEKLOCK_SIM_SEED") {
        run(seed, faults, workload);
        return;
    }
    let mut seen = Seen::default();
    for seed in 1..=number("PEEKLOCK_SIM_SEEDS").unwrap_or(SEEDS) {
        seen.add(&run(seed, faults, workload));
    }
    for (what, count) in seen.counts() {
        let is_expected = !not_expected.contains(&what);
        assert_eq!(count != 0, is_expected, "{what} happened {count} times: {seen:?}");
    }
}

/// Prints how to see a failure again while its panic unwinds.
struct Replay(u64);

impl Drop for Replay {
    #[expect(clippy::print_stderr, reason = "whoever reads the failure has to see it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with: tests/run sim {}", self.0);
        }
    }
}

#[test]
fn a_message_is_never_lost_nor_held_twice() {
    let not_expected = [&["reads"], FAULTS].concat();
    run_seeds(Faults::NONE, &Workload::mixed(), &not_expected);
}

#[test]
fn a_crash_loses_nothing_accepted_and_returns_nothing_completed() {
    run_seeds(Faults::CRASHES, &Workload::mixed(), &[]);
}

#[test]
fn deep_backlogs_page_through_small_windows() {
    run_seeds(Faults::NONE, &Workload::backlog(), FAULTS);
}

#[test]
fn deep_backlogs_page_through_small_windows_under_crashes() {
    run_seeds(Faults::CRASHES, &Workload::backlog(), &[]);
}

/// A world in the middle of its work.
fn world_at_work(faults: Faults) -> World {
    let workload = Workload::mixed();
    let mut world = World::new(1, faults, &workload);
    for _ in 0..STEPS {
        world.step(&workload);
    }
    world
}

#[test]
#[should_panic(expected = "came back after it was Completed")]
fn a_completion_that_never_happened_is_noticed() {
    let mut world = world_at_work(Faults::NONE);
    while !world.pretend_a_completion() {
        world.step(&Workload::mixed());
    }
    finish(&mut world);
}

#[test]
#[should_panic(expected = "was accepted and is lost")]
fn a_lost_message_is_noticed() {
    let mut world = world_at_work(Faults::NONE);
    world.pretend_a_send();
    finish(&mut world);
}

#[test]
#[should_panic(expected = "came back after it was Completed")]
fn an_answer_before_its_write_is_durable_is_noticed() {
    let faults = Faults { store_lies: true, read: 0, slow_read: 0, ..Faults::CRASHES };
    finish(&mut world_at_work(faults));
}
