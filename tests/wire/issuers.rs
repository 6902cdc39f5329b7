//! Tokens of identity providers, on `$cbs` and by HTTP, and what an identity provider can do to us.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use peeklock_protocol::condition;
use peeklock_protocol::performative::{Close, Detach, Open};
use peeklock_tests::broker::Setup;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::requests::{Requests, cbs_status, put_token};
use peeklock_tests::{Peer, TestBroker, sas};
use serde_json::{Value, json};

use super::fake_issuer::{AUDIENCE, FakeIssuer, Manner, Signer};
use super::tls::certificates;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

const Q: &str = "sb://localhost/q";

const ROLES: &str = "
[[issuer.role]]
name = \"sender\"
rights = [\"send\"]
entity = \"q\"
[[issuer.role]]
name = \"listener\"
rights = [\"listen\"]
entity = \"q*\"
[[issuer.role]]
name = \"owner\"
rights = [\"manage\"]
";

fn setup() -> Setup {
    TestBroker::with().queue("q", "").queue("qq", "").queue("other", "")
}

fn put(peer: &mut Peer, cbs: &mut Requests, token: &str) -> (i32, String) {
    let answer = peer.ask(cbs, &put_token(Q, token).with_id("1"));
    let text = answer.text_property("status-description").unwrap_or_default();
    (cbs_status(&answer), text.to_owned())
}

/// Puts a token on a connection of its own.
fn status(broker: &TestBroker, token: &str) -> (i32, String) {
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    put(&mut peer, &mut cbs, token)
}

#[track_caller]
fn wait_for(broker: &TestBroker, wanted: i32, token: impl Fn() -> String) {
    let started = Instant::now();
    loop {
        let (status, text) = status(broker, &token());
        if status == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "still {status} {text}, not {wanted}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Asks by HTTP and gives the status and the whole answer.
fn http(broker: &TestBroker, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("the broker reads");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("an answer");
    let status = heard.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), heard)
}

/// What a token opens is what its roles map to, whatever audience it is shown for, and whatever the
/// client calls it.
#[test]
fn a_token_opens_what_its_roles_map_to() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).start();
    let kinds = ["jwt", "amqp:jwt", "servicebus.windows.net:sastoken", ""];
    for (kind, audience) in
        kinds.into_iter().zip([Q, "sb://localhost", "amqps://localhost/other", Q])
    {
        let mut peer = broker.anonymous_peer();
        let mut cbs = peer.open_cbs();
        let request = put_token(audience, &issuer.token_for("sender")).with_property("type", kind);
        assert_eq!(cbs_status(&peer.ask(&mut cbs, &request.with_id("1"))), 202, "{kind}");
        peer.send_texts("q", &["sent with a token of an issuer"]);
        for refused in [receiver("q"), sender("other"), sender("qq"), receiver("$management")] {
            peer.expect_refusal(refused, condition::UNAUTHORIZED_ACCESS);
        }
    }
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    assert_eq!(put(&mut peer, &mut cbs, &issuer.token_for("listener")).0, 202);
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 1);
    assert_eq!(peer.receive(&mut link).text(), "sent with a token of an issuer");
    peer.attach_receiver("qq/$DeadLetterQueue");
    peer.expect_refusal(receiver("other"), condition::UNAUTHORIZED_ACCESS);
    peer.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
    // Two tokens on a connection add up when they are shown for different audiences.
    let owner = issuer.token_for("owner");
    assert_eq!(peer.put_token(&mut cbs, "sb://localhost/other", &owner), 202);
    peer.attach_sender("other");
    broker.assert_nothing_above_info_was_logged();
}

