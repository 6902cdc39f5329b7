//! The load generator against a small broker: the engine's server role, with queues in memory and
//! a fault of choice.

mod broker;

use std::time::Duration;

use clap::Parser as _;

use self::broker::{Fault, TinyBroker};
use super::arguments::{Arguments, Plan, SettleMode};
use super::failure::Failure;
use super::report::{Load, Report};
use super::run::run;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

async fn bench(broker: &TinyBroker, line: &str) -> Result<Report, Failure> {
    let address = broker.address().to_string();
    let words = ["bench", "--address", &address].into_iter().chain(line.split_whitespace());
    let arguments = Line::try_parse_from(words).expect("the line parses").arguments;
    let plan = Plan::new(&arguments).expect("the arguments are valid");
    tokio::time::timeout(Duration::from_mins(1), run(plan)).await.expect("the run comes to an end")
}

async fn sound(broker: &TinyBroker, line: &str) -> Load {
    let report = bench(broker, line).await.expect("the run takes place");
    assert_eq!(report.errors, [""; 0]);
    report.load.expect("something moved")
}

#[track_caller]
fn assert_error(report: &Report, part: &str) {
    let found = report.errors.iter().any(|error| error.contains(part));
    assert!(found, "no {part:?} in {:?}", report.errors);
}

#[tokio::test]
async fn every_message_of_a_counted_run_is_accepted_received_and_completed() {
    let broker = TinyBroker::start(Fault::None).await;
    let load = sound(&broker, "--count 3000 --credit 50 --in-flight 70").await;
    let counts = [load.accepted, load.received, load.completed].map(|c| (c.measured, c.total));
    assert_eq!(counts, [(3000, 3000); 3]);
    assert_eq!(load.accept_latency_ms.expect("recorded").count, 3000);
    let end_to_end = load.end_to_end_latency_ms.expect("recorded");
    assert_eq!(end_to_end.count, 3000);
    assert!(0.0 < end_to_end.p50 && end_to_end.p50 <= end_to_end.max);
    assert_eq!(broker.depth("bench"), 0);
}

#[tokio::test]
async fn many_connections_share_the_count() {
    let broker = TinyBroker::start(Fault::None).await;
    let line = "--count 1001 --senders 3 --receivers 4 --credit 7 --size 3000 --threads 2";
    let load = sound(&broker, line).await;
    assert_eq!((load.accepted.total, load.received.total, load.repeated), (1001, 1001, 0));
}

#[tokio::test]
async fn a_timed_run_counts_the_measured_time_alone_and_loses_nothing() {
    let broker = TinyBroker::start(Fault::None).await;
    let load = sound(&broker, "--seconds 0.3 --warm-up 0.1 --in-flight 20").await;
    assert!(0 < load.accepted.measured && load.accepted.measured < load.accepted.total);
    assert_eq!(load.accepted.total, load.received.total);
    assert_eq!(load.received.total, load.completed.total);
    assert!(0.3 <= load.seconds);
}

#[tokio::test]
async fn a_paced_run_sends_what_is_due_and_no_more() {
    let broker = TinyBroker::start(Fault::None).await;
    let load = sound(&broker, "--rate 500 --senders 2 --seconds 0.4 --warm-up 0").await;
    // Due by the end: one at 0, then one each 2 ms. The machine may make the run longer, not faster.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let due = (load.seconds * 500.0) as u64 + 2;
    assert!(0 < load.accepted.total && load.accepted.total <= due, "{load:?}");
}

#[tokio::test]
async fn latency_counts_from_when_a_message_was_due() {
    let pause = Duration::from_millis(150);
    let broker = TinyBroker::start(Fault::PauseOnce(pause)).await;
    let load = sound(&broker, "--rate 1000 --in-flight 10 --count 200").await;
    // Only the first ten were under way in the pause; the others waited for their turn, and that
    // is latency as well.
    let latency = load.accept_latency_ms.expect("recorded");
    assert!(40.0 < latency.p50, "{latency:?}");
}

#[tokio::test]
async fn a_backlog_is_filled_and_drained() {
    let broker = TinyBroker::start(Fault::None).await;
    let filled = sound(&broker, "--fill --count 700").await;
    assert_eq!((filled.accepted.measured, filled.received.total), (700, 0));
    assert_eq!(broker.depth("bench"), 700);

    let some = sound(&broker, "--drain --count 300 --receivers 2 --credit 64").await;
    assert_eq!((some.foreign.measured, some.completed.measured), (300, 300));
    assert_eq!(broker.depth("bench"), 400);

    let rest = sound(&broker, "--drain --settle-mode first").await;
    assert_eq!((rest.foreign.measured, rest.completed.measured), (400, 400));
    assert!(100.0 < rest.completed.per_second, "the quiet time at the end is not counted");
}

#[tokio::test]
async fn messages_of_an_earlier_run_are_counted_apart() {
    let broker = TinyBroker::start(Fault::None).await;
    sound(&broker, "--fill --count 50").await;
    let load = sound(&broker, "--count 100").await;
    assert_eq!((load.received.total, load.foreign.total, load.completed.total), (100, 50, 150));
    assert_eq!(load.end_to_end_latency_ms.expect("recorded").count, 100);
}

