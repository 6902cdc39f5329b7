"""azure-servicebus for Python, the blocking client, as it ships."""

import datetime
import os
import subprocess
import sys
import time
import uuid

from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
)

import doors
import frameworks
import guides
import harness
import identity
import management
import sync_features
import testing
import topics
from harness import expect, pattern
from sync_client import body, connect, expect_empty, raises, receive, send


def send_one(broker):
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
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(sent)
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
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
            receiver.complete_message(message)
        expect_empty(client, queue)


def batch_100(broker):
    queue = broker.queue("batch-100")
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender:
            batch = sender.create_message_batch()
            for i in range(100):
                batch.add_message(ServiceBusMessage(f"body {i}", message_id=f"id {i}"))
            sender.send_messages(batch)
        with client.get_queue_receiver(queue) as receiver:
            messages = receive(receiver, 100)
            expect([str(m) for m in messages], [f"body {i}" for i in range(100)], "bodies")
            expect([m.message_id for m in messages], [f"id {i}" for i in range(100)], "ids")
            numbers = [m.sequence_number for m in messages]
            expect(numbers, sorted(set(numbers)), "sequence numbers")
            for message in messages:
                receiver.complete_message(message)
        expect_empty(client, queue)


def large(broker):
    queue = broker.queue("large")
    sent = pattern(harness.LARGE)
    with connect(broker) as client:
        send(client, queue, sent)
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
            expect(body(message) == sent, True, "the body is the one sent")
            receiver.complete_message(message)
        expect_empty(client, queue)


def complete(broker):
    queue = broker.queue("complete")
    with connect(broker) as client:
        send(client, queue, "1", "2", "3")
        with client.get_queue_receiver(queue) as receiver:
            for wanted in (b"1", b"2", b"3"):
                (message,) = receive(receiver, 1)
                expect(body(message), wanted, "body")
                receiver.complete_message(message)
        expect_empty(client, queue)


def abandon(broker):
    queue = broker.queue("abandon")
    with connect(broker) as client:
        send(client, queue, "again", "later")
        with client.get_queue_receiver(queue) as receiver:
            for count in range(3):
                (message,) = receive(receiver, 1)
                expect((body(message), message.delivery_count), (b"again", count))
                receiver.abandon_message(message)
            for wanted in ((b"again", 3), (b"later", 0)):
                (message,) = receive(receiver, 1)
                expect((body(message), message.delivery_count), wanted)
                receiver.complete_message(message)
        expect_empty(client, queue)


def dead_letter(broker):
    queue = broker.queue("dead-letter")
    with connect(broker) as client:
        send(client, queue, "bad", "good")
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
            receiver.dead_letter_message(
                message, reason="unreadable", error_description="it made no sense"
            )
            (message,) = receive(receiver, 1)
            expect(body(message), b"good")
            receiver.complete_message(message)
        dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
        with client.get_queue_receiver(queue, **dead) as receiver:
            (message,) = receive(receiver, 1)
            expect(body(message), b"bad", "body")
            expect(message.dead_letter_reason, "unreadable", "reason")
            expect(message.dead_letter_error_description, "it made no sense", "description")
            receiver.complete_message(message)
        expect_empty(client, queue)
        expect_empty(client, queue, **dead)


def max_delivery(broker):
    """The queue allows three deliveries."""
    queue = broker.queue("max-delivery")
    with connect(broker) as client:
        send(client, queue, "poison")
        with client.get_queue_receiver(queue) as receiver:
            for count in range(3):
                (message,) = receive(receiver, 1)
                expect(message.delivery_count, count, "delivery count")
                receiver.abandon_message(message)
        expect_empty(client, queue)
        dead = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}
        with client.get_queue_receiver(queue, **dead) as receiver:
            (message,) = receive(receiver, 1)
            expect(body(message), b"poison", "body")
            expect(message.dead_letter_reason, "MaxDeliveryCountExceeded", "reason")
            receiver.complete_message(message)
        expect_empty(client, queue, **dead)


