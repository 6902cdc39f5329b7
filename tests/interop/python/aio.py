"""azure-servicebus for Python, the asyncio client, as it ships."""

import asyncio
import datetime
import uuid

from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
)

import aio_features
import doors
import harness
import identity
import management
import topics
from harness import expect, pattern
from aio_client import body, connect, expect_empty, raises, receive, send


async def send_one(broker):
    queue = broker.queue("send-one")
    sent = ServiceBusMessage(
        "hello",
        message_id="m-1",
        subject="greeting",
        correlation_id="c-1",
        content_type="text/plain",
        to="somebody",
        reply_to="answers",
        time_to_live=datetime.timedelta(hours=1),
        application_properties={
            "text": "é",
            "int": 7,
            "negative": -1,
            "float": 1.5,
            "flag": True,
            "id": uuid.UUID(int=5),
        },
    )
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender:
            await sender.send_messages(sent)
        async with client.get_queue_receiver(queue) as receiver:
            (message,) = await receive(receiver, 1)
            expect(body(message), b"hello", "body")
            expect(message.message_id, "m-1")
            expect(message.subject, "greeting")
            expect(message.correlation_id, "c-1")
            expect(message.content_type, "text/plain")
            expect(message.to, "somebody")
            expect(message.reply_to, "answers")
            expect(message.time_to_live, datetime.timedelta(hours=1))
            expect(
                message.application_properties,
                {
                    b"text": "é".encode(),
                    b"int": 7,
                    b"negative": -1,
                    b"float": 1.5,
                    b"flag": True,
                    b"id": uuid.UUID(int=5),
                },
                "application properties",
            )
            expect(message.delivery_count, 0, "delivery count")
            age = datetime.datetime.now(datetime.timezone.utc) - message.enqueued_time_utc
            expect(abs(age.total_seconds()) < 60, True, f"enqueued {age} ago; near now")
            await receiver.complete_message(message)
        await expect_empty(client, queue)


async def batch_100(broker):
    queue = broker.queue("batch-100")
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender:
            batch = await sender.create_message_batch()
            for i in range(100):
                batch.add_message(ServiceBusMessage(f"body {i}", message_id=f"id {i}"))
            await sender.send_messages(batch)
        async with client.get_queue_receiver(queue) as receiver:
            messages = await receive(receiver, 100)
            expect([str(m) for m in messages], [f"body {i}" for i in range(100)], "bodies")
            expect([m.message_id for m in messages], [f"id {i}" for i in range(100)], "ids")
            numbers = [m.sequence_number for m in messages]
            expect(numbers, sorted(set(numbers)), "sequence numbers")
            for message in messages:
                await receiver.complete_message(message)
        await expect_empty(client, queue)


async def large(broker):
    queue = broker.queue("large")
    sent = pattern(harness.LARGE)
    async with connect(broker) as client:
        await send(client, queue, sent)
        async with client.get_queue_receiver(queue) as receiver:
            (message,) = await receive(receiver, 1)
            expect(body(message) == sent, True, "the body is the one sent")
            await receiver.complete_message(message)
        await expect_empty(client, queue)


async def complete(broker):
    queue = broker.queue("complete")
    async with connect(broker) as client:
        await send(client, queue, "1", "2", "3")
        async with client.get_queue_receiver(queue) as receiver:
            for wanted in (b"1", b"2", b"3"):
                (message,) = await receive(receiver, 1)
                expect(body(message), wanted, "body")
                await receiver.complete_message(message)
        await expect_empty(client, queue)


async def abandon(broker):
    queue = broker.queue("abandon")
    async with connect(broker) as client:
        await send(client, queue, "again", "later")
        async with client.get_queue_receiver(queue) as receiver:
            for count in range(3):
                (message,) = await receive(receiver, 1)
                expect((body(message), message.delivery_count), (b"again", count))
                await receiver.abandon_message(message)
            for wanted in ((b"again", 3), (b"later", 0)):
                (message,) = await receive(receiver, 1)
                expect((body(message), message.delivery_count), wanted)
                await receiver.complete_message(message)
        await expect_empty(client, queue)


async def dead_letter(broker):
    queue = broker.queue("dead-letter")
    async with connect(broker) as client:
        await send(client, queue, "bad", "good")
        async with client.get_queue_receiver(queue) as receiver:
            (message,) = await receive(receiver, 1)
            await receiver.dead_letter_message(
                message, reason="unreadable", error_description="it made no sense"
            )
            (message,) = await receive(receiver, 1)
            expect(body(message), b"good")
            await receiver.complete_message(message)
        dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
        async with client.get_queue_receiver(queue, **dead) as receiver:
            (message,) = await receive(receiver, 1)
            expect(body(message), b"bad", "body")
            expect(message.dead_letter_reason, "unreadable", "reason")
            expect(message.dead_letter_error_description, "it made no sense", "description")
            await receiver.complete_message(message)
        await expect_empty(client, queue)
        await expect_empty(client, queue, **dead)


