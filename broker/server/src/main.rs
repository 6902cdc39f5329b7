//! Parse, build, run, exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use peeklock::cli::{
    CertificateArguments, Cli, Command, HealthcheckArguments, ServeArguments, exit,
    write_completions,
};
use peeklock::serve::ServeError;
use peeklock::{bench, certificates, client, config, healthcheck, serve, telemetry};
use tracing::warn;

/// RocksDB allocates through it as well.
#[cfg(feature = "rocksdb")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => run_broker(arguments),
        Command::Healthcheck(arguments) => check_health(&arguments),
        Command::Cert(arguments) => make_certificates(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Client(command) => client::run(&command),
        Command::Completions { shell } => complete(shell),
    }
}

fn run_broker(arguments: ServeArguments) -> ExitCode {
    let is_check = arguments.is_check();
    let settings = match config::load(&arguments.overrides(), std::env::vars_os()) {
        Ok(settings) => settings,
        Err(error) => return fail(exit::CONFIGURATION, &error),
    };
    if is_check {
        return check_configuration(&settings);
    }
    let level = match telemetry::start(&settings.log) {
        Ok(level) => level,
        Err(error) => return fail(exit::START, &error),
    };
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let runtime = match serve::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(exit::START, &error),
    };
    match runtime.block_on(serve::serve(settings, level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ServeError::Start(_)) => fail(exit::START, &error),
        Err(error @ ServeError::Stop(_)) => fail(exit::STOP, &error),
    }
}

fn check_configuration(settings: &config::Settings) -> ExitCode {
    if let Err(error) = serve::check(settings) {
        return fail(exit::CONFIGURATION, &error);
    }
    for warning in &settings.warnings {
        // As below.
        let _ = writeln!(io::stderr(), "peeklock: warning: {warning}");
    }
    let mut out = io::stdout().lock();
    for (key, value) in settings.given.iter() {
        // A reader that goes away has what it wanted.
        let _ = writeln!(out, "{key} = {value}");
    }
    ExitCode::SUCCESS
}

fn check_health(arguments: &HealthcheckArguments) -> ExitCode {
    let tls = arguments.tls.then(|| healthcheck::authorities(arguments.ca.as_deref())).transpose();
    let checked =
        tls.and_then(|tls| healthcheck::check(&arguments.address, tls, arguments.timeout()));
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(exit::UNHEALTHY, &error),
    }
}

fn make_certificates(arguments: &CertificateArguments) -> ExitCode {
    match certificates::make(arguments) {
        Ok(made) => {
            // The files are there; that nobody reads what to do with them is no failure.
            let _ = write!(io::stdout(), "{made}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(exit::START, &error),
    }
}

fn complete(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    write_completions(shell, &mut script);
    // A reader that goes away has what it wanted.
    let _ = io::stdout().write_all(&script);
    ExitCode::SUCCESS
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    // Nowhere is left to complain to when standard error is gone; the code still tells.
    let _ = writeln!(io::stderr(), "peeklock: {error}");
    ExitCode::from(code)
}
