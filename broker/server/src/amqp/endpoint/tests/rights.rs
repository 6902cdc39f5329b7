//! Who may come in, and for how long.

use peeklock_core::{AccessKey, AccessRights, AccessRuleChange, KeyChange, Span};
use peeklock_protocol::terminus::Coordinator;

use super::*;
use crate::auth::{
    self, AccessRule, Credential, Door, Grant, Operation, ResourcePath, Rights, Secret,
};
use crate::clock::Step;

const SEND: Rights = Rights { send: true, ..Rights::NONE };

fn anonymous() -> World {
    World::with(ClientSasl::Anonymous, Config::default(), QueueSettings::default())
}

/// As a token for the whole namespace does.
fn grant(world: &mut World, rights: Rights, valid_until: Timestamp) {
    let source = Credential::well_known();
    let grant = Grant { audience: ResourcePath::default(), rights, valid_until, source };
    world.endpoint.claims.grant(grant, world.clock.now()).unwrap();
    world.endpoint.claims_changed(world.now);
    world.endpoint.end_turn(world.now);
    world.exchange();
}

fn in_an_hour(world: &World) -> Timestamp {
    world.clock.now().plus(Span::from_secs(3600))
}

#[test]
fn a_wrong_password_ends_in_sasl() {
    let (user, password) = ("RootManageSharedAccessKey".into(), "wrong".into());
    let sasl = ClientSasl::Plain { user, password };
    let mut world = World::with(sasl, Config::default(), QueueSettings::default());
    assert!(world.take_events().contains(&Event::SaslOutcome(SaslCode::Auth)));
    assert!(!world.endpoint.engine.is_open());
}

#[test]
fn nothing_is_allowed_without_a_token() {
    let mut world = anonymous();
    let session = world.session();
    for attach in [to_node("s", "orders"), from_node("r", "orders", "here")] {
        let link = world.attach(session, attach);
        assert_eq!(world.detached(link).as_deref(), Some("amqp:unauthorized-access"));
    }
    let link = world.attach(session, to_node("s", "$cbs"));
    assert_eq!(world.detached(link), None);
}

/// The core would have to look for it, whoever asks.
#[test]
fn a_stranger_has_no_subscription_looked_up() {
    let mut world = anonymous();
    let session = world.session();
    let mut attach = from_node("sub", "unused", "here");
    attach.source = None;
    attach.desired_capabilities = Some(vec!["global".into()]);
    let link = world.client.attach(session, attach.clone()).unwrap();
    world.exchange();
    assert!(world.endpoint.take_commands().is_empty());
    assert_eq!(world.detached(link).as_deref(), Some("amqp:unauthorized-access"));
    let end = in_an_hour(&world);
    grant(&mut world, SEND, end);
    let link = world.attach(session, attach);
    assert_eq!(world.detached(link).as_deref(), Some("amqp:not-found"));
}

/// A queue that does not exist before the link does.
fn made_for_it() -> TargetNode {
    TargetNode { dynamic: true, ..TargetNode::default() }
}

