//! Where the broker is, and what lets a command in: from options, the environment, and connection
//! strings of Service Bus.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::failure::Failure;
use super::token::Credential;
use crate::clock;

/// Where a broker on this machine listens.
const LOCAL: &str = "127.0.0.1:5672";
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;
const HTTPS_PORT: u16 = 443;
/// The domain of the service itself, which has HTTP at another port than AMQP.
const SERVICE: &str = ".servicebus.windows.net";
/// What `--dev` and the emulator have.
const DEV_RULE: &str = "RootManageSharedAccessKey";
const DEV_KEY: &str = "SAS_KEY_VALUE";

/// Which broker, and as whom. Options win over the environment, and both over the broker of this
/// machine with the key of `peeklock serve --dev`.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArguments {
    /// Connection string of Service Bus [default: `PEEKLOCK_CONNECTION_STRING`, which no list of
    /// processes shows]
    #[arg(long, value_name = "TEXT")]
    connection_string: Option<String>,
    /// Where the broker listens [default: 127.0.0.1:5672]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Where it answers HTTP, if that is elsewhere
    #[arg(long, value_name = "HOST:PORT")]
    http_address: Option<String>,
    /// Name of the access rule [default: `PEEKLOCK_KEY_NAME`]
    #[arg(long, value_name = "NAME")]
    key_name: Option<String>,
    /// Its key; others on this machine can see it, so prefer `PEEKLOCK_KEY` or a file
    #[arg(long, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<String>,
    /// File with the key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Connect with TLS
    #[arg(long)]
    tls: bool,
    /// Authority to trust, in PEM, in place of those of this machine
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl fmt::Debug for ConnectionArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are among the rest.
        f.debug_struct("ConnectionArguments")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A broker to talk to.
pub(super) struct Server {
    /// As the broker is called, without a port: in tokens, in `open` and in `Host`.
    pub(super) host: String,
    pub(super) amqp: String,
    pub(super) http: String,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// The entity that the connection string is for.
    pub(super) entity: Option<String>,
    credential: Credential,
}

impl Server {
    /// A token for a path of this broker.
    pub(super) fn token(&self, scheme: &str, path: &str) -> (String, String) {
        let resource = format!("{scheme}://{}/{path}", bracketed(&self.host));
        let now = clock::time_of_day().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let token = self.credential.token(&resource, now.as_secs());
        (self.credential.audience(resource), token)
    }

    pub(super) const fn tokens_renew(&self) -> bool {
        self.credential.renews()
    }

    /// The entity of a command: named by it, or by the connection string.
    pub(super) fn entity(&self, named: Option<&str>) -> Result<String, Failure> {
        named.or(self.entity.as_deref()).map(str::to_owned).ok_or_else(|| {
            Failure::Argument("name an entity: a queue, or topic/subscriptions/name".to_owned())
        })
    }
}

impl ConnectionArguments {
    /// What the arguments and the environment come to.
    pub(super) fn server(&self) -> Result<Server, Failure> {
        self.resolve(|name| std::env::var_os(name))
    }

