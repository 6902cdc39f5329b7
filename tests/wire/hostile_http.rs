//! Peers that mean harm, by HTTP: what has brought other servers down costs the one connection it came
//! over, and no memory.

use std::thread;
use std::time::Duration;

use peeklock_tests::TestBroker;
use peeklock_tests::http::{HttpAnswer, HttpClient};

/// What all attacks of a test together may leave behind: allocators keep some of what they had.
const GROWTH_MAX: u64 = 16 * 1024 * 1024;

const SEND: &str = "/q/messages";
const BATCH: (&str, &str) = ("Content-Type", "application/vnd.microsoft.servicebus.json");

/// Runs the attack while another client goes about its business, and looks at what it cost.
#[track_caller]
fn beside_an_honest_client(broker: &TestBroker, attack: impl FnOnce(&TestBroker)) {
    let exchange = |text: &str| {
        let mut honest = broker.http();
        honest.ask("POST", SEND, &[], text.as_bytes()).expect(201);
        let answer = honest.ask("DELETE", "/q/messages/head", &[], b"").expect(200);
        assert_eq!(answer.text(), text);
    };
    exchange("before");
    let before = broker.resident_bytes();
    attack(broker);
    exchange("after");
    let after = broker.resident_bytes();
    assert!(after < before + GROWTH_MAX, "memory grew from {before} to {after}");
    broker.assert_nothing_above_info_was_logged();
}

/// The head of a request to send, up to its own headers. It has a token.
fn head(broker: &TestBroker, headers: &str) -> String {
    let client = broker.http();
    let token = client.authorization();
    format!("POST {SEND} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n{headers}\r\n")
}

fn connect_and_say(broker: &TestBroker, text: &str) -> HttpClient {
    let mut client = HttpClient::connect(broker.address());
    client.write(text.as_bytes());
    client
}

/// All answers to some octets, up to the end of the connection, which the broker has to make.
fn answers(broker: &TestBroker, octets: &[u8]) -> Vec<HttpAnswer> {
    let mut client = HttpClient::connect(broker.address());
    client.write_anyway(octets);
    std::iter::from_fn(|| client.answer_or_end()).collect()
}

/// The same where nothing comes behind them.
fn last_answers(broker: &TestBroker, octets: &[u8]) -> Vec<HttpAnswer> {
    let mut client = HttpClient::connect(broker.address());
    client.write_anyway(octets);
    client.say_no_more();
    std::iter::from_fn(|| client.answer_or_end()).collect()
}

fn statuses(answers: &[HttpAnswer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

/// Parsers stop at a depth, not at the end of their stack.
#[test]
fn nesting_without_end_is_refused() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut client = broker.http();
        let deep = |open: &str, depth: usize| open.repeat(depth).into_bytes();
        for open in ["[", "{\"a\":", "[{\"UserProperties\":{\"a\":[", "[[],["] {
            for depth in [100, 200, 10_000, 100_000] {
                let body = deep(open, depth.min(1_000_000 / open.len()));
                client.ask("POST", SEND, &[BATCH], &body).expect(400);
            }
        }
        let nested = format!("[{{\"Unknown\":{}1{}}}]", "[".repeat(50_000), "]".repeat(50_000));
        client.ask("POST", SEND, &[BATCH], nested.as_bytes()).expect(400);
        let nested = format!("{{\"Unknown\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        client.ask("POST", SEND, &[("BrokerProperties", &nested)], b"").expect(400);
        for open in ["<a>", "<a xmlns='b'>", "<a b='c'>", "<!DOCTYPE a [", "<![CDATA["] {
            for depth in [15, 100, 10_000, 100_000] {
                let body = deep(open, depth.min(1_000_000 / open.len()));
                client.ask("PUT", "/new", &[], &body).expect(400);
            }
        }
    });
}

