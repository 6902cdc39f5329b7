"""proton with what a plain AMQP client can say of sessions, schedules, duplicates, lifetimes, transactions."""

import time

from proton import Delivery, Message, symbol, timestamp, uint
from proton.handlers import TransactionHandler
from proton.reactor import Filter, LinkOption
from proton.utils import LinkDetached, SendException

from harness import expect
from proton_links import DEAD, Connected, Receiver, expect_empty, send

SESSION = symbol("com.microsoft:session-filter")


class Within(LinkOption):
    """How long the broker may look for a session."""

    def apply(self, link):
        link.properties = {symbol("com.microsoft:timeout"): uint(2000)}

    def test(self, link):
        return True


def open_session(connection, queue, name=None):
    options = [Filter({SESSION: name})]
    return Receiver(connection, queue, options=options if name else [*options, Within()])


def session_of(receiver):
    filters = receiver.link.remote_source.filter
    filters.rewind()
    return filters.get_object()[SESSION] if filters.next() else None


def refused(condition, call):
    try:
        call()
    except LinkDetached as error:
        expect(error.condition, condition, "condition")
        return
    raise AssertionError(f"no {condition}")


def send_messages(connection, queue, *messages):
    sender = connection.create_sender(queue)
    for message in messages:
        sender.send(message)
    sender.close()


def session_named(broker):
    queue = broker.queue("session-named")
    with Connected(broker) as connection:
        pairs = (("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"))
        messages = [Message(body=text, group_id=name) for name, text in pairs]
        send_messages(connection, queue, *messages)
        receiver = open_session(connection, queue, "b")
        expect(session_of(receiver), "b", "session")
        for wanted in ("b1", "b2"):
            message, delivery = receiver.one()
            expect((message.group_id, message.body), ("b", wanted), "session, body")
            receiver.accept(delivery)
        locked = "com.microsoft:session-cannot-be-locked"
        refused(locked, lambda: open_session(connection, queue, "b"))
        receiver.close()
        receiver = open_session(connection, queue, "a")
        message, delivery = receiver.one()
        expect((message.body, message.delivery_count), ("a1", 0))
        delivery.local.failed = True
        receiver.settle(delivery, Delivery.MODIFIED)
        for wanted in (("a1", 1), ("a2", 0)):
            message, delivery = receiver.one()
            expect((message.body, message.delivery_count), wanted)
            receiver.accept(delivery)
        receiver.close()
        refused("amqp:not-allowed", lambda: Receiver(connection, queue))
        try:
            send(connection, queue, "of no session")
        except SendException as error:
            expect(error.state, Delivery.REJECTED, "outcome")
        else:
            raise AssertionError("sent without a session")


def session_next(broker):
    queue = broker.queue("session-next")
    with Connected(broker) as connection:

        def nothing():
            started = time.monotonic()
            refused("com.microsoft:timeout", lambda: open_session(connection, queue))
            expect(time.monotonic() - started > 1.5, True, "it was waited for a session")

        nothing()
        pairs = (("x", "x1"), ("y", "y1"))
        messages = [Message(body=text, group_id=name) for name, text in pairs]
        send_messages(connection, queue, *messages)
        receivers = [open_session(connection, queue) for _ in pairs]
        expect([session_of(receiver) for receiver in receivers], ["x", "y"], "sessions")
        nothing()
        message, delivery = receivers[0].one()
        expect(message.body, "x1")
        receivers[0].accept(delivery)
        message, _ = receivers[1].one()
        expect(message.body, "y1")
        # The second closes without settling.
        for receiver in receivers:
            receiver.close()
        again = open_session(connection, queue)
        expect(session_of(again), "y", "session")
        message, delivery = again.one()
        expect((message.body, message.delivery_count), ("y1", 0))
        again.accept(delivery)
        again.close()
        nothing()


