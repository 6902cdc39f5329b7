//! The log check over logs written here, octet by octet.

use super::*;

/// Writes a log as the engine does.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    /// Where each record begins.
    starts: Vec<usize>,
    recyclable: Option<u32>,
}

impl Log {
    fn record(&mut self, payload: &[u8]) -> &mut Self {
        let header_len = if self.recyclable.is_some() { RECYCLABLE_HEADER_LEN } else { HEADER_LEN };
        let mut rest = payload;
        let mut is_first = true;
        loop {
            let left = BLOCK_LEN - self.bytes.len() % BLOCK_LEN;
            if left < header_len {
                self.bytes.resize(self.bytes.len() + left, 0);
            }
            if is_first {
                self.starts.push(self.bytes.len());
            }
            let left = BLOCK_LEN - self.bytes.len() % BLOCK_LEN - header_len;
            let (now, later) = rest.split_at(left.min(rest.len()));
            let kind = match (is_first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            self.fragment(kind, now);
            (rest, is_first) = (later, false);
            if rest.is_empty() {
                return self;
            }
        }
    }

    fn fragment(&mut self, kind: u8, payload: &[u8]) {
        let mut covered = match self.recyclable {
            None => vec![kind],
            Some(number) => [&[kind + 4][..], &number.to_le_bytes()].concat(),
        };
        covered.extend_from_slice(payload);
        let len = u16::try_from(payload.len()).unwrap();
        self.bytes.extend_from_slice(&mask(crc32c::crc32c(&covered)).to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&covered);
    }
}

/// Payloads without zeroes, of many lengths: some end at a block's edge.
fn sample() -> Log {
    let mut log = Log::default();
    for len in [10, 300, 20_000, 12_000, 70_000, 1, 33_000, 32_768 - 7, 5_000] {
        log.record(&vec![0xA5; len]);
    }
    log
}

fn check_logs(logs: &[&[u8]]) -> Result<Option<TornTail>, StoreError> {
    let dir = tempfile::tempdir().unwrap();
    for (index, log) in logs.iter().enumerate() {
        fs::write(dir.path().join(format!("{:06}.log", index + 4)), log).unwrap();
    }
    fs::write(dir.path().join("LOG"), "not a log of writes").unwrap();
    check(dir.path())
}

#[track_caller]
fn assert_torn(logs: &[&[u8]], offset: usize) {
    match check_logs(logs) {
        Ok(Some(tail)) => assert_eq!(tail.offset, offset as u64),
        other => panic!("expected a torn tail at {offset}, got {other:?}"),
    }
}

#[track_caller]
fn assert_damaged(logs: &[&[u8]], file: &str, offset: usize) {
    match check_logs(logs) {
        Err(StoreError::DamagedLog { file: found, offset: at, .. }) => {
            assert!(found.ends_with(file), "{found:?}");
            assert_eq!(at, offset as u64);
        }
        other => panic!("expected damage at {offset} of {file}, got {other:?}"),
    }
}

#[test]
fn whole_logs_are_whole() {
    assert_eq!(check_logs(&[]), Ok(None));
    assert_eq!(check_logs(&[&[]]), Ok(None));
    assert_eq!(check_logs(&[&sample().bytes, &[], &sample().bytes]), Ok(None));
    let mut recycled = Log { recyclable: Some(4), ..Log::default() };
    recycled.record(&[1; 100]).record(&vec![2; 40_000]);
    assert_eq!(check_logs(&[&recycled.bytes]), Ok(None));
}

#[test]
fn a_log_of_another_number_is_not_taken_for_this_one() {
    let mut recycled = Log { recyclable: Some(3), ..Log::default() };
    recycled.record(&[1; 100]);
    assert_torn(&[&recycled.bytes], 0);
}

#[test]
fn a_log_cut_anywhere_is_torn_at_the_last_whole_record() {
    let log = sample();
    let mut ends = log.starts.clone();
    ends.push(log.bytes.len());
    let cuts = (0..log.bytes.len())
        .filter(|cut| cut % 1_009 == 0 || ends.iter().any(|end| cut.abs_diff(*end) <= 8));
    for cut in cuts {
        let whole = Log { bytes: log.bytes[..cut].to_vec(), ..Log::default() };
        // A record ends where its last octet is, which may be short of the next one's start.
        let is_whole = check_logs(&[&whole.bytes]) == Ok(None);
        let begun = log.starts.iter().rev().find(|start| **start < cut).copied().unwrap_or(0);
        if is_whole {
            continue;
        }
        match check_logs(&[&whole.bytes]) {
            Ok(Some(tail)) => assert!(
                tail.offset <= begun as u64 && begun as u64 - tail.offset < 7,
                "cut at {cut}: {tail:?}"
            ),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn a_zeroed_tail_is_torn_wherever_it_begins() {
    let log = sample();
    for from in (0..log.bytes.len()).step_by(2_003) {
        let mut bytes = log.bytes.clone();
        bytes[from..].fill(0);
        let begun = log.starts.iter().rev().find(|start| **start <= from).copied().unwrap();
        match check_logs(&[&bytes]) {
            Ok(Some(tail)) => assert!(begun as u64 - tail.offset < 7, "from {from}: {tail:?}"),
            other => panic!("zeroes from {from}: {other:?}"),
        }
    }
}

#[test]
fn one_flipped_bit_before_the_last_record_is_damage() {
    let log = sample();
    let last = *log.starts.last().unwrap();
    for at in (0..last).step_by(997).chain(log.starts[..log.starts.len() - 1].iter().copied()) {
        let mut bytes = log.bytes.clone();
        bytes[at] ^= 0x10;
        if check_logs(&[&bytes]) == Ok(None) {
            // The octets between a block's last record and its end belong to nothing.
            assert!(log.bytes[at] == 0 && BLOCK_LEN - at % BLOCK_LEN < HEADER_LEN, "at {at}");
            continue;
        }
        assert!(matches!(check_logs(&[&bytes]), Err(StoreError::DamagedLog { .. })), "at {at}");
    }
}

#[test]
fn damage_names_the_file_and_the_offset() {
    let log = sample();
    let mut bytes = log.bytes.clone();
    bytes[log.starts[1] + 50] ^= 1;
    assert_damaged(&[&log.bytes, &bytes], "000005.log", log.starts[1]);
}

#[test]
fn a_torn_log_before_a_log_with_records_is_damage() {
    let log = sample();
    let torn = &log.bytes[..log.bytes.len() - 1];
    let last = *log.starts.last().unwrap();
    assert_torn(&[&log.bytes, torn], last);
    assert_torn(&[torn, &[]], last);
    assert_damaged(&[torn, &log.bytes], "000004.log", last);
}

#[test]
fn a_lost_page_inside_the_last_record_is_torn_but_a_flipped_bit_is_damage() {
    let mut log = Log::default();
    log.record(&[0xA5; 100]).record(&vec![0xA5; 200_000]);
    let end = log.starts[1];
    let mut lost = log.bytes.clone();
    lost[65_536..69_632].fill(0);
    assert_torn(&[&lost], end);
    let mut lost = log.bytes.clone();
    lost[69_632..73_728].fill(0);
    assert_torn(&[&lost], end);

    let mut flipped = log.bytes.clone();
    flipped[70_000] ^= 1;
    assert_damaged(&[&flipped], "000004.log", 65_536);
    // With a record behind it, not even a lost page is excused.
    log.record(&[0xA5; 100]);
    let mut lost = log.bytes.clone();
    lost[69_632..73_728].fill(0);
    assert_damaged(&[&lost], "000004.log", 65_536);
}

#[test]
fn a_wrong_length_does_not_hide_what_follows() {
    let log = sample();
    for (octet, value) in [(4, 0xFF), (5, 0xFF), (4, 0), (6, 77)] {
        let mut bytes = log.bytes.clone();
        bytes[log.starts[1] + octet] = value;
        assert_damaged(&[&bytes], "000004.log", log.starts[1]);
    }
}

#[test]
fn cutting_leaves_a_whole_log() {
    let log = sample();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("000004.log");
    fs::write(&file, &log.bytes[..log.bytes.len() - 2]).unwrap();
    let tail = check(dir.path()).unwrap().unwrap();
    cut(&tail).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), *log.starts.last().unwrap() as u64);
    assert_eq!(check(dir.path()), Ok(None));
}
