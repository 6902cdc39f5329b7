//! Requests that wait for a message, and what becomes of them meanwhile: rights go, tokens end, peers
//! leave.

use std::time::Duration;

use peeklock_protocol::value::Value;
use peeklock_tests::administration::{create_queue, update_queue};
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::http::HttpClient;
use peeklock_tests::message::Message;
use peeklock_tests::{TestBroker, sas};

/// 32 octets each.
const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

const HEAD: &str = "/q/messages/head";
const METHODS: [&str; 2] = ["POST", "DELETE"];

/// Returns when all requests that were sent before are being worked on: this one came later and was
/// served.
#[track_caller]
fn await_those_before(broker: &TestBroker) {
    broker.http().ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
}

/// Another key, another right, no rule any more: whoever waits by the old one hears of it, and gets
/// nothing that comes later.
#[test]
fn a_wait_ends_with_the_right_to_it() {
    let broker = TestBroker::start();
    let all = ("own", FIRST, "Send Listen");
    assert_eq!(create_queue(&broker, "orders", &[all]), 201);
    let mut other = broker.http();
    for change in [&[("own", SECOND, "Send Listen")][..], &[("own", FIRST, "Send")], &[]] {
        for method in METHODS {
            assert_eq!(update_queue(&broker, "orders", &[all]), 200);
            let client = HttpClient::connect(broker.address());
            let mut client = client.rule("own", FIRST, "orders");
            client.start(method, "/orders/messages/head", &[], b"");
            await_those_before(&broker);
            // Nothing has changed for this one.
            assert_eq!(update_queue(&broker, "orders", &[all, ("more", SECOND, "Listen")]), 200);
            assert_eq!(update_queue(&broker, "orders", change), 200);
            other.ask("POST", "/orders/messages", &[], b"x").expect(201);
            let answer = client.answer().expect(401);
            assert!(answer.text().contains("<Code>401</Code>"), "{}", answer.text());
            let kept = other.ask("DELETE", "/orders/messages/head", &[], b"").expect(200);
            assert_eq!((kept.text(), kept.property("DeliveryCount")), ("x", Some("1")));
        }
    }
    broker.assert_nothing_above_info_was_logged();
}

/// A connection whose requests have a token with this end, in seconds since 1970.
fn until(broker: &TestBroker, end: u64) -> HttpClient {
    let resource = format!("https://{}/q", broker.address());
    let token = sas::token(&resource, DEV_RULE, DEV_KEY, end);
    HttpClient::connect(broker.address()).token(Some(token))
}

#[test]
fn a_wait_ends_with_its_token() {
    let broker = TestBroker::start();
    let mut clients = METHODS.map(|method| {
        let mut client = until(&broker, sas::now() + 3);
        client.start(method, HEAD, &[], b"");
        client
    });
    for client in &mut clients {
        let answer = client.answer().expect(401);
        assert!(answer.text().contains("40106"), "{}", answer.text());
    }
    broker.http().ask("POST", "/q/messages", &[], b"x").expect(201);
    assert_eq!(broker.peer().drain_texts("q"), ["x"]);
}

/// Messages that come at the moment at which tokens end are not for those who have such a token.
#[test]
fn what_comes_as_a_token_ends_stays() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let now = u64::try_from(clock.freeze().time).expect("after 1970");
    let end = now / 1000 + 60;
    let at = Value::Timestamp(i64::try_from(end * 1000).expect("a moment"));
    let texts: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let messages: Vec<Message> = texts
        .iter()
        .map(|text| {
            Message::data(text.clone()).with_annotation("x-opt-scheduled-enqueue-time", at.clone())
        })
        .collect();
    let mut peer = broker.peer();
    peer.send_messages("q", &messages);
    let mut clients: Vec<HttpClient> = METHODS
        .into_iter()
        .cycle()
        .take(texts.len())
        .map(|method| {
            let mut client = until(&broker, end);
            client.start(method, HEAD, &[], b"");
            client
        })
        .collect();
    await_those_before(&broker);
    clock.advance(Duration::from_millis(end * 1000 - now));
    for client in &mut clients {
        client.answer().expect(401);
    }
    let mut found = peer.drain_texts("q");
    found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    assert_eq!(found, texts);
    broker.assert_nothing_above_info_was_logged();
}

