//! Every request that the list of rights has, with every kind of token.

use tower_service::Service;

use super::*;
use crate::auth::{Action, Door, Operation};
use crate::http::control::Control;
use crate::http::router;

const ACTIONS: [Action; 3] = [Action::Send, Action::Listen, Action::Manage];

/// A rule with one right, for the namespace or for the entity.
fn name_of(action: Action, place: &str) -> String {
    format!("{action}-{place}")
}

/// A request by its name in the list, and the path that a token has to cover.
fn request(operation: Operation) -> (Method, String) {
    let (method, path) = operation.name().split_once(' ').unwrap();
    let path = match operation {
        Operation::OtherVerb => "/orders",
        Operation::Control => return (Method::GET, "/$peeklock/namespaces".to_owned()),
        _ => path,
    };
    let path = path
        .replace("{entity}", "orders")
        .replace("{topic}", "orders")
        .replace("{subscription}", "s")
        .replace("{rule}", "r")
        .replace("{message}", "1")
        .replace("{lock}", "00000000-0000-0000-0000-000000000001");
    (method.parse().unwrap(), path)
}

#[tokio::test]
async fn every_request_takes_its_right() {
    let rights = |action| match action {
        Action::Send => Rights { send: true, ..Rights::NONE },
        Action::Listen => Rights { listen: true, ..Rights::NONE },
        Action::Manage => Rights::MANAGE,
    };
    let mut rules = Vec::new();
    for action in ACTIONS {
        for place in ["", "orders", "other"] {
            let name = name_of(action, place);
            let entity = (!place.is_empty()).then(|| EntityPath::for_new_entity(place).unwrap());
            let key = Secret::new("key");
            rules.push(AccessRule::new(name, key, None, rights(action), entity.as_ref()));
        }
    }
    let world = World::with(BrokerSettings::default());
    world.context.settings.authority.adopt(&Authority::new(rules, None, true));
    let http = world.context.clone();
    let mut routes =
        router(Control { http, namespaces: Arc::default(), faults: None, backups: Arc::default() });
    let mut send = async |operation: Operation, token: Option<String>| {
        let (method, path) = request(operation);
        let uri = format!("{path}?timeout=0");
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        request = request.header("host", HOST);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let answered = routes.call(request.body(Body::from("x")).unwrap()).await;
        answered.unwrap().status().as_u16()
    };
    let root = format!("https://{HOST}");
    let doors = [Door::Administration, Door::Messages, Door::Control];
    let mut seen = [0; 2];
    for operation in Operation::ALL.iter().filter(|one| doors.contains(&one.door())) {
        // It is asked for inside of another one.
        if *operation == Operation::ForwardTo {
            continue;
        }
        assert_eq!(send(*operation, None).await, 401, "{operation:?} without a token");
        let needs = operation.needs().actions();
        let of_entity = request(*operation).1.starts_with("/orders");
        for action in ACTIONS {
            for place in ["", "orders", "other"] {
                let expected = (place.is_empty() || place == "orders" && of_entity)
                    && needs.iter().any(|needed| rights(action).allow(*needed));
                let name = name_of(action, place);
                let status = send(*operation, Some(token(&root, (&name, "key")))).await;
                assert_eq!(status != 401, expected, "{operation:?} by {name}: {status}");
                seen[usize::from(expected)] += 1;
                let late = token(&root, (&name, "key")).replace(&EXPIRY.to_string(), "1000000000");
                assert_eq!(send(*operation, Some(late)).await, 401, "{operation:?} late");
            }
        }
    }
    assert!(seen.iter().all(|count| 40 < *count), "{seen:?}");
}
