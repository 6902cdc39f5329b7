//! What actions change.

use peeklock_protocol::value::Str;

use super::*;

fn run(text: &str) -> Result<Vec<PropertyChange>, EvaluationError> {
    let message = incoming(&message());
    let mut allowance = Allowance::default();
    Action::parse(text).unwrap().run(&properties(&message), &mut new_ids(), &mut allowance)
}

fn user(name: &str, value: impl Into<Value>) -> PropertyChange {
    PropertyChange::User { name: Name::new(name), value: Some(value.into()) }
}

fn removed(name: &str) -> PropertyChange {
    PropertyChange::User { name: Name::new(name), value: None }
}

fn system(property: SystemProperty, value: impl Into<Value>) -> PropertyChange {
    PropertyChange::System { property, value: Some(value.into()) }
}

#[track_caller]
fn check(text: &str, expected: &[PropertyChange]) {
    assert_eq!(run(text).as_deref(), Ok(expected), "{text}");
}

#[test]
fn a_set_makes_or_replaces_a_property() {
    check("SET new = 1", &[user("new", 1_i64)]);
    check("set user.new = 'x';", &[user("new", "x")]);
    check("SET [a new one] = 2.5", &[user("a new one", 2.5_f64)]);
    check("SET quantity = 'five'", &[user("quantity", "five")]);
    check("SET new = TRUE", &[user("new", true)]);
    check("SET new = NULL", &[user("new", Value::Null)]);
    check("SET new = missing + 1", &[user("new", Value::Null)]);
    check("SET new = ulong - 1", &[user("new", u64::MAX - 1)]);
    check("SET new = newid()", &[user("new", Value::Uuid([1; 16]))]);
    check("SET new = price * 2", &[user("new", 15.0_f64)]);
    check("SET new = color + '-' + sys.Label", &[user("new", "red-hello")]);
}

#[test]
fn a_property_that_is_passed_on_keeps_its_type() {
    check("SET new = quantity", &[user("new", 5_i32)]);
    check("SET new = price", &[user("new", decimal128(0, 75))]);
    check("SET new = list", &[user("new", Value::List(vec![Value::Int(1)]))]);
    check("SET new = property('span')", &[user("new", super::super::datum::timespan(10_000_000))]);
    check("SET new = sys.TimeToLive", &[user("new", super::super::datum::timespan(600_000_000))]);
    check("SET new = sys.EnqueuedTimeUtc", &[user("new", Value::Timestamp(1_000))]);
    check("SET new = missing", &[user("new", Value::Null)]);
}

/// As far as C# turns a long into that type by itself.
#[test]
fn a_new_number_takes_the_type_of_the_old_one() {
    check("SET weight = 3", &[user("weight", 3.0_f64)]);
    check("SET single = 3", &[user("single", 3.0_f32)]);
    let three = [[0x30, 0x40].as_slice(), &[0; 13], &[3]].concat().try_into().unwrap();
    check("SET price = 3", &[user("price", Value::Decimal128(three))]);
    check("SET quantity = 3", &[user("quantity", 3_i64)]);
    check("SET weight = 'heavy'", &[user("weight", "heavy")]);
    check("SET single = 0.25", &[user("single", 0.25_f64)]);
}

#[test]
fn a_remove_takes_a_property_away() {
    check("REMOVE color", &[removed("color")]);
    check("REMOVE [a b]; REMOVE user.missing", &[removed("a b"), removed("missing")]);
}

#[test]
fn later_statements_see_what_earlier_ones_did() {
    check("SET a = 1; SET b = a + 1", &[user("a", 1_i64), user("b", 2_i64)]);
    check("SET a = 1; SET A = a + 1", &[user("A", 2_i64)]);
    check("REMOVE color; SET b = color", &[removed("color"), user("b", Value::Null)]);
    check("SET color = 'blue'; REMOVE Color", &[removed("Color")]);
    let label = SystemProperty::Label;
    check("SET sys.Label = 'x'; SET l = sys.Subject", &[system(label, "x"), user("l", "x")]);
    let cleared = PropertyChange::System { property: label, value: None };
    check("SET sys.Label = NULL; SET l = sys.Label", &[cleared, user("l", Value::Null)]);
}

