"""The asyncio client with message sessions, schedules, deferral, duplicates and lifetimes."""

import asyncio
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
from aio_client import body, connect, expect_empty, raises, receive, send


async def send_in(client, queue, *pairs):
    async with client.get_queue_sender(queue) as sender:
        for session, text in pairs:
            await sender.send_messages(ServiceBusMessage(text, session_id=session))


def session(client, queue, name, **options):
    return client.get_queue_receiver(queue, session_id=name, **options)


async def peeked(receiver, count=10):
    messages = await receiver.peek_messages(count, sequence_number=1)
    return [(body(m), m.state) for m in messages]


async def session_named(broker):
    queue = broker.queue("session-named")
    async with connect(broker, retry_total=0) as client:
        await send_in(client, queue, ("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"))
        async with session(client, queue, "b") as receiver:
            expect(receiver.session.session_id, "b", "session")
            expect(receiver.session.locked_until_utc > now(), True, "the lock lasts")
            messages = await receive(receiver, 2)
            expect([body(m) for m in messages], [b"b1", b"b2"], "bodies")
            expect({m.session_id for m in messages}, {"b"}, "sessions")
            more = await receiver.receive_messages(1, max_wait_time=harness.EMPTY_S)
            expect(more, [], "more")
            async with connect(broker, retry_total=0) as other:
                second = session(other, queue, "b")
                await raises(SessionCannotBeLockedError, lambda: second.receive_messages(1))
            for message in messages:
                await receiver.complete_message(message)
        async with session(client, queue, "a") as receiver:
            (message,) = await receive(receiver, 1)
            expect((body(message), message.delivery_count), (b"a1", 0))
            await receiver.abandon_message(message)
            for wanted in ((b"a1", 1), (b"a2", 0)):
                (message,) = await receive(receiver, 1)
                expect((body(message), message.delivery_count), wanted)
                await receiver.complete_message(message)
        for name in ("a", "b"):
            await expect_empty(client, queue, session_id=name)
        plain = client.get_queue_receiver(queue)
        await raises(ServiceBusError, lambda: plain.receive_messages(1, max_wait_time=2))
        await raises(ServiceBusError, lambda: send(client, queue, "of no session"))


async def session_next(broker):
    queue = broker.queue("session-next")
    wait = {"max_wait_time": 2}
    async with connect(broker, retry_total=0) as client:

        async def nothing():
            started = time.monotonic()
            waiting = session(client, queue, NEXT_AVAILABLE_SESSION, **wait)
            await raises(OperationTimeoutError, lambda: waiting.receive_messages(1))
            # The client may give up before the broker; until it closes it could be given a session.
            await waiting.close()
            expect(time.monotonic() - started > 1.5, True, "it was waited for a session")

        await nothing()
        await send_in(client, queue, ("x", "x1"), ("y", "y1"))
        async with session(client, queue, NEXT_AVAILABLE_SESSION, **wait) as first:
            async with session(client, queue, NEXT_AVAILABLE_SESSION, **wait) as second:
                names = [receiver.session.session_id for receiver in (first, second)]
                expect(names, ["x", "y"], "sessions")
                await nothing()
                (message,) = await receive(first, 1)
                expect(body(message), b"x1")
                await first.complete_message(message)
                (message,) = await receive(second, 1)
                expect(body(message), b"y1")
        # Its receiver closed without settling.
        async with session(client, queue, NEXT_AVAILABLE_SESSION, **wait) as again:
            expect(again.session.session_id, "y", "session")
            (message,) = await receive(again, 1)
            expect((body(message), message.delivery_count), (b"y1", 0))
            await again.complete_message(message)
        await nothing()


async def session_state(broker):
    queue = broker.queue("session-state")
    async with connect(broker) as client:
        async with session(client, queue, "s") as receiver:
            expect(await receiver.session.get_state(), None, "state at first")
            await receiver.session.set_state("half done")
            expect(await receiver.session.get_state(), b"half done", "state")
        async with session(client, queue, "other") as receiver:
            expect(await receiver.session.get_state(), None, "state of another session")
        async with session(client, queue, "s") as receiver:
            expect(await receiver.session.get_state(), b"half done", "state kept")
            await receiver.session.set_state(None)
            expect(await receiver.session.get_state(), None, "state removed")


