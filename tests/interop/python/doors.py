"""TLS and WebSockets, for both clients of the SDK: what a program outside of the emulator's mode does."""

import os

from azure.servicebus import ServiceBusClient, ServiceBusMessage, TransportType

import harness
from aio_client import body, receive
from harness import expect, pattern
from topics import Awaitable

# A frame or two, and many of them.
SIZES = (100, harness.LARGE)


def endpoint(broker, emulator=""):
    # Without the emulator's mode the client takes the host alone from the connection string.
    return (
        f"Endpoint=sb://{broker.host};SharedAccessKeyName={harness.RULE};"
        f"SharedAccessKey={harness.KEY};{emulator}"
    )


def options(broker):
    return {
        "custom_endpoint_address": f"sb://{broker.host}:{broker.port}",
        "connection_verify": os.path.join(os.environ["INTEROP_CERTIFICATES"], "ca.pem"),
        "retry_total": 0,
    }


async def exchange(client, queue):
    if isinstance(client, ServiceBusClient):
        client = Awaitable(client)
    async with client:
        async with client.get_queue_sender(queue) as sender:
            for size in SIZES:
                await sender.send_messages(ServiceBusMessage(pattern(size)))
        async with client.get_queue_receiver(queue) as receiver:
            messages = await receive(receiver, len(SIZES))
            for message, size in zip(messages, SIZES, strict=True):
                expect(body(message), pattern(size))
                await receiver.complete_message(message)


def scenarios(client):
    """The scenarios of a client, given by its class."""
    websocket = {"transport_type": TransportType.AmqpOverWebsocket}

    async def tls(broker):
        secure = client.from_connection_string(endpoint(broker), **options(broker))
        await exchange(secure, broker.queue("tls"))

    async def websockets(broker):
        for emulator in ("", "UseDevelopmentEmulator=true;"):
            text = endpoint(broker, emulator)
            opened = client.from_connection_string(text, **websocket, **options(broker))
            await exchange(opened, broker.queue("websocket"))

    return {"tls": tls, "websocket": websockets}
