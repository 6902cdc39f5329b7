use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

fn scratch(name: &str) -> std::path::PathBuf {
    let name = format!("peeklock-audit-{}-{name}.jsonl", std::process::id());
    let path = std::env::temp_dir().join(name);
    // One that another run has left.
    let _ = std::fs::remove_file(&path);
    path
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn denied(number: u32) -> Event {
    Event::new(Door::Amqp, "sasl PLAIN", Outcome::Denied).because(number)
}

#[tokio::test]
async fn an_event_is_a_line_that_few_may_read() {
    let path = scratch("line");
    let audit = Audit::start(Some(&path)).unwrap();
    let event = Event::new(Door::Http, "PUT /{entity}", Outcome::Allowed)
        .who(Some("app".to_owned()))
        .from(Some(IpAddr::from([127, 0, 0, 1])), "localhost:5672")
        .about(&"q\n".repeat(1000));
    audit.record(event);
    audit.record(denied(1).about(""));
    audit.finish().await;
    let written = lines(&path);
    assert_eq!(written.len(), 2);
    assert!(written[1].get("entity").is_none(), "it is about none: {}", written[1]);
    assert_eq!(written[0]["who"], "app");
    assert_eq!(written[0]["peer"], "127.0.0.1");
    assert_eq!(written[0]["host"], "localhost:5672");
    assert_eq!(written[0]["outcome"], "allowed");
    assert_eq!(written[0]["entity"].as_str().unwrap().chars().count(), TEXT_CHARS_MAX);
    assert!(humantime::parse_rfc3339(written[0]["time"].as_str().unwrap()).is_ok());
    assert!(written[0].get("condition").is_none());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn refusals_above_the_rate_are_counted() {
    let path = scratch("rate");
    let audit = Audit::start(Some(&path)).unwrap();
    let many = REFUSALS_PER_SECOND * 3;
    for number in 0..many {
        audit.refused(|| denied(number));
    }
    audit.finish().await;
    let written = lines(&path);
    let (told, left_out): (Vec<_>, Vec<_>) =
        written.iter().partition(|line| line["door"] == "amqp");
    assert!(told.len() < many as usize, "all {many} were told");
    let counted: usize = left_out
        .iter()
        .map(|line| {
            assert_eq!(line["operation"], "leave out refusals");
            let condition = line["condition"].as_str().unwrap();
            condition.split(' ').next().unwrap().parse::<usize>().unwrap()
        })
        .sum();
    assert_eq!(told.len() + counted, many as usize, "none is lost without a word");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_new_second_begins_anew() {
    let begin = Instant::now();
    let mut refusals = Refusals { since: begin, told: REFUSALS_PER_SECOND };
    assert!(!refusals.admit(begin + Duration::from_millis(999)));
    assert!(refusals.admit(begin + Duration::from_secs(1)));
}

#[test]
fn what_finds_no_room_or_no_disk_is_counted_and_told() {
    // Nobody takes anything from this one.
    let (audit, entries) = Audit::desk();
    for number in 0..WAITING_MAX + 7 {
        audit.record(denied(u32::try_from(number).unwrap()));
    }
    let path = scratch("room");
    // A folder in its place cannot be written to.
    std::fs::create_dir(&path).unwrap();
    let sink = Sink::File { path: path.clone(), file: None };
    let mut writer = Writer::new(sink, Arc::clone(&audit.0.left_out));
    for _ in 0..10 {
        assert!(writer.take(&entries.recv().unwrap()));
    }
    std::fs::remove_dir(&path).unwrap();
    audit.record(denied(0));
    audit.0.entries.send(Entry::End).unwrap();
    while writer.take(&entries.recv().unwrap()) {}
    let written = lines(&path);
    let told = |what: &str| {
        let operation = format!("leave out {what}");
        let line = written.iter().find(|line| line["operation"] == operation.as_str());
        let line = line.unwrap_or_else(|| panic!("{what} in {written:?}"));
        let condition = line["condition"].as_str().unwrap();
        condition.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!((told("events"), told("write")), (7, 10));
    let events = written.iter().filter(|line| line["door"] == "amqp").count();
    assert_eq!(events, WAITING_MAX + 1 - 10, "all others");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_file_that_was_moved_is_made_again() {
    let (path, moved) = (scratch("moved"), scratch("away"));
    let audit = Audit::start(Some(&path)).unwrap();
    audit.record(denied(1));
    // Ends, and with it all that was recorded is written.
    audit.finish().await;
    std::fs::rename(&path, &moved).unwrap();
    let mut sink = Sink::file(&moved).unwrap();
    if let Sink::File { path: named, .. } = &mut sink {
        named.clone_from(&path);
    }
    let (audit, entries) = Audit::desk();
    let writer = Writer::new(sink, Arc::clone(&audit.0.left_out));
    audit.record(denied(2));
    audit.reopen();
    audit.record(denied(3));
    audit.0.entries.send(Entry::End).unwrap();
    writer.run(&entries);
    assert_eq!((lines(&moved).len(), lines(&path).len()), (2, 1));
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&moved).unwrap();
}