    fn resolve(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Server, Failure> {
        let text = |name: &str| match variable(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(Failure::Argument(format!("{name} is not UTF-8"))),
        };
        let is_option = self.connection_string.is_some();
        let string = match &self.connection_string {
            Some(string) => Some(string.clone()),
            None => text("PEEKLOCK_CONNECTION_STRING")?,
        };
        let string = string.map(|string| ConnectionString::parse(&string)).transpose()?;
        let string = string.unwrap_or_default();
        let (address, tls) = match (&self.address, string.endpoint) {
            (Some(address), _) => (address.clone(), self.tls),
            (None, Some(endpoint)) => (endpoint, self.tls || !string.development),
            (None, None) => (LOCAL.to_owned(), self.tls),
        };
        let (host, port) = split(&address)?;
        let amqp_port = port.unwrap_or(if tls { TLS_PORT } else { PORT });
        let is_service = host.to_ascii_lowercase().ends_with(SERVICE);
        let http_port = if is_service { HTTPS_PORT } else { amqp_port };
        let http = match &self.http_address {
            Some(address) => {
                let (host, port) = split(address)?;
                join(&host, port.unwrap_or(http_port))
            }
            None => join(&host, http_port),
        };
        let key = match (&self.key, &self.key_file) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(file)) => {
                let key = std::fs::read_to_string(file);
                Some(key.map_err(|error| Failure::file(file, error))?.trim().to_owned())
            }
            // A string that is an option, and says who asks, wins over the environment as well.
            (None, None) if is_option && (string.key.is_some() || string.token.is_some()) => None,
            (None, None) => text("PEEKLOCK_KEY")?,
        };
        let rule = match (&self.key_name, string.rule) {
            (Some(rule), _) => Some(rule.clone()),
            (None, Some(rule)) if is_option => Some(rule),
            (None, rule) => text("PEEKLOCK_KEY_NAME")?.or(rule),
        };
        let credential = match (string.token, key.or(string.key)) {
            (Some(token), None) => Credential::Token(token),
            (_, Some(key)) => {
                Credential::Key { rule: rule.unwrap_or_else(|| DEV_RULE.to_owned()), key }
            }
            (None, None) => {
                if let Some(rule) = rule {
                    return Err(Failure::Argument(format!("the key of {rule} is missing")));
                }
                Credential::Key { rule: DEV_RULE.to_owned(), key: DEV_KEY.to_owned() }
            }
        };
        let tls = tls.then(|| trusting(self.ca.as_deref())).transpose()?;
        Ok(Server {
            amqp: join(&host, amqp_port),
            http,
            tls,
            entity: string.entity,
            credential,
            host,
        })
    }
}

/// The parts of a connection string that concern us.
#[derive(Default)]
struct ConnectionString {
    endpoint: Option<String>,
    rule: Option<String>,
    key: Option<String>,
    token: Option<String>,
    entity: Option<String>,
    development: bool,
}

impl ConnectionString {
    /// Complaints do not quote: any part may be a key.
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::Argument(format!("the connection string {what}"));
        let mut parsed = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| wrong("has a part without a value"))?;
            let value = value.trim().to_owned();
            match key.trim().to_ascii_lowercase().as_str() {
                "endpoint" => {
                    let rest = value.split_once("://").map_or(value.as_str(), |(_, rest)| rest);
                    let host = rest.split('/').next().unwrap_or_default();
                    parsed.endpoint = Some(host.to_owned()).filter(|host| !host.is_empty());
                }
                "sharedaccesskeyname" => parsed.rule = Some(value),
                "sharedaccesskey" => parsed.key = Some(value),
                "sharedaccesssignature" => parsed.token = Some(value),
                "entitypath" => parsed.entity = Some(value).filter(|path| !path.is_empty()),
                "usedevelopmentemulator" => parsed.development = value.eq_ignore_ascii_case("true"),
                // Others have TransportType, OperationTimeout and the like.
                _ => {}
            }
        }
        if parsed.endpoint.is_none() {
            return Err(wrong("has no Endpoint"));
        }
        Ok(parsed)
    }
}

