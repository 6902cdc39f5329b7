//! What is not there, and what is not understood.

use super::*;

#[tokio::test]
async fn what_is_not_there_is_told_as_the_service_tells_it() {
    let world = World::new();
    world.create("/t", &topic("")).await;
    for path in
        ["/q", "/t/subscriptions/s", "/t/subscriptions/s/rules/r", "/x/subscriptions/s", "/a@b"]
    {
        let got = world.get(path).await;
        got.check(200, "<title type=\"text\">Publicly Listed Services</title>");
        assert!(got.titles().is_empty());
        world.delete(path).await.check(
            404,
            "<Error><Code>404</Code><Detail>No service is hosted at the specified address. Track",
        );
    }
    let missing = world.update("/q", &queue("")).await;
    missing.check(404, "<Error><Code>404</Code><Detail>SubCode=40400. ");
    assert_eq!(missing.content_type, "application/xml; charset=utf-8");
    world.update("/u", &topic("")).await.check(404, "SubCode=40400. ");
    world.update("/t/subscriptions/s", &subscription("")).await.check(404, "SubCode=40400. ");
    world.get("/x/subscriptions").await.check(404, "SubCode=40400. ");
    world.get("/t/subscriptions/s/rules").await.check(404, "SubCode=40400. ");
}

#[tokio::test]
async fn values_out_of_bounds_are_refused() {
    let world = World::new();
    for property in [
        "<LockDuration>P25D</LockDuration>",
        "<LockDuration>P10675199DT2H48M5.4775807S</LockDuration>",
        "<LockDuration>soon</LockDuration>",
        "<AutoDeleteOnIdle>PT4M59S</AutoDeleteOnIdle>",
        "<MaxDeliveryCount>0</MaxDeliveryCount>",
        "<MaxDeliveryCount>2147483648</MaxDeliveryCount>",
        "<MaxSizeInMegabytes>0</MaxSizeInMegabytes>",
        "<MaxSizeInMegabytes>81921</MaxSizeInMegabytes>",
        "<MaxMessageSizeInKilobytes>102401</MaxMessageSizeInKilobytes>",
        "<DefaultMessageTimeToLive>PT0S</DefaultMessageTimeToLive>",
        "<DuplicateDetectionHistoryTimeWindow>PT19S</DuplicateDetectionHistoryTimeWindow>",
        "<RequiresSession>maybe</RequiresSession>",
        "<Status>Deleting</Status>",
        "<ForwardTo>q/$DeadLetterQueue</ForwardTo>",
        "<ForwardTo>nowhere</ForwardTo>",
        "<ForwardTo>Q</ForwardTo>",
        "<ForwardDeadLetteredMessagesTo>a b</ForwardDeadLetteredMessagesTo>",
    ] {
        let refused = world.create("/q", &queue(property)).await;
        refused.check(400, "<Error><Code>400</Code><Detail>SubCode=40000. ");
    }
    let long = format!("<UserMetadata>{}</UserMetadata>", "é".repeat(1025));
    world.create("/q", &queue(&long)).await.check(400, "SubCode=40000. ");
    for name in ["/a@b", "/a%20b", "/-a", "/$cbs", "/q/$DeadLetterQueue", "/"] {
        world.create(name, &queue("")).await.check(400, "SubCode=40000. ");
    }
    assert!(world.get("/$Resources/queues").await.titles().is_empty(), "nothing was created");
}

/// To take these and do nothing would let somebody believe that they work.
#[tokio::test]
async fn what_the_broker_does_not_have_is_refused() {
    let world = World::new();
    let open = "<IsAnonymousAccessible>true</IsAnonymousAccessible>";
    world.create("/q", &queue(open)).await.check(400, "IsAnonymousAccessible");
    world.create("/q", &queue("<AuthorizationRules/>")).await.check(201, "");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let world = World::new();
    for (body, part) in [
        ("", "well-formed"),
        ("<entry", "well-formed"),
        ("<entry/>", "not an Atom entry"),
        (&format!("<entry xmlns=\"{ATOM}\"><content/></entry>"), "not an Atom entry"),
        ("<!DOCTYPE x [<!ENTITY a \"b\">]><entry>&a;</entry>", "document type"),
        (&"<a>".repeat(1000), "nested too deeply"),
        (&subscription(""), "A SubscriptionDescription cannot be at this address"),
        (&body("RuleDescription", ""), "A RuleDescription cannot"),
    ] {
        let refused = world.create("/q", body).await;
        refused.check(400, "SubCode=40000. ").check(400, part);
    }
    let large = queue(&format!("<UserMetadata>{}</UserMetadata>", "x".repeat(BODY_BYTES_MAX)));
    world.create("/q", &large).await.check(413, "<Code>413</Code>");
    let other = Ask::new(Method::PUT, "/q").header("if-match", "\"7\"").body(&queue(""));
    world.send(other).await.check(412, "<Code>412</Code>");
    for method in [Method::POST, Method::HEAD, Method::PATCH] {
        world.send(Ask::new(method, "/q")).await.check(405, "<Code>405</Code>");
    }
    world.create("/$Resources/queues", &queue("")).await.check(405, "");
    world.delete("/$namespaceinfo").await.check(405, "");
    world.get("/$Resources/queues?$top=0").await.check(400, "$top");
    for host in ["", "a b", "h/x", "h?x"] {
        let ask = axum::http::Request::builder().uri("/q").header("host", host);
        let ask = ask.body(Body::empty()).unwrap();
        let answered = answer(State(world.context.clone()), ask).await;
        assert_eq!(answered.status(), 400, "{host}");
    }
}

#[tokio::test]
async fn there_may_be_only_so_many_entities() {
    let world = World::with(BrokerSettings { queues_max: 1, ..BrokerSettings::default() });
    world.create("/q", &queue("")).await.check(201, "");
    world.create("/t", &topic("")).await.check(403, "SubCode=40300. ");
}
