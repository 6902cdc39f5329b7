//! What is written of whom.

use std::collections::BTreeMap;
use std::time::Instant;

use peeklock_core::{
    Broker, BrokerSettings, IncomingMessage, Origin, QueueSettings, SeededIds, TopicCommand,
    TopicSettings,
};

use super::*;
use crate::namespaces::tests::world_with;

/// A message with a body of three octets.
const MESSAGE: &[u8] = b"\x00\x53\x75\xa0\x03abc";
const NOW: Timestamp = Timestamp(1_000_000);

fn path(name: &str) -> EntityPath {
    EntityPath::parse(name).unwrap().path
}

fn ensure(name: &str) -> Command {
    let settings = QueueSettings::default();
    Command::EnsureQueue { origin: None, path: path(name), settings }
}

fn send(name: &str, count: usize) -> Command {
    let origin = Origin { connection: 1, link: 1, delivery: 1 };
    let messages = (0..count).map(|_| IncomingMessage::from_wire(MESSAGE).unwrap()).collect();
    Command::SendTo { origin, path: path(name), messages, transaction: None }
}

fn core() -> Broker {
    Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)))
}

/// The entities of a core, which is called like that.
fn told(name: &str, core: &Broker, now: Timestamp) -> Told {
    Told { name: name.into(), now, entities: core.entity_statistics(None, usize::MAX) }
}

async fn text_of(told: &[Told], shown: &EntitiesShown) -> String {
    let mut pieces = Pieces::default();
    render(told, &shown.choose(told), &mut pieces).await;
    pieces.concatenated()
}

