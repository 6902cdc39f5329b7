//! Access rules of entities: kept with them, told to the shell once they are on disk, gone with them.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::command::Command;
use crate::effect::{EffectKind, Reply};
use crate::entity::access::tests::rule;
use crate::entity::access::{AccessKey, AccessRule, AccessRuleChange, KeyChange};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::Origin;
use crate::testing::{Dice, World};
use crate::time::Span;
use crate::topic::command::{TopicCommand, TopicReply};
use crate::topic::settings::TopicSettings;

fn path(name: &str) -> EntityPath {
    EntityPath::of_known_entity(name).unwrap()
}

fn queue(access_rules: Vec<AccessRule>) -> QueueSettings {
    QueueSettings { access_rules, ..QueueSettings::default() }
}

fn topic(access_rules: Vec<AccessRule>) -> TopicSettings {
    TopicSettings { access_rules, ..TopicSettings::default() }
}

/// A rule from now on, with a second key that stays.
fn change(name: &str, primary_key: KeyChange) -> AccessRuleChange {
    let AccessRule { name, rights, secondary_key, .. } = rule(name, "");
    let secondary_key = KeyChange::Keep { or: secondary_key };
    AccessRuleChange { name, rights, primary_key, secondary_key }
}

fn set(key: &str) -> KeyChange {
    KeyChange::Set(AccessKey::new(key))
}

