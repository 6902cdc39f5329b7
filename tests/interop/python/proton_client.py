"""python-qpid-proton, a plain AMQP 1.0 client: SASL PLAIN, and the settle modes that it has by default."""

import time

from proton import Condition, ConnectionException, Delivery, Link, Message, Timeout, symbol
from proton.utils import LinkDetached, SendException

import harness
import proton_features
import proton_jms
import proton_selectors
import proton_topics
from harness import expect, pattern
from proton_links import (
    DEAD,
    Connected,
    Receiver,
    SettleMode,
    body,
    connect,
    expect_empty,
    send,
)


def send_one(broker):
    queue = broker.queue("send-one")
    with Connected(broker) as connection:
        sender = connection.create_sender(queue)
        sender.send(
            Message(
                body=b"hello",
                inferred=True,
                id="m-1",
                subject="greeting",
                correlation_id="c-1",
                content_type="text/plain",
                durable=True,
                priority=7,
                properties={"text": "é", "int": 7, "fraction": 1.5, "flag": True},
                annotations={symbol("x-ours"): "kept"},
            )
        )
        receiver = Receiver(connection, queue)
        message, delivery = receiver.one()
        expect(body(message), b"hello", "body")
        expect(message.id, "m-1")
        expect(message.subject, "greeting")
        expect(message.correlation_id, "c-1")
        expect(message.content_type, "text/plain")
        expect((message.durable, message.priority), (True, 7), "header")
        expect(
            message.properties,
            {"text": "é", "int": 7, "fraction": 1.5, "flag": True},
            "application properties",
        )
        expect(message.annotations[symbol("x-ours")], "kept", "annotation")
        expect(message.annotations[symbol("x-opt-sequence-number")] > 0, True, "number")
        expect(message.delivery_count, 0, "delivery count")
        receiver.accept(delivery)
        expect_empty(connection, queue)


def batch_100(broker):
    """The client cannot send the envelope, so these are 100 messages without waiting in between."""
    queue = broker.queue("batch-100")
    wanted = [f"body {i}" for i in range(100)]
    with Connected(broker) as connection:
        sender = connection.create_sender(queue)
        connection.wait(lambda: sender.link.credit >= 100, msg="credit")
        sent = [sender.link.send(Message(body=text)) for text in wanted]
        connection.wait(lambda: all(delivery.settled for delivery in sent), msg="the outcomes")
        expect({delivery.remote_state for delivery in sent}, {Delivery.ACCEPTED}, "outcomes")
        receiver = Receiver(connection, queue)
        receiver.link.flow(100)
        bodies = []
        for _ in range(100):
            message, delivery = receiver.take()
            bodies.append(message.body)
            receiver.accept(delivery)
        expect(bodies, wanted, "bodies")
        expect_empty(connection, queue)


def large(broker):
    queue = broker.queue("large")
    sent = pattern(harness.LARGE)
    with Connected(broker) as connection:
        send(connection, queue, sent)
        receiver = Receiver(connection, queue)
        message, delivery = receiver.one()
        expect(body(message) == sent, True, "the body is the one sent")
        receiver.accept(delivery)
        expect_empty(connection, queue)


def complete(broker):
    queue = broker.queue("complete")
    with Connected(broker) as connection:
        send(connection, queue, "1", "2", "3")
        receiver = Receiver(connection, queue)
        for wanted in ("1", "2", "3"):
            message, delivery = receiver.one()
            expect(message.body, wanted, "body")
            receiver.accept(delivery)
        expect_empty(connection, queue)


def abandon(broker):
    queue = broker.queue("abandon")
    with Connected(broker) as connection:
        send(connection, queue, "again", "later")
        receiver = Receiver(connection, queue)
        # `modified` counts whether it says that the delivery failed or not; `released` does not.
        for count, (state, failed) in enumerate(
            [(Delivery.MODIFIED, True), (Delivery.MODIFIED, False), (Delivery.RELEASED, False)]
        ):
            message, delivery = receiver.one()
            expect((message.body, message.delivery_count), ("again", count))
            delivery.local.failed = failed
            receiver.settle(delivery, state)
        for wanted in (("again", 2), ("later", 0)):
            message, delivery = receiver.one()
            expect((message.body, message.delivery_count), wanted)
            receiver.accept(delivery)
        expect_empty(connection, queue)


