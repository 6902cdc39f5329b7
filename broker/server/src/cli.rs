//! The command line. Values are checked where those of the file are: in [`crate::config`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench;
use crate::client::ClientCommand;
use crate::config::{EMULATOR_CONFIG, EmulatorOptions, Overrides};

/// Exit codes, beside 0. Usage errors of the command line are 2 as well.
pub mod exit {
    /// A health check found the broker unwell.
    pub const UNHEALTHY: u8 = 1;
    /// A command failed for a reason that has no code of its own.
    pub const FAILED: u8 = 1;
    /// The configuration is wrong.
    pub const CONFIGURATION: u8 = 2;
    /// The broker could not start.
    pub const START: u8 = 3;
    /// The broker did not stop cleanly.
    pub const STOP: u8 = 4;
    /// The entity, rule or message that a command is about is not there.
    pub const NOT_FOUND: u8 = 5;
    /// The broker refused what a command asked for, or the person who was asked did.
    pub const REFUSED: u8 = 6;
    /// A command found no broker, or lost it on the way.
    pub const UNREACHABLE: u8 = 7;
    /// A store has all messages, and something beside them does not fit.
    pub const REPAIRABLE: u8 = 8;
    /// A store has lost something, or cannot be read.
    pub const DAMAGED: u8 = 9;
}

/// A message broker that speaks the Azure Service Bus dialect of AMQP 1.0.
#[derive(Debug, Parser)]
#[command(name = "peeklock", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker
    Serve(ServeArguments),
    /// Ask a running broker whether it answers; the exit code says so
    Healthcheck(HealthcheckArguments),
    /// Make certificates for development: an authority, and what it vouches for
    Cert(CertificateArguments),
    /// Put load on a broker, this one or any other that speaks AMQP 1.0, and measure it
    Bench(Box<bench::Arguments>),
    /// For people, by way of a running broker
    #[command(flatten)]
    Client(ClientCommand),
    /// Write a script that completes commands and options in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Writes the script of a shell.
pub fn write_completions(shell: Shell, out: &mut dyn io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "peeklock", out);
}

/// Options of `peeklock serve`.
#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Configuration file, see deploy/peeklock.example.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take the place of Microsoft's Service Bus emulator, with the entities that its Config.json
    /// declares [default: where the image of the emulator has it]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = EMULATOR_CONFIG)]
    emulator_config: Option<PathBuf>,
    /// Allow no more than the emulator does: entities, filters, connections, sizes, times
    #[arg(long, requires = "emulator_config")]
    emulator_limits: bool,
    /// Directory for messages [default: peeklock-data]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data: Option<PathBuf>,
    /// Address to listen at, may be repeated [default: ports 5672, 5300 and, with TLS, 5671 and if possible 443 of 127.0.0.1]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// The broker's certificate in PEM, `peeklock cert` makes one; connections may then use TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Serve other machines without TLS as well: only on a network that you trust
    #[arg(long)]
    plain_text: bool,
    /// Create this queue when it is missing, may be repeated
    #[arg(long, value_name = "NAME")]
    queue: Vec<String>,
    /// Accept the rule and key that clients of the Service Bus emulator have: for development
    #[arg(long)]
    dev: bool,
    /// Keep messages in memory only: they are gone when the broker stops
    #[arg(long)]
    ephemeral: bool,
    /// Let clients stop and advance the broker's clock, see docs/VIRTUAL-TIME.md: for tests
    #[arg(long)]
    virtual_time: bool,
    /// Let clients make and drop namespaces in memory, see docs/TESTING-WITH-PEEKLOCK.md: for tests
    #[arg(long)]
    test_control: bool,
    /// Start although the store is damaged, and lose what cannot be read
    #[arg(long)]
    accept_data_loss: bool,
    /// Read the configuration and the certificates, show what is set, and do not start: what is wrong is
    /// told as at a start, with the same exit code
    #[arg(long)]
    check_config: bool,
    /// error, warn, info, debug, trace, or directives for parts of the broker [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Options of `peeklock healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArguments {
    /// Where the broker listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5672")]
    pub address: String,
    /// Connect with TLS; the host is a name in the broker's certificate
    #[arg(long)]
    pub tls: bool,
    /// Authority to trust, in PEM, in place of those of this machine
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca: Option<PathBuf>,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// Options of `peeklock cert`.
#[derive(Debug, Args)]
pub struct CertificateArguments {
    /// Where the files go; an authority that is there already is used again
    #[arg(long, value_name = "DIR", default_value = "peeklock-certs")]
    pub dir: PathBuf,
    /// Name or address by which clients reach the broker, may be repeated; localhost always can
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Make a certificate for a client of this name as well, may be repeated
    #[arg(long, value_name = "NAME")]
    pub client: Vec<String>,
    /// Days until the certificates end; the authority lasts ten years
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=825))]
    pub days: u16,
}

