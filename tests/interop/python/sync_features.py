"""The blocking client with message sessions, schedules, deferral, duplicates and lifetimes."""

import time

from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import (
    MessageNotFoundError,
    OperationTimeoutError,
    ServiceBusError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)

import harness
from harness import expect, now, seconds
from sync_client import body, connect, expect_empty, raises, receive, send


def send_in(client, queue, *pairs):
    with client.get_queue_sender(queue) as sender:
        for session, text in pairs:
            sender.send_messages(ServiceBusMessage(text, session_id=session))


def session(client, queue, name, **options):
    return client.get_queue_receiver(queue, session_id=name, **options)


def peeked(receiver, count=10):
    return [(body(m), m.state) for m in receiver.peek_messages(count, sequence_number=1)]


def session_named(broker):
    queue = broker.queue("session-named")
    with connect(broker, retry_total=0) as client:
        send_in(client, queue, ("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"))
        with session(client, queue, "b") as receiver:
            expect(receiver.session.session_id, "b", "session")
            expect(receiver.session.locked_until_utc > now(), True, "the lock lasts")
            messages = receive(receiver, 2)
            expect([body(m) for m in messages], [b"b1", b"b2"], "bodies")
            expect({m.session_id for m in messages}, {"b"}, "sessions")
            expect(receiver.receive_messages(1, max_wait_time=harness.EMPTY_S), [], "more")
            with connect(broker, retry_total=0) as other:
                second = session(other, queue, "b")
                raises(SessionCannotBeLockedError, lambda: second.receive_messages(1))
            for message in messages:
                receiver.complete_message(message)
        with session(client, queue, "a") as receiver:
            (message,) = receive(receiver, 1)
            expect((body(message), message.delivery_count), (b"a1", 0))
            receiver.abandon_message(message)
            for wanted in ((b"a1", 1), (b"a2", 0)):
                (message,) = receive(receiver, 1)
                expect((body(message), message.delivery_count), wanted)
                receiver.complete_message(message)
        for name in ("a", "b"):
            expect_empty(client, queue, session_id=name)
        plain = client.get_queue_receiver(queue)
        raises(ServiceBusError, lambda: plain.receive_messages(1, max_wait_time=2))
        raises(ServiceBusError, lambda: send(client, queue, "of no session"))


def session_next(broker):
    queue = broker.queue("session-next")
    wait = {"max_wait_time": 2}
    with connect(broker, retry_total=0) as client:

        def nothing():
            started = time.monotonic()
            waiting = session(client, queue, NEXT_AVAILABLE_SESSION, **wait)
            raises(OperationTimeoutError, lambda: waiting.receive_messages(1))
            # The client may give up before the broker; until it closes it could be given a session.
            waiting.close()
            expect(time.monotonic() - started > 1.5, True, "it was waited for a session")

        nothing()
        send_in(client, queue, ("x", "x1"), ("y", "y1"))
        with session(client, queue, NEXT_AVAILABLE_SESSION, **wait) as first:
            with session(client, queue, NEXT_AVAILABLE_SESSION, **wait) as second:
                names = [receiver.session.session_id for receiver in (first, second)]
                expect(names, ["x", "y"], "sessions")
                nothing()
                (message,) = receive(first, 1)
                expect(body(message), b"x1")
                first.complete_message(message)
                (message,) = receive(second, 1)
                expect(body(message), b"y1")
        # Its receiver closed without settling.
        with session(client, queue, NEXT_AVAILABLE_SESSION, **wait) as again:
            expect(again.session.session_id, "y", "session")
            (message,) = receive(again, 1)
            expect((body(message), message.delivery_count), (b"y1", 0))
            again.complete_message(message)
        nothing()


def session_state(broker):
    queue = broker.queue("session-state")
    with connect(broker) as client:
        with session(client, queue, "s") as receiver:
            expect(receiver.session.get_state(), None, "state at first")
            receiver.session.set_state("half done")
            expect(receiver.session.get_state(), b"half done", "state")
        with session(client, queue, "other") as receiver:
            expect(receiver.session.get_state(), None, "state of another session")
        with session(client, queue, "s") as receiver:
            expect(receiver.session.get_state(), b"half done", "state kept")
            receiver.session.set_state(None)
            expect(receiver.session.get_state(), None, "state removed")


