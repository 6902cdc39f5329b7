//! Unique secrets in every input, at the most talkative level of the log: afterwards none of them is in what
//! the broker has written or answered, in any form that a person could read it from.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use peeklock_protocol::value::Value;
use peeklock_tests::broker::binary;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::requests::put_token;
use peeklock_tests::{Peer, sas};
use serde_json::json;

use super::fake_issuer::{FakeIssuer, Signer};
use super::tls::{certificates, setup};
use super::tunnel::{Tls, over_tls, over_websocket};

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

const PRIMARY: &str = "canary-PrimaryKey-4f0c1be2";
const SECONDARY: &str = "canary-SecondaryKey-90ad37e1";
const WRONG_KEY: &str = "canary-WrongKey-7731fe02";
const WRONG_PASSWORD: &str = "canary-WrongPassword-6b2e90";
const STRAY: &str = "canary-Stray-c81d55aa";

const Q: &str = "sb://localhost/q";

/// Secrets, and everything that was written or answered.
#[derive(Clone, Default)]
struct Aviary {
    secrets: Arc<Mutex<Vec<(String, String)>>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Aviary {
    fn hide(&self, name: &str, secret: &str) {
        assert!(12 <= secret.len(), "{name} is too short to be told from other text");
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.push((name.to_owned(), secret.to_owned()));
    }

    /// A shared access signature, which is a secret itself: whoever has it may use it.
    fn sas(&self, name: &str, key: &str, expires_at: u64) -> String {
        let token = sas::token(Q, "app", key, expires_at);
        let signature = token.split("sig=").nth(1).and_then(|rest| rest.split('&').next());
        self.hide(name, signature.expect("a signature"));
        token
    }

    /// A token of an issuer, the same: its signature makes it one.
    fn jwt(&self, name: &str, token: String) -> String {
        self.hide(name, token.rsplit('.').next().expect("a signature"));
        token
    }

    fn heard(&self, bytes: &[u8]) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
    }

    /// Looks for all secrets in all their forms.
    #[track_caller]
    fn assert_silent(&self, log: &str) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let heard = String::from_utf8_lossy(&heard).into_owned();
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(20 < secrets.len(), "there are only {} secrets", secrets.len());
        for (place, text) in [("the log", log), ("an answer", heard.as_str())] {
            for (name, secret) in &secrets {
                for form in forms(secret) {
                    let Some(at) = text.find(&form) else { continue };
                    let line = text.get(..at).and_then(|before| before.rfind('\n')).unwrap_or(0);
                    let line: String =
                        text.get(line..).unwrap_or_default().chars().take(400).collect();
                    panic!("{name} is in {place} as {form:?}: {line}");
                }
            }
        }
    }
}

/// As it is, in the base64 and hexadecimal of a larger text, and as a list of octets.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for before in 0..3 {
        // The characters at the ends depend on what stands around the secret.
        let text = STANDARD.encode([&vec![b'x'; before], secret.as_bytes()].concat());
        let inside = text.get(4..text.len() - 4).unwrap_or_default().to_owned();
        forms.push(inside.replace('+', "-").replace('/', "_"));
        forms.push(inside);
    }
    let hex = secret.bytes().fold(String::new(), |hex, octet| format!("{hex}{octet:02x}"));
    forms.extend([hex.to_uppercase(), hex]);
    for separator in [", ", ","] {
        let octets: Vec<_> = secret.bytes().map(|octet| octet.to_string()).collect();
        forms.push(octets.join(separator));
    }
    forms
}