def dead_letter(broker):
    queue = broker.queue("dead-letter")
    with Connected(broker) as connection:
        send(connection, queue, "bad", "good")
        receiver = Receiver(connection, queue)
        message, delivery = receiver.one()
        delivery.local.condition = Condition(
            "com.microsoft:dead-letter",
            "it made no sense",
            {
                symbol("DeadLetterReason"): "unreadable",
                symbol("DeadLetterErrorDescription"): "it made no sense",
            },
        )
        receiver.settle(delivery, Delivery.REJECTED)
        message, delivery = receiver.one()
        expect(message.body, "good")
        receiver.accept(delivery)
        dead = Receiver(connection, queue + DEAD)
        message, delivery = dead.one()
        expect(message.body, "bad", "body")
        expect(message.properties["DeadLetterReason"], "unreadable", "reason")
        expect(message.properties["DeadLetterErrorDescription"], "it made no sense", "description")
        dead.accept(delivery)
        expect_empty(connection, queue)
        expect_empty(connection, queue + DEAD)


def max_delivery(broker):
    """The queue allows three deliveries."""
    queue = broker.queue("max-delivery")
    with Connected(broker) as connection:
        send(connection, queue, "poison")
        receiver = Receiver(connection, queue)
        for count in range(3):
            message, delivery = receiver.one()
            expect(message.delivery_count, count, "delivery count")
            delivery.local.failed = True
            receiver.settle(delivery, Delivery.MODIFIED)
        expect_empty(connection, queue)
        dead = Receiver(connection, queue + DEAD)
        message, delivery = dead.one()
        expect(message.properties["DeadLetterReason"], "MaxDeliveryCountExceeded", "reason")
        dead.accept(delivery)
        expect_empty(connection, queue + DEAD)


def lock_expiry(broker):
    """The queue locks for five seconds. In the mode `second` the broker says what came of a settlement."""
    queue = broker.queue("lock-expiry")
    second = SettleMode(receiver=Link.RCV_SECOND)
    with Connected(broker) as connection:
        send(connection, queue, "first")
        receiver = Receiver(connection, queue, options=second)
        _, late = receiver.one()
        other = Receiver(connection, queue, options=second)
        message, again = other.one()
        expect((message.body, message.delivery_count), ("first", 1))
        for delivery, wanted in ((late, Delivery.REJECTED), (again, Delivery.ACCEPTED)):
            delivery.update(Delivery.ACCEPTED)
            connection.wait(lambda: delivery.settled, msg="the answer to a settlement")
            expect(delivery.remote_state, wanted, "outcome")
            if wanted == Delivery.REJECTED:
                condition = delivery.remote.condition
                expect(condition.name, "com.microsoft:message-lock-lost", "condition")
            delivery.settle()
        expect_empty(connection, queue)


def receive_and_delete(broker):
    queue = broker.queue("receive-and-delete")
    wanted = [str(i) for i in range(10)]
    with Connected(broker) as connection:
        send(connection, queue, *wanted)
        receiver = Receiver(connection, queue, options=SettleMode(sender=Link.SND_SETTLED))
        receiver.link.flow(10)
        for text in wanted:
            message, delivery = receiver.take()
            expect((message.body, delivery.settled), (text, True), "body, settled")
        expect_empty(connection, queue)


def prefetch(broker):
    queue = broker.queue("prefetch")
    wanted = [str(i) for i in range(50)]
    with Connected(broker) as connection:
        send(connection, queue, *wanted)
        receiver = Receiver(connection, queue)
        receiver.link.flow(20)
        for index, text in enumerate(wanted):
            message, delivery = receiver.take()
            expect((message.body, message.delivery_count), (text, 0))
            receiver.accept(delivery)
            if index + 20 < len(wanted):
                receiver.link.flow(1)
        expect_empty(connection, queue)