#[test]
fn system_properties_have_their_types() {
    use SystemProperty as S;
    check("SET sys.MessageId = newid()", &[system(S::MessageId, uuid_text())]);
    check("SET sys.ContentType = 'a/b'", &[system(S::ContentType, "a/b")]);
    check(
        "SET sys.TimeToLive = span",
        &[system(S::TimeToLive, super::super::datum::timespan(10_000_000))],
    );
    check(
        "SET sys.ScheduledEnqueueTimeUtc = offset",
        &[system(S::ScheduledEnqueueTimeUtc, Value::Timestamp(1_000))],
    );
    let wrong =
        |property: S, found| Err(EvaluationError::WrongType { property: property.name(), found });
    assert_eq!(run("SET sys.Label = 5"), wrong(S::Label, "a number"));
    assert_eq!(run("SET sys.TimeToLive = 5"), wrong(S::TimeToLive, "a number"));
    let not_ascii = wrong(S::ContentType, "text that is not ASCII");
    assert_eq!(run("SET sys.ContentType = 'ü'"), not_ascii);
    let too_long = wrong(S::SessionId, "text of more than 128 characters");
    assert_eq!(run("SET sys.SessionId = long_text"), too_long);
    assert_eq!(run("SET a = 1 / 0"), Err(EvaluationError::DivisionByZero));
}

fn uuid_text() -> &'static str {
    "01010101-0101-0101-0101-010101010101"
}

/// The message that comes of it, decoded.
fn rewritten(text: &str) -> Message {
    let message = incoming(&message());
    let (properties, mut allowance) = (properties(&message), Allowance::default());
    let action = Action::parse(text).unwrap();
    let changes = action.run(&properties, &mut new_ids(), &mut allowance).unwrap();
    let wire = rewrite(message.bytes(), message.sections(), &changes).unwrap();
    Message::decode(&wire.freeze()).unwrap()
}

#[test]
fn a_message_is_written_anew_with_the_changes() {
    let mut expected = message();
    assert_eq!(rewritten("SET color = color"), expected);
    let fields = expected.properties.as_mut().unwrap();
    fields.subject = Some("new".into());
    fields.to = None;
    fields.message_id = Some(uuid_text().into());
    fields.reply_to = Some("r".into());
    expected.header.as_mut().unwrap().ttl = Some(1_000);
    let annotations = Map::new()
        .with(Symbol::from_static("x-opt-partition-key"), "other")
        .with(Symbol::from_static("x-opt-scheduled-enqueue-time"), Value::Timestamp(2_000));
    expected.message_annotations = Some(annotations);
    let kept = application_properties().into_iter();
    let mut properties: Map =
        kept.filter(|(key, _)| !key.is_text("case") && !key.is_text("off")).collect();
    properties.insert("Case", "one");
    properties.insert("quantity", 6_i64);
    properties.insert("New", true);
    expected.application_properties = Some(properties);
    let text = "SET sys.Label = 'new'; SET sys.To = NULL; SET sys.MessageId = newid();
        SET sys.ReplyTo = 'r'; SET sys.TimeToLive = span; SET sys.PartitionKey = 'other';
        SET sys.ScheduledEnqueueTimeUtc = later; SET CASE = 'one'; SET Quantity = quantity + 1;
        SET New = TRUE; REMOVE off; REMOVE missing";
    assert_eq!(rewritten(text), expected);
}

#[test]
fn a_message_of_a_body_alone_gets_the_sections_it_needs() {
    let bare = incoming(&Message::data("body"));
    let changes = [user("a", 1_i64), system(SystemProperty::Label, "l"), removed("b")];
    let wire = rewrite(bare.bytes(), bare.sections(), &changes).unwrap();
    let fields = Fields { subject: Some(Str::from_static("l")), ..Fields::default() };
    let expected = Message::data("body")
        .with_properties(fields)
        .with_application_properties(Map::new().with("a", 1_i64));
    assert_eq!(Message::decode(&wire.freeze()), Ok(expected));
    let nothing = rewrite(bare.bytes(), bare.sections(), &[]).unwrap();
    assert_eq!(nothing, bare.bytes());
}
