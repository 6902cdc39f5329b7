//! The command line for people: entities over the management API, messages over AMQP.
//!
//! It talks to a running broker through the same doors as everybody and knows nothing of this
//! process's own: `server` says where the broker is and who asks, `management` and `messaging` are
//! the two ways to it, and each command has a file. What a program may rely on: `--json` everywhere,
//! one line on standard error when something goes wrong, and the codes of [`crate::cli::exit`].

pub(crate) mod amqp;
mod backup;
pub(crate) mod carrier;
mod check;
mod clock;
mod control;
mod damaged;
mod dead_letters;
mod entities;
mod failure;
mod http;
mod input;
mod json;
mod life;
mod management;
mod messages;
mod messaging;
mod node;
mod outbox;
mod output;
mod peek;
mod properties;
mod purge;
mod receive;
mod replay;
mod requests;
mod restore;
mod rules;
mod selection;
mod send;
pub(crate) mod server;
mod show;
mod token;
mod topology;
mod transaction;
mod typed;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;

use self::failure::Failure;
use self::server::ConnectionArguments;
use crate::cli::exit;

/// What people can ask of a running broker.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Create, show, list, change and delete queues
    #[command(subcommand)]
    Queue(Box<entities::QueueCommand>),
    /// Create, show, list, change and delete topics
    #[command(subcommand)]
    Topic(Box<entities::TopicCommand>),
    /// Create, show, list, change and delete subscriptions of topics
    #[command(subcommand)]
    Subscription(Box<entities::SubscriptionCommand>),
    /// Create, show, list, change and delete rules of subscriptions
    #[command(subcommand)]
    Rule(Box<rules::RuleCommand>),
    /// Send messages to a queue or topic
    Send(Box<send::SendArguments>),
    /// Receive messages, and complete them
    Receive(Box<receive::ReceiveArguments>),
    /// Show messages and leave them where they are
    Peek(Box<peek::PeekArguments>),
    /// Remove messages from a queue or subscription
    Purge(Box<purge::PurgeArguments>),
    /// Look at dead letters, send them again, move or remove them
    #[command(subcommand)]
    Dlq(Box<dead_letters::DeadLetterCommand>),
    /// Export all entities as a configuration file, and make a broker have those of a file
    #[command(subcommand)]
    Topology(Box<topology::TopologyCommand>),
    /// Export all messages of a queue as JSON, and import them
    #[command(subcommand)]
    Messages(Box<messages::MessagesCommand>),
    /// Make, list and verify backups
    #[command(subcommand)]
    Backup(Box<backup::BackupCommand>),
    /// Make a data directory from a backup, or put one entity of it into one; needs no broker
    Restore(restore::RestoreArguments),
    /// Look whether the messages of a broker that does not run are whole; changes nothing
    Check(check::CheckArguments),
    /// Put right what stands beside the messages of a broker that does not run, if all messages are there
    Repair(check::RepairArguments),
    /// Read and steer the clock of a broker with virtual time: for tests
    #[command(subcommand)]
    Clock(Box<clock::ClockCommand>),
    /// Make a broker stop in good order: it is not ready any more, what is under way is finished
    Drain(Box<life::LifeArguments>),
    /// Make a broker read its configuration again, and show what is different
    Reload(Box<life::LifeArguments>),
    /// Show what a broker logs, or change it while it runs
    LogLevel(Box<life::LogLevelArguments>),
}

/// What all commands understand.
#[derive(clap::Args, Debug)]
pub struct Common {
    /// Write JSON: an object or a list, and for messages an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// Does what was asked for. It makes its own runtime: call it outside one.
pub fn run(command: &ClientCommand) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(command)),
        Err(error) => Err(Failure::Other(error.to_string())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` has got what it wanted.
        Err(Failure::OutputClosed) => ExitCode::from(exit::FAILED),
        Err(failure) => {
            // Nowhere is left to complain to when standard error is gone; the code still tells.
            let _ = writeln!(io::stderr(), "peeklock: {}", output::one_line(&failure.to_string()));
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn dispatch(command: &ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Queue(command) => entities::queue(command).await,
        ClientCommand::Topic(command) => entities::topic(command).await,
        ClientCommand::Subscription(command) => entities::subscription(command).await,
        ClientCommand::Rule(command) => rules::run(command).await,
        ClientCommand::Send(arguments) => send::run(arguments).await,
        ClientCommand::Receive(arguments) => receive::run(arguments).await,
        ClientCommand::Peek(arguments) => peek::run(arguments).await,
        ClientCommand::Purge(arguments) => purge::run(arguments).await,
        ClientCommand::Dlq(command) => dead_letters::run(command).await,
        ClientCommand::Topology(command) => topology::run(command).await,
        ClientCommand::Messages(command) => messages::run(command).await,
        ClientCommand::Backup(command) => backup::run(command).await,
        ClientCommand::Restore(arguments) => restore::restored(arguments),
        ClientCommand::Check(arguments) => check::checked(arguments),
        ClientCommand::Repair(arguments) => check::repaired(arguments),
        ClientCommand::Clock(command) => clock::run(command).await,
        ClientCommand::Drain(arguments) => life::drain(arguments).await,
        ClientCommand::Reload(arguments) => life::reload(arguments).await,
        ClientCommand::LogLevel(arguments) => life::log_level(arguments).await,
    }
}
