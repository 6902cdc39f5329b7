//! `clock`: the time of a broker for tests.

use peeklock_tests::TestBroker;

use crate::{CommandLine, exit};

#[test]
fn the_clock_is_stopped_moved_and_let_go() {
    let broker = TestBroker::with().virtual_time().config("[[queue]]\nname = \"q\"\n").start();
    assert_eq!(broker.json(&["clock", "show"])["state"], "running");
    let stopped = broker.json(&["clock", "freeze"]);
    assert_eq!(stopped["state"], "frozen");
    let begin = stopped["milliseconds"].as_u64().expect("a time");
    broker.ok(&["send", "q", "later", "--at", &(begin + 60_000).to_string()]);
    assert_eq!(broker.ok(&["receive", "q", "--wait", "100ms", "--body"]), "");
    let moved = broker.json(&["clock", "advance", "1m"]);
    assert_eq!(moved["milliseconds"], begin + 60_000);
    assert_eq!(broker.ok(&["receive", "q", "--body"]), "later");
    broker.fails(&["clock", "freeze", "2020-01-31T12:00:00Z"], exit::REFUSED, "back");
    broker.fails(&["clock", "freeze", "noon"], exit::REFUSED, "2026-01-31T12:00:00Z");
    // As people see it; tokens of AMQP have ended then.
    let stopped = broker.ok(&["clock", "freeze", "2100-01-01T00:00:00Z"]);
    assert_eq!(stopped, "2100-01-01T00:00:00.000Z frozen\n");
    assert_eq!(broker.json(&["clock", "resume"])["state"], "running");
}

#[test]
fn most_brokers_have_the_time_of_day() {
    let broker = TestBroker::start();
    broker.fails(&["clock", "advance", "1m"], exit::REFUSED, "virtual");
}