/// Every kind of link with every kind of claims. A link that is new here has to be in the list of rights.
#[test]
fn every_link_takes_its_right() {
    let listen = Rights { listen: true, ..Rights::NONE };
    let mut links = Vec::new();
    for operation in Operation::ALL.iter().filter(|one| one.door() == Door::Link) {
        let attaches: Vec<fn() -> Attach> = match operation {
            Operation::LinkToCbs => {
                vec![|| to_node("l", "$cbs"), || from_node("l", "$cbs", "here")]
            }
            Operation::LinkToCoordinator => vec![|| Attach {
                target: Some(Coordinator::default().into()),
                ..to_node("l", "none")
            }],
            Operation::LinkToSend => vec![|| to_node("l", "orders")],
            Operation::LinkToReceive => vec![|| from_node("l", "orders", "here"), || {
                from_node("l", "orders/$DeadLetterQueue", "here")
            }],
            Operation::LinkToManagement => vec![|| to_node("l", "orders/$management"), || {
                from_node("l", "orders/$management", "here")
            }],
            Operation::LinkToNamespaceNode => {
                vec![|| to_node("l", "$management"), || from_node("l", "$management", "here")]
            }
            Operation::LinkToDynamic => vec![
                || Attach { target: Some(made_for_it().into()), ..to_node("l", "unused") },
                || Attach {
                    source: Some(Source { dynamic: true, ..Source::default() }.into()),
                    ..from_node("l", "unused", "here")
                },
            ],
            // Asked for with each message: `wire::jms_producers`.
            Operation::RelayTo => continue,
            // They are asked for once the core has found a topic or a subscription: see the tests of JMS.
            Operation::LinkToMake | Operation::LinkToFind | Operation::LinkToUnsubscribe => {
                continue;
            }
            other => panic!("nobody has said what {other:?} is"),
        };
        links.extend(attaches.into_iter().map(|attach| (*operation, attach)));
    }
    let mut seen = [0; 2];
    for (operation, attach) in links {
        let needs = operation.needs().actions();
        for rights in [Rights::NONE, SEND, listen, Rights::MANAGE] {
            for (place, in_time) in [("", true), ("orders", true), ("other", true), ("", false)] {
                let mut world = anonymous();
                let end = world.clock.now().plus(Span::from_secs(10));
                let (audience, source) = (ResourcePath::pattern(place), Credential::well_known());
                let grant = Grant { audience, rights, valid_until: end, source };
                world.endpoint.claims.grant(grant, world.clock.now()).unwrap();
                if !in_time {
                    world.clock.steer(Step::Freeze { at: Some(end) }).unwrap();
                }
                let of_namespace =
                    [Operation::LinkToNamespaceNode, Operation::LinkToDynamic].contains(&operation);
                let covers = place.is_empty() || place == "orders" && !of_namespace;
                let enough = needs.iter().any(|action| rights.allow(*action));
                let expected = needs.is_empty() || covers && in_time && enough;
                let session = world.session();
                let link = world.attach(session, attach());
                let refused = world.detached(link);
                let what = format!("{operation:?} with {rights:?} at {place:?}, {in_time}");
                let denied = refused.as_deref() == Some("amqp:unauthorized-access");
                assert_eq!(!denied, expected, "{what}: {refused:?}");
                seen[usize::from(expected)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|count| 40 < *count), "{seen:?}");
}

#[test]
fn a_connection_that_shows_no_token_is_closed_in_time() {
    let mut world = anonymous();
    assert!(world.endpoint.deadline().unwrap() <= world.now + AUTHORIZE_WITHIN);
    world.later(AUTHORIZE_WITHIN / 2);
    assert_eq!(world.closed(), None);
    world.later(AUTHORIZE_WITHIN);
    assert_eq!(world.closed().as_deref(), Some("amqp:unauthorized-access"));
    assert_eq!(world.endpoint.deadline(), None, "it does not ask for turns any more");
}

#[test]
fn one_with_a_token_stays() {
    let mut world = anonymous();
    let end = in_an_hour(&world);
    grant(&mut world, Rights::MANAGE, end);
    world.later(AUTHORIZE_WITHIN * 2);
    assert_eq!(world.closed(), None);
}

#[test]
fn a_token_that_ends_takes_its_links_with_it() {
    let mut world = anonymous();
    let end = world.clock.now().plus(Span::from_secs(1));
    grant(&mut world, Rights::MANAGE, end);
    let (sender, receiver) = (world.sender(), world.receiver());
    let due = world.endpoint.deadline().unwrap();
    assert!(due <= world.now + Duration::from_secs(2));
    world.clock.steer(Step::Freeze { at: Some(end) }).unwrap();
    world.now = due;
    world.endpoint.end_turn(world.now);
    world.run();
    let mut ended: Vec<_> = world
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Detach { link, error: Some(error), .. } => {
                assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
                Some(link)
            }
            _ => None,
        })
        .collect();
    ended.sort_unstable();
    let mut expected = [sender, receiver];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    assert_eq!(world.receiver_count(), 0);
    // There is the same time again to show another.
    world.later(AUTHORIZE_WITHIN / 2);
    assert_eq!(world.closed(), None);
    world.later(AUTHORIZE_WITHIN);
    assert_eq!(world.closed().as_deref(), Some("amqp:unauthorized-access"));
}