/// Entities that stand for more than they are long are not taken.
#[test]
fn entities_are_never_expanded() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut client = broker.http();
        let laughs = "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c \
            '&b;&b;&b;&b;'>]><a>&c;</a>";
        let file = "<!DOCTYPE a [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><a>&a;</a>";
        for document in [laughs, file, "<a>&unknown;</a>"] {
            let answer = client.ask("PUT", "/new", &[], document.as_bytes()).expect(400);
            assert!(!answer.text().contains("root:"), "{}", answer.text());
        }
    });
}

/// A length that is a lie costs nothing before its octets come.
#[test]
fn lying_lengths_are_refused() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        for length in ["9223372036854775807", "99999999999", "1048577"] {
            // Who asks before it sends is told at once.
            let headers = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
            let answers = answers(broker, head(broker, &headers).as_bytes());
            assert_eq!(statuses(&answers), [403], "{length}");
        }
        for headers in [
            "Content-Length: -1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x10\r\n",
            "Content-Length: 1, 2\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length : 1\r\n",
            "Content-Length: 1\r\n folded: 1\r\n",
        ] {
            let answers = answers(broker, (head(broker, headers) + "abc").as_bytes());
            assert!(
                answers.is_empty() || statuses(&answers) == [400],
                "{headers:?}: {:?}",
                statuses(&answers)
            );
        }
        // More than there is room for, if promises counted: what comes does, and that is a byte each.
        let promise = head(broker, "Content-Length: 1000000\r\n") + "a";
        let liars: Vec<HttpClient> = (0..300).map(|_| connect_and_say(broker, &promise)).collect();
        // All of them are being read once this, which came later, was served.
        broker.http().ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
        broker.http().ask("POST", SEND, &[], &vec![b'x'; 1_000_000]).expect(201);
        broker.http().ask("DELETE", "/q/messages/head", &[], b"").expect(200);
        drop(liars);
    });
    // Nothing of all that was sent.
    assert_eq!(broker.peer().drain_texts("q"), [""; 0]);
}

/// Nobody is refused for what others have announced, however large they may send.
#[test]
fn promises_take_no_room() {
    let broker =
        TestBroker::with().queue("q", "").queue("large", "max_message_size = \"100MiB\"").start();
    beside_an_honest_client(&broker, |broker| {
        let mut liars: Vec<HttpClient> = Vec::new();
        for length in [104_000_000, 50_000_000, 10_000_000, 1_000_000, 100_000] {
            let promise = head(broker, &format!("Content-Length: {length}\r\n")) + "a";
            let promise = promise.replace(SEND, "/large/messages");
            liars.extend((0..20).map(|_| connect_and_say(broker, &promise)));
        }
        broker.http().ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
        for path in [SEND, "/large/messages"] {
            broker.http().ask("POST", path, &[], &vec![b'x'; 100_000]).expect(201);
        }
        broker.http().ask("DELETE", "/q/messages/head", &[], b"").expect(200);
        drop(liars);
    });
}

/// What no message has is not kept, nor what is beyond the last message: a batch takes little more
/// memory than its octets.
#[test]
fn batches_do_not_grow() {
    let octets = 20_000_000;
    let filled = |first: &str, again: &str, last: &str| {
        let count = (octets - first.len() - last.len()) / again.len();
        [first, &again.repeat(count), last].concat()
    };
    for (batch, status) in [
        (filled("[{\"Body\":\"b\",\"Unknown\":[0", ",0", "]}]"), 201),
        (filled("[{\"BrokerProperties\":{\"Unknown\":[{}", ",{}", "]}}]"), 201),
        (filled("[{\"a\":0", ",\"a\":0", "}]"), 201),
        (filled("[{\"BrokerProperties\":{\"Label\":[0", ",0", "]}}]"), 400),
        (filled("[{\"UserProperties\":{\"a\":[0", ",0", "]}}]"), 400),
        (filled("[{\"UserProperties\":[0", ",0", "]}]"), 400),
        (filled("[{\"Body\":[0", ",0", "]}]"), 400),
        (filled("[{}", ",{}", "]"), 400),
        (filled("[[]", ",[]", "]"), 400),
    ] {
        let broker = TestBroker::with().queue("q", "max_message_size = \"100MiB\"").start();
        let before = broker.resident_bytes_max();
        let answer = broker.http().ask("POST", SEND, &[BATCH], batch.as_bytes());
        let grown = broker.resident_bytes_max() - before;
        let begins = batch.get(..40).expect("text");
        assert_eq!(answer.status, status, "{begins}: {}", answer.text());
        // The body while it comes, and what it had before it became larger.
        assert!(grown < 100_000_000, "{begins}: {grown}");
        broker.assert_nothing_above_info_was_logged();
    }
    // Names that differ: a message has not so many properties.
    let broker = TestBroker::with().queue("q", "max_message_size = \"100MiB\"").start();
    let before = broker.resident_bytes_max();
    let all: Vec<String> = (0..1_000_000).map(|name| format!("\"{name}\":0")).collect();
    let batch = format!("[{{\"UserProperties\":{{{}}}}}]", all.join(","));
    broker.http().ask("POST", SEND, &[BATCH], batch.as_bytes()).expect(400);
    assert!(broker.resident_bytes_max() < before + 60_000_000);
}