impl HealthcheckArguments {
    /// How long the whole check may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

impl ServeArguments {
    /// Whether the configuration is only to be read.
    pub const fn is_check(&self) -> bool {
        self.check_config
    }

    /// What they say for the configuration.
    pub fn overrides(self) -> Overrides {
        let Self { config, data, listen, queue, dev, ephemeral, .. } = self;
        let limits = self.emulator_limits;
        Overrides {
            config,
            emulator: self.emulator_config.map(|file| EmulatorOptions { file, limits }),
            data,
            listen,
            tls_certificate: self.tls_certificate,
            tls_key: self.tls_key,
            plain_text: self.plain_text,
            queues: queue,
            dev,
            ephemeral,
            virtual_time: self.virtual_time,
            test_control: self.test_control,
            accept_data_loss: self.accept_data_loss,
            log_level: self.log_level,
            log_format: self.log_format,
        }
    }
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn serve(arguments: &[&str]) -> Overrides {
        let all = ["peeklock", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Serve(arguments) => arguments.overrides(),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn options_that_others_rely_on() {
        let overrides = serve(&[
            "--data",
            "/d",
            "--listen",
            "a:1",
            "--listen",
            "b:2",
            "--config",
            "f.toml",
            "--dev",
            "--queue",
            "one",
            "--queue",
            "two",
            "--log-level",
            "debug",
        ]);
        assert_eq!(overrides.data, Some(PathBuf::from("/d")));
        assert_eq!(overrides.listen, ["a:1", "b:2"]);
        assert_eq!(overrides.config, Some(PathBuf::from("f.toml")));
        assert!(overrides.dev && !overrides.ephemeral);
        assert_eq!(overrides.queues, ["one", "two"]);
        assert_eq!(overrides.log_level.as_deref(), Some("debug"));
        assert!(!overrides.virtual_time);
        assert!(serve(&["--ephemeral"]).ephemeral);
        assert!(serve(&["--virtual-time"]).virtual_time);
    }

    #[test]
    fn the_emulator_has_its_file_where_its_image_has_it() {
        let emulator = |arguments: &[&str]| serve(arguments).emulator.unwrap();
        assert_eq!(emulator(&["--emulator-config"]).file, PathBuf::from(EMULATOR_CONFIG));
        let both = emulator(&["--emulator-config", "c.json", "--emulator-limits"]);
        assert_eq!((both.file, both.limits), (PathBuf::from("c.json"), true));
        assert!(serve(&["--dev"]).emulator.is_none());
        assert!(Cli::try_parse_from(["peeklock", "serve", "--emulator-limits"]).is_err());
    }

    #[test]
    fn memory_and_a_directory_exclude_each_other() {
        let both = ["peeklock", "serve", "--ephemeral", "--data", "d"];
        assert_eq!(Cli::try_parse_from(both).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_health_check_knows_where_to_look() {
        let parsed = Cli::try_parse_from(["peeklock", "healthcheck"]).unwrap();
        let Command::Healthcheck(arguments) = parsed.command else { panic!("no health check") };
        assert_eq!(arguments.address, "127.0.0.1:5672");
        assert_eq!(arguments.timeout(), Duration::from_secs(5));
        assert!(!arguments.tls && arguments.ca.is_none());
        let without = ["peeklock", "healthcheck", "--ca", "ca.pem"];
        assert_eq!(Cli::try_parse_from(without).unwrap_err().exit_code(), 2);
    }
}
