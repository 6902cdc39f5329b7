//! Access rules of entities: kept with them, told to the shell once they are on disk, gone with them.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::command::Command;
use crate::effect::{EffectKind, Reply};
use crate::entity::access::{AccessKey, AccessRights, AccessRule};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::Origin;
use crate::testing::{Dice, World};
use crate::time::{Span, Timestamp};
use crate::topic::command::{TopicCommand, TopicReply};
use crate::topic::settings::TopicSettings;

fn path(name: &str) -> EntityPath {
    EntityPath::of_known_entity(name).unwrap()
}

fn rule(name: &str, key: &str) -> AccessRule {
    AccessRule {
        name: name.into(),
        rights: AccessRights { send: true, ..AccessRights::default() },
        primary_key: AccessKey::new(key),
        secondary_key: AccessKey::new("second"),
        created_at: Timestamp(0),
        modified_at: Timestamp(0),
    }
}

fn queue(access_rules: Vec<AccessRule>) -> QueueSettings {
    QueueSettings { access_rules, ..QueueSettings::default() }
}

fn topic(access_rules: Vec<AccessRule>) -> TopicSettings {
    TopicSettings { access_rules, ..TopicSettings::default() }
}

/// What the shell knows: the rules of each entity that has any.
type Known = BTreeMap<String, Vec<AccessRule>>;

/// Takes note of what the shell was told since the last look.
fn learn(world: &mut World, known: &mut Known) -> usize {
    let mut count = 0;
    for kind in std::mem::take(&mut world.released) {
        if let EffectKind::AccessChanged { path, rules } = kind {
            count += 1;
            if rules.is_empty() {
                known.remove(path.name()).expect("only what was there can go");
            } else {
                known.insert(path.name().to_owned(), rules);
            }
        } else {
            world.released.push(kind);
        }
    }
    count
}

fn held(broker: &Broker) -> Known {
    let rules = broker.access_rules();
    rules.map(|(path, rules)| (path.name().to_owned(), rules.to_vec())).collect()
}

#[test]
fn rules_come_go_and_survive_with_their_entity() {
    let mut world = World::new(BrokerSettings::default());
    let mut known = Known::new();
    let create =
        |settings| move |origin| Command::CreateQueue { origin, path: path("Orders"), settings };
    let update =
        |settings| move |origin| Command::UpdateQueue { origin, path: path("orders"), settings };
    world.ask(create(queue(vec![rule("a", "1"), rule("b", "1")]))).unwrap();
    let created = world.now;
    assert_eq!(learn(&mut world, &mut known), 1);
    assert_eq!(known["Orders"].len(), 2);
    assert_eq!(known["Orders"][0].created_at, created);

    world.pass(Span(500));
    world.ask(update(queue(vec![rule("a", "2")]))).unwrap();
    learn(&mut world, &mut known);
    let [only] = &known["Orders"][..] else { panic!("{known:?}") };
    assert_eq!((only.created_at, only.modified_at), (created, world.now));
    assert_eq!(only.primary_key, AccessKey::new("2"));
    world.crash();
    assert_eq!(held(&world.broker), known);

    // Nothing new is nothing to tell.
    let modified = world.now;
    world.pass(Span(500));
    world.ask(update(QueueSettings { attempts_max: 3, ..queue(vec![rule("a", "2")]) })).unwrap();
    assert_eq!(learn(&mut world, &mut known), 0);
    let describe = |origin| Command::DescribeQueue { origin, path: path("orders") };
    let Ok(Reply::QueueDescribed(described)) = world.ask(describe) else { panic!("not there") };
    assert_eq!(described.settings.attempts_max, 3);
    assert_eq!(described.settings.access_rules[0].modified_at, modified);

    // The configuration says what a queue is like, and not whose it is.
    world.ensure_queue("orders", QueueSettings { attempts_max: 4, ..queue(Vec::new()) });
    assert_eq!(learn(&mut world, &mut known), 0);
    assert_eq!(held(&world.broker), known);

    world.ask(|origin| Command::DeleteQueue { origin, path: path("orders") }).unwrap();
    assert_eq!(learn(&mut world, &mut known), 1);
    assert!(known.is_empty());
    world.ask(create(queue(Vec::new()))).unwrap();
    assert_eq!(learn(&mut world, &mut known), 0);
}

#[test]
fn rules_go_with_an_entity_that_nobody_uses() {
    let mut world = World::new(BrokerSettings::default());
    let mut known = Known::new();
    let idle = QueueSettings {
        auto_delete_on_idle: Some(QueueSettings::AUTO_DELETE_ON_IDLE_MIN),
        ..queue(vec![rule("a", "1")])
    };
    world.ensure_queue("q", idle);
    learn(&mut world, &mut known);
    assert_eq!(known.len(), 1);
    world.pass(QueueSettings::AUTO_DELETE_ON_IDLE_MIN);
    learn(&mut world, &mut known);
    assert!(known.is_empty());
}