/// Each is refused with a text that says why, opens nothing, and is nowhere in the log.
#[test]
fn tokens_that_do_not_hold_are_refused() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).start();
    let now = sas::now();
    let with = |change: Value| {
        let mut all = json!({ "roles": ["owner"] });
        for (name, value) in change.as_object().expect("claims") {
            all[name] = value.clone();
        }
        issuer.token(&all)
    };
    let good = issuer.claims(&json!({ "roles": ["owner"] }));
    let (other, mut alg_none) = (Signer::new("first"), issuer.token_for("owner"));
    alg_none.replace_range(..alg_none.find('.').expect("a dot"), "eyJhbGciOiJub25lIn0");
    let unsigned =
        alg_none.rsplit_once('.').map(|(signed, _)| format!("{signed}.")).expect("a dot");
    let cases = [
        (401, "ExpiredToken", with(json!({ "exp": now - 31 }))),
        (401, "ExpiredToken", with(json!({ "exp": -1 }))),
        (401, "ExpiredToken", with(json!({ "exp": 1.5 }))),
        (400, "MalformedToken", with(json!({ "exp": null }))),
        (400, "MalformedToken", with(json!({ "exp": (now + 600).to_string() }))),
        (400, "MalformedToken", with(json!({ "exp": 1e30 }))),
        (400, "MalformedToken", with(json!({ "exp": [now + 600] }))),
        (401, "InvalidToken", with(json!({ "nbf": now + 300 }))),
        (400, "MalformedToken", with(json!({ "nbf": "0" }))),
        (401, "InvalidAudience", with(json!({ "aud": "another" }))),
        (401, "InvalidAudience", with(json!({ "aud": null }))),
        (401, "InvalidIssuer", with(json!({ "iss": format!("{}/", issuer.name()) }))),
        (401, "InvalidIssuer", with(json!({ "iss": null }))),
        (401, "InvalidToken", with(json!({ "roles": ["nobody"] }))),
        (401, "InvalidToken", with(json!({ "roles": null }))),
        (401, "InvalidSignature", other.sign(&other.header(), &good)),
        (401, "InvalidSignature", alg_none),
        (400, "MalformedToken", unsigned),
        (400, "MalformedToken", with(json!({ "x": "x".repeat(16 * 1024) }))),
        (400, "MalformedToken", "a.b.c".to_owned()),
    ];
    for (wanted, text, token) in cases {
        let mut peer = broker.anonymous_peer();
        let mut cbs = peer.open_cbs();
        let (found, description) = put(&mut peer, &mut cbs, &token);
        assert_eq!(found, wanted, "{description} for {token}");
        assert!(description.starts_with(text), "{description}, not {text}");
        peer.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
        let (found, _) =
            http(&broker, "GET", "/q", &format!("Authorization: Bearer {token}\r\n"), "");
        assert_eq!(found, 401, "{token}");
        let signature = token.rsplit('.').next().filter(|part| 8 < part.len());
        assert!(signature.is_none_or(|part| !broker.log_text().contains(part)), "{token}");
    }
    broker.assert_nothing_above_info_was_logged();
}