async def max_delivery(broker):
    """The queue allows three deliveries."""
    queue = broker.queue("max-delivery")
    async with connect(broker) as client:
        await send(client, queue, "poison")
        async with client.get_queue_receiver(queue) as receiver:
            for count in range(3):
                (message,) = await receive(receiver, 1)
                expect(message.delivery_count, count, "delivery count")
                await receiver.abandon_message(message)
        await expect_empty(client, queue)
        dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
        async with client.get_queue_receiver(queue, **dead) as receiver:
            (message,) = await receive(receiver, 1)
            expect(body(message), b"poison", "body")
            expect(message.dead_letter_reason, "MaxDeliveryCountExceeded", "reason")
            await receiver.complete_message(message)
        await expect_empty(client, queue, **dead)


async def lock_renewal(broker):
    """The queue locks for five seconds."""
    queue = broker.queue("lock-renewal")
    async with connect(broker) as client:
        await send(client, queue, "slow work")
        async with client.get_queue_receiver(queue) as receiver:
            (message,) = await receive(receiver, 1)
            until = message.locked_until_utc
            for _ in range(2):
                await asyncio.sleep(3)
                renewed = await receiver.renew_message_lock(message)
                expect(renewed > until, True, f"{renewed} is later than {until}")
                expect(message.locked_until_utc, renewed)
                until = renewed
            await receiver.complete_message(message)
        await expect_empty(client, queue)


async def lock_expiry(broker):
    """The queue locks for five seconds."""
    queue = broker.queue("lock-expiry")
    async with connect(broker) as client:
        await send(client, queue, "first", "second")
        async with client.get_queue_receiver(queue) as receiver:
            (late,) = await receive(receiver, 1)
            expect((body(late), late.delivery_count), (b"first", 0))
            async with client.get_queue_receiver(queue) as other:
                (second,) = await receive(other, 1)
                expect(body(second), b"second")
                await other.complete_message(second)
                (again,) = await receive(other, 1, wait=10)
                expect((body(again), again.delivery_count), (b"first", 1))
                expect(again.sequence_number, late.sequence_number, "sequence number")
                await raises(MessageLockLostError, lambda: receiver.complete_message(late))
                # That was the client's own clock. With a later expiry it asks the broker.
                late._expiry = again.locked_until_utc + datetime.timedelta(hours=1)
                await raises(MessageLockLostError, lambda: receiver.complete_message(late))
                await raises(MessageLockLostError, lambda: receiver.renew_message_lock(late))
                await other.complete_message(again)
        await expect_empty(client, queue)


async def receive_and_delete(broker):
    queue = broker.queue("receive-and-delete")
    async with connect(broker) as client:
        await send(client, queue, *(str(i) for i in range(10)))
        mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
        async with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
            messages = await receive(receiver, 10)
            expect([str(m) for m in messages], [str(i) for i in range(10)], "bodies")
            expect(messages[0].lock_token, None, "lock token")
        await expect_empty(client, queue)


async def peek(broker):
    queue = broker.queue("peek")
    async with connect(broker) as client:
        async with client.get_queue_receiver(queue) as receiver:
            expect(await receiver.peek_messages(5), [], "messages in an empty queue")
            await send(client, queue, *(str(i) for i in range(5)))
            (locked,) = await receive(receiver, 1)
            first = locked.sequence_number
            seen = await receiver.peek_messages(3, sequence_number=first)
            expect([str(m) for m in seen], ["0", "1", "2"], "peeked, the locked one among them")
            after = seen[-1].sequence_number + 1
            rest = await receiver.peek_messages(10, sequence_number=after)
            expect([str(m) for m in rest], ["3", "4"], "peeked next")
            expect({m.state for m in seen + rest}, {ServiceBusMessageState.ACTIVE}, "state")
            expect(await receiver.peek_messages(5, sequence_number=after + 2), [], "beyond the last")
            await receiver.complete_message(locked)
            for message in await receive(receiver, 4):
                expect(message.delivery_count, 0, "delivery count after peeking")
                await receiver.complete_message(message)
        await expect_empty(client, queue)


async def prefetch(broker):
    queue = broker.queue("prefetch")
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender:
            await sender.send_messages([ServiceBusMessage(str(i)) for i in range(50)])
        async with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
            bodies = []
            for _ in range(5):
                for message in await receive(receiver, 10):
                    expect(message.delivery_count, 0, "delivery count")
                    bodies.append(str(message))
                    await receiver.complete_message(message)
            expect(bodies, [str(i) for i in range(50)], "bodies")
        await expect_empty(client, queue)


