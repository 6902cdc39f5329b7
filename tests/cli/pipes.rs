//! Commands at the ends of pipes: those that write slowly, and those that stop reading.

use std::io::{Read as _, Write as _};

use peeklock_tests::TestBroker;

use crate::{CommandLine, exit, wait_until};

fn line(text: &str, session: Option<&str>) -> String {
    let properties = match session {
        Some(id) => format!("\"properties\":{{\"group_id\":\"{id}\"}},"),
        None => String::new(),
    };
    format!("{{{properties}\"body\":{{\"text\":\"{text}\"}}}}\n")
}

#[test]
fn a_line_is_sent_when_it_comes() {
    let broker = TestBroker::start();
    let objects = [line("three", None), line("four", None)];
    let sends: [(&[&str], [&str; 2]); 2] = [
        (&["send", "q", "--lines"], ["one\n", "two\n"]),
        (&["messages", "import", "q"], [&objects[0], &objects[1]]),
    ];
    let mut sent = 0;
    for (command, lines) in sends {
        let mut child = broker.command(command).spawn().expect("the binary runs");
        let mut input = child.stdin.take().expect("a pipe");
        for line in lines {
            input.write_all(line.as_bytes()).expect("it reads");
            sent += 1;
            wait_until("the line is sent", || broker.counts(&["queue", "show", "q"]).0 == sent);
        }
        drop(input);
        let output = child.wait_with_output().expect("a child of ours");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(broker.ok(&["receive", "q", "--count", "4", "--body"]), "onetwothreefour");
}

#[test]
fn only_what_the_broker_has_accepted_counts_as_sent() {
    let broker = TestBroker::with().queue("q", "").queue("s", "requires_session = true").start();
    let mut lines: Vec<String> = (1..=12).map(|number| line(&number.to_string(), None)).collect();
    lines[10] = "{\"body\":5}\n".to_owned();
    let done = broker.call_with(&["messages", "import", "q"], &lines.concat());
    assert_eq!(done.code, exit::FAILED, "{done:?}");
    assert!(done.err.contains("line 11") && done.err.contains("sent before: 10"), "{done:?}");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (10, 0));

    // What was on its way behind the one that is refused may be there as well.
    let mut lines: Vec<String> =
        (1..=200).map(|number| line(&number.to_string(), Some("one"))).collect();
    lines[2] = line("3", None);
    let done = broker.call_with(&["messages", "import", "s"], &lines.concat());
    assert_eq!(done.code, exit::REFUSED, "{done:?}");
    let (sent, refused) = done
        .err
        .split_once("sent before: ")
        .and_then(|(_, rest)| rest.trim_end_matches(")\n").split_once("; "))
        .expect("it says how far it came");
    assert_eq!(refused, "refused: line 3", "{done:?}");
    let sent: u64 = sent.parse().expect("a number");
    assert_eq!(broker.counts(&["queue", "show", "s"]), (sent, 0));
    assert!((2..200).contains(&sent), "{sent}");

    let done = broker.call(&["send", "s", "x", "--count", "3"]);
    assert!(done.err.contains("sent before: 0; refused: message 1"), "{done:?}");
}

#[test]
fn who_looks_at_the_first_costs_the_others_no_attempt() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 1").start();
    let body = "x".repeat(4096);
    broker.ok(&["send", "q", &body, "--count", "60"]);
    let mut child =
        broker.command(&["receive", "q", "--all", "--body"]).spawn().expect("the binary runs");
    let mut out = child.stdout.take().expect("a pipe");
    let mut first = vec![0; body.len()];
    out.read_exact(&mut first).expect("the first");
    drop(out);
    assert_eq!(child.wait().expect("a child of ours").code(), Some(exit::FAILED));
    // At once, and not when locks have ended: a pipe holds no more than some of them.
    let rest = broker.lines(&["receive", "q", "--all", "--wait", "500ms"]);
    assert!(30 <= rest.len(), "{}", rest.len());
    assert_eq!(rest[0]["header"]["delivery_count"], 0);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}

#[test]
fn what_is_left_has_one_attempt_more_however_long_one_waits() {
    let broker = TestBroker::with().queue("q", "lock_duration = \"5s\"").start();
    for body in ["a", "b", "c"] {
        broker.ok(&["send", "q", body]);
    }
    let left = broker.call(&["receive", "q", "--all", "--leave", "--wait", "15s", "--body"]);
    assert_eq!((left.code, left.out.as_str()), (0, "abc"), "{left:?}");
    assert!(left.err.contains("stopped early"), "{left:?}");
    let peeked = broker.lines(&["peek", "q"]);
    assert!(peeked.iter().all(|one| one["header"]["delivery_count"] == 1), "{peeked:?}");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (3, 0));
}

/// Where the broker's clock is not ours, only a message that comes again says that a lock has ended.
#[test]
fn what_comes_again_is_not_shown_again() {
    let broker = TestBroker::with().virtual_time().queue("q", "lock_duration = \"10s\"").start();
    broker.ok(&["clock", "freeze"]);
    broker.ok(&["clock", "advance", "30m"]);
    broker.ok(&["send", "q", "a"]);
    broker.ok(&["send", "q", "b"]);
    let mut child = broker
        .command(&["receive", "q", "--all", "--leave", "--wait", "60s", "--body"])
        .spawn()
        .expect("the binary runs");
    let mut out = child.stdout.take().expect("a pipe");
    let mut first = [0; 2];
    out.read_exact(&mut first).expect("both");
    broker.ok(&["clock", "advance", "11s"]);
    let mut more = String::new();
    out.read_to_string(&mut more).expect("UTF-8");
    assert_eq!((first, more.as_str()), (*b"ab", ""));
    assert_eq!(child.wait().expect("a child of ours").code(), Some(0));
    let peeked = broker.lines(&["peek", "q"]);
    assert!(peeked.iter().all(|one| one["header"]["delivery_count"] == 1), "{peeked:?}");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (2, 0));
}