/// Signatures made by another library: the good ones are believed, and none of the forged ones, among
/// which are a shared key that is our public key, keys for other purposes, and keys in the header.
#[test]
fn recorded_forgeries_are_refused() {
    let recorded = include_str!("../../broker/server/src/auth/jwt/testdata/tokens.json");
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let issuer = FakeIssuer::start();
    issuer.add_keys(&recorded["keys"]);
    let config = format!(
        "[[issuer]]\nissuer = \"https://id.example/\"\naudiences = [\"{AUDIENCE}\"]\n\
         jwks_uri = \"{}/keys\"\nplain_text = true\n{ROLES}",
        issuer.name()
    );
    let broker = setup().config(&config).start();
    for name in ["RS256", "ES256"] {
        let token = recorded["good"][name].as_str().expect("a token");
        assert_eq!(status(&broker, token).0, 202, "{name}");
    }
    let all = recorded["good"].as_object().expect("tokens").iter();
    let others = all.filter(|(name, _)| !["RS256", "ES256"].contains(&name.as_str()));
    for (name, token) in others.chain(recorded["bad"].as_object().expect("tokens")) {
        let (found, text) = status(&broker, token.as_str().expect("a token"));
        // 503: a key that is not in the set was asked for once more.
        assert!(matches!(found, 400 | 401 | 503), "{name}: {found} {text}");
    }
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn http_takes_the_same_tokens() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).start();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let ask = |headers: &str| http(&broker, "GET", "/q", headers, "").0;
    assert_eq!(ask(&bearer(&issuer.token_for("owner"))), 200);
    let other = bearer(&issuer.token_for("owner")).replace("Bearer", "bearer");
    assert_eq!(ask(&other), 200);
    let other =
        bearer(&issuer.token_for("owner")).replace("Authorization", "ServiceBusAuthorization");
    assert_eq!(ask(&other), 200);
    for role in ["sender", "listener", "nobody"] {
        assert_eq!(ask(&bearer(&issuer.token_for(role))), 401, "{role}");
    }
    assert_eq!(ask(&bearer("")), 401);
    assert_eq!(ask(&format!("Authorization: Basic {}\r\n", issuer.token_for("owner"))), 401);

    // A token of its own for where an entity forwards to, with a scheme or without one.
    let manager = "[[issuer.role]]\nname = \"manager\"\nrights = [\"manage\"]\nentity = \"new*\"\n";
    let broker = issuer.trusted(setup(), &format!("{ROLES}{manager}")).start();
    let body = "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
                <QueueDescription xmlns=\
                \"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\">\
                <ForwardTo>q</ForwardTo></QueueDescription></content></entry>";
    let own = bearer(&issuer.token_for("manager"));
    let put = |path: &str, headers: &str| http(&broker, "PUT", path, headers, body).0;
    assert_eq!(put("/new", &own), 401);
    let sender = issuer.token_for("sender");
    assert_eq!(
        put("/other2", &format!("{own}ServiceBusSupplementaryAuthorization: {sender}\r\n")),
        401
    );
    assert_eq!(
        put("/new1", &format!("{own}ServiceBusSupplementaryAuthorization: {sender}\r\n")),
        201
    );
    let scheme = format!("{own}ServiceBusSupplementaryAuthorization: Bearer {sender}\r\n");
    assert_eq!(put("/new2", &scheme), 201);
    broker.assert_nothing_above_info_was_logged();
}

/// As with SAS tokens: links go when their token ends, and stay when it was renewed.
#[test]
fn the_end_of_a_token_cuts_its_links_and_a_renewal_keeps_them() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).virtual_time().start();
    let mut clock = broker.clock();
    let mut renewing = broker.anonymous_peer();
    let mut renewing_cbs = renewing.open_cbs();
    let mut ending = broker.anonymous_peer();
    let mut ending_cbs = ending.open_cbs();
    let short = issuer.token(&json!({ "roles": ["sender"], "exp": sas::now() + 60 }));
    assert_eq!(put(&mut renewing, &mut renewing_cbs, &short).0, 202);
    assert_eq!(put(&mut ending, &mut ending_cbs, &short).0, 202);
    let mut kept = renewing.attach_sender("q");
    let cut = ending.attach_sender("q");
    assert_eq!(put(&mut renewing, &mut renewing_cbs, &issuer.token_for("sender")).0, 202);
    clock.advance(Duration::from_secs(60 + 31));
    let detach: Detach = ending.find();
    assert_eq!(detach.handle, cut.remote_handle);
    assert_eq!(detach.error.expect("the reason").condition, *condition::UNAUTHORIZED_ACCESS);
    renewing.send_accepted(&mut kept, &Message::data("still granted").encode());
    assert_eq!(
        put(&mut ending, &mut ending_cbs, &short),
        (401, "ExpiredToken: The token has expired.".to_owned())
    );
}

/// The newest token for an audience is the one that counts, also when it is worth less or nothing.
#[test]
fn a_token_with_less_roles_takes_rights_away() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).start();
    for (role, wanted) in [("listener", 202), ("nobody", 401)] {
        let mut peer = broker.anonymous_peer();
        let mut cbs = peer.open_cbs();
        assert_eq!(put(&mut peer, &mut cbs, &issuer.token_for("sender")).0, 202);
        let link = peer.attach_sender("q");
        assert_eq!(put(&mut peer, &mut cbs, &issuer.token_for(role)).0, wanted);
        let detach: Detach = peer.find();
        assert_eq!(detach.handle, link.remote_handle);
        peer.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
    }
}

