//! Claims-based security: tokens put on `$cbs`, what they grant and for how long, and how answers
//! find their way (the behaviour of the Azure SDKs; there is no AMQP § for it).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::performative::{Attach, Detach, Disposition, Performative};
use peeklock_protocol::terminus::TargetNode;
use peeklock_protocol::value::{Symbol, Value};
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::requests::{cbs_status, put_token};
use peeklock_tests::{TestBroker, sas};

/// Seconds for which the broker honours a token that has expired: clocks differ.
const GRACE: u64 = 5;

const AUDIENCE: &str = "sb://localhost/q";

fn good_token() -> String {
    sas::token(AUDIENCE, DEV_RULE, DEV_KEY, sas::now() + 3600)
}

/// Python uses a uuid, Java and Rust a ulong, the others a string: each compares type and value.
#[test]
fn the_correlation_id_is_the_message_id_with_its_type() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let ids = [
        Value::Uuid(*b"0123456789abcdef"),
        Value::Ulong(0),
        Value::Ulong(77),
        Value::Ulong(u64::MAX),
        Value::from("text"),
        Value::Binary("octets".into()),
    ];
    for id in ids {
        let request =
            put_token(AUDIENCE, &good_token()).with_id(id.clone()).with_reply_to("answers of $cbs");
        let answer = peer.ask(&mut cbs, &request);
        assert_eq!(answer.correlation_id(), &id);
        assert_eq!(cbs_status(&answer), 202);
    }
}

/// Rust accepts no success but 202, and Python takes the mere presence of a condition for failure.
#[test]
fn success_is_202_without_a_condition_and_goes_to_the_reply_address() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let request = put_token(AUDIENCE, &good_token()).with_id("1").with_reply_to("answers of $cbs");
    let answer = peer.ask(&mut cbs, &request);
    assert_eq!(cbs_status(&answer), 202);
    assert_eq!(answer.to(), &Value::from("answers of $cbs"));
    for key in ["error-condition", "errorCondition"] {
        assert_eq!(answer.property(key), None);
    }
}

/// A request that came unsettled is settled as accepted besides being answered; .NET and Java send
/// theirs settled.
#[test]
fn requests_may_come_settled_or_not() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let request = put_token(AUDIENCE, &good_token()).with_id("1").encode();
    peer.transfer_settled(&mut cbs.requests, &request);
    assert_eq!(cbs_status(&peer.read_answer(&mut cbs)), 202);

    let id = peer.transfer(&mut cbs.requests, &request);
    let (mut answered, mut accepted) = (false, false);
    while !(answered && accepted) {
        match peer.performative() {
            Performative::Transfer(_) => answered = true,
            Performative::Disposition(disposition) => {
                let Disposition { first, settled, state, .. } = disposition;
                assert_eq!((first, settled), (id, true), "one disposition, for the second request");
                assert_eq!(state, Some(peeklock_protocol::delivery_state::DeliveryState::Accepted));
                accepted = true;
            }
            Performative::Flow(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Python sends no reply-to on `$cbs`: the answer takes the only way there is.
#[test]
fn a_request_without_reply_to_is_answered_on_the_link_of_its_session() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let request = put_token(AUDIENCE, &good_token()).with_id(Value::Uuid([7; 16]));
    let answer = peer.ask(&mut cbs, &request);
    assert_eq!(cbs_status(&answer), 202);
    assert_eq!(answer.to(), &Value::Null);
}

/// JS names its receiving link as the reply address, the others the target of that link.
#[test]
fn reply_to_is_the_target_or_the_name_of_the_receiving_link() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let by_name = Attach {
        name: "by name".into(),
        target: Some(TargetNode::default().into()),
        ..receiver("$cbs")
    };
    let by_target =
        Attach { target: Some(TargetNode::new("by target").into()), ..receiver("$cbs") };
    let by_name = peer.attach_for_receiving(by_name);
    let by_target = peer.attach_for_receiving(by_target);
    let mut requests = peer.attach_sender("$cbs");
    peer.credit(&by_name, 10);
    peer.credit(&by_target, 10);
    for (reply_to, link) in [("by target", by_target), ("by name", by_name)] {
        let mut link = link;
        let request = put_token(AUDIENCE, &good_token()).with_id("1").with_reply_to(reply_to);
        peer.transfer_settled(&mut requests, &request.encode());
        assert_eq!(cbs_status(&peer.receive(&mut link).message()), 202);
    }
}

/// Every Java client replies to `cbs-client-reply-to`: an answer never crosses to another
/// connection.
#[test]
fn equal_reply_addresses_of_two_connections_do_not_mix() {
    let broker = TestBroker::start();
    let mut one = broker.anonymous_peer();
    let mut other = broker.anonymous_peer();
    let mut one_cbs = one.open_cbs();
    let mut other_cbs = other.open_cbs();
    for round in 0_u64..20 {
        let request =
            |n| put_token(AUDIENCE, &good_token()).with_id(n).with_reply_to("answers of $cbs");
        one.transfer_settled(&mut one_cbs.requests, &request(round).encode());
        other.transfer_settled(&mut other_cbs.requests, &request(round + 1000).encode());
        assert_eq!(one.read_answer(&mut one_cbs).correlation_id(), &Value::Ulong(round));
        let answer = other.read_answer(&mut other_cbs);
        assert_eq!(answer.correlation_id(), &Value::Ulong(round + 1000));
    }
}

/// Encoders differ: upper- and lower-case escapes, any order of the parameters, other schemes. The
/// signature is over the resource as it was written.
#[test]
fn tokens_are_verified_as_they_were_written() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let se = sas::now() + 3600;
    for sr in [
        "sb%3A%2F%2Flocalhost%2Fq",
        "sb%3a%2f%2flocalhost%2fq",
        "amqps%3A%2F%2Flocalhost%3A5671%2FQ%2F",
        "https%3A%2F%2Flocalhost%2Fq",
        "localhost%2Fq",
        "sb%3A%2F%2Flocalhost",
    ] {
        let sig = sas::signature(sr, DEV_KEY, se);
        let lower = sig.replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d");
        for token in [
            format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn={DEV_RULE}"),
            format!("SharedAccessSignature sig={lower}&se={se}&skn={DEV_RULE}&sr={sr}"),
            format!("SharedAccessSignature skn={DEV_RULE}&sr={sr}&sig={sig}&se={se}"),
        ] {
            assert_eq!(peer.put_token(&mut cbs, AUDIENCE, &token), 202, "{token}");
        }
    }
    peer.attach_sender("q");
}