def session_renewal(broker):
    """The queue locks for five seconds."""
    queue = broker.queue("session-renewal")
    with connect(broker, retry_total=0) as client:
        send_in(client, queue, ("s", "slow work"), ("s", "late work"))
        with session(client, queue, "s") as receiver:
            (message,) = receive(receiver, 1)
            until = receiver.session.locked_until_utc
            for _ in range(2):
                time.sleep(3)
                renewed = receiver.session.renew_lock()
                expect(renewed > until, True, f"{renewed} is later than {until}")
                expect(receiver.session.locked_until_utc, renewed)
                until = renewed
            receiver.complete_message(message)
            (late,) = receive(receiver, 1)
            expect((body(late), late.delivery_count), (b"late work", 0))
            time.sleep(6)
            with connect(broker) as another, session(another, queue, "s") as other:
                (again,) = receive(other, 1)
                expect((body(again), again.delivery_count), (b"late work", 1))
                raises(SessionLockLostError, lambda: receiver.complete_message(late))
                # That was the client's own clock; this asks the broker.
                raises(SessionLockLostError, receiver.session.renew_lock)
                other.complete_message(again)
        expect_empty(client, queue, session_id="s")


def list_sessions(broker):
    queue = broker.queue("list-sessions")
    names = [f"session {i:03}" for i in range(150)]
    with connect(broker) as client:
        expect(list(client.list_queue_sessions(queue)), [], "sessions of an empty queue")
        started = now() - seconds(60)
        with client.get_queue_sender(queue) as sender:
            sender.send_messages([ServiceBusMessage("work", session_id=name) for name in names])
        with session(client, queue, "with state") as receiver:
            receiver.session.set_state("kept")
        listed = sorted(client.list_queue_sessions(queue))
        expect(listed, [*names, "with state"], "sessions")
        changed = list(client.list_queue_sessions(queue, state_updated_after=started))
        expect(changed, ["with state"], "sessions with a state set lately")


def schedule(broker):
    queue = broker.queue("schedule")
    with connect(broker) as client:
        due = now() + seconds(4)
        with client.get_queue_sender(queue) as sender:
            batch = [ServiceBusMessage(text) for text in ("first", "second")]
            numbers = sender.schedule_messages(batch, due)
            expect(len(set(numbers)), 2, "sequence numbers")
            later = ServiceBusMessage("third", scheduled_enqueue_time_utc=due + seconds(1))
            sender.send_messages(later)
            sender.send_messages(ServiceBusMessage("at once"))
        with client.get_queue_receiver(queue) as receiver:
            states = dict(peeked(receiver))
            kind = ServiceBusMessageState
            expect(
                states,
                {
                    b"first": kind.SCHEDULED,
                    b"second": kind.SCHEDULED,
                    b"third": kind.SCHEDULED,
                    b"at once": kind.ACTIVE,
                },
                "states",
            )
            (message,) = receive(receiver, 1)
            expect(body(message), b"at once")
            receiver.complete_message(message)
            expect(receiver.receive_messages(1, max_wait_time=harness.EMPTY_S), [], "too early")
            for wanted in (b"first", b"second", b"third"):
                (message,) = receive(receiver, 1)
                expect(body(message), wanted)
                expect(message.enqueued_time_utc >= due, True, "enqueued when it was due")
                expect(message.sequence_number in numbers, False, "the number of the schedule")
                expect(message.scheduled_enqueue_time_utc is not None, True, "scheduled time")
                receiver.complete_message(message)
        expect_empty(client, queue)


def cancel(broker):
    queue = broker.queue("cancel")
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender:
            batch = [ServiceBusMessage(text) for text in ("cancelled", "kept")]
            numbers = sender.schedule_messages(batch, now() + seconds(3))
            sender.cancel_scheduled_messages(numbers[0])
            raises(MessageNotFoundError, lambda: sender.cancel_scheduled_messages(numbers[0]))
            with client.get_queue_receiver(queue) as receiver:
                (message,) = receive(receiver, 1)
                expect(body(message), b"kept")
                receiver.complete_message(message)
            raises(MessageNotFoundError, lambda: sender.cancel_scheduled_messages(numbers[1]))
        expect_empty(client, queue)


