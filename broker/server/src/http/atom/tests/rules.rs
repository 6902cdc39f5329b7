//! Rules of subscriptions.

use super::*;

const KEY_VALUE: &str = "KeyValueOfstringanyType";

async fn world() -> World {
    let world = World::new();
    world.create("/t", &topic("")).await.check(201, "");
    world.create("/t/Subscriptions/s", &subscription("")).await.check(201, "");
    world
}

fn rule(parts: &str) -> String {
    body("RuleDescription", parts)
}

#[tokio::test]
async fn a_subscription_gets_everything_unless_it_says_otherwise() {
    let world = world().await;
    let listed = world.get("/t/Subscriptions/s/Rules/").await;
    assert_eq!(listed.titles(), ["$Default"]);
    listed.check(
        200,
        "<Filter i:type=\"TrueFilter\"><SqlExpression>1=1</SqlExpression>\
         <CompatibilityLevel>20</CompatibilityLevel></Filter>\
         <Action i:type=\"EmptyRuleAction\"></Action><CreatedAt>",
    );
    let own = "<DefaultRuleDescription><Filter i:type=\"SqlFilter\"><SqlExpression>a = 1\
        </SqlExpression></Filter><Action i:type=\"EmptyRuleAction\"/><Name>mine</Name>\
        </DefaultRuleDescription>";
    world.create("/t/Subscriptions/u", &subscription(own)).await.check(201, "");
    assert_eq!(world.get("/t/subscriptions/u/rules").await.titles(), ["mine"]);
}

#[tokio::test]
async fn every_kind_of_rule_comes_back_as_it_was_set() {
    let world = world().await;
    let sql = format!(
        "<Filter i:type=\"SqlFilter\"><SqlExpression>a &lt; @b</SqlExpression><CompatibilityLevel>20\
         </CompatibilityLevel><Parameters><{KEY_VALUE}><Key>@b</Key><Value i:type=\"d6p1:long\" \
         xmlns:d6p1=\"http://www.w3.org/2001/XMLSchema\">5</Value></{KEY_VALUE}></Parameters></Filter>\
         <Action i:type=\"SqlRuleAction\"><SqlExpression>SET a = 2</SqlExpression>\
         <CompatibilityLevel>20</CompatibilityLevel></Action>"
    );
    let correlation = format!(
        "<Filter i:type=\"CorrelationFilter\"><CorrelationId>c</CorrelationId><MessageId>m</MessageId>\
         <To>t</To><ReplyTo>r</ReplyTo><Label>l</Label><SessionId>s</SessionId>\
         <ReplyToSessionId>rs</ReplyToSessionId><ContentType>ct</ContentType><Properties><{KEY_VALUE}>\
         <Key>d</Key><Value i:type=\"d6p1:duration\" \
         xmlns:d6p1=\"http://schemas.microsoft.com/2003/10/Serialization/\">P1DT5S</Value>\
         </{KEY_VALUE}></Properties></Filter><Action i:type=\"EmptyRuleAction\"></Action>"
    );
    let never = "<Filter i:type=\"FalseFilter\"><SqlExpression>1=0</SqlExpression>\
        <CompatibilityLevel>20</CompatibilityLevel></Filter><Action i:type=\"EmptyRuleAction\">\
        </Action>";
    for (name, parts) in [("sql", sql.as_str()), ("correlation", &correlation), ("no", never)] {
        let path = format!("/t/Subscriptions/s/Rules/{name}");
        let sent = rule(&format!("{parts}<Name>{name}</Name>"));
        let created = world.create(&path, &sent).await;
        created.check(201, parts).check(201, &format!("<Name>{name}</Name></RuleDescription>"));
        let got = world.get(&path).await;
        got.check(200, parts).check(200, &format!("<id>sb://{HOST}{path}{API}</id>"));
        world.create(&path, &sent).await.check(409, "SubCode=40900. ");
    }
    let titles = world.get("/t/Subscriptions/s/Rules").await.titles();
    assert_eq!(titles, ["$Default", "correlation", "no", "sql"]);
    let page = world.get("/t/Subscriptions/s/Rules?$skip=1&$top=2").await;
    assert_eq!(page.titles(), ["correlation", "no"]);
}

#[tokio::test]
async fn a_rule_is_changed_and_removed() {
    let world = world().await;
    let path = "/t/subscriptions/s/rules/%24Default";
    let changed = "<Filter i:type=\"SqlFilter\"><SqlExpression>a = 1</SqlExpression></Filter>";
    world.update(path, &rule(changed)).await.check(200, "SqlFilter").lacks("<published>");
    world.get(path).await.check(200, "<SqlExpression>a = 1</SqlExpression>");
    world.update("/t/subscriptions/s/rules/x", &rule(changed)).await.check(404, "SubCode=40400");
    world.delete(path).await.check(200, "");
    world.delete(path).await.check(404, "No service is hosted");
    assert!(world.get("/t/subscriptions/s/rules").await.titles().is_empty());
    world.create("/t/subscriptions/none/rules/x", &rule(changed)).await.check(404, "SubCode=40400");
}

#[tokio::test]
async fn what_is_no_rule_is_refused() {
    let world = world().await;
    for parts in [
        "<Filter i:type=\"SqlFilter\"><SqlExpression>a =</SqlExpression></Filter>",
        "<Filter i:type=\"SqlFilter\"/>",
        "<Filter i:type=\"DateFilter\"/>",
        "<Filter><SqlExpression>a = 1</SqlExpression></Filter>",
        "<Action i:type=\"SqlRuleAction\"><SqlExpression>SET</SqlExpression></Action>",
        "<Action i:type=\"OtherAction\"/>",
        "<Name>other</Name>",
    ] {
        let refused = world.create("/t/Subscriptions/s/Rules/r", &rule(parts)).await;
        refused.check(400, "SubCode=40000. ");
    }
    let long = format!("/t/Subscriptions/s/Rules/{}", "r".repeat(51));
    world.create(&long, &rule("")).await.check(400, "SubCode=40000. ");
    assert_eq!(world.get("/t/subscriptions/s/rules").await.titles(), ["$Default"]);
}

/// Without its prefixes, as older clients of Python write it; and with others.
#[tokio::test]
async fn prefixes_of_a_request_do_not_matter() {
    let world = world().await;
    let sent = format!(
        "<a:entry xmlns:a=\"{ATOM}\" xmlns:b=\"{SERVICE_BUS}\" xmlns:c=\"{SCHEMA_INSTANCE}\">\
         <a:title/><a:content type=\"application/xml\"><b:RuleDescription>\
         <b:Filter c:type=\"CorrelationFilter\"><b:Properties><b:{KEY_VALUE}><b:Key>k</b:Key>\
         <b:Value c:type=\"l28:double\" xmlns:l28=\"http://www.w3.org/2001/XMLSchema\">1</b:Value>\
         </b:{KEY_VALUE}></b:Properties></b:Filter></b:RuleDescription></a:content></a:entry>"
    );
    let created = world.create("/t/Subscriptions/s/Rules/r", &sent).await;
    created.check(201, "<Key>k</Key><Value i:type=\"d6p1:double\" xmlns:d6p1=");
}