/// 401 makes the SDKs raise their authentication errors; the texts begin as those of the service.
#[test]
fn tokens_that_do_not_hold_are_refused_with_401() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let later = sas::now() + 3600;
    let cases = [
        ("InvalidSignature", sas::token(AUDIENCE, DEV_RULE, "another key", later)),
        ("", sas::token(AUDIENCE, "nobody", DEV_KEY, later)),
        ("InvalidAudience", sas::token("sb://localhost/other", DEV_RULE, DEV_KEY, later)),
        ("InvalidAudience", sas::token("sb://localhost/qq", DEV_RULE, DEV_KEY, later)),
        ("ExpiredToken", sas::token(AUDIENCE, DEV_RULE, DEV_KEY, sas::now() - 60)),
    ];
    for (n, (text, token)) in cases.iter().enumerate() {
        let id = u64::try_from(n).unwrap_or_default();
        let answer = peer.ask(&mut cbs, &put_token(AUDIENCE, token).with_id(id));
        assert_eq!(cbs_status(&answer), 401, "{token}");
        let description = answer.text_property("status-description").unwrap_or_default();
        assert!(description.starts_with(text), "{text}: {description}");
        assert!(!description.contains(DEV_KEY), "{description}");
    }
    peer.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
    broker.assert_nothing_above_info_was_logged();
}

/// What is no token at all is the client's mistake, not a wrong credential.
#[test]
fn malformed_requests_are_refused_and_the_connection_goes_on() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let good = put_token(AUDIENCE, &good_token());
    let malformed = [
        put_token(AUDIENCE, ""),
        put_token(AUDIENCE, "SharedAccessSignature"),
        put_token(AUDIENCE, "SharedAccessSignature sr=&sig=&se=&skn="),
        put_token(AUDIENCE, &good_token().replace("se=", "se=x")),
        Message::value(Value::Null).with_property("operation", "put-token"),
        Message {
            application_properties: good.application_properties.clone(),
            ..Message::default()
        },
        good.clone().with_property("operation", "take-token"),
        good.clone().with_property("name", Value::Null),
    ];
    for (n, request) in malformed.into_iter().enumerate() {
        let id = u64::try_from(n).unwrap_or_default();
        let answer = peer.ask(&mut cbs, &request.clone().with_id(id));
        let status = cbs_status(&answer);
        assert!((400..=501).contains(&status), "{status} for {request:?}");
    }
    assert_eq!(peer.put_token(&mut cbs, AUDIENCE, &good_token()), 202);
}

/// Texts may come as symbols, and documents call the token types by other names.
#[test]
fn texts_of_a_request_may_be_symbols() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    for kind in ["servicebus.windows.net:sastoken", "amqp:swt"] {
        let request = put_token(AUDIENCE, &good_token())
            .with_property("operation", Symbol::from_static("put-token"))
            .with_property("type", Symbol::from_static(kind))
            .with_property("expiration", Value::Timestamp(0))
            .with_id("1");
        assert_eq!(cbs_status(&peer.ask(&mut cbs, &request)), 202);
    }
}