#[tokio::test]
async fn receive_and_delete_needs_no_dispositions() {
    let broker = TinyBroker::start(Fault::None).await;
    let load = sound(&broker, "--count 500 --mode receive-and-delete").await;
    assert_eq!((load.received.total, load.completed.total), (500, 500));
    assert_eq!(broker.dispositions(), 0);
}

#[tokio::test]
async fn the_settle_mode_the_broker_offers_counts() {
    let broker = TinyBroker::start(Fault::FirstOnly).await;
    let report = bench(&broker, "--count 200 --settle-mode second").await.expect("runs");
    assert_eq!(report.errors, [""; 0]);
    assert_eq!(report.run.settle_mode, Some(SettleMode::First));
}

#[tokio::test]
async fn target_and_source_may_differ() {
    let broker = TinyBroker::start(Fault::None).await;
    sound(&broker, "--fill --count 3 --target /queues/a").await;
    assert_eq!((broker.depth("/queues/a"), broker.depth("bench")), (3, 0));
    sound(&broker, "--drain --count 3 --source /queues/a --anonymous").await;
    assert_eq!(broker.depth("/queues/a"), 0);
}

#[tokio::test]
async fn rejected_sends_are_an_error_with_the_reason() {
    let broker = TinyBroker::start(Fault::RejectEvery(10)).await;
    let report = bench(&broker, "--count 100").await.expect("runs");
    assert_error(&report, "10 sends were rejected: amqp:resource-limit-exceeded: full");
    assert_eq!(report.load.expect("some moved").received.total, 90);
}

#[tokio::test]
async fn a_message_delivered_twice_is_an_error() {
    let broker = TinyBroker::start(Fault::RepeatEvery(25)).await;
    let report = bench(&broker, "--count 100").await.expect("runs");
    assert_error(&report, "4 messages came more than once");
}

#[tokio::test]
async fn a_lost_connection_is_an_error() {
    let broker = TinyBroker::start(Fault::HangUpAfter(40)).await;
    let report = bench(&broker, "--count 100").await.expect("runs");
    assert_error(&report, "connection"); // reset or ended: the kernel decides
    assert_error(&report, "the rest is unknown");
}

#[tokio::test]
async fn a_refused_attach_says_what_the_broker_said() {
    let broker = TinyBroker::start(Fault::RefuseAttach).await;
    let report = bench(&broker, "--count 1").await.expect("runs");
    assert_error(&report, "detached the link: amqp:not-found: no such queue");
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_one() {
    let broker = TinyBroker::start(Fault::None).await;
    let report = bench(&broker, "--count 1 --password wrong").await.expect("runs");
    assert_error(&report, "refused the login");
}

#[tokio::test]
async fn idle_connections_are_held_and_weighed() {
    let broker = TinyBroker::start(Fault::None).await;
    let line = format!("--idle-connections 100 --seconds 0.05 --pid {}", std::process::id());
    let report = bench(&broker, &line).await.expect("runs");
    assert_eq!(report.errors, [""; 0]);
    let idle = report.idle.expect("held");
    assert_eq!(idle.connections, 100);
    assert!(idle.memory_growth_kib.is_some());
    assert_eq!(broker.connections(), 100);
}

#[tokio::test]
async fn slow_connections_speak_and_come_back() {
    let broker = TinyBroker::start(Fault::None).await;
    let line = "--slow-connections 30 --seconds 2.5 --warm-up 0";
    let report = bench(&broker, line).await.expect("runs");
    assert_eq!(report.errors, [""; 0]);
    let slow = report.slow.expect("spoke");
    assert_eq!(slow.connections, 30);
    assert!(0 < slow.octets);
    assert!(30 <= broker.connections());
}

#[tokio::test]
async fn the_cpu_time_of_a_process_is_divided_by_the_messages() {
    let broker = TinyBroker::start(Fault::None).await;
    let line = format!("--count 2000 --pid {}", std::process::id());
    let report = bench(&broker, &line).await.expect("runs");
    let process = report.broker.expect("measured");
    let each = process.cpu_us_per_message.expect("messages moved");
    assert!(0.0 < each);
    assert!((each * 2000.0 / 1e6 - process.cpu_seconds).abs() < 1e-9);
    assert!(0 < process.memory_kib && process.memory_kib <= process.memory_peak_kib);
}

#[tokio::test]
async fn nobody_listening_is_an_error_and_waiting_for_it_is_not() {
    let reserved = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = reserved.local_addr().expect("bound");
    drop(reserved);
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        TinyBroker::start_at(address, Fault::None).await
    });
    let line = |wait| format!("--address {address} --count 1 --wait {wait}");
    let plan = |line: String| {
        let words = std::iter::once("bench").chain(line.split_whitespace()).map(str::to_owned);
        let words: Vec<String> = words.collect();
        Plan::new(&Line::try_parse_from(words).expect("parses").arguments).expect("valid")
    };
    let report = run(plan(line(0))).await.expect("a report");
    assert_error(&report, "cannot connect");
    let report = run(plan(line(20))).await.expect("a report");
    assert_eq!(report.errors, [""; 0]);
    later.await.expect("the broker started");
}