/// Chunks are counted as they come, whatever they say of themselves.
#[test]
fn chunks_without_end_are_cut_off() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let chunked = head(broker, "Transfer-Encoding: chunked\r\n");
        let mut client = HttpClient::connect(broker.address());
        client.write(chunked.as_bytes());
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // A hundred mebibytes, if somebody reads them.
        let written = (0..1600).take_while(|_| client.write_anyway(chunk.as_bytes())).count();
        assert!(written < 1600, "all of it was read");
        for chunks in [
            "ffffffffffffffff\r\nabc",
            "fffffffffffffffff\r\nabc",
            "-1\r\nabc",
            "x\r\nabc",
            "1;ext=\"a\r\nb\"\r\nabc",
            "5\r\nabc",
        ] {
            let found = last_answers(broker, format!("{chunked}{chunks}").as_bytes());
            let found = statuses(&found);
            assert!(found.is_empty() || found == [400] || found == [403], "{chunks:?}: {found:?}");
        }
        let endless = format!("1;{}", "e".repeat(200_000));
        let found = last_answers(broker, format!("{chunked}{endless}").as_bytes());
        assert!(found.is_empty() || statuses(&found) == [400], "{:?}", statuses(&found));
    });
    assert_eq!(broker.peer().drain_texts("q"), [""; 0]);
}

/// RFC 9112 §6.1: where two lengths are given, what one reader takes for a body is another request to
/// the other. Nothing behind such a body is served.
#[test]
fn no_request_is_smuggled_behind_another() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let smuggled = head(broker, "Content-Length: 8\r\n") + "smuggled";
        let body = format!("0\r\n\r\n{smuggled}");
        let length = format!("Content-Length: {}\r\n", body.len());
        let chunked = "Transfer-Encoding: chunked\r\n";
        for headers in [
            format!("{length}{chunked}"),
            format!("{chunked}{length}"),
            format!("Content-Length: 3\r\n{chunked}"),
            chunked.to_owned(),
            format!("{length}Transfer-Encoding: xchunked\r\n"),
            format!("{length}Transfer-Encoding: chunked, identity\r\n"),
            format!("{length}Transfer-Encoding : chunked\r\n"),
            format!("{length}Transfer-Encoding: identity\r\n"),
            format!("{length}Transfer-Encoding:\u{b}chunked\r\n"),
        ] {
            let octets = head(broker, &headers) + &body;
            let found = statuses(&answers(broker, octets.as_bytes()));
            let is_good = found.is_empty() || found == [400] || found == [201];
            assert!(is_good, "{headers:?}: {found:?}");
        }
        let mut client = broker.http();
        loop {
            let answer = client.ask("DELETE", "/q/messages/head?timeout=0", &[], b"");
            match answer.status {
                204 => break,
                200 => assert_ne!(answer.text(), "smuggled"),
                _ => panic!("{}", answer.text()),
            }
        }
    });
}