/// A token for an entity covers its nodes, one for the namespace everything, and neither its
/// neighbours.
#[test]
fn a_token_covers_the_entity_and_what_is_below_it() {
    let broker = TestBroker::with().queue("q", "").queue("qq", "").queue("other", "").start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    peer.authorize(&mut cbs, "q");
    peer.attach_sender("q");
    peer.attach_receiver("q/$DeadLetterQueue");
    peer.open_management("q");
    for address in ["qq", "other", "qq/$management", "q2"] {
        peer.expect_refusal(receiver(address), condition::UNAUTHORIZED_ACCESS);
    }

    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let token = sas::token("sb://localhost", DEV_RULE, DEV_KEY, sas::now() + 3600);
    assert_eq!(peer.put_token(&mut cbs, "sb://localhost", &token), 202);
    for address in ["q", "qq", "other/$DeadLetterQueue"] {
        peer.attach_receiver(address);
    }
}

/// .NET and JS put a token of its own for the management node.
#[test]
fn a_token_for_the_management_node_opens_it() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    peer.authorize(&mut cbs, "q/$management");
    peer.open_management("q");
    peer.expect_refusal(receiver("q"), condition::UNAUTHORIZED_ACCESS);
}

/// A rule on an entity is valid for that entity alone, and grants what it grants.
#[test]
fn a_rule_on_an_entity_is_valid_for_that_entity_alone() {
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("other", "")
        .rule("only-q", "key", "[\"Send\"]\nentity = \"q\"")
        .start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let later = sas::now() + 3600;
    let token = sas::token(AUDIENCE, "only-q", "key", later);
    assert_eq!(peer.put_token(&mut cbs, AUDIENCE, &token), 202);
    peer.attach_sender("q");
    peer.expect_refusal(receiver("q"), condition::UNAUTHORIZED_ACCESS);
    let wide = sas::token("sb://localhost/other", "only-q", "key", later);
    let status = peer.put_token(&mut cbs, "sb://localhost/other", &wide);
    assert!(status == 401 || status == 202, "{status}");
    peer.expect_refusal(sender("other"), condition::UNAUTHORIZED_ACCESS);
}

/// Rights belong to the connection that put the token.
#[test]
fn a_token_grants_nothing_to_other_connections() {
    let broker = TestBroker::start();
    let mut granted = broker.anonymous_peer();
    let mut cbs = granted.open_cbs();
    granted.authorize(&mut cbs, "q");
    granted.attach_sender("q");
    let mut other = broker.anonymous_peer();
    other.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
}

/// go-amqp opens a new pair of links for every token and closes it afterwards.
#[test]
fn cbs_may_be_opened_and_closed_for_every_token() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    for _ in 0..10 {
        let mut cbs = peer.open_cbs();
        peer.authorize(&mut cbs, "q");
        peer.detach(&cbs.requests);
        peer.detach(&cbs.answers);
    }
    peer.attach_sender("q");
    peer.close();
    broker.assert_nothing_above_info_was_logged();
}

/// After the expiry of the newest token, and some seconds of grace for clocks, the links it carried
/// are detached; a renewal keeps them, and so does a token of their own.
#[test]
fn an_expired_token_cuts_its_links_and_a_renewed_one_keeps_them() {
    let broker = TestBroker::with().queue("q", "").queue("short", "").virtual_time().start();
    let mut clock = broker.clock();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    let soon = sas::now() + 60;
    for entity in ["q", "short"] {
        let audience = format!("sb://localhost/{entity}");
        let token = sas::token(&audience, DEV_RULE, DEV_KEY, soon);
        assert_eq!(peer.put_token(&mut cbs, &audience, &token), 202);
    }
    let mut renewed = peer.attach_sender("q");
    let sends = peer.attach_sender("short");
    let receives = peer.attach_receiver("short");
    peer.authorize(&mut cbs, "q");
    clock.advance(Duration::from_secs(60 + GRACE));
    let mut cut = Vec::new();
    for _ in 0..2 {
        let detach: Detach = peer.find();
        let error = detach.error.expect("the reason");
        assert_eq!(error.condition, *condition::UNAUTHORIZED_ACCESS, "{error:?}");
        cut.push(detach.handle);
    }
    cut.sort_unstable();
    let mut wanted = [sends.remote_handle, receives.remote_handle];
    wanted.sort_unstable();
    assert_eq!(cut, wanted);
    peer.send_accepted(&mut renewed, &Message::data("still granted").encode());
    peer.expect_refusal(
        Attach { name: "after the expiry".into(), ..sender("short") },
        condition::UNAUTHORIZED_ACCESS,
    );
}
