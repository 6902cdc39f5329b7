//! Frames recorded from real peers (`testdata/`, a folder per source) decode to what stands above
//! them, and what we encode ourselves (`testdata/peeklock`) is pinned byte for byte.
//!
//! An entry is a line `= ` with what the bytes are, and lines of hex. Lines with `#` are comments.
//! `GOLDEN_WRITE=1 cargo test -p peeklock-protocol --test golden` writes the `= ` lines anew: read
//! the difference before it is committed.

#![expect(clippy::unwrap_used, reason = "a test that unwraps wrongly fails, and should")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use peeklock_protocol::frame::{FrameHeader, FrameKind, ProtocolHeader, write_frame};
use peeklock_protocol::message::{Message, envelope};
use peeklock_protocol::performative::Performative;
use peeklock_protocol::sasl::SaslFrame;

/// What a recorded run of bytes is: a protocol header or a frame.
fn describe(octets: &Bytes) -> String {
    let head: &[u8; 8] = octets.first_chunk().unwrap();
    if head.starts_with(b"AMQP") {
        return format!("{:?}", ProtocolHeader::parse(*head));
    }
    let header = FrameHeader::parse(head, 1_048_576).unwrap();
    assert_eq!(usize::try_from(header.size).unwrap(), octets.len());
    let body = octets.slice(header.body_offset()..);
    match header.kind {
        FrameKind::Amqp if body.is_empty() => "empty frame".to_owned(),
        FrameKind::Amqp => {
            let (performative, payload) = Performative::decode(&body).unwrap();
            let mut text = format!("channel {}: {performative:?}", header.channel);
            if let Performative::Transfer(transfer) = &performative {
                let message = Message::decode(&payload).unwrap();
                write!(text, " {message:?}").unwrap();
                if transfer.message_format == Some(envelope::MESSAGE_FORMAT) {
                    for inner in envelope::split(&payload, 100).unwrap() {
                        write!(text, " holding {:?}", Message::decode(&inner).unwrap()).unwrap();
                    }
                }
            } else {
                assert!(payload.is_empty());
            }
            text
        }
        FrameKind::Sasl => format!("{:?}", SaslFrame::decode(&body).unwrap()),
        FrameKind::Other(kind) => panic!("a frame of type {kind}"),
    }
}

/// The same header or frame as we write it.
fn encode_again(octets: &Bytes) -> Bytes {
    let head: &[u8; 8] = octets.first_chunk().unwrap();
    if head.starts_with(b"AMQP") {
        return Bytes::copy_from_slice(&ProtocolHeader::parse(*head).to_octets());
    }
    let header = FrameHeader::parse(head, 1_048_576).unwrap();
    let body = octets.slice(header.body_offset()..);
    let mut out = BytesMut::new();
    write_frame(&mut out, header.kind, header.channel, |out| match header.kind {
        FrameKind::Sasl => SaslFrame::decode(&body).unwrap().encode(out),
        _ if body.is_empty() => {}
        _ => {
            let (performative, payload) = Performative::decode(&body).unwrap();
            performative.encode(out);
            if !payload.is_empty() {
                Message::decode(&payload).unwrap().encode(out);
            }
        }
    });
    out.freeze()
}

struct Entry {
    text: String,
    octets: Bytes,
}

fn parse(file: &str) -> Vec<Entry> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for line in file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(text) = line.strip_prefix("= ") {
            entries.push((text.to_owned(), Vec::new()));
        } else {
            let octets = line.split(' ').map(|octet| u8::from_str_radix(octet, 16).unwrap());
            entries.last_mut().unwrap().1.extend(octets);
        }
    }
    entries.into_iter().map(|(text, octets)| Entry { text, octets: octets.into() }).collect()
}

fn write_anew(path: &Path, file: &str, entries: &[Entry]) {
    let mut texts = entries.iter().map(|entry| describe(&entry.octets));
    let lines = file.lines().map(|line| match line.strip_prefix("= ") {
        Some(_) => format!("= {}\n", texts.next().unwrap()),
        None => format!("{line}\n"),
    });
    fs::write(path, lines.collect::<String>()).unwrap();
}

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = folders
        .filter(|path| path.is_dir())
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    files.sort();
    files
}

#[test]
fn recorded_frames_are_what_stands_above_them() {
    let write = std::env::var_os("GOLDEN_WRITE").is_some();
    let mut compared = 0;
    for path in files() {
        let file = fs::read_to_string(&path).unwrap();
        let entries = parse(&file);
        assert!(!entries.is_empty(), "{} holds nothing", path.display());
        if write {
            write_anew(&path, &file, &entries);
            continue;
        }
        for entry in entries {
            assert_eq!(describe(&entry.octets), entry.text, "in {}", path.display());
            compared += 1;
        }
    }
    assert!(write || compared >= 60, "only {compared} entries were compared");
}

#[test]
fn what_we_encode_stays_as_it_is() {
    let mut compared = 0;
    for path in files().iter().filter(|path| path.parent().unwrap().ends_with("peeklock")) {
        for entry in parse(&fs::read_to_string(path).unwrap()) {
            assert_eq!(encode_again(&entry.octets), entry.octets, "{}", entry.text);
            compared += 1;
        }
    }
    assert!(compared >= 15, "only {compared} entries were compared");
}

/// Real frames survive our own encoding, whatever encodings they chose.
#[test]
fn recorded_frames_mean_the_same_when_we_encode_them() {
    for path in files() {
        for entry in parse(&fs::read_to_string(path).unwrap()) {
            assert_eq!(describe(&encode_again(&entry.octets)), entry.text);
        }
    }
}
