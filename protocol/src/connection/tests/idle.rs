//! Deadlines.

use super::*;
use crate::condition;
use crate::performative::Close;

fn at(peer: &Peer, millis: u64) -> Instant {
    peer.now + Duration::from_millis(millis)
}

#[test]
fn trap_10_an_empty_frame_goes_out_before_half_of_the_peers_limit() {
    let open = Open { idle_time_out: Some(60_000), ..Peer::plain_open() };
    let mut peer = Peer::open_as(config(), open);
    assert_eq!(peer.server.poll_timeout(), Some(at(&peer, 30_000)));
    peer.server.handle_timeout(at(&peer, 29_999));
    assert!(peer.server.output().is_empty());
    peer.server.handle_timeout(at(&peer, 30_000));
    assert_eq!(peer.server.output().chunk(), [0, 0, 0, 8, 2, 0, 0, 0]);
    // It is not said twice, whether or not it has been written.
    peer.server.handle_timeout(at(&peer, 61_000));
    assert_eq!(peer.server.output().len(), 8);
    peer.server.output().advance(8);
    peer.now = at(&peer, 61_000);
    // Whatever else is written does as well.
    peer.send(1, Peer::plain_begin()).unwrap();
    peer.server.prepare_output(peer.now);
    peer.sent();
    assert_eq!(peer.server.poll_timeout(), Some(at(&peer, 30_000)));
}

#[test]
fn trap_10_no_heartbeat_for_a_peer_that_asks_for_none() {
    for idle_time_out in [None, Some(0)] {
        let mut peer = Peer::open_as(config(), Open { idle_time_out, ..Peer::plain_open() });
        assert_eq!(peer.server.poll_timeout(), Some(at(&peer, 240_000)));
        peer.server.handle_timeout(at(&peer, 239_999));
        assert!(peer.server.output().is_empty());
    }
}

#[test]
fn trap_10_a_silent_peer_is_closed_and_a_living_one_is_not() {
    let mut peer = Peer::open(config());
    peer.now = at(&peer, 200_000);
    peer.feed(&[0, 0, 0, 8, 2, 0, 0, 0]).unwrap();
    peer.server.handle_timeout(at(&peer, 239_999));
    assert!(peer.server.is_open());
    peer.server.handle_timeout(at(&peer, 240_000));
    peer.assert_closed(condition::RESOURCE_LIMIT_EXCEEDED);
    assert_eq!(peer.server.take_reached(), Reached { idle: 1, ..Reached::default() });
}

#[test]
fn a_heartbeat_every_few_milliseconds_is_refused() {
    let mut peer = Peer::silent(config());
    peer.feed(&ProtocolHeader::Amqp.to_octets()).unwrap();
    peer.take_header();
    peer.send(0, Open { idle_time_out: Some(5), ..Peer::plain_open() }).unwrap_err();
    peer.assert_closed(condition::NOT_ALLOWED);
}

#[test]
fn the_handshake_has_a_deadline_in_every_phase() {
    let header = |header: ProtocolHeader| header.to_octets();
    for octets in [
        Vec::new(),
        header(ProtocolHeader::Sasl).to_vec(),
        header(ProtocolHeader::Amqp).to_vec(),
        b"AMQ".to_vec(),
    ] {
        let mut peer = Peer::silent(config());
        let deadline = at(&peer, 20_000);
        peer.now = at(&peer, 19_000);
        peer.feed(&octets).unwrap();
        assert_eq!(peer.server.poll_timeout(), Some(deadline));
        peer.server.handle_timeout(deadline);
        assert!(peer.server.is_closed());
        assert!(matches!(peer.events()[..], [Event::Closed { error: Some(_) }]));
        assert_eq!(peer.server.poll_timeout(), None);
    }
}

#[test]
fn our_close_does_not_wait_for_ever() {
    let mut peer = Peer::open(config());
    peer.server.close(None);
    assert!(matches!(peer.sent()[..], [(0, Performative::Close(Close { error: None }), _)]));
    let deadline = at(&peer, 10_000);
    assert_eq!(peer.server.poll_timeout(), Some(deadline));
    // A peer that keeps talking does not gain time by it.
    peer.now = at(&peer, 9_000);
    peer.feed(&[0, 0, 0, 8, 2, 0, 0, 0]).unwrap();
    assert!(!peer.server.is_closed());
    peer.server.handle_timeout(deadline);
    assert!(peer.server.is_closed());
    assert_eq!(peer.events(), [Event::Closed { error: None }]);
}