#[test]
fn rules_that_cannot_be_are_refused_and_subscriptions_have_none() {
    let mut world = World::new(BrokerSettings::default());
    let bad = queue(vec![rule("a", "1"), rule("A", "2")]);
    let create = |origin| Command::CreateQueue { origin, path: path("q"), settings: bad };
    assert!(matches!(world.ask(create), Err(Error::InvalidArgument(_))));
    let mut ask =
        |command: TopicCommand| world.ask(|_| Command::OfTopic(Box::new(command))).map(|_| ());
    let origin = Origin { connection: 1, link: 1, delivery: 2 };
    let settings = topic(vec![rule("a", "1")]);
    ask(TopicCommand::CreateTopic { origin, path: path("t"), settings }).unwrap();
    let origin = Origin { delivery: 3, ..origin };
    let (path, settings) = (path("t/Subscriptions/s"), queue(vec![rule("a", "1")]));
    let refused = ask(TopicCommand::CreateSubscription { origin, path, settings, rule: None });
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    let mut known = Known::new();
    learn(&mut world, &mut known);
    assert_eq!(known.into_keys().collect::<Vec<_>>(), ["t"]);
}

/// Whatever is asked in whatever order, and whenever the process dies: the shell is told what is on
/// disk, and nothing else.
#[test]
fn the_shell_knows_the_rules_that_are_on_disk() {
    let mut seen = [0_usize; 4];
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut world = World::seeded(BrokerSettings::default(), seed);
        let mut known = Known::new();
        let mut wished = BTreeMap::new();
        for _ in 0..60 {
            let name = ["a", "B/c", "t", "u"][dice.below(4)];
            let is_topic = matches!(name, "t" | "u");
            let rules: Vec<_> = ["x", "y", "z"]
                .into_iter()
                .filter(|_| dice.below(3) == 0)
                .map(|name| rule(name, ["1", "2"][usize::from(seed % 2 == 0)]))
                .collect();
            let what = dice.below(4);
            let origin = world.origin();
            let (at, ok) = (path(name), rules.clone());
            world.handle(match (is_topic, what) {
                (false, 0) => Command::CreateQueue { origin, path: at, settings: queue(ok) },
                (false, 1) => Command::UpdateQueue { origin, path: at, settings: queue(ok) },
                (false, 2) => {
                    let origin = Some(origin);
                    Command::EnsureQueue { origin, path: at, settings: queue(Vec::new()) }
                }
                (false, _) => Command::DeleteQueue { origin, path: at },
                (true, _) => Command::OfTopic(Box::new(match what {
                    0 => TopicCommand::CreateTopic { origin, path: at, settings: topic(ok) },
                    1 => TopicCommand::UpdateTopic { origin, path: at, settings: topic(ok) },
                    2 => {
                        let (origin, settings) = (Some(origin), topic(Vec::new()));
                        TopicCommand::EnsureTopic { origin, path: at, settings }
                    }
                    _ => TopicCommand::DeleteTopic { origin, path: at },
                })),
            });
            world.now = world.now.plus(Span(1));
            if dice.percent(30) {
                // Nothing, a turn, or a turn and its commit get done before the end.
                for _ in 0..dice.below(3) {
                    let _ = world.turn() || world.sync_one();
                }
                seen[0] += learn(&mut world, &mut known);
                world.crash();
                assert_eq!(held(&world.broker), known, "seed {seed}");
                let there = world.broker.queue_stats().map(|stats| stats.path.name().to_owned());
                wished = there.map(|name| (name.clone(), known.get(&name).cloned())).collect();
                world.released.clear();
                seen[1] += 1;
                continue;
            }
            world.settle_down();
            seen[0] += learn(&mut world, &mut known);
            assert_eq!(held(&world.broker), known, "seed {seed}");
            let is_done = matches!(
                world.take_reply(origin),
                Some(Ok(Reply::QueueEnsured { .. }
                    | Reply::QueueDeleted
                    | Reply::OfTopic(TopicReply::Ensured { .. } | TopicReply::Deleted)))
            );
            if is_done {
                seen[2] += 1;
                let before: Option<Option<Vec<AccessRule>>> = wished.remove(name);
                let after = match what {
                    3 => continue,
                    2 => before.flatten(),
                    _ => Some(rules).filter(|rules| !rules.is_empty()),
                };
                wished.insert(name.to_owned(), after);
            }
            let told = known.get(name).into_iter().flatten();
            let named = |rule: &AccessRule| (rule.name.clone(), rule.primary_key.clone());
            let wish = wished.get(name).cloned().flatten().unwrap_or_default();
            assert!(told.map(named).eq(wish.iter().map(named)), "seed {seed}, {name}");
            seen[3] += usize::from(!wish.is_empty());
        }
    }
    assert!(seen.iter().all(|count| 100 < *count), "{seen:?}");
}
