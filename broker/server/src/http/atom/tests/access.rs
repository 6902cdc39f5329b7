//! Access rules of entities, as the administration clients write and read them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use super::*;
use crate::auth::Claims;

/// 32 octets each.
const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
const THIRD: &str = "//////////////////////////////////////////8=";

fn rights(rights: &[&str]) -> String {
    let each: Vec<_> =
        rights.iter().map(|right| format!("<AccessRights>{right}</AccessRights>")).collect();
    format!("<Rights>{}</Rights>", each.concat())
}

fn keys(first: &str, second: &str) -> String {
    format!("<PrimaryKey>{first}</PrimaryKey><SecondaryKey>{second}</SecondaryKey>")
}

/// As JavaScript writes it.
fn rule(name: &str, rest: &str) -> String {
    format!(
        "<AuthorizationRule p5:type=\"SharedAccessAuthorizationRule\" \
         xmlns:p5=\"{SCHEMA_INSTANCE}\"><ClaimType>SharedAccessKey</ClaimType>\
         <ClaimValue>None</ClaimValue>{rest}<KeyName>{name}</KeyName></AuthorizationRule>"
    )
}

fn rules(rules: &[String]) -> String {
    format!("<AuthorizationRules>{}</AuthorizationRules>", rules.concat())
}

/// The text of the first element of that name.
fn text<'a>(reply: &'a Reply, name: &str) -> &'a str {
    let (_, rest) = reply.body.split_once(&format!("<{name}>")).unwrap();
    rest.split_once('<').unwrap().0
}

#[tokio::test]
async fn rules_are_written_as_the_service_writes_them() {
    let world = World::new();
    let all = rights(&["Listen", "Manage", "Send"]) + &keys(FIRST, SECOND);
    let send = rights(&["Send"]) + &keys(SECOND, THIRD);
    let wanted = rules(&[rule("all", &all), rule("send", &send)]);
    for (path, body) in [("/q", queue(&wanted)), ("/t", topic(&wanted))] {
        let created = world.create(path, &body).await;
        created.check(201, "<AuthorizationRules><AuthorizationRule ");
        let time = text(&created, "CreatedTime").to_owned();
        let shown = format!(
            "<AuthorizationRules><AuthorizationRule i:type=\"SharedAccessAuthorizationRule\">\
             <ClaimType>SharedAccessKey</ClaimType><ClaimValue>None</ClaimValue>\
             <Rights><AccessRights>Manage</AccessRights><AccessRights>Send</AccessRights>\
             <AccessRights>Listen</AccessRights></Rights><CreatedTime>{time}</CreatedTime>\
             <ModifiedTime>{time}</ModifiedTime><KeyName>all</KeyName>\
             <PrimaryKey>{FIRST}</PrimaryKey><SecondaryKey>{SECOND}</SecondaryKey>\
             </AuthorizationRule>"
        );
        created.check(201, &shown);
        world.get(path).await.check(200, &shown).check(200, "<KeyName>send</KeyName>");
    }
    world.get("/$Resources/queues").await.check(200, THIRD);
}

#[tokio::test]
async fn a_rule_is_good_for_its_entity_and_with_its_rights() {
    let world = World::new();
    let manage = rights(&["Manage", "Send", "Listen"]) + &keys(FIRST, SECOND);
    let both = rules(&[
        rule("own", &manage),
        rule("less", &(rights(&["Send", "Listen"]) + &keys(THIRD, THIRD))),
    ]);
    world.create("/q", &queue(&both)).await.check(201, "");
    world.create("/other", &queue("")).await.check(201, "");
    let by = |path: &str, name, key| {
        let token = token(&format!("https://{HOST}"), (name, key));
        Ask::new(Method::GET, path).token(token)
    };
    for key in [FIRST, SECOND] {
        world.send(by("/q", "own", key)).await.check(200, THIRD);
        for path in ["/other", "/$Resources/queues", "/$namespaceinfo"] {
            world.send(by(path, "own", key)).await.check(401, "40103").lacks(FIRST);
        }
    }
    world.send(by("/q", "own", THIRD)).await.check(401, "40103").lacks(THIRD);
    // Who may not manage does not get to see a key, not even its own.
    world.send(by("/q", "less", THIRD)).await.check(401, "'Manage'").lacks(THIRD).lacks(FIRST);

    // The rule changes its own keys: from then on the old ones are worth nothing.
    let changed =
        rules(&[rule("own", &(rights(&["Manage", "Send", "Listen"]) + &keys(SECOND, THIRD)))]);
    let own = token(&format!("https://{HOST}/q"), ("own", FIRST));
    let update = Ask::new(Method::PUT, "/q").header("if-match", "*").body(&queue(&changed));
    world.send(update.token(own)).await.check(200, THIRD);
    world.send(by("/q", "own", FIRST)).await.check(401, "40103");
    world.send(by("/q", "own", SECOND)).await.check(200, "");
    world.send(by("/q", "less", THIRD)).await.check(401, "40103");
    world.delete("/q").await.check(200, "");
    world.send(by("/q", "own", SECOND)).await.check(401, "40103");
}