fn keep(or: &str) -> KeyChange {
    KeyChange::Keep { or: AccessKey::new(or) }
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
    let update = |settings, changes: Vec<AccessRuleChange>| {
        let (path, access_rules) = (path("orders"), Some(changes));
        |origin| Command::UpdateQueue { origin, path, settings, access_rules }
    };
    world.ask(create(queue(vec![rule("a", "1"), rule("b", "1")]))).unwrap();
    let created = world.now;
    assert_eq!(learn(&mut world, &mut known), 1);
    assert_eq!(known["Orders"].len(), 2);
    assert_eq!(known["Orders"][0].created_at, created);

    world.pass(Span(500));
    world.ask(update(queue(Vec::new()), vec![change("a", set("2"))])).unwrap();
    learn(&mut world, &mut known);
    let [only] = &known["Orders"][..] else { panic!("{known:?}") };
    assert_eq!((only.created_at, only.modified_at), (created, world.now));
    assert_eq!(only.primary_key, AccessKey::new("2"));
    world.crash();
    assert_eq!(held(&world.broker), known);

    // Nothing new is nothing to tell.
    let modified = world.now;
    world.pass(Span(500));
    let settings = QueueSettings { attempts_max: 3, ..queue(Vec::new()) };
    world.ask(update(settings, vec![change("a", set("2"))])).unwrap();
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

/// Whoever changes an entity may have looked at it before another change: what that one has taken away
/// does not come back, whatever the settings say that were read before.
#[test]
fn an_update_keeps_what_there_is_and_not_what_there_was() {
    type Changes = Option<Vec<AccessRuleChange>>;
    type Keys = &'static [(&'static str, &'static str)];
    let seen = || vec![rule("a", "old"), rule("b", "1")];
    let updates: [fn(Changes) -> Command; 2] = [
        |access_rules| {
            let origin = Origin { connection: 1, link: 1, delivery: 2 };
            let settings = queue(vec![rule("a", "old"), rule("b", "1")]);
            Command::UpdateQueue { origin, path: path("e"), settings, access_rules }
        },
        |access_rules| {
            let origin = Origin { connection: 1, link: 1, delivery: 2 };
            let settings = topic(vec![rule("a", "old"), rule("b", "1")]);
            let path = path("e");
            let update = TopicCommand::UpdateTopic { origin, path, settings, access_rules };
            Command::OfTopic(Box::new(update))
        },
    ];
    for (index, update) in updates.into_iter().enumerate() {
        let is_topic = index == 1;
        // What the first update wants, what the second one does, and which keys there are then.
        let cases: [(Changes, Changes, Keys); 6] = [
            (Some(vec![change("b", keep("x"))]), None, &[("b", "1")]),
            (Some(Vec::new()), None, &[]),
            (
                Some(vec![change("a", set("new")), change("b", keep("x"))]),
                None,
                &[("a", "new"), ("b", "1")],
            ),
            (
                Some(vec![change("a", set("new")), change("b", keep("x"))]),
                Some(vec![change("A", keep("x"))]),
                &[("A", "new")],
            ),
            (
                Some(vec![change("b", keep("x"))]),
                Some(vec![change("a", keep("fresh")), change("b", keep("x"))]),
                &[("a", "fresh"), ("b", "1")],
            ),
            (None, None, &[("a", "old"), ("b", "1")]),
        ];
        for (first, second, expected) in cases {
            let mut world = World::new(BrokerSettings::default());
            let mut known = Known::new();
            let create = |origin| {
                let at = path("e");
                if is_topic {
                    let create =
                        TopicCommand::CreateTopic { origin, path: at, settings: topic(seen()) };
                    return Command::OfTopic(Box::new(create));
                }
                Command::CreateQueue { origin, path: at, settings: queue(seen()) }
            };
            world.ask(create).unwrap();
            // Both are there before either is on disk.
            world.handle(update(first));
            world.handle(update(second));
            world.settle_down();
            learn(&mut world, &mut known);
            let rules = known.remove("e").unwrap_or_default();
            let keys: Vec<_> =
                rules.iter().map(|rule| (&*rule.name, &**rule.primary_key.expose())).collect();
            assert_eq!(keys, expected, "topic: {is_topic}");
            assert!(rules.iter().all(|rule| rule.secondary_key == AccessKey::new("second")));
            world.crash();
            assert_eq!(held(&world.broker).remove("e").unwrap_or_default(), rules);
        }
    }
}

#[test]
fn rules_that_an_update_keeps_are_bounded_with_those_it_sets() {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("q", queue(vec![rule("a", "1")]));
    let mut update = |changes: Vec<AccessRuleChange>| {
        let (path, settings) = (path("q"), queue(Vec::new()));
        let access_rules = Some(changes);
        world.ask(|origin| Command::UpdateQueue { origin, path, settings, access_rules })
    };
    let many = |count: usize| (0..count).map(|n| change(&n.to_string(), keep("x"))).collect();
    for bad in [
        many(13),
        vec![change("a", keep("x")), change("A", keep("x"))],
        vec![change("b", keep(""))],
        vec![change("", set("1"))],
    ] {
        assert!(matches!(update(bad), Err(Error::InvalidArgument(_))));
    }
    update(many(12)).unwrap();
    assert_eq!(held(&world.broker)["q"].len(), 12);
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
            // Nothing for a key that stays, or is "3" if there is none.
            let wanted: Vec<(&str, Option<&str>)> = ["x", "y", "z"]
                .into_iter()
                .filter_map(|name| {
                    let keys = [Some("1"), Some("2"), None];
                    (dice.below(3) == 0).then(|| (name, keys[dice.below(3)]))
                })
                .collect();
            let what = dice.below(4);
            let keeps_all = what == 1 && dice.percent(30);
            let origin = world.origin();
            let at = path(name);
            let ok: Vec<_> =
                wanted.iter().map(|(name, key)| rule(name, key.unwrap_or("3"))).collect();
            let change = |(name, key): &(&str, Option<&str>)| {
                change(name, key.map_or_else(|| keep("3"), set))
            };
            let access_rules = (!keeps_all).then(|| wanted.iter().map(change).collect());
            world.handle(match (is_topic, what) {
                (false, 0) => Command::CreateQueue { origin, path: at, settings: queue(ok) },
                (false, 1) => {
                    let settings = queue(Vec::new());
                    Command::UpdateQueue { origin, path: at, settings, access_rules }
                }
                (false, 2) => {
                    let origin = Some(origin);
                    Command::EnsureQueue { origin, path: at, settings: queue(Vec::new()) }
                }
                (false, _) => Command::DeleteQueue { origin, path: at },
                (true, _) => Command::OfTopic(Box::new(match what {
                    0 => TopicCommand::CreateTopic { origin, path: at, settings: topic(ok) },
                    1 => {
                        let settings = topic(Vec::new());
                        TopicCommand::UpdateTopic { origin, path: at, settings, access_rules }
                    }
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
                let before = before.flatten();
                let of_old = |name: &str| {
                    let old = before.iter().flatten().find(|old| &*old.name == name);
                    old.map_or("3".into(), |old| old.primary_key.expose().clone())
                };
                let key_of = |(name, key): (&str, Option<&str>)| match key {
                    Some(key) => rule(name, key),
                    None if what == 1 => rule(name, &of_old(name)),
                    None => rule(name, "3"),
                };
                let after = match what {
                    3 => continue,
                    2 => before,
                    1 if keeps_all => before,
                    _ => Some(wanted.into_iter().map(key_of).collect::<Vec<_>>())
                        .filter(|rules| !rules.is_empty()),
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