/// Host and port of an address, brackets of IPv6 taken off.
fn split(address: &str) -> Result<(String, Option<u16>), Failure> {
    let wrong = || Failure::Argument(format!("{address:?} is not HOST:PORT"));
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':'))
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err(wrong());
    }
    let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
    Ok((host.to_owned(), port))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn join(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

/// For TLS to hosts that this authority vouches for, or one that this machine trusts.
pub(crate) fn trusting(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|error| Failure::file(path, error))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| Failure::file(path, error))?;
            roots.add(certificate).map_err(|error| Failure::file(path, error))?;
        }
        if roots.is_empty() {
            return Err(Failure::file(path, "there is no certificate in it"));
        }
    } else {
        // What cannot be used among them is left out: few machines are without such.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let text = "this machine trusts no authority: name one with --ca";
            return Err(Failure::Argument(text.to_owned()));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Other(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        connection: ConnectionArguments,
    }

    fn server(line: &[&str], variables: &[(&str, &str)]) -> Result<Server, Failure> {
        let words = std::iter::once("x").chain(line.iter().copied());
        let line = Line::try_parse_from(words).expect("the line parses");
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        line.connection.resolve(|name| find(name).map(|(_, value)| value.into()))
    }

    fn key(server: &Server) -> (&str, &str) {
        match &server.credential {
            Credential::Key { rule, key } => (rule, key),
            Credential::Token(token) => ("", token),
        }
    }

    #[test]
    fn without_a_word_it_is_the_broker_of_this_machine() {
        let server = server(&[], &[]).expect("valid");
        assert_eq!((server.amqp.as_str(), server.http.as_str()), (LOCAL, LOCAL));
        assert_eq!((key(&server), server.tls.is_none()), ((DEV_RULE, DEV_KEY), true));
        let audience = server.token("sb", "orders").0;
        assert_eq!(audience, "sb://127.0.0.1/orders");
    }

    #[test]
    fn connection_strings_are_read_as_sdks_read_them() {
        let emulator = "Endpoint=sb://localhost:5300;SharedAccessKeyName=r;SharedAccessKey=a+b==;\
                        UseDevelopmentEmulator=true;EntityPath=orders;";
        let server = server(&["--connection-string", emulator], &[]).expect("valid");
        assert_eq!(
            (server.amqp.as_str(), server.http.as_str()),
            ("localhost:5300", "localhost:5300")
        );
        assert_eq!(key(&server), ("r", "a+b=="));
        assert_eq!(server.entity(None).expect("named"), "orders");
        assert_eq!(server.entity(Some("other")).expect("named"), "other");
    }

    #[test]
    fn options_win_over_the_environment() {
        let string = "endpoint=sb://a;sharedaccesskeyname=n;sharedaccesskey=k;\
                      usedevelopmentemulator=True";
        let variables =
            [("PEEKLOCK_CONNECTION_STRING", string), ("PEEKLOCK_KEY", "of the environment")];
        let from = |line: &[&str]| server(line, &variables).expect("valid");
        assert_eq!(from(&[]).amqp, "a:5672");
        assert_eq!(key(&from(&[])), ("n", "of the environment"));
        let chosen = from(&["--address", "[::1]:7000", "--key", "x", "--key-name", "m"]);
        assert_eq!((chosen.amqp.as_str(), chosen.host.as_str()), ("[::1]:7000", "::1"));
        assert_eq!(key(&chosen), ("m", "x"));
        assert_eq!(chosen.token("sb", "q").0, "sb://[::1]/q");
        assert_eq!(from(&["--http-address", "web:80"]).http, "web:80");
    }

    #[test]
    fn a_string_that_is_an_option_wins_over_keys_of_the_environment() {
        let variables = [("PEEKLOCK_KEY", "of the environment"), ("PEEKLOCK_KEY_NAME", "e")];
        let from = |string: &str, more: &[&str]| {
            let string = format!("Endpoint=sb://h;UseDevelopmentEmulator=true;{string}");
            let line = [&["--connection-string", string.as_str()], more].concat();
            server(&line, &variables).expect("valid")
        };
        let full = "SharedAccessKeyName=n;SharedAccessKey=k";
        assert_eq!(key(&from(full, &[])), ("n", "k"));
        assert_eq!(key(&from(full, &["--key", "x"])), ("n", "x"));
        assert!(!from("SharedAccessSignature=SharedAccessSignature sr=x", &[]).tokens_renew());
        assert_eq!(key(&from("SharedAccessKeyName=n", &[])), ("n", "of the environment"));
        assert_eq!(key(&from("", &[])), ("e", "of the environment"));
    }

    #[test]
    fn a_shared_access_signature_is_used_as_it_is() {
        let string = "Endpoint=sb://h;UseDevelopmentEmulator=true;\
                      SharedAccessSignature=SharedAccessSignature sr=sb%3A%2F%2Fh%2Fq&sig=x&se=9&skn=r";
        let server = server(&["--connection-string", string], &[]).expect("valid");
        assert!(!server.tokens_renew());
        assert_eq!(server.token("sb", "q/$deadletterqueue").0, "sb://h/q");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_quoting_keys() {
        for (line, text) in [
            (&["--connection-string", "SharedAccessKey=secret"][..], "no Endpoint"),
            (&["--connection-string", "Endpoint=sb://h;secret"], "without a value"),
            (&["--address", "h:port"], "is not HOST:PORT"),
            (&["--key-name", "r"], "the key of r is missing"),
            (&["--ca", "no such file", "--tls"], "no such file"),
        ] {
            let Err(failure) = server(line, &[]) else { panic!("{line:?} is valid") };
            let said = failure.to_string();
            assert!(said.contains(text) && !said.contains("secret"), "{said}");
        }
    }
}
