//! What a client's certificate says of it, and what that is worth. Whether the certificate is genuine
//! is decided before, in the handshake, by its signature and nothing less.

use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{Grant, ResourcePath, Rights};

/// Names taken from one certificate. Nobody needs more, and each is compared with each rule.
const NAMES_MAX: usize = 64;

/// A name in a certificate. Names of different kinds are never equal: an authority may check one kind
/// and not the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name of its subject.
    CommonName(String),
    /// A host, in lower case.
    Dns(String),
    /// As in SPIFFE.
    Uri(String),
    /// An address of electronic mail.
    Email(String),
}

/// Why a certificate is of no use, although its signature is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is malformed")]
pub struct MalformedCertificate;

/// A verified certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    names: Vec<CertificateName>,
    valid_until: Timestamp,
}

impl Certificate {
    /// Reads it from DER.
    pub fn read(der: &[u8]) -> Result<Self, MalformedCertificate> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| MalformedCertificate)?;
        let mut names = Vec::new();
        for name in parsed.subject().iter_common_name() {
            if let Ok(name) = name.as_str() {
                names.push(CertificateName::CommonName(name.to_owned()));
            }
        }
        let others = parsed.subject_alternative_name().map_err(|_| MalformedCertificate)?;
        for name in others.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => {
                    names.push(CertificateName::Dns(name.to_lowercase()));
                }
                GeneralName::URI(name) => names.push(CertificateName::Uri((*name).to_owned())),
                GeneralName::RFC822Name(name) => {
                    names.push(CertificateName::Email((*name).to_owned()));
                }
                _ => {}
            }
        }
        names.truncate(NAMES_MAX);
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { names, valid_until: Timestamp(seconds.saturating_mul(1000)) })
    }
}

/// A name, and what whoever proves it may do where.
#[derive(Clone, Debug)]
pub struct CertificateRule {
    name: CertificateName,
    rights: Rights,
    /// The entity it belongs to; the namespace, when empty.
    place: ResourcePath,
}

impl CertificateRule {
    /// A rule of the namespace, or of an entity and all below it.
    pub fn new(name: CertificateName, rights: Rights, entity: Option<&EntityPath>) -> Self {
        let name = match name {
            CertificateName::Dns(name) => CertificateName::Dns(name.to_lowercase()),
            name => name,
        };
        Self { name, rights, place: entity.map(ResourcePath::of_entity).unwrap_or_default() }
    }

    /// What the rule grants to a certificate: nothing to one that lacks the name.
    pub(super) fn grant(&self, certificate: &Certificate) -> Option<Grant> {
        certificate.names.contains(&self.name).then(|| Grant {
            audience: self.place.clone(),
            rights: self.rights,
            valid_until: certificate.valid_until,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: &str, others: Vec<SanType>) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = others;
        params.not_after = rcgen::date_time_ymd(2033, 5, 18);
        let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(signed.der()).unwrap()
    }

    fn rule(name: CertificateName) -> CertificateRule {
        let listen = Rights { listen: true, ..Rights::NONE };
        CertificateRule::new(name, listen, None)
    }

    #[test]
    fn a_rule_knows_a_certificate_by_a_name_of_its_kind() {
        let dns = SanType::DnsName("Shop.Example".try_into().unwrap());
        let uri = SanType::URI("spiffe://example/shop".try_into().unwrap());
        let email = SanType::Rfc822Name("shop@example".try_into().unwrap());
        let shop = certificate("the shop", vec![dns, uri, email]);
        let named = |name: &str| name.to_owned();
        let good = [
            CertificateName::CommonName(named("the shop")),
            CertificateName::Dns(named("SHOP.example")),
            CertificateName::Uri(named("spiffe://example/shop")),
            CertificateName::Email(named("shop@example")),
        ];
        for name in good {
            let grant = rule(name).grant(&shop).unwrap();
            assert!(grant.rights.listen && !grant.rights.send);
            assert_eq!(grant.valid_until, Timestamp(1_999_987_200_000));
        }
        let bad = [
            CertificateName::CommonName(named("shop.example")),
            CertificateName::CommonName(named("the shop ")),
            CertificateName::Dns(named("the shop")),
            CertificateName::Dns(named("example")),
            CertificateName::Uri(named("spiffe://example/shop/")),
            CertificateName::Email(named("shop.example")),
        ];
        for name in bad {
            assert_eq!(rule(name.clone()).grant(&shop), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for der in [&b""[..], b"\x30\x03\x02\x01\x00", &[0x30; 4096]] {
            assert_eq!(Certificate::read(der), Err(MalformedCertificate));
        }
    }
}