async def session_renewal(broker):
    """The queue locks for five seconds."""
    queue = broker.queue("session-renewal")
    async with connect(broker, retry_total=0) as client:
        await send_in(client, queue, ("s", "slow work"), ("s", "late work"))
        async with session(client, queue, "s") as receiver:
            (message,) = await receive(receiver, 1)
            until = receiver.session.locked_until_utc
            for _ in range(2):
                await asyncio.sleep(3)
                renewed = await receiver.session.renew_lock()
                expect(renewed > until, True, f"{renewed} is later than {until}")
                expect(receiver.session.locked_until_utc, renewed)
                until = renewed
            await receiver.complete_message(message)
            (late,) = await receive(receiver, 1)
            expect((body(late), late.delivery_count), (b"late work", 0))
            await asyncio.sleep(6)
            async with connect(broker) as another, session(another, queue, "s") as other:
                (again,) = await receive(other, 1)
                expect((body(again), again.delivery_count), (b"late work", 1))
                await raises(SessionLockLostError, lambda: receiver.complete_message(late))
                # That was the client's own clock; this asks the broker.
                await raises(SessionLockLostError, receiver.session.renew_lock)
                await other.complete_message(again)
        await expect_empty(client, queue, session_id="s")


async def list_sessions(broker):
    queue = broker.queue("list-sessions")
    names = [f"session {i:03}" for i in range(150)]
    async with connect(broker) as client:
        none = [name async for name in client.list_queue_sessions(queue)]
        expect(none, [], "sessions of an empty queue")
        started = now() - seconds(60)
        async with client.get_queue_sender(queue) as sender:
            work = [ServiceBusMessage("work", session_id=name) for name in names]
            await sender.send_messages(work)
        async with session(client, queue, "with state") as receiver:
            await receiver.session.set_state("kept")
        listed = sorted([name async for name in client.list_queue_sessions(queue)])
        expect(listed, [*names, "with state"], "sessions")
        after = client.list_queue_sessions(queue, state_updated_after=started)
        changed = [name async for name in after]
        expect(changed, ["with state"], "sessions with a state set lately")


async def schedule(broker):
    queue = broker.queue("schedule")
    async with connect(broker) as client:
        due = now() + seconds(4)
        async with client.get_queue_sender(queue) as sender:
            batch = [ServiceBusMessage(text) for text in ("first", "second")]
            numbers = await sender.schedule_messages(batch, due)
            expect(len(set(numbers)), 2, "sequence numbers")
            later = ServiceBusMessage("third", scheduled_enqueue_time_utc=due + seconds(1))
            await sender.send_messages(later)
            await sender.send_messages(ServiceBusMessage("at once"))
        async with client.get_queue_receiver(queue) as receiver:
            states = dict(await peeked(receiver))
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
            (message,) = await receive(receiver, 1)
            expect(body(message), b"at once")
            await receiver.complete_message(message)
            early = await receiver.receive_messages(1, max_wait_time=harness.EMPTY_S)
            expect(early, [], "too early")
            for wanted in (b"first", b"second", b"third"):
                (message,) = await receive(receiver, 1)
                expect(body(message), wanted)
                expect(message.enqueued_time_utc >= due, True, "enqueued when it was due")
                expect(message.sequence_number in numbers, False, "the number of the schedule")
                expect(message.scheduled_enqueue_time_utc is not None, True, "scheduled time")
                await receiver.complete_message(message)
        await expect_empty(client, queue)


async def cancel(broker):
    queue = broker.queue("cancel")
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender:
            batch = [ServiceBusMessage(text) for text in ("cancelled", "kept")]
            numbers = await sender.schedule_messages(batch, now() + seconds(3))
            await sender.cancel_scheduled_messages(numbers[0])

            def again(number):
                return lambda: sender.cancel_scheduled_messages(number)

            await raises(MessageNotFoundError, again(numbers[0]))
            async with client.get_queue_receiver(queue) as receiver:
                (message,) = await receive(receiver, 1)
                expect(body(message), b"kept")
                await receiver.complete_message(message)
            await raises(MessageNotFoundError, again(numbers[1]))
        await expect_empty(client, queue)