/// Heads have an end, and so do their parts.
#[test]
fn heads_are_bounded() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let many = "a: b\r\n".repeat(10_000);
        let long_name = format!("{}: b\r\n", "n".repeat(1_000_000));
        let long_value = format!("a: {}\r\n", "v".repeat(1_000_000));
        for headers in [&many, &long_name, &long_value] {
            let found = statuses(&answers(broker, head(broker, headers).as_bytes()));
            assert!(found.is_empty() || found == [431], "{found:?}");
        }
        let path = format!("/{}/messages", "q".repeat(60_000));
        let mut client = broker.http();
        // No token is good for an address of this length.
        client.ask("POST", &path, &[], b"").expect(401);
        // As many as a request may have, less those that it has anyway.
        let names: Vec<String> = (0..90).map(|number| format!("p{number}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        client.ask("POST", SEND, &headers, b"").expect(201);
        let answer = client.ask("DELETE", "/q/messages/head", &[], b"").expect(200);
        let kept = answer.headers.iter().filter(|(name, _)| names.contains(name)).count();
        assert_eq!(kept, 85);
    });
}

/// Octets that come now and then hold no more than their own connection, and not for ever.
#[test]
fn slow_bodies_hold_nobody_up() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nhandshake_timeout = \"5s\"").start();
    beside_an_honest_client(&broker, |broker| {
        let promise = head(broker, "Content-Length: 100\r\n");
        let mut slow: Vec<HttpClient> =
            (0..50).map(|_| HttpClient::connect(broker.address())).collect();
        for client in &mut slow {
            client.write(promise.as_bytes());
        }
        let mut honest = broker.http();
        for octet in 0..20_u8 {
            for client in &mut slow {
                client.write(&[octet]);
            }
            honest.ask("POST", "/q/messages/head?timeout=0", &[], b"").expect(204);
            thread::sleep(Duration::from_millis(10));
        }
        // A head that does not come is cut off, also where a request was served before.
        let mut late = broker.http();
        late.ask("POST", "/q/messages/head?timeout=0", &[], b"").expect(204);
        late.write(b"POST /q/mess");
        let answer = late.answer_or_end();
        assert!(answer.is_none_or(|answer| answer.status == 408));
    });
}

/// Markup is data: it comes back as it was sent, in a type that no browser takes for a page, and
/// escaped where it is part of a document of ours.
#[test]
fn markup_is_never_a_page() {
    let broker = TestBroker::start();
    beside_an_honest_client(&broker, |broker| {
        let mut client = broker.http();
        let script = "<script>alert(1)</script>";
        let headers = [
            ("Content-Type", "text/html"),
            ("note", script),
            ("BrokerProperties", r#"{"Label":"<script>alert(1)</script>"}"#),
        ];
        client.ask("POST", SEND, &headers, script.as_bytes()).expect(201);
        let answer = client.ask("DELETE", "/q/messages/head", &[], b"").expect(200);
        assert_eq!(answer.text(), script);
        let is_no_page = |answer: &HttpAnswer| {
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            let policy = answer.header("content-security-policy");
            assert_eq!(policy, Some("default-src 'none'; sandbox"));
        };
        is_no_page(&answer);
        let evil = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
        for (method, path) in [
            ("POST", format!("/{evil}/messages")),
            ("DELETE", format!("/{evil}/messages/head")),
            ("DELETE", format!("/{evil}")),
            ("PUT", format!("/{evil}")),
            ("GET", format!("/q/Subscriptions?a={evil}")),
            ("GET", format!("/$Resources/queues?a={evil}")),
        ] {
            let answer = client.ask(method, &path, &[], b"");
            assert!(!answer.text().contains("<script"), "{method} {path}: {}", answer.text());
            let kind = answer.header("content-type").expect("a type");
            assert!(kind.starts_with("application/"), "{kind}");
            is_no_page(&answer);
        }
        let crlf = client.ask("GET", "/q%0d%0aSet-Cookie:%20a=b", &[], b"");
        assert_eq!(crlf.header("set-cookie"), None);
    });
}
