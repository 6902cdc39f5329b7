//! Reads the engine's log before the engine does, and refuses what the engine would silently cut.
//!
//! A write is acknowledged after its record was synced, and the next one is written only then. So a
//! crash can leave at most the last logical record unfinished. The engine's point-in-time recovery
//! stops at the first bad record wherever that is: with one flipped bit in the middle of the log it
//! opened with half of what was acknowledged, and said nothing. Hence the rule here:
//!
//! - a bad record with nothing valid behind it is a torn tail. It is cut off the file, so that a
//!   second crash during recovery does not find it in front of a newer log;
//! - a bad record with a valid one behind it, in its file or a later one, is damage.
//!
//! One case lies between. A large record is many fragments on many pages, and a power cut may keep
//! later pages and lose earlier ones. Fragments behind the bad spot that only *continue* a record
//! are taken for that, if the bad spot shows storage that was never written (zeroes); else, damage.
//!
//! The format: blocks of 32 KiB; in them fragments of a header (masked CRC-32C, length, type, and
//! the log's number for the recyclable types) and a payload; a block's last octets are zero when no
//! header fits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::io_error;
use crate::batch::StoreError;

const BLOCK_LEN: usize = 32 * 1024;
const HEADER_LEN: usize = 7;
const RECYCLABLE_HEADER_LEN: usize = 11;
/// The unit a disk writes or does not write.
const SECTOR_LEN: usize = 512;

/// An unfinished write at the end of the log, as a crash leaves it. It was never acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The file it was cut from.
    pub file: PathBuf,
    /// Where the last whole record ends, which is now the file's length.
    pub offset: u64,
    /// How many octets were cut.
    pub cut: u64,
}

/// Looks through the logs of a store that nobody has open. The error is [`StoreError::DamagedLog`].
pub(super) fn check(dir: &Path) -> Result<Option<TornTail>, StoreError> {
    let mut scan = Scan::default();
    for (number, file) in log_files(dir)? {
        scan.file(number, &file)?;
    }
    scan.verdict()
}

/// Cuts what [`check`] found.
pub(super) fn cut(tail: &TornTail) -> Result<(), StoreError> {
    let cut = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&tail.file)?;
        file.set_len(tail.offset)?;
        file.sync_all()
    };
    cut().map_err(|error| io_error("cut the torn tail of", &tail.file, &error))
}

/// `000123.log` and its like, in the order they were written.
pub(super) fn log_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let list = || -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let (true, true, Some(number)) = (is_log, path.is_file(), number) {
                files.push((number, path));
            }
        }
        files.sort();
        Ok(files)
    };
    list().map_err(|error| io_error("list", dir, &error))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Full,
    First,
    Middle,
    Last,
    /// About the log itself; carries no write.
    Meta,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parsed {
    /// A valid fragment, and its length with its header.
    Fragment(Kind, usize),
    /// The block holds nothing more.
    End,
    /// Not a fragment, why, and its length if the header can be believed.
    Bad(&'static str, Option<usize>),
}

/// The first bad record, and what came to light behind it.
struct Broken {
    file: PathBuf,
    /// Where the last whole record before it ends.
    keep: u64,
    file_len: u64,
    offset: u64,
    what: &'static str,
    is_unwritten: bool,
    is_continued: bool,
}

#[derive(Default)]
struct Scan {
    broken: Option<Broken>,
}

/// Where a file's reader stands.
struct Place<'a> {
    path: &'a Path,
    number: u64,
    len: u64,
    block_start: u64,
    /// Where the last whole logical record ended.
    keep: u64,
    /// Where the unfinished logical record began.
    open: Option<u64>,
}

impl Scan {
    fn file(&mut self, number: u64, path: &Path) -> Result<(), StoreError> {
        let failed = |error: io::Error| io_error("read", path, &error);
        let mut file = File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let mut place = Place { path, number, len, block_start: 0, keep: 0, open: None };
        let mut block = Vec::with_capacity(BLOCK_LEN);
        loop {
            block.clear();
            let wanted = BLOCK_LEN as u64;
            if Read::by_ref(&mut file).take(wanted).read_to_end(&mut block).map_err(failed)? == 0 {
                break;
            }
            self.block(&mut place, &block)?;
            place.block_start += block.len() as u64;
        }
        if let (Some(start), None) = (place.open, &self.broken) {
            self.break_at(&place, start, "record without an end", false);
        }
        Ok(())
    }

    fn block(&mut self, place: &mut Place<'_>, block: &[u8]) -> Result<(), StoreError> {
        let mut at = 0;
        loop {
            match parse(block, at, place.number) {
                Parsed::End => return Ok(()),
                Parsed::Fragment(kind, len) => {
                    let start = place.block_start + at as u64;
                    at += len;
                    let end = place.block_start + at as u64;
                    self.fragment(place, kind, start, end)?;
                }
                Parsed::Bad(what, len) => {
                    let next = resume(block, at, len, place.number);
                    let is_unwritten = is_unwritten(block, at..next.unwrap_or(block.len()));
                    match &mut self.broken {
                        None => {
                            let offset = place.block_start + at as u64;
                            self.break_at(place, offset, what, is_unwritten);
                        }
                        Some(broken) => broken.is_unwritten |= is_unwritten,
                    }
                    let Some(next) = next else { return Ok(()) };
                    at = next;
                }
            }
        }
    }

