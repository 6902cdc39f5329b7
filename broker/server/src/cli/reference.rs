//! `docs/CLI.md` says what the options say: it is made of their definitions, and a test compares.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

const FRONT: &str = "# Command line

All commands of `peeklock`, made from their definitions (`peeklock COMMAND --help` says the same). The
commands of people talk to a running broker by its management API and by AMQP, as any program does.

## Reaching a broker

Commands that need a running broker take these options. Options win over the environment, and without
either it is the broker of this machine with the key of `peeklock serve --dev`. A key in the environment
does not count for a `--connection-string` that has one.

";

const BACK: &str = "## Exit codes

| Code | Means |
|---|---|
| 0 | done |
| 1 | failed for a reason without a code of its own: a file, unreadable data; an unhealthy broker |
| 2 | the command or the configuration is wrong |
| 3 | the broker could not start |
| 4 | the broker did not stop cleanly |
| 5 | the entity, rule or message is not there |
| 6 | the broker refused, or the person who was asked did |
| 7 | there is no broker, or it was lost on the way |
| 8 | `check`, `restore --entity`: all messages are there, and something beside them does not fit |
| 9 | `check`, `restore --entity`: something is lost or cannot be read |

Errors are one line on standard error. `--json` writes an object or a list on one line; messages are an
object a line, the form that `messages import` reads.

## What holds

- `receive` completes a message after it was written out: nothing is lost when the command ends early,
  and a message may be seen again. What was received and not written out goes back without an attempt,
  unless the command is killed. `--leave` ends when the first lock has a quarter of its time left.
- `send` and `messages import` send each line when it comes. They count as sent what the broker has
  accepted; when it refuses a message they stop, and name those it refused and those it did not answer.
- `dlq replay` and `dlq move` work in transactions of up to 40 messages and 8 MiB, or one larger message:
  a message is in the dead-letter queue or at its target, never in both or neither, even if the command
  is killed. They take what is there when they begin, and fail if they do not get all of it. A time to
  live counts anew. A target that drops duplicates, or forwards to one that does, is refused unless
  `--new-ids` or `--keep-ids` says what is meant.
- `purge` and `dlq drop` remove what is there when they begin, and leave scheduled, deferred and locked
  messages alone. `--filter` is a JMS selector, which the broker cannot apply to queues that require
  sessions.
- `messages import` sends what was exported as new messages: what the broker itself says of a message,
  such as its sequence number, is not kept.
- A message with parts that cannot be read, a text that is not UTF-8 for example, is shown as far as it
  can be. As JSON it has all its octets in `amqp`, which alone count for `messages import`. `dlq replay`
  and `dlq move` leave it where it is.
- `topology apply` never deletes without `--prune`, and then last. `topology export` writes all rules of
  subscriptions, and leaves out access rules and what is only kept for clients, such as partitioning.
  What clients made for themselves is neither written, compared nor deleted, which standard error says:
  subscriptions of JMS clients, and temporary queues and topics. A file with `[[namespace]]` is refused.
";

fn reference() -> String {
    let root = Cli::command().term_width(100);
    let mut out = FRONT.to_owned();
    let queue = root.find_subcommand("queue").and_then(|queue| queue.find_subcommand("list"));
    let connection = queue.expect("a command with a connection");
    table(&mut out, connection.get_arguments().filter(|arg| is_common(arg)));
    out.push_str("## Commands\n\n");
    for command in root.get_subcommands() {
        describe(&mut out, "peeklock", command, 3);
    }
    out.push_str(BACK);
    out
}

fn is_common(arg: &Arg) -> bool {
    arg.get_help_heading() == Some("Connection") || arg.get_id() == "json"
}

fn describe(out: &mut String, before: &str, command: &Command, level: usize) {
    let name = format!("{before} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let has_parts = command.get_subcommands().next().is_some();
    let mut usage = format!("{} `{name}", "#".repeat(level));
    for arg in command.get_positionals() {
        let values = values(arg);
        let shown = if arg.is_required_set() { values } else { format!("[{values}]") };
        let _ = write!(usage, " {shown}");
    }
    let _ = write!(out, "{usage}`\n\n{about}.\n\n");
    if has_parts {
        for part in command.get_subcommands() {
            describe(out, &name, part, level + 1);
        }
        return;
    }
    let own = |arg: &&Arg| arg.get_id() != "help" && !is_client(command, arg);
    table(out, command.get_arguments().filter(own));
}

/// What is said once for all commands of people.
fn is_client(command: &Command, arg: &Arg) -> bool {
    let has_connection =
        command.get_arguments().any(|arg| arg.get_help_heading() == Some("Connection"));
    has_connection && is_common(arg)
}

fn values(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn table<'a>(out: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut rows = String::new();
    for arg in arguments {
        let takes_value = arg.get_action().takes_values();
        let value = if takes_value { values(arg) } else { String::new() };
        let name = match (arg.get_long(), arg.get_short()) {
            (Some(long), Some(short)) => format!("-{short}, --{long} {value}"),
            (Some(long), None) => format!("--{long} {value}"),
            _ => value,
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy());
        let defaults: Vec<_> = defaults.collect();
        let default = match (takes_value, defaults.is_empty()) {
            (true, false) => format!(" [default: {}]", defaults.join(", ")),
            _ => String::new(),
        };
        let help = format!("{help}{default}").replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(rows, "| `{}` | {help} |", name.trim());
    }
    if !rows.is_empty() {
        let _ = write!(out, "| Option | Meaning |\n|---|---|\n{rows}\n");
    }
}

#[test]
fn the_reference_says_what_the_options_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CLI.md");
    let expected = reference();
    if std::env::var_os("PEEKLOCK_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &expected).expect("written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/CLI.md");
    assert!(
        found == expected,
        "docs/CLI.md is out of date: run this test with PEEKLOCK_WRITE_REFERENCE=1"
    );
}
