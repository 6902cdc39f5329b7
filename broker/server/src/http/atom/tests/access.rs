//! Access rules of entities, as the administration clients write and read them.

use super::*;

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
    let world = World::new().await;
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
    let world = World::new().await;
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
    let world = World::new().await;
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
    let world = World::new().await;
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