/// A right is there at the end of a body, or nothing is sent.
#[test]
fn who_loses_the_right_while_it_sends_has_sent_nothing() {
    let broker = TestBroker::start();
    assert_eq!(create_queue(&broker, "orders", &[("own", FIRST, "Send")]), 201);
    let client = HttpClient::connect(broker.address());
    let mut client = client.rule("own", FIRST, "orders");
    let token = client.authorization();
    let head = format!(
        "POST /orders/messages HTTP/1.1\r\nHost: {}\r\nAuthorization: {token}\r\n\
         Content-Length: 3\r\n\r\nab",
        broker.address()
    );
    client.write(head.as_bytes());
    await_those_before(&broker);
    assert_eq!(update_queue(&broker, "orders", &[("own", SECOND, "Send")]), 200);
    client.write(b"c");
    client.answer().expect(401);
    assert_eq!(broker.peer().drain_texts("orders"), [""; 0]);
}

/// However a request to receive ends, and whatever stands behind it: its peer is missed when it leaves.
#[test]
fn who_goes_away_takes_nothing_whatever_it_has_said() {
    let broker = TestBroker::start();
    let client = broker.http();
    let next = format!(
        "POST /q/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: 3\
         \r\n\r\nno",
        client.authorization()
    );
    for said in [
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\n\r\nhel",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Content-Length: 5\r\n\r\nhello\r\n",
        "Content-Length: 0\r\n\r\nGET /health HT",
        &format!("Content-Length: 0\r\n\r\n{next}"),
    ] {
        let waiting: Vec<HttpClient> = METHODS
            .into_iter()
            .cycle()
            .take(20)
            .map(|method| {
                let mut client = HttpClient::connect(broker.address());
                let token = broker.http().authorization().to_owned();
                let head = format!(
                    "{method} {HEAD} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n"
                );
                client.write(format!("{head}{said}").as_bytes());
                client
            })
            .collect();
        await_those_before(&broker);
        drop(waiting);
        // Their last words may be slower than the first of others. Two are there: one above, and who asks.
        broker.await_sample("peeklock_connections{protocol=\"http\"}", |open| open <= 2);
        let texts: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let mut sender = broker.http();
        for text in &texts {
            sender.ask("POST", "/q/messages", &[], text.as_bytes()).expect(201);
        }
        let mut found: Vec<String> = Vec::new();
        while found.len() < texts.len() {
            let answer = sender.ask("DELETE", "/q/messages/head?timeout=5", &[], b"");
            assert_eq!(answer.status, 200, "{said:?}: only {found:?}");
            assert_eq!(answer.property("DeliveryCount"), Some("1"), "{said:?}");
            found.push(answer.text().to_owned());
        }
        found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
        assert_eq!(found, texts, "{said:?}");
    }
    broker.assert_nothing_above_info_was_logged();
}

/// A body is of no use here, and a long one is not listened to.
#[test]
fn a_request_to_receive_has_a_small_body_or_none() {
    let broker = TestBroker::start();
    for method in METHODS {
        broker.http().ask("POST", "/q/messages", &[], b"x").expect(201);
        broker.http().ask(method, HEAD, &[], &vec![b'x'; 20_000]).expect(413);
        let answer = broker.http().ask(method, HEAD, &[], b"<entry/>");
        assert!([200, 201].contains(&answer.status), "{}", answer.status);
        assert_eq!(answer.text(), "x");
    }
}

/// Requests that come while one waits have their turn, all of them and in order.
#[test]
fn what_is_asked_behind_a_request_that_waits_is_answered() {
    let broker = TestBroker::start();
    let mut client = broker.http();
    client.start("POST", HEAD, &[], b"");
    await_those_before(&broker);
    // More than is read ahead.
    let texts: Vec<String> = (0..5).map(|number| format!("{number}").repeat(10_000)).collect();
    for text in &texts {
        client.start("POST", "/q/messages", &[], text.as_bytes());
        // The first ones come one by one.
        broker.http().ask("GET", "/health", &[], b"").expect(200);
    }
    broker.http().ask("POST", "/q/messages", &[], b"first").expect(201);
    assert_eq!(client.answer().expect(201).text(), "first");
    for _ in &texts {
        client.answer().expect(201);
    }
    client.start("DELETE", HEAD, &[], b"");
    client.start("DELETE", HEAD, &[], b"");
    for text in &texts[..2] {
        assert_eq!(client.answer().expect(200).text(), text);
    }
    broker.assert_nothing_above_info_was_logged();
}