def schedule(broker):
    queue = broker.queue("schedule")
    due = int(time.time() * 1000) + 3000

    def at(body, moment):
        scheduled = {symbol("x-opt-scheduled-enqueue-time"): timestamp(moment)}
        return Message(body=body, annotations=scheduled)

    with Connected(broker) as connection:
        later, sooner = at("later", due + 1000), at("sooner", due)
        send_messages(connection, queue, later, sooner, at("at once", due - 4000))
        receiver = Receiver(connection, queue)
        message, delivery = receiver.one()
        expect(message.body, "at once")
        receiver.accept(delivery)
        for wanted in ("sooner", "later"):
            message, delivery = receiver.one()
            expect(message.body, wanted)
            enqueued = message.annotations[symbol("x-opt-enqueued-time")]
            expect(enqueued >= due, True, "enqueued when it was due")
            receiver.accept(delivery)
        expect_empty(connection, queue)


def duplicates(broker):
    """The queue remembers ids for a minute."""
    queue = broker.queue("duplicates")
    with Connected(broker) as connection:
        names = "abacb"
        send_messages(connection, queue, *(Message(body=name, id=name) for name in names))
        receiver = Receiver(connection, queue)
        for wanted in "abc":
            message, delivery = receiver.one()
            expect((message.body, message.id), (wanted, wanted), "body, id")
            receiver.accept(delivery)
        send_messages(connection, queue, Message(body="after completion", id="a"))
        expect_empty(connection, queue)


def time_to_live(broker):
    """Messages of the queue live for three seconds at most, and end in the dead-letter queue."""
    queue = broker.queue("time-to-live")
    with Connected(broker) as connection:
        lifetimes = (("short", 1), ("long", 3600), ("unset", 0))
        messages = [Message(body=text, ttl=lifetime) for text, lifetime in lifetimes]
        send_messages(connection, queue, *messages)
        time.sleep(4)
        expect_empty(connection, queue)
        dead = Receiver(connection, queue + DEAD)
        bodies = set()
        for _ in messages:
            message, delivery = dead.one()
            expect(message.properties["DeadLetterReason"], "TTLExpiredException", "reason")
            bodies.add(message.body)
            dead.accept(delivery)
        expect(bodies, {"short", "long", "unset"}, "dead letters")
        expect_empty(connection, queue + DEAD)


class Ended(TransactionHandler):
    """What the broker said of a transaction."""

    def __init__(self):
        super().__init__()
        self.declared = None
        self.end = None

    def on_transaction_declared(self, event):
        self.declared = event.transaction

    def on_transaction_declare_failed(self, event):
        self.end = "not declared"

    def on_transaction_committed(self, event):
        self.end = "committed"

    def on_transaction_aborted(self, event):
        self.end = "rolled back"

    def on_transaction_commit_failed(self, event):
        self.end = "not committed"


def transaction(broker):
    """Takes a message of one queue and sends to another, rolled back and then committed."""
    queue, results = broker.queue("transaction"), broker.queue("transaction.results")
    with Connected(broker) as connection:
        send(connection, queue, "work")
        sender = connection.create_sender(results)
        receiver = Receiver(connection, queue)
        for end in ("rolled back", "committed"):
            message, delivery = receiver.one()
            expect(message.body, "work")
            work = Ended()
            transaction = connection.container.declare_transaction(connection.conn, work)
            connection.wait(lambda: work.declared or work.end, msg="the start of a transaction")
            expect(work.end, None, "a transaction")
            sent = transaction.send(sender.link, Message(body=f"result, {end}"))
            transaction.accept(delivery)
            connection.wait(lambda: sent.settled, msg="the answer to a send")
            expect(sent.remote_state, 0x34, "outcome")
            sent.settle()
            expect_empty(connection, results)
            if end == "committed":
                transaction.commit()
            else:
                transaction.abort()
            connection.wait(lambda: work.end, msg="the end of a transaction")
            expect(work.end, end, "end of the transaction")
        expect_empty(connection, queue)
        receiver = Receiver(connection, results)
        message, delivery = receiver.one()
        expect(message.body, "result, committed")
        receiver.accept(delivery)
        expect_empty(connection, results)


SCENARIOS = {
    "session-named": session_named,
    "session-next": session_next,
    "schedule": schedule,
    "duplicates": duplicates,
    "time-to-live": time_to_live,
    "transaction": transaction,
}
