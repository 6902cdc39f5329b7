//! What a client's certificate says of it, and what that is worth. Whether the certificate is genuine
//! is decided before, in the handshake, by its signature and nothing less.

use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Timestamp;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::{Credential, Grant, ResourcePath, Rights};

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
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| MalformedCertificate)?;
        let parsed = parsed.tbs_certificate;
        let mut names: Vec<_> =
            common_names(&parsed.subject).map(CertificateName::CommonName).collect();
        let others = parsed.get::<SubjectAltName>().map_err(|_| MalformedCertificate)?;
        for name in others.iter().flat_map(|(_, names)| &names.0) {
            match name {
                GeneralName::DnsName(name) => {
                    names.push(CertificateName::Dns(name.as_str().to_lowercase()));
                }
                GeneralName::UniformResourceIdentifier(name) => {
                    names.push(CertificateName::Uri(name.to_string()));
                }
                GeneralName::Rfc822Name(name) => {
                    names.push(CertificateName::Email(name.to_string()));
                }
                _ => {}
            }
        }
        names.truncate(NAMES_MAX);
        let seconds = parsed.validity.not_after.to_unix_duration().as_secs();
        Ok(Self { names, valid_until: Timestamp(seconds.saturating_mul(1000)) })
    }
}

/// When a certificate ends; nothing if it cannot be read.
pub(crate) fn valid_until(der: &[u8]) -> Option<Timestamp> {
    Certificate::read(der).ok().map(|certificate| certificate.valid_until)
}

/// The common names of a subject that are written in a way that certificates of today are.
pub(crate) fn common_names(subject: &Name) -> impl Iterator<Item = String> {
    let attributes = subject.0.iter().flat_map(|name| name.0.iter());
    attributes.filter(|attribute| attribute.oid == COMMON_NAME).filter_map(text)
}

fn text(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.to_string());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().map(|text| text.to_string());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).ok()
}

/// A name, and what whoever proves it may do where.
#[derive(Clone, PartialEq, Eq, Debug)]
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
            source: Credential::Certificate { name: self.name.clone(), place: self.place.clone() },
        })
    }

    /// Whether it is the rule for a name at a place.
    pub(super) fn is_for(&self, name: &CertificateName, place: &ResourcePath) -> bool {
        self.name == *name && self.place == *place
    }

    pub(super) const fn rights(&self) -> Rights {
        self.rights
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