async def defer(broker):
    queue = broker.queue("defer")
    dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
    async with connect(broker) as client:
        await send(client, queue, "1", "2", "3", "4")
        async with client.get_queue_receiver(queue) as receiver:
            numbers = []
            for message in await receive(receiver, 3):
                numbers.append(message.sequence_number)
                await receiver.defer_message(message)
            (message,) = await receive(receiver, 1)
            expect(body(message), b"4")
            await receiver.complete_message(message)
            await expect_empty(client, queue)
            state = ServiceBusMessageState.DEFERRED
            expect(await peeked(receiver), [(b"1", state), (b"2", state), (b"3", state)], "peeked")
            first, second = await receiver.receive_deferred_messages(numbers[:2])
            expect((body(first), body(second)), (b"1", b"2"))
            await raises(
                MessageNotFoundError, lambda: receiver.receive_deferred_messages(numbers[0])
            )
            await receiver.renew_message_lock(first)
            await receiver.complete_message(first)
            await receiver.abandon_message(second)
            await expect_empty(client, queue)
            (again,) = await receiver.receive_deferred_messages(numbers[1])
            expect((body(again), again.delivery_count), (b"2", 1))
            await receiver.dead_letter_message(again, reason="given up")
        async with client.get_queue_receiver(queue, **dead) as receiver:
            (message,) = await receive(receiver, 1)
            expect((body(message), message.dead_letter_reason), (b"2", "given up"))
            await receiver.complete_message(message)
        mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
        async with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
            (last,) = await receiver.receive_deferred_messages(numbers[2])
            expect(body(last), b"3")
            expect(await peeked(receiver), [], "peeked at the end")


async def duplicates(broker):
    """The queue remembers ids for a minute."""
    queue = broker.queue("duplicates")
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender:
            for name in ("a", "b", "a"):
                await sender.send_messages(ServiceBusMessage(f"{name} alone", message_id=name))
            batch = [ServiceBusMessage(f"{name} in a batch", message_id=name) for name in "bcc"]
            await sender.send_messages(batch)
            async with client.get_queue_receiver(queue) as receiver:
                for wanted in (b"a alone", b"b alone", b"c in a batch"):
                    (message,) = await receive(receiver, 1)
                    expect(body(message), wanted)
                    await receiver.complete_message(message)
            await sender.send_messages(ServiceBusMessage("after completion", message_id="a"))
            scheduled = ServiceBusMessage("scheduled", message_id="a")
            await sender.schedule_messages(scheduled, now())
        await expect_empty(client, queue)


async def time_to_live(broker):
    """Messages of the queue live for three seconds at most, and end in the dead-letter queue."""
    queue = broker.queue("time-to-live")
    dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender:
            for text, lifetime in (("short", 1), ("long", 3600), ("unset", None)):
                own = {} if lifetime is None else {"time_to_live": seconds(lifetime)}
                await sender.send_messages(ServiceBusMessage(text, **own))
            async with client.get_queue_receiver(queue) as receiver:
                (message,) = await receive(receiver, 1)
                expect(body(message), b"short")
                until = message.expires_at_utc - message.enqueued_time_utc
                expect(until, seconds(1), "lifetime")
                await receiver.abandon_message(message)
            await asyncio.sleep(4)
        await expect_empty(client, queue)
        async with client.get_queue_receiver(queue, **dead) as receiver:
            messages = await receive(receiver, 3)
            expect({body(m) for m in messages}, {b"short", b"long", b"unset"}, "dead letters")
            reasons = {message.dead_letter_reason for message in messages}
            expect(reasons, {"TTLExpiredException"}, "reasons")
            for message in messages:
                await receiver.complete_message(message)
        await expect_empty(client, queue, **dead)


async def forward(broker):
    """The queue forwards to another, whose dead letters go to a third."""
    queue, target, dead = (broker.queue(f"forward{part}") for part in ("", ".target", ".dead"))
    async with connect(broker) as client:
        await send(client, queue, "good", "bad")
        async with client.get_queue_receiver(target) as receiver:
            (message,) = await receive(receiver, 1)
            expect((body(message), message.delivery_count), (b"good", 0))
            await receiver.complete_message(message)
            (message,) = await receive(receiver, 1)
            await receiver.dead_letter_message(message, reason="unreadable")
        async with client.get_queue_receiver(dead) as receiver:
            (message,) = await receive(receiver, 1)
            expect((body(message), message.dead_letter_reason), (b"bad", "unreadable"))
            expect(message.dead_letter_source, target, "source")
            await receiver.complete_message(message)
        for name in (target, dead):
            await expect_empty(client, name)


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