/// The samples of a family, by their labels.
fn samples(text: &str, family: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'));
    let samples = lines.filter_map(|line| line.rsplit_once("} "));
    samples.map(|(labels, value)| (labels.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn each_family_is_written_once_and_in_one_piece() {
    let mut core = core();
    core.handle(NOW, ensure("orders"));
    core.handle(NOW, ensure("zoo"));
    let topic = TopicCommand::EnsureTopic {
        origin: None,
        path: path("news"),
        settings: TopicSettings::default(),
    };
    core.handle(NOW, Command::OfTopic(Box::new(topic)));
    core.handle(NOW, send("orders", 3));
    let told = [told("default", &core, Timestamp(NOW.0 + 12_034)), told("shop", &core, NOW)];
    let text = text_of(&told, &EntitiesShown::new(10)).await;
    let mut seen = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            seen.push(head.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            assert_eq!(line.split('{').next(), seen.last().copied(), "{line}");
        }
    }
    let with_sessions = ["peeklock_entity_sessions", "peeklock_entity_locked_sessions"];
    let expected: Vec<_> = families().map(|family| family.name).collect();
    assert_eq!(seen, expected, "each once, and those without samples too");
    for family in families() {
        let count = samples(&text, family.name).len();
        assert_eq!(count == 0, with_sessions.contains(&family.name), "{}", family.name);
        let kind = format!("# TYPE {} {}\n", family.name, family.kind.name());
        assert_eq!(text.matches(&kind).count(), 1, "{}", family.name);
    }
    let messages = samples(&text, "peeklock_entity_messages");
    let of = |labels: &str| messages.get(labels).map(String::as_str);
    assert_eq!(of(r#"namespace="default",entity="orders",state="active""#), Some("3"));
    assert_eq!(of(r#"namespace="shop",entity="orders",state="scheduled""#), Some("0"));
    assert_eq!(of(r#"namespace="default",entity="news",state="scheduled""#), Some("0"));
    assert_eq!(of(r#"namespace="default",entity="news",state="active""#), None);
    let ages = samples(&text, "peeklock_entity_oldest_message_age_seconds");
    assert_eq!(ages[r#"namespace="default",entity="orders""#], "12.034");
    assert_eq!(ages[r#"namespace="default",entity="zoo""#], "0");
    let entities = samples(&text, "peeklock_namespace_entities");
    assert_eq!(entities[r#"namespace="default",kind="queue""#], "2");
    assert_eq!(entities[r#"namespace="default",kind="topic""#], "1");
    let reasons = samples(&text, "peeklock_entity_dead_lettered_messages_total");
    assert_eq!(reasons.len(), 12, "three for each of two queues in two namespaces");
}

#[test]
fn values_of_labels_cannot_break_out_of_them() {
    let labels = Labels::of([("default", "a\"b\\c\nd"), ("shop", "plain")].into_iter());
    let rendered: Vec<_> = labels.iter().collect();
    assert_eq!(
        rendered,
        [r#"namespace="default",entity="a\"b\\c\nd""#, r#"namespace="shop",entity="plain""#]
    );
}

#[test]
fn texts_fit_into_the_format_and_the_documentation() {
    let mut names = std::collections::HashSet::new();
    for family in families() {
        let crate::metrics::Family { name, kind, labels, help } = family;
        assert!(names.insert(name), "{name} is there twice");
        assert!(!help.contains(['\n', '\\', '|']) && help.ends_with('.'), "{name}: {help}");
        assert_eq!(name.ends_with("_total"), kind.name() == "counter", "{name}");
        assert_eq!(labels[0], "namespace", "{name}");
    }
}

/// Queues `q00` to `q19`, the first of them with the most messages.
fn twenty() -> Broker {
    let mut core = core();
    for number in 0..20 {
        let name = format!("q{number:02}");
        core.handle(NOW, ensure(&name));
        core.handle(NOW, send(&name, 40 - 2 * number));
    }
    core
}

fn names(told: &Told, chosen: &[Vec<usize>]) -> Vec<String> {
    chosen[0].iter().map(|at| told.entities[*at].path.name().to_owned()).collect()
}

#[test]
fn those_with_the_most_messages_are_shown_and_stay_for_a_while() {
    let mut core = twenty();
    let shown = EntitiesShown::new(4);
    let choose = |core: &Broker| {
        let told = [told("default", core, NOW)];
        names(&told[0], &shown.choose(&told))
    };
    assert_eq!(choose(&core), ["q00", "q01", "q02", "q03"]);
    // A little more than those that are shown is not enough to take their place.
    core.handle(NOW, send("q04", 3));
    assert_eq!(choose(&core), ["q00", "q01", "q02", "q03"]);
    // Much more is, and the one that has the least of those goes.
    core.handle(NOW, send("q19", 1000));
    assert_eq!(choose(&core), ["q00", "q01", "q02", "q19"]);
    // Without messages traffic counts.
    assert_eq!(EntitiesShown::new(0).choose(&[told("default", &core, NOW)]), [vec![0_usize; 0]]);
    let all = EntitiesShown::new(20).choose(&[told("default", &core, NOW)]);
    assert_eq!(all, [(0..20).collect::<Vec<_>>()]);
}

#[tokio::test]
async fn totals_are_whole_whatever_is_shown() {
    let core = twenty();
    let mut texts = Vec::new();
    for count_max in [0, 5, 100] {
        let told = [told("default", &core, NOW)];
        texts.push(text_of(&told, &EntitiesShown::new(count_max)).await);
    }
    let hidden = texts.iter().map(|text| samples(text, "peeklock_entities_hidden"));
    let hidden: Vec<_> = hidden.map(|one| one[r#"namespace="default""#].clone()).collect();
    assert_eq!(hidden, ["20", "15", "0"]);
    for text in &texts {
        let messages = samples(text, "peeklock_namespace_messages");
        assert_eq!(messages[r#"namespace="default",state="active""#], "420");
    }
    assert_eq!(samples(&texts[0], "peeklock_entity_bytes").len(), 0);
    assert_eq!(samples(&texts[1], "peeklock_entity_bytes").len(), 5);
}

#[tokio::test]
async fn all_namespaces_are_asked_page_by_page() {
    let namespaces = world_with(BrokerSettings::default());
    let shard = &namespaces.default().context().shard;
    let commands = (0..=2 * PAGE).map(|number| ensure(&format!("queue-{number}"))).collect();
    assert!(shard.send(Input::Commands(commands)).is_ok());
    let mut pieces = Pieces::default();
    write(&namespaces, &EntitiesShown::new(10_000), &mut pieces).await;
    let text = pieces.concatenated();
    let entities = samples(&text, "peeklock_namespace_entities");
    assert_eq!(entities[r#"namespace="default",kind="queue""#], "257");
    assert_eq!(entities[r#"namespace="desk",kind="queue""#], "0");
    assert_eq!(samples(&text, "peeklock_entity_receivers").len(), 257);
}

/// Prints what that costs: `cargo test --release -p peeklock --no-default-features --lib -- --nocapture
/// ten_thousand`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_tells_of_ten_thousand_entities() {
    let settings = BrokerSettings { queues_max: 10_000, ..BrokerSettings::default() };
    let namespaces = world_with(settings);
    let shard = &namespaces.default().context().shard;
    for number in 0..10_000 {
        let name = format!("department/queue-of-some-length-{number:05}");
        let commands = vec![ensure(&name), send(&name, 1 + number % 3)];
        assert!(shard.send(Input::Commands(commands)).is_ok());
    }
    let (mut longest, mut after, mut count) = (Duration::ZERO, None, 0);
    loop {
        let look = move |core: &Broker| {
            let start = Instant::now();
            let page = core.entity_statistics(after.as_ref(), PAGE);
            (page, start.elapsed())
        };
        let Ok((page, took)) = shard.query(look).await else { panic!("the broker is there") };
        longest = longest.max(took);
        count += page.len();
        after = page.last().map(|last| last.path.clone());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, 10_000);
    let start = Instant::now();
    let mut pieces = Pieces::default();
    write(&namespaces, &EntitiesShown::new(10_000), &mut pieces).await;
    println!("{:?}, of these {longest:?} of the driver at a time at the most", start.elapsed());
    let text = pieces.concatenated();
    assert_eq!(samples(&text, "peeklock_entity_messages").len(), 6 * 10_000);
    let messages = samples(&text, "peeklock_namespace_messages");
    assert_eq!(messages[r#"namespace="default",state="active""#], "19999");
}
