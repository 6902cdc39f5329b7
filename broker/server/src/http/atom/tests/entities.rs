//! Queues, topics and subscriptions: create, get, change, list, delete.

use peeklock_core::time::Span;
use peeklock_core::{Command, IncomingMessage};
use peeklock_protocol::message::Message;

use super::*;

#[tokio::test]
async fn a_new_queue_is_as_the_service_makes_it() {
    let world = World::new();
    let created = world.create("/Orders", &queue("")).await;
    created.check(201, "<title type=\"text\">Orders</title><published>");
    assert_eq!(created.content_type, "application/atom+xml;type=entry;charset=utf-8");
    assert_eq!(created.etag, None);
    created.lacks("CountDetails").lacks("AccessedAt").lacks("ForwardTo").lacks("UserMetadata");
    let got = world.get("/orders").await;
    let never = "P10675199DT2H48M5.4775807S";
    let time = time::show_moment(world.clock.now());
    let expected = format!(
        "<QueueDescription xmlns=\"{SERVICE_BUS}\" xmlns:i=\"{SCHEMA_INSTANCE}\">\
         <LockDuration>PT1M</LockDuration><MaxSizeInMegabytes>1024</MaxSizeInMegabytes>\
         <RequiresDuplicateDetection>false</RequiresDuplicateDetection>\
         <RequiresSession>false</RequiresSession>\
         <DefaultMessageTimeToLive>{never}</DefaultMessageTimeToLive>\
         <DeadLetteringOnMessageExpiration>false</DeadLetteringOnMessageExpiration>\
         <DuplicateDetectionHistoryTimeWindow>PT10M</DuplicateDetectionHistoryTimeWindow>\
         <MaxDeliveryCount>10</MaxDeliveryCount>\
         <EnableBatchedOperations>true</EnableBatchedOperations><SizeInBytes>0</SizeInBytes>\
         <MessageCount>0</MessageCount><IsAnonymousAccessible>false</IsAnonymousAccessible>\
         <AuthorizationRules></AuthorizationRules><Status>Active</Status>\
         <CreatedAt>{time}</CreatedAt><UpdatedAt>{time}</UpdatedAt>\
         <AccessedAt>0001-01-01T00:00:00Z</AccessedAt><SupportOrdering>true</SupportOrdering>\
         <CountDetails xmlns:d2p1=\"http://schemas.microsoft.com/netservices/2011/06/servicebus\">\
         <d2p1:ActiveMessageCount>0</d2p1:ActiveMessageCount>\
         <d2p1:DeadLetterMessageCount>0</d2p1:DeadLetterMessageCount>\
         <d2p1:ScheduledMessageCount>0</d2p1:ScheduledMessageCount>\
         <d2p1:TransferMessageCount>0</d2p1:TransferMessageCount>\
         <d2p1:TransferDeadLetterMessageCount>0</d2p1:TransferDeadLetterMessageCount>\
         </CountDetails><AutoDeleteOnIdle>{never}</AutoDeleteOnIdle>\
         <EnablePartitioning>false</EnablePartitioning>\
         <EntityAvailabilityStatus>Available</EntityAvailabilityStatus>\
         <EnableExpress>false</EnableExpress>\
         <MaxMessageSizeInKilobytes>1024</MaxMessageSizeInKilobytes></QueueDescription>"
    );
    got.check(200, &expected);
    got.check(200, "<author><name>mine</name></author>");
    got.check(200, &format!("<id>https://{HOST}/orders{API}</id>"));
    let ticks = time::ticks_of(world.clock.now()).to_string();
    assert_eq!(got.etag, Some(ticks));
}

