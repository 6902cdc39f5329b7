"""What the scenarios of proton share: links that can be waited for."""

import uuid

from proton import ConnectionException, Delivery, Message, Timeout
from proton.handlers import MessagingHandler
from proton.reactor import LinkOption
from proton.utils import BlockingConnection, LinkDetached

import harness

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
        self.left = False

    def on_message(self, event):
        self.waiting.append((event.message, event.delivery))

    def on_link_error(self, event):
        self.refused = LinkDetached(event.link)

    def on_link_remote_detach(self, event):
        self.left = True

    def on_connection_error(self, event):
        raise ConnectionException(event.connection.remote_condition)


class Receiver:
    def __init__(self, connection, queue, options=None, name=None, dynamic=False):
        self.connection = connection
        self.queue = Queue()
        self.blocking = connection.create_receiver(
            # The default name is the same for each receiver of a queue; the broker would take the
            # second for the first attached again.
            queue,
            credit=0,
            dynamic=dynamic,
            handler=self.queue,
            name=name or str(uuid.uuid4()),
            options=options,
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