def defer(broker):
    queue = broker.queue("defer")
    dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
    with connect(broker) as client:
        send(client, queue, "1", "2", "3", "4")
        with client.get_queue_receiver(queue) as receiver:
            numbers = []
            for message in receive(receiver, 3):
                numbers.append(message.sequence_number)
                receiver.defer_message(message)
            (message,) = receive(receiver, 1)
            expect(body(message), b"4")
            receiver.complete_message(message)
            expect_empty(client, queue)
            state = ServiceBusMessageState.DEFERRED
            expect(peeked(receiver), [(b"1", state), (b"2", state), (b"3", state)], "peeked")
            first, second = receiver.receive_deferred_messages(numbers[:2])
            expect((body(first), body(second)), (b"1", b"2"))
            raises(
                MessageNotFoundError, lambda: receiver.receive_deferred_messages(numbers[0])
            )
            receiver.renew_message_lock(first)
            receiver.complete_message(first)
            receiver.abandon_message(second)
            expect_empty(client, queue)
            (again,) = receiver.receive_deferred_messages(numbers[1])
            expect((body(again), again.delivery_count), (b"2", 1))
            receiver.dead_letter_message(again, reason="given up")
        with client.get_queue_receiver(queue, **dead) as receiver:
            (message,) = receive(receiver, 1)
            expect((body(message), message.dead_letter_reason), (b"2", "given up"))
            receiver.complete_message(message)
        mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
        with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
            (last,) = receiver.receive_deferred_messages(numbers[2])
            expect(body(last), b"3")
            expect(peeked(receiver), [], "peeked at the end")


def duplicates(broker):
    """The queue remembers ids for a minute."""
    queue = broker.queue("duplicates")
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender:
            for name in ("a", "b", "a"):
                sender.send_messages(ServiceBusMessage(f"{name} alone", message_id=name))
            batch = [ServiceBusMessage(f"{name} in a batch", message_id=name) for name in "bcc"]
            sender.send_messages(batch)
            with client.get_queue_receiver(queue) as receiver:
                for wanted in (b"a alone", b"b alone", b"c in a batch"):
                    (message,) = receive(receiver, 1)
                    expect(body(message), wanted)
                    receiver.complete_message(message)
            sender.send_messages(ServiceBusMessage("after completion", message_id="a"))
            sender.schedule_messages(ServiceBusMessage("scheduled", message_id="a"), now())
        expect_empty(client, queue)


def time_to_live(broker):
    """Messages of the queue live for three seconds at most, and end in the dead-letter queue."""
    queue = broker.queue("time-to-live")
    dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender:
            for text, lifetime in (("short", 1), ("long", 3600), ("unset", None)):
                own = {} if lifetime is None else {"time_to_live": seconds(lifetime)}
                sender.send_messages(ServiceBusMessage(text, **own))
            with client.get_queue_receiver(queue) as receiver:
                (message,) = receive(receiver, 1)
                expect(body(message), b"short")
                until = message.expires_at_utc - message.enqueued_time_utc
                expect(until, seconds(1), "lifetime")
                receiver.abandon_message(message)
            time.sleep(4)
        expect_empty(client, queue)
        with client.get_queue_receiver(queue, **dead) as receiver:
            messages = receive(receiver, 3)
            expect({body(m) for m in messages}, {b"short", b"long", b"unset"}, "dead letters")
            reasons = {message.dead_letter_reason for message in messages}
            expect(reasons, {"TTLExpiredException"}, "reasons")
            for message in messages:
                receiver.complete_message(message)
        expect_empty(client, queue, **dead)


def forward(broker):
    """The queue forwards to another, whose dead letters go to a third."""
    queue, target, dead = (broker.queue(f"forward{part}") for part in ("", ".target", ".dead"))
    with connect(broker) as client:
        send(client, queue, "good", "bad")
        with client.get_queue_receiver(target) as receiver:
            (message,) = receive(receiver, 1)
            expect((body(message), message.delivery_count), (b"good", 0))
            receiver.complete_message(message)
            (message,) = receive(receiver, 1)
            receiver.dead_letter_message(message, reason="unreadable")
        with client.get_queue_receiver(dead) as receiver:
            (message,) = receive(receiver, 1)
            expect((body(message), message.dead_letter_reason), (b"bad", "unreadable"))
            expect(message.dead_letter_source, target, "source")
            receiver.complete_message(message)
        for name in (target, dead):
            expect_empty(client, name)


SCENARIOS = {
    "session-named": session_named,
    "session-next": session_next,
    "session-state": session_state,
    "session-renewal": session_renewal,
    "list-sessions": list_sessions,
    "schedule": schedule,
    "cancel": cancel,
    "defer": defer,
    "duplicates": duplicates,
    "time-to-live": time_to_live,
    "forward": forward,
}