#[tokio::test]
async fn what_a_request_does_not_say_stays_and_new_rules_get_new_keys() {
    let world = World::new();
    let bare = rules(&[rule("bare", &rights(&["Send"]))]);
    let created = world.create("/q", &queue(&bare)).await;
    let primary = text(&created, "PrimaryKey").to_owned();
    assert_eq!(STANDARD.decode(&primary).unwrap().len(), 32);
    assert_ne!(primary, text(&created, "SecondaryKey"));
    assert_eq!(text(&created, "CreatedTime"), text(&created, "ModifiedTime"));
    world.clock.steer(Step::Advance(peeklock_core::Span(1000))).unwrap();
    // Many tools know nothing of rules.
    let untouched = world.update("/q", &queue("<MaxDeliveryCount>3</MaxDeliveryCount>")).await;
    untouched.check(200, &primary);
    assert_eq!(text(&untouched, "CreatedTime"), text(&untouched, "ModifiedTime"));
    let wider = rules(&[rule("BARE", &rights(&["Send", "Listen"]))]);
    let updated = world.update("/q", &queue(&wider)).await;
    updated.check(200, &primary).check(200, "<AccessRights>Listen</AccessRights>");
    assert_eq!(text(&updated, "CreatedTime"), text(&created, "CreatedTime"));
    assert_ne!(text(&updated, "ModifiedTime"), text(&created, "ModifiedTime"));
    world.update("/q", &queue("<AuthorizationRules/>")).await.check(200, "").lacks(&primary);
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused_without_repeating_a_key() {
    let world = World::new();
    let good = || rights(&["Send"]) + &keys(FIRST, SECOND);
    let many = |count: usize| {
        let each = |number: usize| rule(&format!("r{number}"), &good());
        rules(&(0..count).map(each).collect::<Vec<_>>())
    };
    world.create("/q", &queue(&many(12))).await.check(201, "");
    let canary = "canary-key";
    for bad in [
        many(13),
        rules(&[rule("a", &good()), rule("A", &good())]),
        rules(&[rule("", &good())]),
        rules(&[rule(&"n".repeat(257), &good())]),
        rules(&[rule("a", &keys(FIRST, SECOND))]),
        rules(&[rule("a", &(rights(&["Manage"]) + &keys(FIRST, SECOND)))]),
        rules(&[rule("a", &(rights(&["Manage", "Send"]) + &keys(FIRST, SECOND)))]),
        rules(&[rule("a", &(rights(&["Everything"]) + &keys(FIRST, SECOND)))]),
        rules(&[rule("a", &(rights(&["Send"]) + &keys(canary, SECOND)))]),
        rules(&[rule("a", &(rights(&["Send"]) + &keys(FIRST, "Y2FuYXJ5LWtleQ==")))]),
        rules(&[rule("a", &good()).replace("SharedAccessAuthorizationRule", "AllowRule")]),
        rules(&[rule("a", &good()).replace("SharedAccessKey", "nameidentifier")]),
        rules(&["<Other/>".to_owned()]),
    ] {
        let refused = world.create("/new", &queue(&bad)).await;
        refused.check(400, "SubCode=40000").lacks(canary).lacks("Y2FuYXJ5").lacks(FIRST);
        world.update("/q", &queue(&bad)).await.check(400, "SubCode=40000").lacks(canary);
    }
    world.get("/q").await.check(200, "<KeyName>r11</KeyName>");
    world.create("/t", &topic("")).await.check(201, "");
    let own = rules(&[rule("a", &good())]);
    world.create("/t/subscriptions/s", &subscription(&own)).await.check(400, "AuthorizationRules");
}

/// An entity, and what writes its description.
type Kind = (&'static str, fn(&str) -> String);

const KINDS: [Kind; 2] = [("/q", queue), ("/t", topic)];

/// Lets a request ask what there is, and keeps the answer from it until it is polled again.
async fn begin(world: &World, mut request: Pin<&mut impl Future<Output = Reply>>) {
    poll_fn(|context| {
        assert!(request.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(world.context.gateway.waiting(), 1, "it has asked");
}

/// What a connection holds that has shown a token of a rule for an entity.
fn claims(world: &World, path: &str, (name, key): (&str, &str)) -> Claims {
    let (authority, now) = (&world.context.settings.authority, world.clock.now());
    let token = token(&format!("https://{HOST}{path}"), (name, key));
    let grant = authority.verify(&token, &format!("sb://{HOST}{path}"), now).unwrap();
    let mut claims = Claims::default();
    claims.grant(grant, now).unwrap();
    claims.look_again(authority);
    assert!(!claims.is_empty());
    claims
}

/// An update that does not name the rules, or not the keys, leaves those alone that there are when it is
/// made, and not those that there were when it was asked for.
#[tokio::test]
async fn what_another_update_takes_away_in_the_meantime_stays_away() {
    let all = || rights(&["Manage", "Send", "Listen"]);
    let other = || rule("other", &(rights(&["Send"]) + &keys(THIRD, THIRD)));
    let gone = rules(&[other()]);
    let silent = "<DefaultMessageTimeToLive>PT30S</DefaultMessageTimeToLive>";
    let keyless = rules(&[rule("own", &all()), other()]);
    let half = rules(&[rule("own", &(all() + &format!("<SecondaryKey>{SECOND}</SecondaryKey>")))]);
    let rotated = rules(&[rule("own", &(all() + &keys(THIRD, SECOND))), other()]);
    let rotated_key = format!("<PrimaryKey>{THIRD}</PrimaryKey><SecondaryKey>{SECOND}<");
    let none = "<KeyName>own</KeyName>";
    for (path, body) in KINDS {
        // The later update, the one that overtakes it, and what there is in the end and what is not.
        for (slow, quick, there, not_there) in [
            (silent, gone.as_str(), "<KeyName>other</KeyName>", none),
            (silent, "<AuthorizationRules/>", "PT30S", none),
            (silent, rotated.as_str(), rotated_key.as_str(), FIRST),
            (keyless.as_str(), rotated.as_str(), rotated_key.as_str(), FIRST),
            (half.as_str(), rotated.as_str(), rotated_key.as_str(), FIRST),
            // A rule that is named comes back, and with keys that nobody has seen.
            (keyless.as_str(), gone.as_str(), none, SECOND),
        ] {
            let world = World::new();
            let both = rules(&[rule("own", &(all() + &keys(FIRST, SECOND))), other()]);
            world.create(path, &body(&both)).await.check(201, FIRST);
            let mut links = claims(&world, path, ("own", FIRST));
            let slow = body(slow);
            let mut slow = pin!(world.update(path, &slow));
            begin(&world, slow.as_mut()).await;
            world.update(path, &body(quick)).await.check(200, "").lacks(FIRST);
            slow.await.check(200, there).lacks(not_there).lacks(FIRST);
            world.get(path).await.check(200, there).lacks(not_there).lacks(FIRST);
            // What had ended stays so, and nobody comes in by the old key.
            links.look_again(&world.context.settings.authority);
            assert!(links.is_empty());
            let own = token(&format!("https://{HOST}{path}"), ("own", FIRST));
            world.send(Ask::new(Method::GET, path).token(own)).await.check(401, "40103");
        }
    }
}

/// Another entity that has taken the name has nothing to do with the rules of the one that was there.
#[tokio::test]
async fn rules_do_not_pass_to_another_entity_of_the_same_name() {
    for (path, body) in KINDS {
        let world = World::new();
        let own = rules(&[rule("own", &(rights(&["Send"]) + &keys(FIRST, SECOND)))]);
        world.create(path, &body(&own)).await.check(201, FIRST);
        let mut links = claims(&world, path, ("own", FIRST));
        let slow = body("<DefaultMessageTimeToLive>PT30S</DefaultMessageTimeToLive>");
        let mut slow = pin!(world.update(path, &slow));
        begin(&world, slow.as_mut()).await;
        world.delete(path).await.check(200, "");
        world.create(path, &body("")).await.check(201, "");
        slow.await.check(200, "PT30S").lacks(FIRST);
        world.get(path).await.check(200, "PT30S").lacks("<KeyName>");
        links.look_again(&world.context.settings.authority);
        assert!(links.is_empty());
    }
}