/// The clock is moved while the connection sleeps, and the time that a peer may go without rights is
/// none of its business.
#[test]
fn a_token_follows_the_clock_and_the_patience_with_a_peer_does_not() {
    let mut world = anonymous();
    let end = in_an_hour(&world);
    world.clock.steer(Step::Freeze { at: None }).unwrap();
    grant(&mut world, Rights::MANAGE, end);
    assert_eq!(world.endpoint.claims_due, None, "no waiting brings the end of the token");
    let sender = world.sender();
    let mut change = |step| {
        world.clock.steer(step).unwrap();
        world.endpoint.clock_changed(world.now);
        world.endpoint.end_turn(world.now);
        world.exchange();
        world.detached(sender)
    };
    assert_eq!(change(Step::Freeze { at: Some(Timestamp(end.0 - 1)) }), None);
    assert_eq!(change(Step::Advance(Span(1))).as_deref(), Some("amqp:unauthorized-access"));
    assert_eq!(world.endpoint.claims_due, Some(world.now + AUTHORIZE_WITHIN));
    world.clock.steer(Step::Advance(Span::from_secs(3600))).unwrap();
    world.endpoint.clock_changed(world.now);
    world.later(AUTHORIZE_WITHIN / 2);
    assert_eq!(world.closed(), None);
}

#[test]
fn a_newer_token_with_fewer_rights_ends_what_it_does_not_cover() {
    let mut world = anonymous();
    let end = in_an_hour(&world);
    grant(&mut world, Rights::MANAGE, end);
    let (sender, receiver) = (world.sender(), world.receiver());
    let end = in_an_hour(&world);
    grant(&mut world, SEND, end);
    assert_eq!(world.detached(receiver).as_deref(), Some("amqp:unauthorized-access"));
    world.send(sender, &Message::data("x"), true);
    world.run();
    assert_eq!(world.message_count(), 1);
    assert_eq!(world.detached(sender), None);
}

/// Makes the broker take other keys and rights for the well-known rule, and gives the endpoint a turn.
fn change_rules(world: &mut World, rules: Vec<AccessRule>) {
    let mut changes = world.endpoint.rule_changes();
    let authority = Arc::clone(&world.endpoint.settings.authority);
    authority.adopt(&Authority::new(rules, None, false));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    world.endpoint.rules_changed(world.now);
    world.endpoint.end_turn(world.now);
    world.run();
}

fn well_known(key: &str, second: Option<&str>, rights: Rights) -> Vec<AccessRule> {
    let (name, second) = ("RootManageSharedAccessKey".to_owned(), second.map(Secret::new));
    vec![AccessRule::new(name, Secret::new(key), second, rights, None)]
}

#[test]
fn a_key_that_is_taken_away_takes_its_links_with_it() {
    for sasl in [everything(), ClientSasl::Anonymous] {
        let by_token = matches!(sasl, ClientSasl::Anonymous);
        let mut world = World::with(sasl, Config::default(), QueueSettings::default());
        if by_token {
            let end = in_an_hour(&world);
            grant(&mut world, Rights::MANAGE, end);
        }
        let (sender, receiver) = (world.sender(), world.receiver());
        // As the second key it is still good; and another rule is nobody's business.
        let mut rules = well_known("new", Some("SAS_KEY_VALUE"), Rights::MANAGE);
        let other = AccessRule::new("o".to_owned(), Secret::new("o"), None, SEND, None);
        rules.push(other);
        change_rules(&mut world, rules);
        assert!(!world.take_events().iter().any(|event| matches!(event, Event::Detach { .. })));

        change_rules(&mut world, well_known("new", Some("SAS_KEY_VALUE"), SEND));
        assert_eq!(world.detached(receiver).as_deref(), Some("amqp:unauthorized-access"));
        assert_eq!(world.receiver_count(), 0);
        world.send(sender, &Message::data("x"), true);
        world.run();
        assert_eq!(world.message_count(), 1);

        change_rules(&mut world, well_known("new", Some("newer"), Rights::MANAGE));
        assert_eq!(world.detached(sender).as_deref(), Some("amqp:unauthorized-access"));
        // There is the same time again to show another right.
        world.later(AUTHORIZE_WITHIN / 2);
        assert_eq!(world.closed(), None);
        world.later(AUTHORIZE_WITHIN);
        assert_eq!(world.closed().as_deref(), Some("amqp:unauthorized-access"));
    }
}

