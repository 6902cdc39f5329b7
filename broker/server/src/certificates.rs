//! `peeklock cert`: an authority for development, certificates that it vouches for, and what each kind
//! of client needs in order to trust it.
//!
//! The authority is kept, so that clients have to be told only once; the broker's certificate is made
//! anew each time, and a broker that runs takes it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};

use x509_cert::der::{DecodePem, Encode};

use crate::auth::common_names;
use crate::cli::CertificateArguments;
use crate::clock::Clock;

/// The name of the authority.
const AUTHORITY: &str = "Peeklock development authority";

const DAY: Duration = Duration::from_hours(24);

/// Of the authority. Telling clients of a new one is work.
const AUTHORITY_DAYS: u32 = 3650;

/// Names that always reach a broker on the same machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What there is now. Its text says what to do with it.
#[derive(Debug)]
pub struct Made {
    dir: PathBuf,
    hosts: Vec<String>,
    clients: Vec<String>,
    new_authority: bool,
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct CertificatesError(anyhow::Error);

/// Makes what is asked for.
pub fn make(arguments: &CertificateArguments) -> Result<Made, CertificatesError> {
    make_all(arguments).map_err(CertificatesError)
}

fn make_all(arguments: &CertificateArguments) -> anyhow::Result<Made> {
    let mut hosts: Vec<String> = LOCAL.map(str::to_owned).to_vec();
    for host in &arguments.host {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    for client in &arguments.client {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_ours = matches!(client.as_str(), "ca" | "server");
        ensure!(
            client.chars().all(fits) && !client.starts_with('.') && !client.is_empty() && !is_ours,
            "{client:?} cannot name a client: letters, digits, '.', '-' and '_' can"
        );
    }
    let dir = arguments.dir.as_path();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let (issuer, authority, new_authority) = authority(dir)?;
    let days = u32::from(arguments.days);
    let names = hosts.iter().map(|host| name(host)).collect::<anyhow::Result<Vec<_>>>()?;
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    // The authority goes along, for clients that want the whole chain.
    issue(dir, "server", "peeklock", names, usage, days, &issuer, &authority)?;
    for client in &arguments.client {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let names = vec![name(client)?];
        issue(dir, client, client, names, usage, days, &issuer, &authority)?;
    }
    let dir = dir.canonicalize().with_context(|| format!("{} is gone", dir.display()))?;
    let made = Made { dir, hosts, clients: arguments.client.clone(), new_authority };
    replace(&made.dir.join("env.sh"), made.exports().as_bytes(), 0o644)?;
    Ok(made)
}

/// The authority that is there, or a new one; with its certificate in PEM.
fn authority(dir: &Path) -> anyhow::Result<(Issuer<'static, KeyPair>, String, bool)> {
    let (certificate_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match (read(&certificate_path)?, read(&key_path)?) {
        (Some(certificate), Some(key)) => {
            let key = KeyPair::from_pem(&key)
                .with_context(|| format!("no private key in {}", key_path.display()))?;
            ensure!(
                is_ours(&certificate, &key),
                "{} is not the certificate of an authority made here, with the key beside it",
                certificate_path.display()
            );
            Ok((Issuer::new(authority_parameters(), key), certificate, false))
        }
        (None, None) => {
            let params = authority_parameters();
            let key = KeyPair::generate().context("no key can be made")?;
            let certificate = params.self_signed(&key).context("the authority cannot be made")?;
            replace(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
            replace(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
            Ok((Issuer::new(params, key), certificate.pem(), true))
        }
        (Some(_), None) => bail!("{} is there without its key", certificate_path.display()),
        (None, Some(_)) => bail!("{} is there without its certificate", key_path.display()),
    }
}

fn authority_parameters() -> CertificateParams {
    let mut params = parameters(AUTHORITY, AUTHORITY_DAYS);
    // It vouches for certificates, and not for other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Whether a certificate is of the authority made here, and of this key: what is issued bears its name
/// and is signed with the key.
fn is_ours(certificate: &str, key: &KeyPair) -> bool {
    let Ok(parsed) = x509_cert::Certificate::from_pem(certificate) else { return false };
    let parsed = parsed.tbs_certificate;
    let known = parsed.subject_public_key_info.to_der();
    common_names(&parsed.subject).eq([AUTHORITY])
        && known.is_ok_and(|known| known == key.subject_public_key_info())
}

fn name(text: &str) -> anyhow::Result<SanType> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
    ensure!(
        !text.is_empty() && text.chars().all(fits),
        "{text:?} is no name of a host (no scheme, no port)"
    );
    Ok(SanType::DnsName(text.try_into().with_context(|| format!("{text:?} is no name"))?))
}

fn parameters(common_name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = UNIX_EPOCH + Duration::from_millis(Clock::real().now().0);
    // Clocks differ.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    params
}

#[expect(clippy::too_many_arguments, reason = "each is another part of one certificate")]
fn issue(
    dir: &Path,
    file: &str,
    common_name: &str,
    names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
    days: u32,
    issuer: &Issuer<'_, KeyPair>,
    authority: &str,
) -> anyhow::Result<()> {
    let mut params = parameters(common_name, days);
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().context("no key can be made")?;
    let certificate = params.signed_by(&key, issuer).context("no certificate can be made")?;
    let chain = format!("{}{authority}", certificate.pem());
    replace(&dir.join(format!("{file}.key")), key.serialize_pem().as_bytes(), 0o600)?;
    replace(&dir.join(format!("{file}.pem")), chain.as_bytes(), 0o644)
}

/// Writes a file beside and renames it: whoever reads meanwhile gets the old one or the new one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

impl Made {
    fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    /// Lines for a shell: what makes programs trust the authority by themselves.
    fn exports(&self) -> String {
        let authority = self.path("ca.pem").replace('\'', r"'\''");
        ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
            .map(|name| format!("export {name}='{authority}'\n"))
            .concat()
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.path("ca.pem");
        let state = if self.new_authority { "new" } else { "as before" };
        writeln!(f, "authority ({state}): {authority}")?;
        writeln!(f, "certificate for {}: {}", self.hosts.join(", "), self.path("server.pem"))?;
        for client in &self.clients {
            let (certificate, key) = (format!("{client}.pem"), format!("{client}.key"));
            writeln!(f, "client {client}: {}, {}", self.path(&certificate), self.path(&key))?;
        }
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        writeln!(f, "\nbroker:\n  peeklock serve --tls-certificate {certificate} --tls-key {key}")?;
        writeln!(f, "\nclients trust the authority with:")?;
        writeln!(f, "  Go, .NET, Rust, OpenSSL  export SSL_CERT_FILE={authority}")?;
        writeln!(f, "  JavaScript               export NODE_EXTRA_CA_CERTS={authority}")?;
        writeln!(f, "  Python, administration   export REQUESTS_CA_BUNDLE={authority}")?;
        writeln!(
            f,
            "  Python, messages         ServiceBusClient(…, connection_verify={authority:?})"
        )?;
        writeln!(
            f,
            "  Java                     keytool -importcert -noprompt -alias peeklock -file \
             {authority} -keystore peeklock.p12 -storetype PKCS12 -storepass changeit\n\
             \x20                          java -Djavax.net.ssl.trustStore=peeklock.p12 \
             -Djavax.net.ssl.trustStorePassword=changeit …"
        )?;
        writeln!(f, "or all that read the environment: . {}", self.path("env.sh"))?;
        writeln!(f, "\nThese are for development. Who has ca.key can be anybody to such clients.")
    }
}