def lock_renewal(broker):
    """The queue locks for five seconds."""
    queue = broker.queue("lock-renewal")
    with connect(broker) as client:
        send(client, queue, "slow work")
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
            until = message.locked_until_utc
            for _ in range(2):
                time.sleep(3)
                renewed = receiver.renew_message_lock(message)
                expect(renewed > until, True, f"{renewed} is later than {until}")
                expect(message.locked_until_utc, renewed)
                until = renewed
            receiver.complete_message(message)
        expect_empty(client, queue)


def lock_expiry(broker):
    """The queue locks for five seconds."""
    queue = broker.queue("lock-expiry")
    with connect(broker) as client:
        send(client, queue, "first", "second")
        with client.get_queue_receiver(queue) as receiver:
            (late,) = receive(receiver, 1)
            expect((body(late), late.delivery_count), (b"first", 0))
            with client.get_queue_receiver(queue) as other:
                (second,) = receive(other, 1)
                expect(body(second), b"second")
                other.complete_message(second)
                (again,) = receive(other, 1, wait=10)
                expect((body(again), again.delivery_count), (b"first", 1))
                expect(again.sequence_number, late.sequence_number, "sequence number")
                raises(MessageLockLostError, lambda: receiver.complete_message(late))
                # That was the client's own clock. With a later expiry it asks the broker.
                late._expiry = again.locked_until_utc + datetime.timedelta(hours=1)
                raises(MessageLockLostError, lambda: receiver.complete_message(late))
                raises(MessageLockLostError, lambda: receiver.renew_message_lock(late))
                other.complete_message(again)
        expect_empty(client, queue)


def receive_and_delete(broker):
    queue = broker.queue("receive-and-delete")
    with connect(broker) as client:
        send(client, queue, *(str(i) for i in range(10)))
        mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
        with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
            messages = receive(receiver, 10)
            expect([str(m) for m in messages], [str(i) for i in range(10)], "bodies")
            expect(messages[0].lock_token, None, "lock token")
        expect_empty(client, queue)


def peek(broker):
    queue = broker.queue("peek")
    with connect(broker) as client:
        with client.get_queue_receiver(queue) as receiver:
            expect(receiver.peek_messages(5), [], "messages in an empty queue")
            send(client, queue, *(str(i) for i in range(5)))
            (locked,) = receive(receiver, 1)
            first = locked.sequence_number
            seen = receiver.peek_messages(3, sequence_number=first)
            expect([str(m) for m in seen], ["0", "1", "2"], "peeked, the locked one among them")
            after = seen[-1].sequence_number + 1
            rest = receiver.peek_messages(10, sequence_number=after)
            expect([str(m) for m in rest], ["3", "4"], "peeked next")
            expect({m.state for m in seen + rest}, {ServiceBusMessageState.ACTIVE}, "state")
            expect(receiver.peek_messages(5, sequence_number=after + 2), [], "beyond the last")
            receiver.complete_message(locked)
            for message in receive(receiver, 4):
                expect(message.delivery_count, 0, "delivery count after peeking")
                receiver.complete_message(message)
        expect_empty(client, queue)


def prefetch(broker):
    queue = broker.queue("prefetch")
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages([ServiceBusMessage(str(i)) for i in range(50)])
        with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
            bodies = []
            for _ in range(5):
                for message in receive(receiver, 10):
                    expect(message.delivery_count, 0, "delivery count")
                    bodies.append(str(message))
                    receiver.complete_message(message)
            expect(bodies, [str(i) for i in range(50)], "bodies")
        expect_empty(client, queue)


def drain(broker):
    """Closing a receiver drains its credit; nothing sent later is lost to it or counted by it."""
    queue = broker.queue("drain")
    with connect(broker) as client:
        with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
            expect(receiver.receive_messages(10, max_wait_time=1), [], "messages")
        with client.get_queue_receiver(queue) as receiver:
            expect(receiver.receive_messages(10, max_wait_time=1), [], "messages")
        send(client, queue, "1", "2", "3")
        with client.get_queue_receiver(queue, prefetch_count=20) as receiver:
            (message,) = receive(receiver, 1)
            receiver.complete_message(message)
        with client.get_queue_receiver(queue) as receiver:
            for wanted in (b"2", b"3"):
                (message,) = receive(receiver, 1)
                expect((body(message), message.delivery_count), (wanted, 0))
                receiver.complete_message(message)
        expect_empty(client, queue)