/// Changes the rules of the queue itself, and tells of it as the driver does.
fn change_queue(world: &mut World, access_rules: Option<Vec<AccessRuleChange>>) {
    let path = EntityPath::for_new_entity("orders").unwrap();
    let origin = Origin { connection: 2, link: 1, delivery: 1 };
    let settings = QueueSettings::default();
    let update = Command::UpdateQueue { origin, path, settings, access_rules };
    world.core.handle(world.clock.now(), update);
    let mut is_done = false;
    for effect in world.core.take_turn().effects {
        match effect.kind {
            EffectKind::AccessChanged { path, rules } => {
                world.endpoint.settings.authority.set_rules_of(&path, &rules);
            }
            EffectKind::Reply { result, .. } => is_done = result.is_ok(),
            other => panic!("{other:?}"),
        }
    }
    assert!(is_done);
    world.endpoint.rules_changed(world.now);
    world.endpoint.end_turn(world.now);
    world.run();
}

/// The second update was on its way before the first one took the rule away.
#[test]
fn links_of_a_removed_rule_stay_cut_when_an_update_keeps_the_rules() {
    let rule = |name: &str, primary_key| AccessRuleChange {
        name: name.into(),
        rights: AccessRights { manage: false, send: true, listen: true },
        primary_key,
        secondary_key: KeyChange::Set(AccessKey::new("second")),
    };
    let set = |key: &str| KeyChange::Set(AccessKey::new(key));
    let keep = |key: &str| KeyChange::Keep { or: AccessKey::new(key) };
    let log_in = |world: &mut World| {
        let authority = &world.endpoint.settings.authority;
        let granted = auth::sasl(authority, "PLAIN", Some(b"\0own\0first"));
        let is_known = granted.is_ok();
        if let Ok(Some(granted)) = granted {
            world.endpoint.claims.grant_connection(granted);
        }
        is_known
    };
    let removals = [vec![rule("other", keep("o"))], vec![rule("own", set("newer"))]];
    let keeps = [None, Some(vec![rule("own", keep("newest")), rule("other", keep("o"))])];
    for (removal, later) in removals.iter().flat_map(|one| keeps.iter().map(move |two| (one, two)))
    {
        let mut world = anonymous();
        change_queue(&mut world, Some(vec![rule("own", set("first")), rule("other", set("o"))]));
        assert!(log_in(&mut world));
        let (sender, receiver) = (world.sender(), world.receiver());
        world.send(sender, &Message::data("x"), true);
        world.run();
        assert_eq!((world.message_count(), world.receiver_count()), (1, 1));

        change_queue(&mut world, Some(removal.clone()));
        let cut = |event: &Event| match event {
            Event::Detach { link, error: Some(error), .. } => {
                assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
                [sender, receiver].contains(link)
            }
            _ => false,
        };
        assert_eq!(world.take_events().iter().filter(|event| cut(event)).count(), 2);
        change_queue(&mut world, later.clone());
        assert!(!log_in(&mut world));
        let session = world.session();
        for attach in [to_node("s2", "orders"), from_node("r2", "orders", "here")] {
            let link = world.attach(session, attach);
            assert_eq!(world.detached(link).as_deref(), Some("amqp:unauthorized-access"));
        }
        assert_eq!((world.message_count(), world.receiver_count()), (1, 0));
    }
}

#[test]
fn a_connection_that_has_no_rights_yet_keeps_its_time_to_show_some() {
    let mut world = anonymous();
    world.later(AUTHORIZE_WITHIN / 2);
    change_rules(&mut world, Vec::new());
    world.later(AUTHORIZE_WITHIN / 2 + Duration::from_millis(1));
    assert_eq!(world.closed().as_deref(), Some("amqp:unauthorized-access"));
}

#[test]
fn an_attach_that_waits_is_refused_when_its_right_is_gone() {
    let mut world = anonymous();
    let end = in_an_hour(&world);
    grant(&mut world, Rights::MANAGE, end);
    let session = world.session();
    let link = world.client.attach(session, from_node("r", "orders", "here")).unwrap();
    world.exchange();
    let letters = world.answers();
    let end = in_an_hour(&world);
    grant(&mut world, SEND, end);
    world.hand_in(letters);
    world.run();
    assert_eq!(world.detached(link).as_deref(), Some("amqp:unauthorized-access"));
    assert_eq!(world.receiver_count(), 0);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let mut world = anonymous();
    let settings = Arc::clone(&world.endpoint.settings);
    world.endpoint = Endpoint::new(2, settings, true, None);
    world.client = Connection::client(Arc::default(), world.now, ClientOpen::default());
    world.run();
    assert_eq!(world.closed().as_deref(), Some("amqp:resource-limit-exceeded"));
}
