//! Where and how the broker can be reached: addresses, TLS, and web pages.

use std::path::PathBuf;

use toml::Spanned;

use super::build::{Check, parsed, refuse, rights};
use super::given;
use super::queues::queue_path;
use super::raw::{Given, RawHttp, RawTls, RawTlsClient};
use super::settings::{AllowedOrigins, ListenAddress, TlsSettings};
use crate::auth::{CertificateName, CertificateRule};
use crate::net::AllowedNetworks;

/// Loopback: a broker that nobody configured must not be reachable by others. 5300 is where tools
/// that know the Service Bus emulator look for its health and its administration.
const LISTEN: [&str; 2] = ["127.0.0.1:5672", "127.0.0.1:5300"];
/// Where SDKs look for AMQP inside TLS, and for the rest: administration and WebSockets.
const LISTEN_TLS: [&str; 2] = ["127.0.0.1:5671", LISTEN_HTTPS];
/// Not everybody may listen here, so it is not needed.
const LISTEN_HTTPS: &str = "127.0.0.1:443";

/// The addresses. One that others can reach is refused if all they could speak there is plain text.
pub(super) fn listeners(
    raw: Option<Vec<Spanned<String>>>,
    has_tls: bool,
    plain_text: bool,
) -> Check<Vec<ListenAddress>> {
    let is_default = raw.is_none();
    let raw = raw.unwrap_or_else(|| {
        let tls = has_tls.then_some(LISTEN_TLS).into_iter().flatten();
        LISTEN.into_iter().chain(tls).map(|address| given(address.to_owned())).collect()
    });
    if raw.is_empty() {
        return refuse("listen", 0..0, "at least one address is needed");
    }
    let mut listeners = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let key = format!("listen[{index}]");
        let mut address: ListenAddress = parsed(&key, text)?;
        // Port 0 means a free one, each time anew.
        if address.port() != 0 && listeners.contains(&address) {
            return refuse(&key, text.span(), format!("{address} is listed twice"));
        }
        address.is_needed = !is_default || text.get_ref() != LISTEN_HTTPS;
        listeners.push(address);
    }
    let outside = listeners.iter().position(|address| !address.is_loopback());
    if let Some(index) = outside
        && !has_tls
        && !plain_text
    {
        let reason = format!(
            "other machines reach {}, and keys and messages would be readable on the way; configure \
             [tls], or set plain_text = true on a network that you trust",
            listeners[index]
        );
        return refuse(&format!("listen[{index}]"), raw[index].span(), reason);
    }
    Ok(listeners)
}

/// From where peers may connect; from everywhere when nothing is said.
pub(super) fn networks(raw: Option<Vec<Spanned<String>>>) -> Check<AllowedNetworks> {
    let Some(raw) = raw else { return Ok(AllowedNetworks::default()) };
    if raw.is_empty() {
        return refuse("allowed_networks", 0..0, "is empty, so nobody could connect");
    }
    only("allowed_networks", &raw)
}

/// From these and nowhere else.
pub(super) fn only(key: &str, raw: &[Spanned<String>]) -> Check<AllowedNetworks> {
    let network = |(index, text)| parsed(&format!("{key}[{index}]"), text);
    Ok(AllowedNetworks::only(raw.iter().enumerate().map(network).collect::<Check<_>>()?))
}

/// The files of TLS, and the clients that have certificates.
pub(super) fn tls(raw: RawTls) -> Check<(Option<TlsSettings>, Vec<CertificateRule>)> {
    let clients = raw.client.unwrap_or_default();
    let (certificate, key) = match (raw.certificate, raw.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(certificate), None) => {
            return refuse("tls.key", certificate.span(), "is missing beside tls.certificate");
        }
        (None, Some(key)) => {
            return refuse("tls.certificate", key.span(), "is missing beside tls.key");
        }
        (None, None) => {
            let span = raw.client_ca.map(|ca| ca.span());
            let span = span.or_else(|| clients.first().map(|client| client.rights.span()));
            return match span {
                Some(span) => refuse("tls.certificate", span, "is missing, and so there is no TLS"),
                None => Ok((None, Vec::new())),
            };
        }
    };
    let settings = TlsSettings {
        certificate: path("tls.certificate", certificate)?,
        key: path("tls.key", key)?,
        client_ca: raw.client_ca.map(|ca| path("tls.client_ca", ca)).transpose()?,
    };
    if let (None, Some(client)) = (&settings.client_ca, clients.first()) {
        let reason = "is missing: who vouches for the certificates of clients?";
        return refuse("tls.client_ca", client.rights.span(), reason);
    }
    let clients = clients.into_iter().enumerate().map(|(index, raw)| client(index, raw));
    Ok((Some(settings), clients.collect::<Check<_>>()?))
}

fn client(index: usize, raw: RawTlsClient) -> Check<CertificateRule> {
    let key = |field: &str| format!("tls.client[{index}].{field}");
    let names = [
        raw.common_name.map(|name| (name.span(), CertificateName::CommonName(name.into_inner()))),
        raw.dns.map(|name| (name.span(), CertificateName::Dns(name.into_inner()))),
        raw.uri.map(|name| (name.span(), CertificateName::Uri(name.into_inner()))),
        raw.email.map(|name| (name.span(), CertificateName::Email(name.into_inner()))),
    ];
    let mut names = names.into_iter().flatten();
    let (Some((span, name)), None) = (names.next(), names.next()) else {
        let reason = "a client is known by one of common_name, dns, uri and email";
        return refuse(&format!("tls.client[{index}]"), raw.rights.span(), reason);
    };
    let (CertificateName::CommonName(text)
    | CertificateName::Dns(text)
    | CertificateName::Uri(text)
    | CertificateName::Email(text)) = &name;
    if text.is_empty() {
        return refuse(&format!("tls.client[{index}]"), span, "the name is empty");
    }
    let rights = rights(&key("rights"), &raw.rights)?;
    let entity = match &raw.entity {
        Some(text) => Some(queue_path(&key("entity"), text.get_ref(), text.span())?),
        None => None,
    };
    Ok(CertificateRule::new(name, rights, entity.as_ref()))
}

pub(super) fn path(key: &str, raw: Spanned<String>) -> Check<PathBuf> {
    if raw.get_ref().is_empty() {
        return refuse(key, raw.span(), "is empty");
    }
    Ok(PathBuf::from(raw.into_inner()))
}

/// The web pages whose scripts may connect.
pub(super) fn origins(raw: RawHttp) -> Check<AllowedOrigins> {
    let mut origins = Vec::new();
    for (index, origin) in raw.allowed_origins.unwrap_or_default().into_iter().enumerate() {
        let text = origin.get_ref();
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let fits = |host: &str| !host.is_empty() && !host.contains(['/', '*', ' ']);
        if text != "*" && !host.is_some_and(fits) {
            let reason = format!("{text:?} is not SCHEME://HOST or SCHEME://HOST:PORT, nor \"*\"");
            return refuse(&format!("http.allowed_origins[{index}]"), origin.span(), reason);
        }
        origins.push(origin.into_inner());
    }
    Ok(AllowedOrigins::new(origins))
}

/// A choice between yes and no that is no by default.
pub(super) fn yes(raw: Given<bool>) -> bool {
    raw.is_some_and(Spanned::into_inner)
}