def idle(broker):
    queue = broker.queue("idle")
    # Without retries: a link that was cut in the meantime fails.
    with connect(broker, retry_total=0) as client:
        with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
            for text in ("before", "after"):
                sender.send_messages(ServiceBusMessage(text))
                (message,) = receive(receiver, 1)
                expect(str(message), text)
                receiver.complete_message(message)
                if text == "before":
                    time.sleep(harness.IDLE_S)


def wrong_key(broker):
    queue = broker.queue("wrong-key")
    with connect(broker, key="WRONG_KEY", retry_total=0) as client:
        sender = client.get_queue_sender(queue)
        raises(
            ServiceBusAuthenticationError,
            lambda: sender.send_messages(ServiceBusMessage("not allowed")),
        )
        receiver = client.get_queue_receiver(queue)
        raises(
            ServiceBusAuthenticationError, lambda: receiver.receive_messages(1, max_wait_time=2)
        )
    with connect(broker) as client:
        expect_empty(client, queue)


def missing_entity(broker):
    queue = broker.queue("there-is-no-such-queue")
    with connect(broker, retry_total=0) as client:
        sender = client.get_queue_sender(queue)
        error = raises(
            MessagingEntityNotFoundError,
            lambda: sender.send_messages(ServiceBusMessage("lost")),
        )
        expect("The messaging entity" in str(error), True, f"the text of {error}")
        receiver = client.get_queue_receiver(queue)
        raises(MessagingEntityNotFoundError, lambda: receiver.receive_messages(1, max_wait_time=2))


def oversize(broker):
    queue = broker.queue("oversize")
    with connect(broker, retry_total=0) as client:
        with client.get_queue_sender(queue) as sender:
            raises(
                MessageSizeExceededError,
                lambda: sender.send_messages(ServiceBusMessage(b"x" * harness.OVERSIZE)),
            )
            batch = sender.create_message_batch()
            raises(
                MessageSizeExceededError,
                lambda: batch.add_message(ServiceBusMessage(b"x" * harness.OVERSIZE)),
            )
            sender.send_messages(ServiceBusMessage("small"))
        with client.get_queue_receiver(queue) as receiver:
            (message,) = receive(receiver, 1)
            expect(body(message), b"small")
            receiver.complete_message(message)
        expect_empty(client, queue)


def reconnect(broker):
    queue = broker.queue("reconnect")
    with connect(broker) as client:
        with client.get_queue_sender(queue) as sender, client.get_queue_receiver(queue) as receiver:
            sender.send_messages([ServiceBusMessage(text) for text in ("done", "locked", "kept")])
            done, locked = receive(receiver, 2)
            receiver.complete_message(done)
            expect(str(locked), "locked")
            harness.wait_for_restart()
            sender.send_messages(ServiceBusMessage("new"))
            bodies = []
            for message in receive(receiver, 3, wait=30):
                bodies.append(str(message))
                receiver.complete_message(message)
            expect(bodies, ["locked", "kept", "new"], "bodies")
        expect_empty(client, queue)


def readme(broker):
    """The program in the README, which uses the queue `orders` and the port it was written for."""
    source = open(os.path.join(os.path.dirname(__file__), "readme.py"), encoding="utf-8").read()
    program = source.replace("sb://localhost;", f"sb://{broker.host}:{broker.port};")
    expect(program == source, False, "the program names another port")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    expect((done.returncode, done.stdout), (0, "two coffees\n"), done.stderr[-300:])
    with connect(broker) as client:
        expect_empty(client, "orders")


if __name__ == "__main__":
    harness.run(
        "sync",
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
            **sync_features.SCENARIOS,
            **topics.scenarios(connect),
            **management.scenarios(management.blocking),
            **doors.scenarios(ServiceBusClient),
            **identity.scenarios(ServiceBusClient),
            **frameworks.SCENARIOS,
            **testing.SCENARIOS,
            **guides.SCENARIOS,
            "readme": readme,
            "idle": idle,
            "reconnect": reconnect,
        },
    )