#[tokio::test]
async fn every_property_is_kept_in_whatever_order_it_comes() {
    let world = World::new();
    world.create("/dest", &queue("")).await.check(201, "");
    let properties = "\
        <UserMetadata>mine &amp; yours</UserMetadata><EnableExpress>true</EnableExpress>\
        <ForwardTo>sb://elsewhere.example/Dest</ForwardTo>\
        <ForwardDeadLetteredMessagesTo>dest</ForwardDeadLetteredMessagesTo>\
        <LockDuration>PT300S</LockDuration><MaxSizeInMegabytes>2048</MaxSizeInMegabytes>\
        <DefaultMessageTimeToLive>P14D</DefaultMessageTimeToLive>\
        <DeadLetteringOnMessageExpiration>True</DeadLetteringOnMessageExpiration>\
        <RequiresDuplicateDetection>true</RequiresDuplicateDetection>\
        <DuplicateDetectionHistoryTimeWindow>PT1H</DuplicateDetectionHistoryTimeWindow>\
        <MaxDeliveryCount>2147483647</MaxDeliveryCount><SupportOrdering>false</SupportOrdering>\
        <EnableBatchedOperations>false</EnableBatchedOperations><Status>SendDisabled</Status>\
        <AutoDeleteOnIdle>PT5M</AutoDeleteOnIdle><EnablePartitioning>true</EnablePartitioning>\
        <MaxMessageSizeInKilobytes>2048</MaxMessageSizeInKilobytes>";
    world.create("/q", &queue(properties)).await.check(201, "");
    let got = world.get("/q").await;
    for part in [
        "<UserMetadata>mine &amp; yours</UserMetadata>",
        "<EnableExpress>true<",
        "<ForwardTo>sb://mine.example:5300/Dest</ForwardTo>",
        "<ForwardDeadLetteredMessagesTo>sb://mine.example:5300/dest<",
        "<LockDuration>PT5M<",
        "<MaxSizeInMegabytes>2048<",
        "<DefaultMessageTimeToLive>P14D<",
        "<DeadLetteringOnMessageExpiration>true<",
        "<RequiresDuplicateDetection>true<",
        "<DuplicateDetectionHistoryTimeWindow>PT1H<",
        "<MaxDeliveryCount>2147483647<",
        "<SupportOrdering>false<",
        "<EnableBatchedOperations>false<",
        "<Status>SendDisabled<",
        "<AutoDeleteOnIdle>PT5M<",
        "<EnablePartitioning>true<",
        "<MaxMessageSizeInKilobytes>2048<",
    ] {
        got.check(200, part);
    }
}

/// What Python sends back when it changes one property: all it has read, and spans cut to what its
/// types hold.
#[tokio::test]
async fn a_queue_can_be_sent_back_as_it_was_read() {
    let world = World::new();
    world.create("/q", &queue("<RequiresSession>true</RequiresSession>")).await;
    let before = world.get("/q").await;
    let description = before.body.split_once("<content type=\"application/xml\">").unwrap().1;
    let description = description.split_once("</content>").unwrap().0;
    let sent = format!(
        "<ns0:entry xmlns:ns0=\"{ATOM}\" xmlns=\"{SERVICE_BUS}\"><ns0:content \
         type=\"application/xml\">{description}</ns0:content></ns0:entry>"
    );
    let sent = sent.replace("5.4775807S", "5.477539S");
    world.clock.steer(Step::Advance(Span(5_000))).unwrap();
    let updated = world.update("/q", &sent).await;
    updated.check(200, "<AutoDeleteOnIdle>P10675199DT2H48M5.4775807S</AutoDeleteOnIdle>");
    updated.check(200, "<RequiresSession>true<").lacks("<published>");
    let after = world.get("/q").await;
    assert_eq!(after.etag, before.etag, "nothing was changed, so it is as old as it was");
    after.check(200, description.split_once("<AccessedAt>").unwrap().0);
    let changed = sent.replace("<LockDuration>PT1M", "<LockDuration>PT30S");
    world.update("/q", &changed).await.check(200, "<LockDuration>PT30S<");
    let after = world.get("/q").await;
    assert_ne!(after.etag, before.etag);
}

#[tokio::test]
async fn what_a_change_does_not_name_is_as_in_a_new_queue() {
    let world = World::new();
    let fixed = "<RequiresSession>true</RequiresSession><EnablePartitioning>true\
        </EnablePartitioning><RequiresDuplicateDetection>true</RequiresDuplicateDetection>";
    let properties =
        format!("{fixed}<UserMetadata>x</UserMetadata><LockDuration>PT5S</LockDuration>");
    world.create("/q", &queue(&properties)).await.check(201, "<UserMetadata>x<");
    let updated = world.update("/q", &queue("<MaxDeliveryCount>3</MaxDeliveryCount>")).await;
    updated.check(200, "<MaxDeliveryCount>3<").lacks("UserMetadata");
    updated.check(200, "<LockDuration>PT1M<");
    for part in ["RequiresSession", "EnablePartitioning", "RequiresDuplicateDetection"] {
        updated.check(200, &format!("<{part}>true<"));
        let refused = world.update("/q", &queue(&format!("<{part}>false</{part}>"))).await;
        refused.check(400, "SubCode=40000. ").check(400, part);
    }
}

