//! The keys of an issuer: a JSON Web Key Set (RFC 7517), read with care.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::{Algorithm, PublicKey};
use super::limits::KEYS_MAX;

/// The smallest and the largest RSA key, in bytes: 2048 and 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Why an answer is no set of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("the answer is no set of keys")]
    Malformed,
    #[error("the set has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("the set has no key that signatures could be checked with")]
    Empty,
}

/// The keys that signatures may be checked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Key {
    id: Option<String>,
    /// The one algorithm it is for, if it says so.
    algorithm: Option<Algorithm>,
    public: Arc<PublicKey>,
}

/// What a set makes of a signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// This one of its keys made it.
    Genuine(Arc<PublicKey>),
    /// The key that it should be made with did not make it.
    Forged,
    /// It has no such key.
    UnknownKey,
}

impl KeySet {
    /// Reads a set. Keys of other kinds and for other purposes are passed over: sets have them too. One
    /// without any other key is none, so that an error page never takes the place of keys.
    pub(super) fn read(text: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document =
            serde_json::from_slice(text).map_err(|_| KeySetError::Malformed)?;
        if KEYS_MAX < document.keys.len() {
            return Err(KeySetError::TooMany);
        }
        let keys = document.keys.into_iter().filter_map(|key| Key::read(key, allowed));
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    pub(super) fn has(&self, public: &PublicKey) -> bool {
        self.0.iter().any(|key| *key.public == *public)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the key of this id made the signature. A token may leave the id out where there is but one
    /// key.
    pub(super) fn judge(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Judged {
        let is_meant = |key: &&Key| match id {
            Some(id) => key.id.as_deref() == Some(id),
            None => self.0.len() == 1,
        };
        let mut judged = Judged::UnknownKey;
        // Keys of different kinds may share an id.
        for key in self.0.iter().filter(is_meant) {
            if key.signed(algorithm, signed, signature) {
                return Judged::Genuine(Arc::clone(&key.public));
            }
            judged = Judged::Forged;
        }
        judged
    }
}

impl Key {
    fn read(key: Value, allowed: &[Algorithm]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields {
            kty: String,
            kid: Option<String>,
            #[serde(rename = "use")]
            purpose: Option<String>,
            key_ops: Option<Vec<String>>,
            alg: Option<String>,
            crv: Option<String>,
            n: Option<String>,
            e: Option<String>,
            x: Option<String>,
            y: Option<String>,
        }
        let fields: Fields = serde_json::from_value(key).ok()?;
        if fields.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if fields.key_ops.is_some_and(|all| !all.iter().any(|operation| operation == "verify")) {
            return None;
        }
        let public = match (fields.kty.as_str(), fields.crv.as_deref()) {
            ("RSA", _) => {
                let (modulus, exponent) = (number(fields.n?)?, number(fields.e?)?);
                if !RSA_BYTES.contains(&modulus.len()) {
                    return None;
                }
                PublicKey::Rsa { modulus, exponent }
            }
            ("EC", Some("P-256")) => PublicKey::P256(point(fields.x?, fields.y?, 32)?),
            ("EC", Some("P-384")) => PublicKey::P384(point(fields.x?, fields.y?, 48)?),
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(bytes(fields.x?, 32)?),
            _ => return None,
        };
        let algorithm = match fields.alg {
            Some(name) => Some(name.parse::<Algorithm>().ok()?),
            None => None,
        };
        let fits = |algorithm: &Algorithm| algorithm.key_kind() == public.kind();
        let is_of_use = match &algorithm {
            Some(algorithm) => fits(algorithm) && allowed.contains(algorithm),
            None => allowed.iter().any(fits),
        };
        is_of_use.then_some(Self { id: fields.kid, algorithm, public: Arc::new(public) })
    }

    fn signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm)
            && self.public.signed(algorithm, signed, signature)
    }
}

/// A number without the zeros that some issuers put before it.
fn number(text: String) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).map(<[u8]>::to_vec)
}

fn bytes(text: String, len: usize) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == len)
}

fn point(x: String, y: String, len: usize) -> Option<Vec<u8>> {
    Some([vec![4], bytes(x, len)?, bytes(y, len)?].concat())
}