/// Whatever an issuer answers, the keys it gave before stay.
#[test]
fn keys_stay_when_their_issuer_misbehaves() {
    let (issuer, elsewhere) = (FakeIssuer::start(), FakeIssuer::start());
    let broker = issuer.trusted(setup(), &format!("refresh_every = \"1s\"\n{ROLES}")).start();
    let memory = broker.resident_bytes();
    let answer = |status, headers: String, body: &str| {
        Manner::Answer(status, headers, body.as_bytes().to_vec())
    };
    let redirect = |to: &str| answer("302 Found", format!("Location: {to}/keys\r\n"), "");
    let forged = Signer::new("first");
    let set = json!({ "keys": [forged.public()] }).to_string();
    let manners = [
        answer("500 Internal Server Error", String::new(), &set),
        answer("404 Not Found", String::new(), &set),
        answer("204 No Content", String::new(), ""),
        answer("200 OK", "Content-Type: text/html\r\n".into(), "<html>Please log in</html>"),
        answer("200 OK", String::new(), ""),
        answer("200 OK", String::new(), "{\"keys\":[]}"),
        answer(
            "200 OK",
            String::new(),
            "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"first\",\"k\":\"AAAA\"}]}",
        ),
        answer("200 OK", String::new(), &"[".repeat(200_000)),
        answer("200 OK", String::new(), &format!("{{\"keys\":[{}]}}", "{},".repeat(50_000))),
        answer("200 OK", format!("X: {}\r\n", "x".repeat(1024 * 1024)), &set),
        redirect(elsewhere.name()),
        redirect(issuer.name()),
        Manner::Endless,
        Manner::HangUp,
    ];
    for manner in manners {
        issuer.show_keys(manner.clone());
        issuer.wait_to_be_asked(2);
        assert_eq!(status(&broker, &issuer.token_for("sender")).0, 202, "{manner:?}");
        let claims = issuer.claims(&json!({ "roles": ["sender"] }));
        assert_eq!(status(&broker, &forged.sign(&forged.header(), &claims)).0, 401, "{manner:?}");
    }
    issuer.show_keys(Manner::Well);
    let other =
        json!({ "issuer": elsewhere.name(), "jwks_uri": format!("{}/keys", elsewhere.name()) });
    let manners = [
        answer("200 OK", String::new(), &other.to_string()),
        answer("200 OK", String::new(), "<html>"),
        answer("503 Service Unavailable", String::new(), "{}"),
        answer("200 OK", String::new(), &format!("{{\"issuer\":\"{}\"}}", issuer.name())),
        answer(
            "200 OK",
            String::new(),
            &json!({ "issuer": issuer.name(), "jwks_uri": "file:///etc/passwd" }).to_string(),
        ),
        redirect(elsewhere.name()),
    ];
    for manner in manners {
        issuer.describe_itself(manner.clone());
        issuer.wait_to_be_asked(2);
        assert_eq!(status(&broker, &issuer.token_for("sender")).0, 202, "{manner:?}");
    }
    assert_eq!(elsewhere.keys_asked(), 0, "a redirect was followed");
    let grown = broker.resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more");
    let log = broker.log_text();
    assert!(log.contains("the issuer gives no keys, those it had stay"), "{log}");
}

/// An issuer that is slow, or says nothing, is waited for in the background alone.
#[test]
fn nobody_waits_for_a_slow_issuer() {
    for manner in [Manner::Slowly, Manner::Never] {
        let issuer = FakeIssuer::start();
        let broker = issuer.trusted(setup(), &format!("refresh_every = \"1s\"\n{ROLES}")).start();
        issuer.show_keys(manner.clone());
        issuer.wait_to_be_asked(1);
        let token = issuer.token_for("sender");
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(2) {
            assert_eq!(status(&broker, &token).0, 202, "{manner:?}");
        }
        // It is asked again once the answer is late.
        issuer.show_keys(Manner::Well);
        issuer.wait_to_be_asked(1);
        assert_eq!(status(&broker, &token).0, 202, "{manner:?}");
    }
}

