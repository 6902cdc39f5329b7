//! Lines of a file or of standard input, read beside the connection: a pipe may bring the next line in
//! an hour, and the broker wants to hear from us until then.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use tokio::sync::mpsc;

use super::failure::Failure;

/// The largest body: what one message may have on any broker.
pub(super) const BODY_BYTES_MAX: u64 = 100 << 20;

/// Lines read ahead of what is sent.
const LINES_AHEAD: usize = 16;

/// See the module.
pub(super) struct Lines {
    read: mpsc::Receiver<Result<Vec<u8>, Failure>>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut reader = open(path)?;
        let path = path.to_owned();
        let (sender, read) = mpsc::channel(LINES_AHEAD);
        let reading = move || {
            while let Some(line) = next_line(reader.as_mut(), &path).transpose() {
                let is_last = line.is_err();
                if sender.blocking_send(line).is_err() || is_last {
                    break;
                }
            }
        };
        // Nobody waits for it: it may hang in a read for ever, and ends with the process.
        let started = thread::Builder::new().name("input".to_owned()).spawn(reading);
        started.map_err(|error| Failure::Other(error.to_string()))?;
        Ok(Self { read })
    }

    /// The next line; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<u8>, Failure>> {
        self.read.recv().await
    }
}

/// Opens a file, or standard input.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The next line without its end, as octets: bodies need not be text.
fn next_line(mut reader: &mut dyn BufRead, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    // Base64 is longer than what it stands for, and a line has other sections besides.
    let limited = Read::take(&mut reader, 2 * BODY_BYTES_MAX).read_until(b'\n', &mut line);
    limited.map_err(|error| Failure::file(path, error))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}
