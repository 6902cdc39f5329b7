"""What the scenarios of the asyncio client share."""

import asyncio
import time

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

import harness
from harness import expect


def connect(broker, **options):
    key = options.pop("key", harness.KEY)
    return ServiceBusClient.from_connection_string(broker.connection_string(key), **options)


async def send(client, queue, *bodies):
    async with client.get_queue_sender(queue) as sender:
        for body in bodies:
            await sender.send_messages(ServiceBusMessage(body))


def body(message):
    return b"".join(message.body)


async def receive(receiver, count, wait=10):
    """Exactly that many messages, over as many calls as it takes."""
    messages = []
    deadline = time.monotonic() + wait
    while len(messages) < count and time.monotonic() < deadline:
        left = deadline - time.monotonic()
        messages += await receiver.receive_messages(count - len(messages), max_wait_time=max(left, 0.1))
    expect(len(messages), count, "messages received")
    return messages


async def expect_empty(client, queue, **options):
    async with client.get_queue_receiver(queue, **options) as receiver:
        rest = await receiver.receive_messages(10, max_wait_time=harness.EMPTY_S)
        expect([body(m) for m in rest], [], "messages left")


async def raises(wanted, call):
    try:
        result = call()
        if asyncio.iscoroutine(result):
            await result
    except wanted as error:
        expect(type(error).__name__, wanted.__name__, "error")
        return error
    raise AssertionError(f"no {wanted.__name__}")
