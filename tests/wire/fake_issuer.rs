//! An identity provider that does as it is told: it shows its keys, or misbehaves, and counts who asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peeklock_tests::broker::Setup;
use peeklock_tests::sas;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whom its tokens are for.
pub(crate) const AUDIENCE: &str = "peeklock";

/// How a question is answered.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// As it should be.
    Well,
    /// With this status, further headers, and body.
    Answer(&'static str, String, Vec<u8>),
    /// With a body that does not end.
    Endless,
    /// With an octet now and then.
    Slowly,
    /// Not at all.
    Never,
    /// By hanging up.
    HangUp,
}

struct State {
    /// For its own description, and for its keys.
    discovery: Manner,
    keys: Manner,
    /// The keys it shows.
    set: Value,
    signer: Signer,
    /// How often each was asked for.
    discovery_asked: usize,
    keys_asked: usize,
}

/// See the module. It goes on until the process ends.
#[derive(Clone)]
pub(crate) struct FakeIssuer {
    name: String,
    state: Arc<Mutex<State>>,
}

impl FakeIssuer {
    /// By HTTP without TLS.
    pub(crate) fn start() -> Self {
        Self::listen("http", |stream, answer| answer(&mut { stream }))
    }

    /// Inside TLS, with a certificate of this folder.
    pub(crate) fn start_tls(dir: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(dir.join("server.pem")).expect("a file of PEM");
        let chain: Vec<_> = chain.map(|one| one.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let config = Arc::new(config);
        Self::listen("https", move |stream, answer| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = StreamOwned::new(session, stream);
            answer(&mut stream);
            // A peer that does not trust us hears no farewell either.
            stream.conn.send_close_notify();
            let _ = stream.flush();
        })
    }

    fn listen(
        scheme: &str,
        serve: impl Fn(TcpStream, &dyn Fn(&mut dyn Stream)) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let signer = Signer::new("first");
        let state = State {
            discovery: Manner::Well,
            keys: Manner::Well,
            set: json!([signer.public()]),
            signer,
            discovery_asked: 0,
            keys_asked: 0,
        };
        let name = format!("{scheme}://localhost:{}", address.port());
        let issuer = Self { name, state: Arc::new(Mutex::new(state)) };
        let own = issuer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (own, serve) = (own.clone(), serve.clone());
                thread::spawn(move || serve(stream, &|stream| own.answer(stream)));
            }
        });
        issuer
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn describe_itself(&self, manner: Manner) {
        self.state().discovery = manner;
    }

    pub(crate) fn show_keys(&self, manner: Manner) {
        self.state().keys = manner;
    }

    /// Shows other keys beside its own.
    pub(crate) fn add_keys(&self, keys: &Value) {
        let mut state = self.state();
        let all = state.set.as_array_mut().expect("a list");
        all.extend(keys.as_array().expect("a list").iter().cloned());
    }

    /// From now on signs with another key, and shows no other.
    pub(crate) fn change_key(&self, id: &str) {
        let mut state = self.state();
        state.signer = Signer::new(id);
        state.set = json!([state.signer.public()]);
    }

    pub(crate) fn keys_asked(&self) -> usize {
        self.state().keys_asked
    }

    /// Waits until it was asked for its keys so many times more.
    #[track_caller]
    pub(crate) fn wait_to_be_asked(&self, times: usize) {
        let (before, started) = (self.questions(), Instant::now());
        while self.questions() < before + times {
            assert!(started.elapsed() < PATIENCE, "nobody asks");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn questions(&self) -> usize {
        let state = self.state();
        state.keys_asked.max(state.discovery_asked)
    }

    /// A token with good claims, of which some are replaced, or taken away by null.
    pub(crate) fn token(&self, change: &Value) -> String {
        let signer = self.state().signer.clone();
        signer.sign(&signer.header(), &self.claims(change))
    }

    pub(crate) fn claims(&self, change: &Value) -> String {
        let mut claims = json!({
            "iss": self.name, "aud": AUDIENCE, "exp": sas::now() + 600, "sub": "somebody",
        });
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
        claims.to_string()
    }

    /// A good token for one who has a role.
    pub(crate) fn token_for(&self, role: &str) -> String {
        self.token(&json!({ "roles": [role] }))
    }

    /// Makes a broker trust it.
    pub(crate) fn trusted(&self, setup: Setup, lines: &str) -> Setup {
        setup.config(&format!(
            "[[issuer]]\nissuer = \"{}\"\naudiences = [\"{AUDIENCE}\"]\nplain_text = true\n{lines}",
            self.name
        ))
    }

    fn answer(&self, stream: &mut dyn Stream) {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        let mut line = String::new();
        if reader.read_line(&mut first).is_err() {
            return;
        }
        while line != "\r\n" {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let (manner, body) = {
            let mut state = self.state();
            if first.starts_with("GET /.well-known/openid-configuration ") {
                state.discovery_asked += 1;
                let keys = format!("{}/keys", self.name);
                let body = json!({ "issuer": self.name, "jwks_uri": keys, "x": [{}] });
                (state.discovery.clone(), body)
            } else if first.starts_with("GET /keys ") {
                state.keys_asked += 1;
                (state.keys.clone(), json!({ "keys": state.set }))
            } else {
                (Manner::Answer("404 Not Found", String::new(), Vec::new()), Value::Null)
            }
        };
        // Whoever asked may have hung up: then there is nobody to tell.
        let _ = write(*reader.get_mut(), manner, body.to_string().as_bytes());
    }
}

fn write(stream: &mut dyn Stream, manner: Manner, good: &[u8]) -> std::io::Result<()> {
    let (status, headers, body) = match manner {
        Manner::Well => ("200 OK", "Content-Type: application/json\r\n".to_owned(), good.to_vec()),
        Manner::Answer(status, headers, body) => (status, headers, body),
        Manner::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"keys\":[")?;
            loop {
                stream.write_all(&[b' '; 16 * 1024])?;
            }
        }
        Manner::Slowly => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            for octet in good.iter().cycle() {
                stream.write_all(&[*octet])?;
                stream.flush()?;
                thread::sleep(Duration::from_millis(200));
            }
            return Ok(());
        }
        Manner::Never => {
            // Until whoever asks is tired of waiting.
            let _ = stream.read(&mut [0; 1])?;
            return Ok(());
        }
        Manner::HangUp => return Ok(()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n")?;
    stream.write_all(&body)?;
    stream.flush()
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A key and its name.
#[derive(Clone)]
pub(crate) struct Signer {
    id: String,
    pair: Arc<EcdsaKeyPair>,
}

impl Signer {
    pub(crate) fn new(id: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        Self { id: id.to_owned(), pair: Arc::new(pair) }
    }

    pub(crate) fn public(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "x": part(x), "y": part(y) })
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": "ES256", "typ": "JWT", "kid": self.id })
    }

    pub(crate) fn sign(&self, header: &Value, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", part(&header.to_string()), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