#[tokio::test]
async fn names_may_have_slashes_in_any_spelling() {
    let world = World::new();
    world.create("/q%2F2", &queue("")).await.check(201, "<title type=\"text\">q/2</title>");
    let got = world.get("/q/2").await;
    got.check(200, &format!("<id>https://{HOST}/q/2{API}</id><title type=\"text\">q/2</title>"));
    world.create("/q/2", &queue("")).await.check(409, "SubCode=40900. ");
    world.create("/t%2Fa", &topic("")).await.check(201, "");
    world.create("/t/a/Subscriptions/s", &subscription("")).await.check(201, "");
    world.get("/t%2Fa/subscriptions/s").await.check(200, "<title type=\"text\">s</title>");
    world.delete("/q%2f2").await.check(200, "");
}

#[tokio::test]
async fn lists_come_page_by_page() {
    let world = World::new();
    for index in 0..5 {
        world.create(&format!("/q{index}"), &queue("")).await.check(201, "");
    }
    world.create("/t", &topic("")).await.check(201, "");
    let first = world.get("/$Resources/queues?api-version=2021-05&$skip=0&$top=2").await;
    assert_eq!(first.content_type, "application/atom+xml;type=feed;charset=utf-8");
    assert_eq!(first.titles(), ["q0", "q1"]);
    let base = format!("https://{HOST}/$Resources/queues?api-version=2021-05&amp;");
    first.check(
        200,
        &format!(
            "<link rel=\"self\" href=\"{base}$skip=0&amp;$top=2\"></link>\
         <link rel=\"next\" href=\"{base}$skip=2&amp;$top=2\"></link><entry xml:base="
        ),
    );
    assert_eq!(first.ids()[0], format!("https://{HOST}/q0{API}"));
    let last = world.get("/$Resources/Queues?%24skip=4&%24top=2").await;
    assert_eq!(last.titles(), ["q4"]);
    last.lacks("rel=\"next\"");
    let exact = world.get("/$Resources/queues?$top=5").await;
    assert_eq!(exact.titles().len(), 5);
    exact.lacks("rel=\"next\"");
    assert_eq!(world.get("/$Resources/topics").await.titles(), ["t"]);
    assert!(world.get("/$Resources/queues?$skip=5").await.titles().is_empty());
}

/// JavaScript finds the names in the ids, by the segments as it has written them itself.
#[tokio::test]
async fn ids_below_a_topic_are_spelled_as_the_request() {
    let world = World::new();
    world.create("/T", &topic("")).await.check(201, "");
    let created = world.create("/T/Subscriptions/S", &subscription("")).await;
    created.check(201, &format!("<id>https://{HOST}/T/Subscriptions/S{API}</id>"));
    created.lacks("<author>");
    let got = world.get("/T/Subscriptions/S").await;
    got.check(200, &format!("<id>sb://{HOST}/T/Subscriptions/S{API}</id>"));
    let listed = world.get("/T/Subscriptions/").await;
    assert_eq!(listed.ids(), [format!("https://{HOST}/T/Subscriptions/S{API}")]);
    let listed = world.get("/T/Subscriptions/S/Rules/").await;
    assert_eq!(listed.ids(), [format!("https://{HOST}/T/Subscriptions/S/Rules/$Default{API}")]);
}

