//! A disk that fills up: sends are refused so that they are tried again, receivers go on, and
//! everything works again as soon as there is room.
//!
//! As root these run on a small file system in memory (tmpfs) of their own. Without the right to
//! mount one they use the folder of temporary files and a reserve above what is free there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};
use tempfile::TempDir;

/// How soon the broker has to notice that there is room again.
const NOTICE_WITHIN: Duration = Duration::from_secs(20);

const MIB: u64 = 1024 * 1024;

/// A file system of its own, unmounted at the end.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None` without the right to mount.
    fn mount(size: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves no more than `octets` free; removing the file that is returned makes room again.
    fn fill_up_to(&self, octets: u64) -> PathBuf {
        let ballast = self.path().join("ballast");
        let size = free(self.path()).saturating_sub(octets);
        let status = Command::new("fallocate")
            .args(["-l", &size.to_string()])
            .arg(&ballast)
            .status()
            .expect("fallocate can be run");
        assert!(status.success(), "{size} octets of ballast");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The folder below is removed after this; a mount that stays is seen there.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Octets that are free where `path` is.
fn free(path: &Path) -> u64 {
    let output =
        Command::new("df").args(["-B1", "--output=avail"]).arg(path).output().expect("df runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number of octets")
}

/// Sends until a message is accepted, each time with a link of its own.
#[track_caller]
fn send_until_accepted(broker: &TestBroker, text: &str) {
    let deadline = Instant::now() + NOTICE_WITHIN;
    loop {
        assert!(Instant::now() < deadline, "sends are refused although there is room");
        if try_send(&mut broker.peer(), text) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a message was accepted; a refusal has to be one that clients retry.
#[track_caller]
fn try_send(peer: &mut Peer, text: &str) -> bool {
    let mut link = peer.attach_sender("q");
    let id = peer.transfer(&mut link, &Message::data(text.to_owned()).encode());
    let accepted = match peer.expect_outcome(id) {
        DeliveryState::Accepted => true,
        DeliveryState::Rejected(Some(error)) => {
            assert_eq!(error.condition, *condition::SERVER_BUSY, "{error:?}");
            false
        }
        other => panic!("{other:?}"),
    };
    peer.detach(&link);
    accepted
}

#[test]
fn below_the_reserve_sends_are_refused_and_receivers_go_on() {
    let Some(disk) = SmallDisk::mount(512 * MIB) else { return by_a_reserve_above_what_is_free() };
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[storage]\nfree_space_reserve = \"100 MiB\"")
        .durable()
        .start_at(disk.path());
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    let ballast = disk.fill_up_to(90 * MIB);

    let deadline = Instant::now() + NOTICE_WITHIN;
    let mut accepted = 4;
    while try_send(&mut peer, "more") {
        accepted += 1;
        assert!(Instant::now() < deadline, "sends are accepted below the reserve");
        thread::sleep(Duration::from_millis(50));
    }
    let mut link = peer.attach_receiver("q");
    let first = peer.receive_one(&mut link);
    peer.complete(&first);
    let second = peer.receive_one(&mut link);
    peer.abandon(&second);
    assert!(!try_send(&mut peer, "still refused"));
    peer.detach(&link);

    fs::remove_file(ballast).expect("the ballast can be removed");
    send_until_accepted(&broker, "last");
    let texts = peer.drain_texts("q");
    assert_eq!(texts.len(), accepted);
    assert_eq!(
        (texts.first().map(String::as_str), texts.last().map(String::as_str)),
        (Some("2"), Some("last"))
    );
}

/// Without a disk of our own: a broker that was filled while there was room, started again with a
/// reserve that nothing can satisfy.
fn by_a_reserve_above_what_is_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let with_reserve = |reserve: &str| {
        TestBroker::with()
            .queue("q", "")
            .config(&format!("[storage]\nfree_space_reserve = {reserve}"))
            .durable()
    };
    let mut broker = with_reserve("0").start_at(dir.path());
    broker.peer().send_texts("q", &["1"]);
    assert!(broker.stop().success());
    // Readiness means that a send would succeed, so such a broker never says that it is ready.
    let reserve = (free(dir.path()) / MIB + 1024).to_string();
    let output =
        with_reserve(&format!("\"{reserve} MiB\"")).run_for(dir.path(), Duration::from_secs(3));
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("below the reserve"), "{said}");
}

/// Messages of 200 kB: more than the whole disk holds.
const ROUNDS: u64 = 3000;

#[test]
fn a_disk_without_any_room_loses_nothing_and_recovers_without_a_restart() {
    // Nothing but a file system of its own can be filled to the last octet without harm to others.
    let Some(disk) = SmallDisk::mount(512 * MIB) else { return };
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[storage]\nfree_space_reserve = 0")
        .durable()
        .start_at(disk.path());
    broker.peer().send_texts("q", &["1", "2", "3"]);
    let ballast = disk.fill_up_to(0);
    // The log has reserved some room until it has to grow. Then a write fails, and what it came to
    // is unknown: the connection ends, or the send is refused.
    let mut sent = 0_u64;
    'filling: for _ in 0..ROUNDS {
        let mut peer = broker.peer();
        let mut link = peer.attach_sender("q");
        peer.expect_to_be_cut();
        let transfer = peer.first_transfer(&mut link, 0, false);
        let message = Message::data(vec![0; 200_000]).with_id(sent).encode();
        let frame = peeklock_tests::raw::amqp_frame(0, &transfer.into(), &message);
        peer.write_anyway(&frame);
        loop {
            use peeklock_protocol::performative::Performative;
            match peer.performative_or_end() {
                Some(Performative::Disposition(outcome)) => match outcome.state {
                    Some(DeliveryState::Accepted) => {
                        sent += 1;
                        break;
                    }
                    _ => break 'filling,
                },
                Some(Performative::Flow(_)) => {}
                Some(_) | None => break 'filling,
            }
        }
    }
    assert!(sent < ROUNDS, "more was accepted than the disk holds");
    fs::remove_file(ballast).expect("the ballast can be removed");
    send_until_accepted(&broker, "after");
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    let mut texts = 0;
    let mut large = 0;
    loop {
        let batch = peer.drain(&mut link, 50);
        if batch.is_empty() {
            break;
        }
        for received in &batch {
            if received.payload.len() < 1000 {
                texts += 1;
            } else {
                large += 1;
            }
            peer.complete(received);
        }
    }
    assert_eq!(texts, 4, "three from before and one from after");
    assert!(sent <= large && large <= sent + 1, "{sent} accepted, {large} stored");
}
