use std::num::NonZeroU64;

use clap::Parser as _;
use serde_json::Value;

use super::*;
use crate::bench::arguments::Arguments;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn plan(line: &str) -> Plan {
    let words = std::iter::once("bench").chain(line.split_whitespace());
    let arguments = Line::try_parse_from(words).expect("the line parses").arguments;
    Plan::new(&arguments).expect("the arguments are valid")
}

/// A run of 100 messages over a second, all well.
fn sound(start: Instant) -> Statistics {
    let mut statistics = Statistics::new(1);
    for number in 0..100 {
        let at = start + Duration::from_millis(10 * (number + 1));
        statistics.sent += 1;
        statistics.accepted.record(at, true);
        statistics.accept_latency.record(Duration::from_micros(200));
        statistics.deliveries += 1;
        assert!(statistics.see(0, number));
        statistics.received.record(at, true);
        statistics.end_to_end_latency.record(Duration::from_micros(400));
        statistics.completed.record(at, true);
    }
    statistics
}

fn report(plan: &Plan, statistics: &Statistics, start: Instant) -> Report {
    let window = Window { start, end: start + Duration::from_secs(1), fixed: true };
    Report {
        run: Run::new(plan, Some(SettleMode::Second)),
        load: Some(Load::new(statistics, window, &Clock::start())),
        idle: None,
        slow: None,
        broker: None,
        client: None,
        errors: check(plan, statistics),
    }
}

#[test]
fn the_json_has_what_scripts_read() {
    let start = Instant::now();
    let report = report(&plan("--rate 100 --seconds 1"), &sound(start), start);
    let json = serde_json::to_value(&report).expect("serialises");
    let at = |pointer: &str| json.pointer(pointer).cloned().unwrap_or_else(|| panic!("{pointer}"));
    assert_eq!(at("/errors"), Value::Array(vec![]));
    assert_eq!(at("/run/rate"), 100);
    assert_eq!(at("/run/mode"), "peek-lock");
    assert_eq!(at("/run/settle_mode"), "second");
    assert_eq!(at("/load/accepted/measured"), 100);
    assert_eq!(at("/load/completed/per_second"), 100.0);
    assert!(at("/load/accepted/first_at_unix_ms").is_f64());
    for latency in ["accept_latency_ms", "end_to_end_latency_ms"] {
        for name in ["p50", "p95", "p99", "p99.9", "max", "mean"] {
            assert!(at(&format!("/load/{latency}/{name}")).is_f64());
        }
    }
    assert_eq!(at("/broker"), Value::Null);
}

#[test]
fn the_table_shows_rates_and_latencies() {
    let start = Instant::now();
    let text = report(&plan("--seconds 1"), &sound(start), start).to_string();
    for part in ["accepted", "completed", "p99.9", "send to accepted", "end to end", "answered"] {
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }
    assert!(!text.contains("ERROR"), "{text}");
}

#[track_caller]
fn finds(spoil: impl FnOnce(&mut Statistics), part: &str) {
    let start = Instant::now();
    let mut statistics = sound(start);
    spoil(&mut statistics);
    let report = report(&plan("--seconds 1"), &statistics, start);
    assert!(!report.is_sound());
    assert!(report.errors.iter().any(|error| error.contains(part)), "{:?}", report.errors);
    assert!(report.to_string().contains("ERROR"));
}

#[test]
fn counts_that_do_not_add_up_are_errors() {
    let now = Instant::now();
    finds(|s| s.sent += 1, "outcomes");
    finds(|s| s.deliveries += 1, "settled to the end");
    finds(|s| s.repeated += 1, "more than once");
    finds(|s| s.completions_refused += 1, "completions were refused");
    let rejected = |s: &mut Statistics| {
        s.rejected += 1;
        s.refused(|| "amqp:resource-limit-exceeded".to_owned());
    };
    finds(rejected, "rejected: amqp:resource-limit-exceeded");
    finds(|s| s.released += 1, "neither accepted nor rejected");
    let lost = |s: &mut Statistics| {
        s.sent += 1;
        s.accepted.record(now, true);
    };
    finds(lost, "101 messages were accepted, but only 100 received");
}

#[test]
fn a_count_that_was_not_reached_is_an_error() {
    let start = Instant::now();
    let mut plan = plan("--drain");
    plan.extent = Extent::Count(NonZeroU64::new(101).expect("not zero").get());
    let errors = report(&plan, &sound(start), start).errors;
    assert!(errors.iter().any(|error| error.contains("100 of 101")), "{errors:?}");
}

#[test]
fn cpu_time_is_per_completed_message_and_per_accepted_one_when_nothing_was_received() {
    let start = Instant::now();
    let window = Window { start, end: start + Duration::from_secs(1), fixed: true };
    let mut statistics = sound(start);
    statistics.accepted.record(start, true);
    let load = |statistics: &Statistics| Load::new(statistics, window, &Clock::start());
    assert_eq!(load(&statistics).messages(), 100);
    statistics.completed = Meter::default();
    assert_eq!(load(&statistics).messages(), 101);
}
