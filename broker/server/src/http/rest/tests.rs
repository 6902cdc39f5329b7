//! Requests that a core answers late, and bodies that come late.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::fuzzing::world::{self, World, until};
use super::limits::BODIES_KIB_MAX;
use crate::driver::Input;

/// A request with all rights.
fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert(HOST, world::HOST.parse().unwrap());
    headers.insert(AUTHORIZATION, world::token(false).parse().unwrap());
    request
}

/// A body, and what it is fed by: a chunk more than one is taken when all before it were read.
fn fed() -> (mpsc::Sender<Bytes>, Body) {
    let (feed, chunks) = mpsc::channel::<Bytes>(1);
    let chunks = futures_util::stream::unfold(chunks, async |mut chunks| {
        let chunk = chunks.recv().await?;
        Some((Ok::<_, io::Error>(chunk), chunks))
    });
    (feed, Body::from_stream(chunks))
}

const CHUNK: Bytes = Bytes::from_static(&[b'x'; 50 * 1024]);

/// In the inbox of a driver that is busy, bodies take memory as well, also when nobody waits for the
/// answer any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_message_has_its_room_until_it_is_kept() {
    let world = Arc::new(World::new().await);
    let (feed, body) = fed();
    let sender = Arc::clone(&world);
    let sending = request(Method::POST, "/q/messages", body);
    let sending = tokio::spawn(async move { sender.ask(sending).await });
    for _ in 0..3 {
        feed.send(CHUNK).await.unwrap();
    }
    until(|| world.gateway.kib_taken() == 150).await;
    let (go_on, stopped) = std::sync::mpsc::channel::<()>();
    let stop = Input::Query(Box::new(move |_| stopped.recv().unwrap_err().to_string().clear()));
    assert!(world.shard.send(stop).is_ok());
    drop(feed);
    until(|| world.gateway.waiting() == 1).await;
    assert!(150 <= world.gateway.kib_taken());
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    assert!(150 <= world.gateway.kib_taken());
    drop(go_on);
    until(|| world.gateway.kib_taken() == 0).await;
    let answer = world.ask(request(Method::DELETE, "/q/messages/head", Body::empty())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    world.assert_nothing_is_left().await;
}

/// Whoever brings more than there is room for comes again later.
#[tokio::test]
async fn a_body_without_room_is_refused() {
    let world = World::new().await;
    let send = |body| world.ask(request(Method::POST, "/q/messages", body));
    let mut others = world.gateway.room();
    assert!(others.grow_to((BODIES_KIB_MAX - 60) * 1024));
    let chunks = futures_util::stream::iter([CHUNK; 2].map(io::Result::Ok));
    let answer = send(Body::from_stream(chunks)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers().get(RETRY_AFTER).unwrap(), "1");
    assert_eq!(send(Body::from(CHUNK)).await.status(), StatusCode::CREATED);
    drop(others);
    assert_eq!(send(Body::from([CHUNK; 2].concat())).await.status(), StatusCode::CREATED);
    world.assert_nothing_is_left().await;
}

/// Messages may take more than what they were written as.
#[tokio::test]
async fn messages_have_room_as_well_as_their_body() {
    let world = World::new().await;
    let mut others = world.gateway.room();
    assert!(others.grow_to((BODIES_KIB_MAX - 60) * 1024));
    let send = async |count| {
        let batch = format!("[{}]", vec!["{}"; count].join(","));
        let mut request = request(Method::POST, "/q/messages", Body::from(batch));
        let kind = "application/vnd.microsoft.servicebus.json".parse().unwrap();
        request.headers_mut().insert(CONTENT_TYPE, kind);
        world.ask(request).await.status()
    };
    assert_eq!(send(4096).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(send(10).await, StatusCode::CREATED);
    drop(others);
    world.assert_nothing_is_left().await;
}

/// A thread that serves connections does not stop for it.
#[tokio::test]
async fn a_large_body_is_understood_elsewhere() {
    let world = World::new().await;
    let batch =
        format!("[{}]", vec![r#"{"Body":"a","Unknown":[1,2,3,4,5,6,7,8,9]}"#; 4000].join(","));
    let mut request = request(Method::POST, "/q/messages", Body::from(batch));
    let kind = "application/vnd.microsoft.servicebus.json".parse().unwrap();
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let mut asked = pin!(world.ask(request));
    // Whatever the core and the parser say comes by way of other tasks. With the parser on this thread
    // nobody would have seen the body in its room.
    let mut seen = false;
    let answer = loop {
        match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => break answer,
            Poll::Pending => seen |= (100..300).contains(&world.gateway.kib_taken()),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert!(seen);
    world.assert_nothing_is_left().await;
}