def drain(broker):
    queue = broker.queue("drain")
    with Connected(broker) as connection:
        receiver = Receiver(connection, queue)
        receiver.link.flow(10)
        receiver.drain()
        expect((len(receiver.queue.waiting), receiver.link.credit), (0, 0), "messages, credit")
        send(connection, queue, "1", "2", "3")
        expect(len(receiver.queue.waiting), 0, "messages without credit")
        receiver.link.flow(10)
        received = [receiver.take()]
        receiver.drain()
        expect((len(receiver.queue.waiting), receiver.link.credit), (2, 0), "messages, credit")
        received += receiver.queue.waiting
        expect([m.body for m, _ in received], ["1", "2", "3"], "bodies")
        for _, delivery in received:
            receiver.accept(delivery)
        expect_empty(connection, queue)


def wrong_key(broker):
    try:
        connect(broker, password="WRONG_KEY").close()
    except ConnectionException as error:
        expect("amqp:unauthorized-access" in str(error), True, f"the text of {error}")
        return
    raise AssertionError("let in")


def missing_entity(broker):
    queue = broker.queue("there-is-no-such-queue")
    with Connected(broker) as connection:
        for create in (connection.create_sender, lambda name: Receiver(connection, name)):
            try:
                create(queue)
            except LinkDetached as error:
                expect(error.condition, "amqp:not-found", "condition")
                text = error.link.remote_condition.description
                expect(text.startswith("The messaging entity '"), True, f"the text {text}")
            else:
                raise AssertionError("attached to what does not exist")


def oversize(broker):
    queue = broker.queue("oversize")
    with Connected(broker) as connection:
        sender = connection.create_sender(queue)
        delivery = sender.link.send(Message(body=b"x" * harness.OVERSIZE, inferred=True))
        connection.wait(lambda: delivery.settled, msg="the outcome of an oversize message")
        expect(delivery.remote_state, Delivery.REJECTED, "outcome")
        name = delivery.remote.condition.name
        expect(name, "amqp:link:message-size-exceeded", "condition")
        delivery.settle()
        sender.send(Message(body="small"))
        receiver = Receiver(connection, queue)
        message, delivery = receiver.one()
        expect(message.body, "small")
        receiver.accept(delivery)
        expect_empty(connection, queue)


def idle(broker):
    queue = broker.queue("idle")
    # With a heartbeat the client closes the connection when the broker is silent for so long.
    with Connected(broker, heartbeat=20) as connection:
        sender = connection.create_sender(queue)
        receiver = Receiver(connection, queue)
        for text in ("before", "after"):
            sender.send(Message(body=text))
            message, delivery = receiver.one()
            expect(message.body, text)
            receiver.accept(delivery)
            if text == "before":
                try:
                    connection.wait(lambda: False, timeout=harness.IDLE_S)
                except Timeout:
                    continue


def reconnect(broker):
    """The blocking client does not connect again by itself, so the scenario does."""
    queue = broker.queue("reconnect")
    connection = connect(broker)
    sender = connection.create_sender(queue)
    receiver = Receiver(connection, queue)
    for text in ("done", "locked", "kept"):
        sender.send(Message(body=text))
    _, done = receiver.one()
    receiver.accept(done)
    message, _ = receiver.one()
    expect(message.body, "locked")
    harness.wait_for_restart()
    try:
        sender.send(Message(body="lost with the connection"))
    except (ConnectionException, LinkDetached, SendException):
        pass
    else:
        raise AssertionError("sent over a connection that the restart ended")
    time.sleep(0.1)
    with Connected(broker) as connection:
        send(connection, queue, "new")
        receiver = Receiver(connection, queue)
        for wanted in ("locked", "kept", "new"):
            message, delivery = receiver.one()
            expect(message.body, wanted)
            receiver.accept(delivery)
        expect_empty(connection, queue)


if __name__ == "__main__":
    harness.run(
        "proton",
        {
            "send-one": send_one,
            "batch-100": batch_100,
            "large": large,
            "complete": complete,
            "abandon": abandon,
            "dead-letter": dead_letter,
            "max-delivery": max_delivery,
            "lock-expiry": lock_expiry,
            "receive-and-delete": receive_and_delete,
            "prefetch": prefetch,
            "drain": drain,
            "wrong-key": wrong_key,
            "missing-entity": missing_entity,
            "oversize": oversize,
            **proton_features.SCENARIOS,
            **proton_selectors.SCENARIOS,
            **proton_topics.SCENARIOS,
            **proton_jms.SCENARIOS,
            "idle": idle,
            "reconnect": reconnect,
        },
    )