/// Without keys nothing is believed: not at first, and not when the last keys are too old.
#[test]
fn keys_that_are_too_old_are_not_believed() {
    let issuer = FakeIssuer::start();
    issuer.show_keys(Manner::HangUp);
    let config = format!("refresh_every = \"1s\"\nkeys_kept_for = \"3s\"\n{ROLES}");
    let broker = issuer.trusted(setup(), &config).start();
    let (found, text) = status(&broker, &issuer.token_for("sender"));
    assert_eq!(found, 503, "{text}");
    let bearer = format!("Authorization: Bearer {}\r\n", issuer.token_for("owner"));
    assert_eq!(http(&broker, "GET", "/q", &bearer, "").0, 503);
    // Those who have no need of the issuer notice nothing.
    broker.peer().send_texts("q", &["with a key"]);

    issuer.show_keys(Manner::Well);
    wait_for(&broker, 202, || issuer.token_for("sender"));
    issuer.show_keys(Manner::HangUp);
    wait_for(&broker, 503, || issuer.token_for("sender"));
    let log = broker.log_text();
    assert!(log.contains("the issuer gives no keys, its tokens are refused"), "{log}");
    issuer.show_keys(Manner::Well);
    wait_for(&broker, 202, || issuer.token_for("sender"));
}

/// An issuer may sign with a new key before we have asked for it: the client is told to try again.
#[test]
fn a_new_key_is_asked_for_when_a_token_names_it() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).start();
    let old = issuer.token_for("sender");
    assert_eq!(status(&broker, &old).0, 202);
    issuer.change_key("second");
    let (found, text) = status(&broker, &issuer.token_for("sender"));
    assert_eq!((found, text.split(':').next()), (503, Some("ServerBusy")));
    wait_for(&broker, 202, || issuer.token_for("sender"));
    assert_eq!(issuer.keys_asked(), 2);
    // The old key was withdrawn: what it signed is worth nothing now.
    assert_eq!(status(&broker, &old).0, 401);
    broker.assert_nothing_above_info_was_logged();
}

/// A key that the issuer withdraws ends what was opened with it; other changes end nothing.
#[test]
fn a_withdrawn_key_cuts_its_links() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), &format!("refresh_every = \"1s\"\n{ROLES}")).start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    assert_eq!(put(&mut peer, &mut cbs, &issuer.token_for("sender")).0, 202);
    let mut link = peer.attach_sender("q");
    issuer.add_keys(&json!([Signer::new("another").public()]));
    issuer.wait_to_be_asked(2);
    issuer.show_keys(Manner::HangUp);
    issuer.wait_to_be_asked(2);
    peer.send_accepted(&mut link, &Message::data("still granted").encode());
    issuer.change_key("second");
    issuer.show_keys(Manner::Well);
    let detach: Detach = peer.find();
    assert_eq!(detach.handle, link.remote_handle);
    assert_eq!(detach.error.expect("the reason").condition, *condition::UNAUTHORIZED_ACCESS);
    // With a new token the client goes on.
    assert_eq!(put(&mut peer, &mut cbs, &issuer.token_for("sender")).0, 202);
    peer.attach_sender("q");
}

#[test]
fn invented_keys_do_not_flood_the_issuer() {
    let issuer = FakeIssuer::start();
    let broker = issuer.trusted(setup(), ROLES).start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let claims = issuer.claims(&json!({ "roles": ["owner"] }));
    let started = Instant::now();
    for n in 0..200 {
        let signer = Signer::new(&format!("invented {n}"));
        let token = signer.sign(&signer.header(), &claims);
        let status = peer.put_token(&mut cbs, Q, &token);
        assert!(matches!(status, 401 | 503), "{status}");
    }
    let allowed = 2 + usize::try_from(started.elapsed().as_secs() / 10).expect("seconds");
    assert!(issuer.keys_asked() <= allowed, "{} questions", issuer.keys_asked());
    assert_eq!(status(&broker, &issuer.token_for("sender")).0, 202);
}

