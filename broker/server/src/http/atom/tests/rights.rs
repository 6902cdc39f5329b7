//! Who may do what.

use super::*;

fn get(path: &str) -> Ask {
    Ask::new(Method::GET, path)
}

fn root() -> String {
    format!("https://{HOST}")
}

#[tokio::test]
async fn without_a_good_token_nothing_is_told() {
    let world = World::new();
    world.create("/secret", &queue("")).await.check(201, "");
    let good = token(&root(), ROOT);
    let flipped = good.replace("&sig=", "&sig=A");
    let expired = good.replace(&EXPIRY.to_string(), "1000000000");
    for (refused, part) in [
        (None, "40102: Missing"),
        (Some("Bearer eyJhbGciOiJub25lIn0.e30.c2ln".to_owned()), "40103: InvalidToken"),
        (Some("Basic eyJhbGciOiJub25lIn0.e30.c2ln".to_owned()), "40105: "),
        (Some(String::new()), "40105: "),
        (Some("SharedAccessSignature sr=a".to_owned()), "40105: "),
        (Some(flipped), "4010"),
        (Some(expired), "40103: "),
        (Some(good.replace("skn=Root", "skn=Boot")), "40103: "),
        (Some(token(&root(), ("RootManageSharedAccessKey", "wrong"))), "40103: "),
        (Some(token(&format!("{}/other", root()), ROOT)), "40104: "),
    ] {
        let answered = world.send(get("/secret").token(refused.clone())).await;
        answered.check(401, "<Error><Code>401</Code><Detail>").check(401, part);
        answered.lacks("QueueDescription").lacks("SAS_KEY_VALUE");
        for ask in
            [Ask::new(Method::PUT, "/x").body(&queue("")), Ask::new(Method::DELETE, "/secret")]
        {
            world.send(ask.token(refused.clone())).await.check(401, "");
        }
        for path in ["/$Resources/queues", "/$namespaceinfo", "/missing"] {
            world.send(get(path).token(refused.clone())).await.check(401, "");
        }
    }
    let twice = get("/secret").header("servicebusauthorization", &good);
    world.send(twice).await.check(401, "more than one");
    world.get("/secret").await.check(200, "QueueDescription");
    world.get("/missing").await.check(200, "Publicly Listed Services");
    world.get("/x").await.check(200, "Publicly Listed Services");
}

/// JavaScript, Go and Java sign the whole address, query and all, for each request.
#[tokio::test]
async fn a_token_may_be_for_the_address_of_the_request() {
    let world = World::new();
    world.create("/q/2", &queue("")).await;
    for path in ["/q/2", "/Q%2F2", "/$Resources/queues", "/t/Subscriptions/", "/%24namespaceinfo"] {
        let plain =
            percent_encoding::percent_decode_str(path).decode_utf8().unwrap().to_lowercase();
        let own = token(&format!("https://{HOST}{plain}{API}"), ROOT);
        let answered = world.send(get(path).token(own)).await;
        assert_ne!(answered.status, 401, "{path}");
    }
    let other = token(&format!("https://{HOST}/q{API}"), ROOT);
    world.send(get("/q2").token(other.clone())).await.check(401, "40104");
    world.send(get("/$Resources/queues").token(other.clone())).await.check(401, "40104");
    // It covers what is below, as with AMQP.
    world.send(get("/q/2").token(other.clone())).await.check(200, "");
    let header = get("/q/2").token(None).header("servicebusauthorization", &other);
    world.send(header).await.check(200, "");
}

#[tokio::test]
async fn rights_other_than_manage_do_not_manage() {
    let world = World::new();
    world.create("/q", &queue("")).await;
    for name in ["sender", "listener"] {
        let own = token(&root(), (name, name));
        for path in ["/q", "/$Resources/queues", "/missing"] {
            world.send(get(path).token(own.clone())).await.check(401, "'Manage' claim(s)");
        }
        let put = Ask::new(Method::PUT, "/q").header("if-match", "*").body(&queue(""));
        world.send(put.token(own.clone())).await.check(401, "'Manage' claim(s)");
        let delete = Ask::new(Method::DELETE, "/q").token(own.clone());
        world.send(delete).await.check(401, "'Manage' claim(s)");
        world.send(get("/$namespaceinfo").token(own)).await.check(200, "NamespaceInfo");
    }
    world.get("/q").await.check(200, "QueueDescription");
}

#[tokio::test]
async fn who_manages_one_entity_manages_no_other() {
    let world = World::new();
    let own = token(&root(), ("owner", "owner"));
    let put = |path| Ask::new(Method::PUT, path).body(&topic("")).token(own.clone());
    world.send(put("/owned")).await.check(201, "");
    world.send(put("/Owned2")).await.check(401, "40103");
    for path in ["/owned/subscriptions", "/owned"] {
        world.send(get(path).token(own.clone())).await.check(200, "");
    }
    for path in ["/$Resources/queues", "/$Resources/topics", "/$namespaceinfo", "/other"] {
        world.send(get(path).token(own.clone())).await.check(401, "");
    }
}

/// Or whoever manages one entity could send to all others by way of it.
#[tokio::test]
async fn who_forwards_has_to_be_allowed_to_send_there() {
    let world = World::new();
    world.create("/dest", &queue("")).await;
    let own = token(&root(), ("owner", "owner"));
    let put = || {
        let forward = queue("<ForwardTo>dest</ForwardTo>");
        Ask::new(Method::PUT, "/owned").body(&forward).token(own.clone())
    };
    world.send(put()).await.check(401, "");
    // Only for host and port, as JavaScript signs them; Python has the whole address.
    let listens = token(HOST, ("listener", "listener"));
    let added = "servicebussupplementaryauthorization";
    world.send(put().header(added, &listens)).await.check(401, "");
    let sends = token(HOST, ("sender", "sender"));
    world.send(put().header(added, &sends)).await.check(201, "<ForwardTo>");
    world.delete("/owned").await.check(200, "");
    let sends = token(&format!("sb://{HOST}/dest"), ("sender", "sender"));
    let added = "servicebusdlqsupplementaryauthorization";
    world.send(put().header(added, &sends)).await.check(201, "<ForwardTo>");
}
