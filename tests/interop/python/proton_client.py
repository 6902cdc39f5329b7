"""python-qpid-proton, a plain AMQP 1.0 client: SASL PLAIN, and the settle modes that it has by default."""

import time
import uuid

from proton import Condition, ConnectionException, Delivery, Link, Message, Timeout, symbol
from proton.handlers import MessagingHandler
from proton.reactor import LinkOption
from proton.utils import BlockingConnection, LinkDetached, SendException

import harness
from harness import expect, pattern

DEAD = "/$DeadLetterQueue"
ANSWER_S = 15


def connect(broker, password=harness.KEY, **options):
    return BlockingConnection(
        f"amqp://{broker.host}:{broker.port}",
        timeout=ANSWER_S,
        user=harness.RULE,
        password=password,
        allowed_mechs="PLAIN",
        # Without TLS the client sends a password only when told to.
        allow_insecure_mechs=True,
        **options,
    )


class Connected:
    def __init__(self, broker, **options):
        self.broker, self.options = broker, options

    def __enter__(self):
        self.connection = connect(self.broker, **self.options)
        return self.connection

    def __exit__(self, kind, error, trace):
        try:
            self.connection.close()
        except Exception:
            # The error that ended the scenario says more.
            if kind is None:
                raise


class Queue(MessagingHandler):
    """Keeps what arrives until the scenario takes it, and settles nothing by itself."""

    def __init__(self):
        super().__init__(prefetch=0, auto_accept=False, auto_settle=False)
        self.waiting = []
        self.refused = None

    def on_message(self, event):
        self.waiting.append((event.message, event.delivery))

    def on_link_error(self, event):
        self.refused = LinkDetached(event.link)

    def on_connection_error(self, event):
        raise ConnectionException(event.connection.remote_condition)


class Receiver:
    def __init__(self, connection, queue, options=None):
        self.connection = connection
        self.queue = Queue()
        self.blocking = connection.create_receiver(
            # The default name is the same for each receiver of a queue; the broker would take the
            # second for the first attached again.
            queue, credit=0, handler=self.queue, name=str(uuid.uuid4()), options=options
        )
        self.link = self.blocking.link

    def take(self, wait=ANSWER_S):
        self.connection.wait(
            lambda: self.queue.waiting or self.queue.refused, timeout=wait, msg="a message"
        )
        if self.queue.refused:
            raise self.queue.refused
        return self.queue.waiting.pop(0)

    def one(self, wait=ANSWER_S):
        self.link.flow(1)
        return self.take(wait)

    def settle(self, delivery, state):
        delivery.update(state)
        delivery.settle()
        # The client writes new credit before a settlement. With the settlement on its way first, the
        # next message is the one that it made available.
        transport = self.connection.conn.transport
        self.connection.wait(lambda: transport.pending() == 0, msg="the settlement written")

    def accept(self, delivery):
        self.settle(delivery, Delivery.ACCEPTED)

    def drain(self):
        self.link.drain(0)
        self.connection.wait(
            lambda: not self.link.draining() and not self.link.queued, msg="the end of the drain"
        )

    def close(self):
        self.blocking.close()


class SettleMode(LinkOption):
    def __init__(self, sender=None, receiver=None):
        self.sender, self.receiver = sender, receiver

    def apply(self, link):
        if self.sender is not None:
            link.snd_settle_mode = self.sender
        if self.receiver is not None:
            link.rcv_settle_mode = self.receiver

    def test(self, link):
        return True


def send(connection, queue, *bodies):
    sender = connection.create_sender(queue)
    for body in bodies:
        sender.send(Message(body=body))
    sender.close()


def body(message):
    return bytes(message.body) if isinstance(message.body, memoryview) else message.body


def expect_empty(connection, queue):
    receiver = Receiver(connection, queue)
    receiver.link.flow(10)
    try:
        message, _ = receiver.take(wait=harness.EMPTY_S)
    except Timeout:
        receiver.close()
        return
    raise AssertionError(f"message left: {harness.shorten(message.body)}")


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
            "idle": idle,
            "reconnect": reconnect,
        },
    )