#[tokio::test]
async fn a_topic_is_as_the_service_makes_it() {
    let world = World::new();
    let properties = "<FilteringMessagesBeforePublishing>true</FilteringMessagesBeforePublishing>\
        <EnableSubscriptionPartitioning>true</EnableSubscriptionPartitioning>\
        <DuplicateDetectionHistoryTimeWindow>PT20M</DuplicateDetectionHistoryTimeWindow>";
    let created = world.create("/t", &topic(properties)).await;
    created.check(201, "<SubscriptionCount>0<").lacks("CountDetails").lacks("AccessedAt");
    for part in [
        "FilteringMessagesBeforePublishing>true<",
        "EnableSubscriptionPartitioning>true<",
        "<DuplicateDetectionHistoryTimeWindow>PT20M<",
        "<RequiresDuplicateDetection>false<",
        "<MaxSizeInMegabytes>1024<",
    ] {
        created.check(201, part);
    }
    world.create("/t/subscriptions/s", &subscription("")).await.check(201, "");
    let got = world.get("/t").await;
    got.check(200, "<SubscriptionCount>1</SubscriptionCount><SqlFilterCount>0</SqlFilterCount>");
    got.check(200, "<TopicDescription ").check(200, "<CountDetails ");
    got.lacks("LockDuration").lacks("MaxDeliveryCount").lacks("ForwardTo");
    world.create("/t", &queue("")).await.check(409, "SubCode=40900");
    world.update("/t", &queue("")).await.check(404, "SubCode=40400");
    world.update("/t", &topic("<Status>Disabled</Status>")).await.check(200, ">Disabled<");
    world.delete("/t").await.check(200, "");
    world.get("/t/subscriptions/s").await.check(200, "Publicly Listed Services");
}

#[tokio::test]
async fn a_subscription_is_as_the_service_makes_it() {
    let world = World::new();
    world.create("/t/subscriptions/s", &subscription("")).await.check(404, "SubCode=40400");
    world.create("/t", &topic("")).await;
    let properties = "<RequiresSession>true</RequiresSession>\
        <DeadLetteringOnFilterEvaluationExceptions>false\
        </DeadLetteringOnFilterEvaluationExceptions><UserMetadata>m</UserMetadata>";
    let created = world.create("/t/subscriptions/s", &subscription(properties)).await;
    created.check(201, "<SubscriptionDescription ").lacks("CountDetails");
    let got = world.get("/t/subscriptions/s").await;
    got.check(
        200,
        "<DeadLetteringOnFilterEvaluationExceptions>false</\
        DeadLetteringOnFilterEvaluationExceptions><MessageCount>0</MessageCount>\
        <MaxDeliveryCount>10</MaxDeliveryCount>",
    );
    got.check(200, "<UserMetadata>m<").check(200, "<IsClientAffine>false<");
    let properties = format!("{properties}<MaxDeliveryCount>3</MaxDeliveryCount>");
    let updated = world.update("/t/subscriptions/s", &subscription(&properties)).await;
    updated.check(200, "<MaxDeliveryCount>3<");
    world.create("/t/subscriptions/s", &subscription("")).await.check(409, "SubCode=40900");
    world.delete("/t/subscriptions/s").await.check(200, "");
    world.delete("/t/subscriptions/s").await.check(404, "No service is hosted");
}

#[tokio::test]
async fn counts_are_those_of_the_messages() {
    let world = World::new();
    world.create("/q", &queue("")).await;
    let path = EntityPath::for_new_entity("q").unwrap();
    let gateway = &world.context.gateway;
    let opened = gateway.ask(|origin| Command::OpenSender { origin, path }).await.unwrap();
    let peeklock_core::Reply::SenderOpened { entity, .. } = opened else { panic!("{opened:?}") };
    let message = IncomingMessage::from_wire(&Message::data(b"x".to_vec()).to_bytes()).unwrap();
    for _ in 0..3 {
        let messages = [message.clone()].into_iter().collect();
        gateway
            .ask(|origin| Command::Send { origin, entity, messages, transaction: None })
            .await
            .unwrap();
    }
    let got = world.get("/q").await;
    got.check(200, "<d2p1:ActiveMessageCount>3<").check(200, "<MessageCount>3<");
    got.lacks("<SizeInBytes>0<");
}

#[tokio::test]
async fn the_namespace_tells_what_it_is() {
    let world = World::new();
    let got = world.get("/$namespaceinfo").await;
    got.check(200, "<MessagingSKU>Premium</MessagingSKU><MessagingUnits>1</MessagingUnits>");
    got.check(200, "<title type=\"text\">mine</title><updated>");
    got.check(200, "<NamespaceType>Messaging<");
}