/// A port that leads to the broker, and hears what it answers.
fn overheard(aviary: &Aviary, broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let aviary = aviary.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(broker).expect("the broker listens");
            let (mut from_client, mut to_server) =
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            thread::spawn(move || {
                // Either end may hang up.
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(std::net::Shutdown::Write);
            });
            let (aviary, mut server, mut client) = (aviary.clone(), server, client);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    aviary.heard(bytes);
                    if client.write_all(bytes).is_err() {
                        return;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn http(address: SocketAddr, method: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the broker reads");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an answer");
    String::from_utf8_lossy(&heard).into_owned()
}

/// SASL PLAIN that must not succeed.
fn plain(address: SocketAddr, response: &[u8]) {
    let mut peer = Peer::connect(address);
    peer.sasl_mechanisms();
    peer.sasl_init("PLAIN", Some(response));
    assert_ne!(peer.sasl_outcome(), 0, "a wrong password was taken");
}

/// The lines of a private key, but those that all keys have.
fn hide_key(aviary: &Aviary, path: &std::path::Path) {
    let text = std::fs::read_to_string(path).expect("a key");
    for (number, line) in text.lines().filter(|line| !line.starts_with("-----")).enumerate() {
        // The first line begins with what says the kind of the key.
        let secret = if number == 0 { line.get(36..).unwrap_or_default() } else { line };
        if 12 <= secret.len() {
            aviary.hide(&format!("line {number} of {}", path.display()), secret);
        }
    }
}

#[test]
fn secrets_are_in_no_log_and_no_answer() {
    let aviary = Aviary::default();
    for (name, secret) in [
        ("the first key", PRIMARY),
        ("the second key", SECONDARY),
        ("a wrong key", WRONG_KEY),
        ("a wrong password", WRONG_PASSWORD),
        ("a stray secret", STRAY),
    ] {
        aviary.hide(name, secret);
    }
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path(), &["--client", "someone"]);
    for key in ["server.key", "ca.key", "someone.key"] {
        hide_key(&aviary, &dir.path().join(key));
    }
    let issuer = FakeIssuer::start();
    let rule = format!(
        "[[rule]]\nname = \"app\"\nprimary_key = \"{PRIMARY}\"\nsecondary_key = \"{SECONDARY}\"\n\
         rights = [\"manage\"]"
    );
    let roles = "[[issuer.role]]\nname = \"owner\"\nrights = [\"manage\"]";
    let audit = dir.path().join("audit.jsonl");
    let rule = format!("[audit]\nfile = {audit:?}\n{rule}");
    let setup = issuer.trusted(setup(dir.path()).config(&rule), roles);
    let mut broker = setup.argument("--log-level").argument("trace").start();
    let address = overheard(&aviary, broker.address());

    // Name and key, by each door.
    Peer::connect(address).plain("app", PRIMARY).open().begin().send_texts("q", &["plain"]);
    over_tls(address, Tls::trusting(dir.path()))
        .plain("app", SECONDARY)
        .open()
        .begin()
        .send_texts("q", &["TLS"]);
    over_websocket(address, None).plain("app", PRIMARY).open().begin().send_texts("q", &["WS"]);
    for response in [
        format!("\0app\0{WRONG_PASSWORD}"),
        format!("\0{STRAY}\0{WRONG_PASSWORD}"),
        format!("{STRAY}\0app\0{WRONG_PASSWORD}"),
        format!("app{WRONG_PASSWORD}"),
        format!("\0app\0{WRONG_PASSWORD}\0{STRAY}"),
    ] {
        plain(address, response.as_bytes());
    }

    let later = sas::now() + 3600;
    let connection_string =
        format!("Endpoint=sb://localhost/;SharedAccessKeyName=app;SharedAccessKey={PRIMARY}");
    let forger = Signer::new("first");
    let claims = issuer.claims(&json!({ "roles": ["owner"] }));
    let good = [
        aviary.sas("a token", PRIMARY, later),
        aviary.sas("a token by the second key", SECONDARY, later + 1),
        aviary.jwt("a token of the issuer", issuer.token_for("owner")),
    ];
    let bad = [
        aviary.sas("a forged token", WRONG_KEY, later),
        aviary.sas("an expired token", PRIMARY, 1_000_000_000),
        aviary.sas("a token without its end", PRIMARY, later + 2).replace("&se=", "&x="),
        aviary.jwt("a forged token of the issuer", forger.sign(&forger.header(), &claims)),
        aviary.jwt("an expired token of the issuer", issuer.token(&json!({ "exp": 1 }))),
        aviary.jwt("a token of another issuer", issuer.token(&json!({ "iss": "x" }))),
        aviary.jwt("a token for another audience", issuer.token(&json!({ "aud": "x" }))),
        aviary.jwt("a token without a role", issuer.token(&json!({}))),
        format!("a.b.{}", URL_SAFE_NO_PAD.encode(STRAY)),
        connection_string.clone(),
        STRAY.to_owned(),
        format!("SharedAccessSignature {STRAY}"),
        format!("SharedAccessSignature sr={Q}&sig={STRAY}&se={later}&skn=app"),
        format!("SharedAccessSignature sr={Q}&sig={STRAY}&se={STRAY}&skn=app"),
        format!("SharedAccessSignature sr={Q}&sig=AAAA&se={later}&skn=app&key={STRAY}"),
    ];

    // On $cbs, by each door.
    for tunnel in 0..3 {
        let peer = match tunnel {
            0 => Peer::connect(address),
            1 => over_tls(address, Tls::trusting(dir.path())),
            _ => over_websocket(address, None),
        };
        let mut peer = peer.anonymous().open().begin();
        let mut cbs = peer.open_cbs();
        for token in &bad {
            assert_ne!(peer.put_token(&mut cbs, Q, token), 202, "{token}");
        }
        peer.expect_refusal(sender("q"), peeklock_protocol::condition::UNAUTHORIZED_ACCESS);
        for token in &good {
            assert_eq!(peer.put_token(&mut cbs, Q, token), 202, "{token}");
        }
        for odd in [
            put_token(Q, &good[0]).with_property("operation", "take-token"),
            put_token(Q, &good[0]).with_property("name", Value::Null),
            Message::data(good[0].clone()).with_property("operation", "put-token"),
        ] {
            let odd = odd.with_id("odd").with_reply_to(&cbs.reply_to);
            peer.ask(&mut cbs, &odd);
        }
        peer.send_texts("q", &["with a token"]);
        let mut link = peer.attach_receiver("q");
        peer.credit(&link, 1);
        peer.receive(&mut link);
        peer.expect_refusal(receiver("missing"), peeklock_protocol::condition::NOT_FOUND);
        peer.close();
    }

    // By HTTP.
    for token in &good {
        let scheme = if token.contains(' ') { "" } else { "Bearer " };
        for header in ["Authorization", "ServiceBusAuthorization"] {
            let heard = http(address, "GET", "/q", &format!("{header}: {scheme}{token}\r\n"));
            assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
        }
        let both =
            format!("Authorization: {scheme}{token}\r\nServiceBusAuthorization: {token}\r\n");
        assert!(http(address, "GET", "/q", &both).starts_with("HTTP/1.1 401"));
    }
    for token in &bad {
        for scheme in ["", "Bearer ", "Basic ", "SharedAccessSignature "] {
            let header = format!("Authorization: {scheme}{token}\r\n");
            for (method, path) in
                [("GET", "/q"), ("DELETE", "/q"), ("PUT", "/new"), ("POST", "/q/messages")]
            {
                let heard = http(address, method, path, &header);
                assert!(heard.starts_with("HTTP/1.1 4"), "{heard}");
            }
            http(address, "GET", "/health", &header);
            http(address, "GET", "/$servicebus/websocket", &header);
        }
    }
    let broken =
        format!("Authorization: {STRAY}\u{1}\r\n Folded: {PRIMARY}\r\n\r\n: {PRIMARY}\r\n");
    http(address, "GET", "/q", &broken);
    http(address, "GET", "/q", &format!("Cookie: key={STRAY}\r\n"));

    // What is different in the configuration is told without its keys.
    let file = broker.dir().join("peeklock.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, text.replace(SECONDARY, STRAY)).expect("a file");
    let token = sas::token("http://localhost/", "app", PRIMARY, later + 3);
    let signature = token.split("sig=").nth(1).and_then(|rest| rest.split('&').next());
    aviary.hide("a token for the whole broker", signature.expect("a signature"));
    for (method, path) in [("POST", "/$peeklock/reload"), ("GET", "/$peeklock/log-level")] {
        let heard = http(address, method, path, &format!("Authorization: {token}\r\n"));
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    }

    broker.stop();
    let audit = std::fs::read_to_string(&audit).expect("an audit log");
    assert!(audit.contains("\"put-token\"") && audit.contains("\"sasl PLAIN\""), "{audit}");
    aviary.assert_silent(&audit);
    let log = broker.log_text();
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""), "{log}");
    assert!(log.contains("token refused"), "{log}");
    aviary.assert_silent(&log);
}