async def drain(broker):
    """Closing a receiver drains its credit; nothing sent later is lost to it or counted by it."""
    queue = broker.queue("drain")
    async with connect(broker) as client:
        async with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
            expect(await receiver.receive_messages(10, max_wait_time=1), [], "messages")
        async with client.get_queue_receiver(queue) as receiver:
            expect(await receiver.receive_messages(10, max_wait_time=1), [], "messages")
        await send(client, queue, "1", "2", "3")
        async with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
            (message,) = await receive(receiver, 1)
            await receiver.complete_message(message)
        async with client.get_queue_receiver(queue) as receiver:
            for wanted in (b"2", b"3"):
                (message,) = await receive(receiver, 1)
                expect((body(message), message.delivery_count), (wanted, 0))
                await receiver.complete_message(message)
        await expect_empty(client, queue)


async def idle(broker):
    queue = broker.queue("idle")
    # Without retries: a link that was cut in the meantime fails.
    async with connect(broker, retry_total=0) as client:
        async with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
            for text in ("before", "after"):
                await sender.send_messages(ServiceBusMessage(text))
                (message,) = await receive(receiver, 1)
                expect(str(message), text)
                await receiver.complete_message(message)
                if text == "before":
                    await asyncio.sleep(harness.IDLE_S)


async def wrong_key(broker):
    queue = broker.queue("wrong-key")
    async with connect(broker, key="WRONG_KEY", retry_total=0) as client:
        sender = client.get_queue_sender(queue)
        await raises(
            ServiceBusAuthenticationError,
            lambda: sender.send_messages(ServiceBusMessage("not allowed")),
        )
        receiver = client.get_queue_receiver(queue)
        await raises(
            ServiceBusAuthenticationError, lambda: receiver.receive_messages(1, max_wait_time=2)
        )
    async with connect(broker) as client:
        await expect_empty(client, queue)


async def missing_entity(broker):
    queue = broker.queue("there-is-no-such-queue")
    async with connect(broker, retry_total=0) as client:
        sender = client.get_queue_sender(queue)
        error = await raises(
            MessagingEntityNotFoundError,
            lambda: sender.send_messages(ServiceBusMessage("lost")),
        )
        expect("The messaging entity" in str(error), True, f"the text of {error}")
        receiver = client.get_queue_receiver(queue)
        await raises(MessagingEntityNotFoundError, lambda: receiver.receive_messages(1, max_wait_time=2))


async def oversize(broker):
    queue = broker.queue("oversize")
    async with connect(broker, retry_total=0) as client:
        async with client.get_queue_sender(queue) as sender:
            await raises(
                MessageSizeExceededError,
                lambda: sender.send_messages(ServiceBusMessage(b"x" * harness.OVERSIZE)),
            )
            batch = await sender.create_message_batch()
            await raises(
                MessageSizeExceededError,
                lambda: batch.add_message(ServiceBusMessage(b"x" * harness.OVERSIZE)),
            )
            await sender.send_messages(ServiceBusMessage("small"))
        async with client.get_queue_receiver(queue) as receiver:
            (message,) = await receive(receiver, 1)
            expect(body(message), b"small")
            await receiver.complete_message(message)
        await expect_empty(client, queue)


async def reconnect(broker):
    queue = broker.queue("reconnect")
    async with connect(broker) as client:
        async with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
            await sender.send_messages([ServiceBusMessage(text) for text in ("done", "locked", "kept")])
            done, locked = await receive(receiver, 2)
            await receiver.complete_message(done)
            expect(str(locked), "locked")
            await asyncio.to_thread(harness.wait_for_restart)
            await sender.send_messages(ServiceBusMessage("new"))
            bodies = []
            for message in await receive(receiver, 3, wait=30):
                bodies.append(str(message))
                await receiver.complete_message(message)
            expect(bodies, ["locked", "kept", "new"], "bodies")
        await expect_empty(client, queue)


if __name__ == "__main__":
    harness.run(
        "aio",
        {
            "send-one": send_one,
            "batch-100": batch_100,
            "large": large,
            "complete": complete,
            "abandon": abandon,
            "dead-letter": dead_letter,
            "max-delivery": max_delivery,
            "lock-renewal": lock_renewal,
            "lock-expiry": lock_expiry,
            "receive-and-delete": receive_and_delete,
            "peek": peek,
            "prefetch": prefetch,
            "drain": drain,
            "wrong-key": wrong_key,
            "missing-entity": missing_entity,
            "oversize": oversize,
            **aio_features.SCENARIOS,
            **topics.scenarios(connect),
            **management.scenarios(management.asynchronous),
            **doors.scenarios(ServiceBusClient),
            **identity.scenarios(ServiceBusClient),
            "idle": idle,
            "reconnect": reconnect,
        },
    )