/// Whom one namespace trusts is nothing to another.
#[test]
fn a_namespace_has_issuers_of_its_own() {
    let (one, other) = (FakeIssuer::start(), FakeIssuer::start());
    let config = format!(
        "[[namespace]]\nname = \"test\"\n[[namespace.queue]]\nname = \"q\"\n\
         [[namespace.issuer]]\nissuer = \"{}\"\naudiences = [\"{AUDIENCE}\"]\nplain_text = true\n\
         [[namespace.issuer.role]]\nname = \"sender\"\nrights = [\"send\"]\n",
        other.name()
    );
    let broker = one.trusted(setup(), ROLES).config(&config).start();
    for (host, good, bad) in [("localhost", &one, &other), ("test.example", &other, &one)] {
        let open =
            Open { container_id: "tests".into(), hostname: Some(host.into()), ..Open::default() };
        let mut peer = broker.connect().anonymous().open_with(open).begin();
        let mut cbs = peer.open_cbs();
        let audience = format!("sb://{host}/q");
        assert_eq!(peer.put_token(&mut cbs, &audience, &bad.token_for("sender")), 401, "{host}");
        peer.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
        assert_eq!(peer.put_token(&mut cbs, &audience, &good.token_for("sender")), 202, "{host}");
        peer.attach_sender("q");
    }
}

/// Who can put keys in on the way owns the broker: the issuer must prove who it is.
#[test]
fn an_issuer_proves_itself_by_its_certificate() {
    let (own, foreign) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    certificates(own.path(), &[]);
    certificates(foreign.path(), &[]);
    let issuer = FakeIssuer::start_tls(own.path());
    let config = |dir: &std::path::Path| format!("ca_file = {:?}\n{ROLES}", dir.join("ca.pem"));
    let broker = issuer.trusted(setup(), &config(own.path())).start();
    assert_eq!(status(&broker, &issuer.token_for("sender")).0, 202);
    let asked = issuer.keys_asked();
    for config in [config(foreign.path()), ROLES.to_owned()] {
        let broker = issuer.trusted(setup(), &config).start();
        assert_eq!(status(&broker, &issuer.token_for("sender")).0, 503);
        assert!(broker.log_text().contains("the issuer gives no keys, its tokens are refused"));
    }
    assert_eq!(issuer.keys_asked(), asked, "a server that is not known was asked");
    let missing = issuer.trusted(setup(), &config(&own.path().join("missing")));
    let dir = tempfile::tempdir().expect("a folder");
    let output = missing.run_to_end(dir.path());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("cannot read the authorities"), "{text}");
}

/// Each subject of an issuer is somebody, and not all of them together; it is the same over HTTP.
#[test]
fn subjects_of_an_issuer_are_limited_one_by_one() {
    let issuer = FakeIssuer::start();
    let setup = issuer.trusted(setup(), ROLES);
    let setup = setup
        .argument("--log-level")
        .argument("debug")
        .config("[limits]\nconnections_per_identity = 1\nsends_per_second_per_identity = 1");
    let broker = setup.start();
    let token = |claims: Value| {
        let mut all = json!({ "roles": ["owner"] });
        for (name, value) in claims.as_object().expect("claims") {
            all[name] = value.clone();
        }
        issuer.token(&all)
    };
    let join = |claims: Value| {
        let mut peer = broker.anonymous_peer();
        let cbs = peer.open_cbs();
        (peer, cbs, put_token(Q, &token(claims)).with_id("1"))
    };
    let (mut first, mut cbs, request) = join(json!({ "sub": "a", "azp": "shop" }));
    assert_eq!(cbs_status(&first.ask(&mut cbs, &request)), 202);
    first.attach_sender("q");
    for claims in [json!({ "sub": "b" }), json!({ "sub": null, "oid": "c" })] {
        let (mut other, mut cbs, request) = join(claims);
        assert_eq!(cbs_status(&other.ask(&mut cbs, &request)), 202);
    }
    // The same one, with another program and another token.
    let (mut second, mut cbs, request) = join(json!({ "sub": "a", "azp": "till" }));
    second.transfer(&mut cbs.requests, &request.encode());
    second.find::<Close>();

    let send = |subject: &str, body: &str| {
        let token = token(json!({ "sub": subject }));
        let headers = format!(
            "Authorization: Bearer {token}\r\n\
             Content-Type: application/vnd.microsoft.servicebus.json\r\n"
        );
        http(&broker, "POST", "/q/messages", &headers, body).0
    };
    let batch = format!("[{}]", vec!["{}"; 1000].join(","));
    assert_eq!(send("a", &batch), 201);
    assert_eq!(send("a", "[{}]"), 429);
    assert_eq!(send("b", "[{}]"), 201);
    first.close();
    let log = broker.log_text();
    assert!(log.contains("a (shop) of "), "{log}");
}