/// What is wrong in the configuration is told without what stands there.
#[test]
fn a_broker_that_does_not_start_tells_no_secret() {
    let aviary = Aviary::default();
    for n in 0..21 {
        aviary.hide("a secret", &format!("{STRAY}-{n}"));
    }
    aviary.hide("a stray secret", STRAY);
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path(), &[]);
    for key in ["server.key", "ca.key"] {
        hide_key(&aviary, &dir.path().join(key));
    }
    let file = |name: &str| format!("{:?}", dir.path().join(name));
    let tls = |certificate: &str, key: &str| {
        format!("[tls]\ncertificate = {}\nkey = {}\n", file(certificate), file(key))
    };
    let with_key = |lines: &str| format!("[[rule]]\nname = \"a\"\nrights = [\"send\"]\n{lines}\n");
    let start = |config: &str, variable: Option<(&str, String)>| {
        let path = dir.path().join("peeklock.toml");
        std::fs::write(&path, config).expect("a file");
        let output = Command::new(binary())
            .args(["serve", "--ephemeral", "--log-level", "trace", "--listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(&path)
            .envs(variable)
            .stdin(Stdio::null())
            .output()
            .expect("the broker can be started");
        assert!(!output.status.success(), "it started with {config}");
        aviary.heard(&output.stdout);
        aviary.heard(&output.stderr);
    };
    for config in [
        with_key(&format!("primary_key = [\"{STRAY}\"]")),
        with_key(&format!("primary_key = \"{STRAY}")),
        with_key(&format!("primary_key = {STRAY}")),
        with_key(&format!("primary_key = \"\"\nsecondary_key = \"{STRAY}\"")),
        with_key(&format!("primary_key = \"{STRAY}\"\nentity = \"//\"")),
        with_key(&format!("primary_key = {{ key = \"{STRAY}\" }}")),
        with_key(&format!("PrimaryKey = \"{STRAY}\"")),
        format!("rule = \"{STRAY}\""),
        format!("rule = [\"{STRAY}\"]"),
        format!("[rule]\nprimary_key = \"{STRAY}\""),
        format!("dev = \"{STRAY}\""),
        // The private key in the place of the certificate, and one that is another's.
        tls("server.key", "server.key"),
        tls("server.pem", "ca.key"),
        tls("server.pem", "server.pem"),
        format!("{}client_ca = {}\n", tls("server.pem", "server.key"), file("server.key")),
        format!(
            "[[issuer]]\nissuer = \"https://localhost:1\"\naudiences = [\"a\"]\nca_file = {}\n",
            file("ca.key")
        ),
        // An address with a password in it.
        format!("[[issuer]]\nissuer = \"https://id:{STRAY}@localhost:1\"\naudiences = [\"a\"]\n"),
    ] {
        start(&config, None);
    }
    for value in [
        format!("[{{ name = 'a', primary_key = '{STRAY}', rights = 1 }}]"),
        format!("[{{ name = 'a', primary_key = '{STRAY}"),
        STRAY.to_owned(),
    ] {
        start("", Some(("PEEKLOCK_RULE", value)));
    }
    aviary.assert_silent("");
}
