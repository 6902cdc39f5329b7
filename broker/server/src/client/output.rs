//! What people and programs read: tables, JSON, questions, progress.

use std::io::{self, BufRead, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;

/// Writes text to standard output, as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write(text.as_bytes())
}

/// Writes a line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| Failure::Other(error.to_string()))?;
    line.push(b'\n');
    write(&line)
}

/// Writes bytes and sees to it that they are out: what was received is settled behind it.
pub(super) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// A word beside the result, for people alone.
pub(super) fn note(text: &str) {
    // Nothing depends on it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Rows below their headings, with two blanks between columns. Columns of numbers stand to the right.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let columns: Vec<(usize, bool)> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = || rows.iter().map(|row| cell(row, column));
            let widest = cells().map(|text| text.chars().count()).max().unwrap_or(0);
            let number = |text: String| text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            (widest.max(heading.len()), !rows.is_empty() && cells().all(number))
        })
        .collect();
    let mut out = String::new();
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (column, (width, right)) in columns.iter().enumerate() {
            let text = one_line(&cell(row, column));
            let padding = " ".repeat(width.saturating_sub(text.chars().count()));
            if *right {
                line.push_str(&padding);
            }
            line.push_str(&text);
            if !*right {
                line.push_str(&padding);
            }
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Without what moves a terminal: texts come from messages.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// Asks before something is lost. Without a terminal, and without `--yes`, the answer is no.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let no = |text: &str| Err(Failure::Refused(text.to_owned()));
    if !io::stdin().is_terminal() {
        return no("nothing was done: there is nobody to ask, so say --yes");
    }
    let mut err = io::stderr().lock();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().lock().read_line(&mut answer));
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => no("nothing was done"),
    }
}

/// A bar on standard error, when that is a terminal; of an unknown length if there is none.
pub(super) fn progress(len: Option<u64>, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr());
    let template = if len.is_some() {
        "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {msg}, {per_sec}"
    } else {
        "{elapsed_precise} {spinner} {human_pos} {msg}, {per_sec}"
    };
    bar.set_style(ProgressStyle::with_template(template).expect("a constant template that parses"));
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows =
            [["orders", "12"], ["a\u{1b}[2Jb", "5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&["NAME", "ACTIVE"], &rows),
            "\
NAME    ACTIVE
orders      12
a [2Jb       5
"
        );
        assert_eq!(table(&["NAME"], &[]), "NAME\n");
    }
}
