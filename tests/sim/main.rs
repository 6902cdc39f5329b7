//! The core under seeded faults: a world of clients, a store that crashes, and a model that knows
//! only what clients can see.
//!
//! `tests/run sim SEED` replays one seed. `PEEKLOCK_SIM_SEEDS` sets how many run, and
//! `PEEKLOCK_SIM_FIRST` the first of them.

mod clients;
mod lies;
mod model;
mod random;
mod seen;
mod workload;
mod world;

use seen::Seen;
use workload::Workload;
use world::{Faults, World};

/// Steps of a run, and runs of a test by default: seconds together, without optimization.
const STEPS: u32 = 1_000;
const SEEDS: u64 = 100;

/// What happens in every workload, and what happens only when things go wrong.
const ALWAYS: &[&str] = &[
    "accepted",
    "delivered",
    "completed",
    "abandoned",
    "released",
    "dead_lettered",
    "dead_lettered_by_attempts",
    "expired",
    "renewed",
    "lock_lost",
    "browsed",
    "described",
    "counted_exactly",
    "drained",
    "reloads",
];
const FAULTS: &[&str] =
    &["reads", "failed_reads", "refused_as_unavailable", "crashes", "failed_writes", "taken_back"];

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
    if world.numbers_are_complete {
        world.model.check_no_gaps();
    }
}

/// Runs the seeds that are wanted. Over all of them each of the things named must have happened: a
/// check that never saw the thing it guards shows nothing.
fn run_seeds(faults: Faults, workload: &Workload, expected: &[&[&str]]) {
    if let Some(seed) = number("PEEKLOCK_SIM_SEED") {
        run(seed, faults, workload);
        return;
    }
    let mut seen = Seen::default();
    let first = number("PEEKLOCK_SIM_FIRST").unwrap_or(1);
    let count = number("PEEKLOCK_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in first..first + count {
        seen.add(&run(seed, faults, workload));
    }
    let counts = seen.counts();
    for expected in expected.iter().flat_map(|list| list.iter()) {
        let count = counts.iter().find(|(what, _)| what == expected);
        let (_, count) = count.unwrap_or_else(|| panic!("nobody counts {expected}"));
        assert_ne!(*count, 0, "{expected} never happened: {seen:?}");
    }
}

/// Without faults and with them, in memory and with most messages on disk only.
fn prove(workload: Workload, expected: &[&str]) {
    run_seeds(Faults::NONE, &workload, &[ALWAYS, expected]);
    run_seeds(Faults::CRASHES, &workload, &[ALWAYS, FAULTS, expected]);
    let workload = workload.in_small_windows();
    run_seeds(Faults::CRASHES, &workload, &[ALWAYS, FAULTS, expected]);
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
    run_seeds(Faults::NONE, &Workload::mixed(), &[ALWAYS, &["taken"]]);
}

#[test]
fn a_crash_loses_nothing_accepted_and_returns_nothing_completed() {
    run_seeds(Faults::CRASHES, &Workload::mixed(), &[ALWAYS, FAULTS, &["taken", "stale_refused"]]);
}

#[test]
fn deep_backlogs_page_through_small_windows() {
    run_seeds(Faults::NONE, &Workload::backlog(), &[&["reads", "delivered", "completed"]]);
}

#[test]
fn deep_backlogs_page_through_small_windows_under_crashes() {
    run_seeds(Faults::CRASHES, &Workload::backlog(), &[FAULTS, &["delivered", "completed"]]);
}

#[test]
fn a_transaction_is_done_at_once_or_not_at_all() {
    let expected = &[
        "declared",
        "enlisted",
        "committed",
        "rolled_back",
        "not_committed",
        "sent_with_transactions",
        "settled_with_transactions",
    ];
    prove(Workload::transactions(), expected);
}

#[test]
fn a_forwarded_message_comes_to_rest_once() {
    prove(Workload::forwarding(), &["forwarded", "dead_letters_forwarded", "too_many_hops"]);
}

#[test]
fn a_scheduled_message_comes_at_its_time() {
    let expected = &["scheduled", "activated", "cancelled", "not_cancelled", "browsed_scheduled"];
    prove(Workload::scheduling(), expected);
}

#[test]
fn a_session_has_one_holder_and_keeps_its_order() {
    let expected = &[
        "sessions_opened",
        "next_sessions",
        "sessions_refused",
        "session_waits",
        "withdrawn",
        "sessions_lost",
        "sessions_renewed",
        "session_lock_lost",
        "session_deliveries",
        "states_set",
        "states_got",
        "listed",
        "listed_exactly",
        "browsed_in_session",
    ];
    prove(Workload::sessions(), expected);
}

#[test]
fn a_deferred_message_comes_when_it_is_asked_for() {
    let expected = &["deferred", "fetched", "not_fetched", "browsed_deferred"];
    prove(Workload::deferral(), expected);
}

#[test]
fn as_many_messages_are_deleted_as_clients_are_told() {
    prove(Workload::deletion(), &["batch_deleted"]);
}

#[test]
fn an_expired_message_is_not_delivered() {
    prove(Workload::expiry(), &["expired_to_dead_letter", "found_expired"]);
}

#[test]
fn a_duplicate_is_delivered_once() {
    prove(Workload::duplicates(), &["duplicates"]);
}

#[test]
fn each_subscription_gets_each_message_it_asked_for_once() {
    let expected = &[
        "published",
        "published_later",
        "wanted_by_nobody",
        "copies_delivered",
        "changed_copies",
        "failed_filters",
        "came_or_went",
        "left_with_entity",
        "duplicates",
        "forwarded",
        "session_deliveries",
        "expired_to_dead_letter",
        "dead_letters_forwarded",
        "scheduled",
        "cancelled",
        "deferred",
        "fetched",
    ];
    prove(Workload::topics(), expected);
}

#[test]
fn features_do_not_get_in_each_others_way() {
    let expected = &[
        "scheduled",
        "activated",
        "cancelled",
        "deferred",
        "fetched",
        "expired_to_dead_letter",
        "found_expired",
        "duplicates",
        "forwarded",
        "dead_letters_forwarded",
        "sessions_opened",
        "sessions_lost",
        "session_deliveries",
        "browsed_aside_in_session",
        "states_set",
        "committed",
        "rolled_back",
        "not_committed",
        "sent_with_transactions",
        "settled_with_transactions",
        "published",
        "published_later",
        "copies_delivered",
        "changed_copies",
        "failed_filters",
        "came_or_went",
        "left_with_entity",
    ];
    prove(Workload::everything(), expected);
}
