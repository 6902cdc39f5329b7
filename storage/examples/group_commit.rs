//! What a durable message costs the store: each is put, and removed once that is durable.
//!
//! `cargo run --release -p peeklock-storage --example group_commit -- DIR [IN_FLIGHT [SECONDS [RATE]]]`
//!
//! With a rate (messages a second) it paces itself, which shows what wake-ups and syncs cost; without
//! one it keeps `IN_FLIGHT` messages under way.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measuring program prints rounded numbers"
)]

use std::env;
use std::error::Error;
use std::fs;
use std::sync::Mutex;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use peeklock_storage::rocks::Options;
use peeklock_storage::{Batch, CommitPosition, Key, RocksStore, ShardId, Store, Table};

const SHARD: ShardId = ShardId(0);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let dir = arguments.next().ok_or("usage: group_commit DIR [IN_FLIGHT [SECONDS [RATE]]]")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (in_flight, seconds, rate) = (number(256)?, number(5)?, number(0)?);

    let began = Instant::now();
    let store = RocksStore::open(&dir, Options::default())?;
    println!("opened in {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    let (sender, done) = channel();
    let sender = Mutex::new(sender);
    store.on_done(
        SHARD,
        Box::new(move |report| {
            if let Ok(sender) = sender.lock() {
                // Whoever no longer listens has measured enough.
                let _ = sender.send(report);
            }
        }),
    );

    let body = Bytes::from(
        (0..1024_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect::<Vec<_>>(),
    );
    // Other runs over the same folder must not use a key twice.
    let base = std::time::UNIX_EPOCH.elapsed()?.as_nanos() & 0xFFFF_FFFF_FFFF;
    let base = u64::try_from(base)? << 16;
    let row = |at: u64| Key::new().with_u32(7).with_u8(1).with_u64(base + at);
    let (mut puts, mut put_done, mut removed, mut removed_done) = (0, 0, 0, 0);
    let (mut position, mut groups) = (0, 0_u64);
    // What each outstanding position stands for: messages put and removed up to it.
    let mut outstanding = std::collections::VecDeque::new();
    let cpu_before = cpu_seconds()?;
    let began = Instant::now();
    let until = Duration::from_secs(seconds);
    while began.elapsed() < until || removed_done < puts {
        let wanted = if until <= began.elapsed() {
            puts
        } else if 0 < rate {
            (began.elapsed().as_secs_f64() * rate as f64) as u64
        } else {
            removed_done + in_flight
        };
        if puts < wanted || removed < put_done {
            let mut batch = Batch::default();
            // A paced sender sends one at a time, as its clients do.
            let upto = if 0 < rate { wanted.min(puts + 1) } else { wanted };
            (puts..upto).for_each(|at| batch.put(Table::Message, row(at), body.clone()));
            (removed..put_done).for_each(|at| batch.remove(Table::Message, row(at)));
            (puts, removed) = (puts.max(upto), put_done);
            position += 1;
            store.submit(SHARD, CommitPosition(position), batch)?;
            outstanding.push_back((position, puts, removed));
        } else if 0 < rate && outstanding.is_empty() {
            thread::sleep(Duration::from_micros(200));
            continue;
        }
        let mut report =
            if 0 < rate { done.try_recv() } else { done.recv().map_err(TryRecvError::from) };
        if 0 < rate && report == Err(TryRecvError::Empty) {
            thread::sleep(Duration::from_micros(50));
        }
        while let Ok(found) = report {
            found.result?;
            groups += 1;
            while let Some((at, puts, removed)) = outstanding.front().copied() {
                if found.through < CommitPosition(at) {
                    break;
                }
                (put_done, removed_done) = (puts, removed);
                outstanding.pop_front();
            }
            report = done.try_recv();
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds()?;
    println!(
        "{puts} messages put and removed in {elapsed:.1} s: {:.0}/s in {groups} groups",
        puts as f64 / elapsed
    );
    let each = |after: f64, before: f64| (after - before) * 1e6 / puts as f64;
    println!(
        "CPU for each: writer {:.2} µs, engine {:.2} µs",
        each(cpu.0, cpu_before.0),
        each(cpu.1, cpu_before.1)
    );
    let began = Instant::now();
    store.close()?;
    println!("closed in {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Time on a processor: of the writer's thread, and of all others but this program's own loop.
fn cpu_seconds() -> Result<(f64, f64), Box<dyn Error>> {
    let (mut writer, mut others) = (0.0, 0.0);
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let nanoseconds = fs::read_to_string(task.join("schedstat"))?;
        let nanoseconds: f64 = nanoseconds.split(' ').next().unwrap_or_default().parse()?;
        match fs::read_to_string(task.join("comm"))?.trim_end() {
            "store-writer" => writer += nanoseconds / 1e9,
            "group_commit" => {}
            _ => others += nanoseconds / 1e9,
        }
    }
    Ok((writer, others))
}
