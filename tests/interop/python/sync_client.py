"""What the scenarios of the blocking client share."""

import time

from azure.servicebus import ServiceBusClient, ServiceBusMessage

import harness
from harness import expect


def connect(broker, **options):
    key = options.pop("key", harness.KEY)
    return ServiceBusClient.from_connection_string(broker.connection_string(key), **options)


def send(client, queue, *bodies):
    with client.get_queue_sender(queue) as sender:
        for body in bodies:
            sender.send_messages(ServiceBusMessage(body))


def body(message):
    return b"".join(message.body)


def receive(receiver, count, wait=10):
    """Exactly that many messages, over as many calls as it takes."""
    messages = []
    deadline = time.monotonic() + wait
    while len(messages) < count and time.monotonic() < deadline:
        left = deadline - time.monotonic()
        messages += receiver.receive_messages(count - len(messages), max_wait_time=max(left, 0.1))
    expect(len(messages), count, "messages received")
    return messages


def expect_empty(client, queue, **options):
    with client.get_queue_receiver(queue, **options) as receiver:
        rest = receiver.receive_messages(10, max_wait_time=harness.EMPTY_S)
        expect([body(m) for m in rest], [], "messages left")


def raises(wanted, call):
    try:
        call()
    except wanted as error:
        expect(type(error).__name__, wanted.__name__, "error")
        return error
    raise AssertionError(f"no {wanted.__name__}")