    fn fragment(
        &mut self,
        place: &mut Place<'_>,
        kind: Kind,
        start: u64,
        end: u64,
    ) -> Result<(), StoreError> {
        if let Some(broken) = &mut self.broken {
            match kind {
                Kind::Full | Kind::First => return Err(broken.damage()),
                Kind::Middle | Kind::Last => broken.is_continued = true,
                Kind::Meta => {}
            }
            return Ok(());
        }
        match (kind, place.open) {
            (Kind::Full | Kind::Meta, None) => place.keep = end,
            (Kind::First, None) => place.open = Some(start),
            (Kind::Middle | Kind::Meta, Some(_)) => {}
            (Kind::Last, Some(_)) => {
                place.open = None;
                place.keep = end;
            }
            (Kind::Full | Kind::First, Some(began)) => {
                self.break_at(place, began, "record without an end", false);
                return self.fragment(place, kind, start, end);
            }
            (Kind::Middle | Kind::Last, None) => {
                self.break_at(place, start, "record without a beginning", false);
                return self.fragment(place, kind, start, end);
            }
        }
        Ok(())
    }

    fn break_at(&mut self, place: &Place<'_>, offset: u64, what: &'static str, unwritten: bool) {
        self.broken = Some(Broken {
            file: place.path.to_owned(),
            keep: place.keep,
            file_len: place.len,
            offset,
            what,
            is_unwritten: unwritten,
            is_continued: false,
        });
    }

    fn verdict(self) -> Result<Option<TornTail>, StoreError> {
        match self.broken {
            None => Ok(None),
            Some(broken) if broken.is_continued && !broken.is_unwritten => Err(broken.damage()),
            Some(Broken { file, keep, file_len, .. }) => {
                Ok(Some(TornTail { file, offset: keep, cut: file_len - keep }))
            }
        }
    }
}

impl Broken {
    fn damage(&self) -> StoreError {
        StoreError::DamagedLog {
            file: self.file.clone(),
            offset: self.offset,
            what: self.what.to_owned(),
        }
    }
}

/// What stands at an offset of a block. Only the last block of a file is shorter than the others.
fn parse(block: &[u8], at: usize, log_number: u64) -> Parsed {
    let rest = block.get(at..).unwrap_or_default();
    if rest.is_empty() || (block.len() == BLOCK_LEN && rest.len() < HEADER_LEN) {
        return Parsed::End;
    }
    let Some((header, _)) = rest.split_first_chunk::<HEADER_LEN>() else {
        return Parsed::Bad("header cut short", None);
    };
    let [c0, c1, c2, c3, l0, l1, kind_octet] = *header;
    if *header == [0; HEADER_LEN] {
        return Parsed::Bad("zeroes where a record should be", None);
    }
    let (kind, header_len) = match kind_octet {
        1 => (Kind::Full, HEADER_LEN),
        2 => (Kind::First, HEADER_LEN),
        3 => (Kind::Middle, HEADER_LEN),
        4 => (Kind::Last, HEADER_LEN),
        5 => (Kind::Full, RECYCLABLE_HEADER_LEN),
        6 => (Kind::First, RECYCLABLE_HEADER_LEN),
        7 => (Kind::Middle, RECYCLABLE_HEADER_LEN),
        8 => (Kind::Last, RECYCLABLE_HEADER_LEN),
        9 | 10 | 130 => (Kind::Meta, HEADER_LEN),
        11 | 131 => (Kind::Meta, RECYCLABLE_HEADER_LEN),
        _ => return Parsed::Bad("unknown type of record", None),
    };
    let len = header_len + usize::from(u16::from_le_bytes([l0, l1]));
    let Some(fragment) = rest.get(..len) else {
        return Parsed::Bad("record longer than what is left", None);
    };
    // The type is covered by the checksum, and with it all that follows.
    let covered = fragment.get(HEADER_LEN - 1..).unwrap_or_default();
    if mask(crc32c::crc32c(covered)) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Parsed::Bad("checksum mismatch", Some(len));
    }
    if header_len == RECYCLABLE_HEADER_LEN {
        let wanted = u32::try_from(log_number & u64::from(u32::MAX)).unwrap_or_default();
        if fragment.get(HEADER_LEN..RECYCLABLE_HEADER_LEN) != Some(&wanted.to_le_bytes()) {
            return Parsed::Bad("record of an older log", Some(len));
        }
    }
    Parsed::Fragment(kind, len)
}

/// Where the next valid fragment of the block stands: behind the bad one if its length was right,
/// else wherever one is found.
fn resume(block: &[u8], bad: usize, len: Option<usize>, log_number: u64) -> Option<usize> {
    if let Some(len) = len {
        match parse(block, bad + len, log_number) {
            Parsed::Fragment(..) => return Some(bad + len),
            // The length fits what there is, so there is no reason to search inside.
            Parsed::End => return None,
            Parsed::Bad(..) => {}
        }
    }
    (bad + 1..block.len()).find(|at| matches!(parse(block, *at, log_number), Parsed::Fragment(..)))
}

/// Whether a stretch begins with zeroes or holds a sector of nothing else.
fn is_unwritten(block: &[u8], stretch: Range<usize>) -> bool {
    let is_zero = |octets: &[u8]| octets.iter().all(|octet| *octet == 0);
    let begins_with_zeroes =
        block.get(stretch.start..stretch.start + HEADER_LEN).is_some_and(is_zero);
    let first_sector = stretch.start.next_multiple_of(SECTOR_LEN);
    let sectors = block.get(first_sector..stretch.end).unwrap_or_default();
    begins_with_zeroes || sectors.chunks_exact(SECTOR_LEN).any(is_zero)
}

/// Checksums in the log are stored masked, as a checksum of data that holds checksums is weak.
const fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
#[path = "wal_check_tests.rs"]
mod tests;
