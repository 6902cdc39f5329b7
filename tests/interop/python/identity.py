"""Tokens of an identity provider by a TokenCredential, for both clients of the SDK."""

import asyncio
import json
import os
import time
import urllib.parse
import urllib.request

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.aio.management import ServiceBusAdministrationClient as AsyncAdministration
from azure.servicebus.exceptions import (
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusConnectionError,
)
from azure.servicebus.management import ServiceBusAdministrationClient

from aio_client import body, receive
from doors import options
from harness import expect
from management import Admin, fails
from topics import Awaitable

SENDER, RECEIVER, OWNER = (f"Azure Service Bus Data {name}" for name in ("Sender", "Receiver", "Owner"))
# A token that must be renewed while the scenario goes on, and for how long it goes on. The client renews in
# the last tenth of a token's life, which it rounds to seconds.
SHORT_S = 20
LONG_S = 26


# What the client calls a role that does not allow it, and a token that is none: with a custom endpoint every
# failure to sign in is one to connect.
REFUSED = (ServiceBusAuthorizationError, ServiceBusAuthenticationError, ServiceBusConnectionError)


async def refused(call):
    try:
        await call
    except REFUSED:
        return
    raise AssertionError("it was not refused")


def fetch(**asked):
    query = urllib.parse.urlencode(asked)
    with urllib.request.urlopen(f"{os.environ['INTEROP_ISSUER']}/token?{query}") as answer:
        got = json.load(answer)
    return AccessToken(got["access_token"], got["expires_on"])


class Credential:
    """As `azure-identity` has them."""

    def __init__(self, **asked):
        self.asked = asked
        self.calls = 0

    def get_token(self, *_scopes, **_options):
        self.calls += 1
        return fetch(**self.asked)

    def close(self):
        """There is nothing to close."""


class AsyncCredential(Credential):
    async def get_token(self, *scopes, **options):
        return super().get_token(*scopes, **options)

    async def close(self):
        """The same."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


def scenarios(client):
    blocking = client is ServiceBusClient
    credential = Credential if blocking else AsyncCredential
    administration = ServiceBusAdministrationClient if blocking else AsyncAdministration

    def connected(broker, known):
        opened = client(broker.host, known, **options(broker))
        return Awaitable(opened) if blocking else opened

    async def send(broker, queue, known, *texts):
        async with connected(broker, known) as opened:
            async with opened.get_queue_sender(queue) as sender:
                for text in texts:
                    await sender.send_messages(ServiceBusMessage(text))

    async def take(broker, queue, known, count):
        async with connected(broker, known) as opened:
            async with opened.get_queue_receiver(queue) as receiver:
                messages = await receive(receiver, count)
                for message in messages:
                    await receiver.complete_message(message)
        return [body(message) for message in messages]

    async def identity(broker):
        queue = broker.queue("identity")
        await send(broker, queue, credential(role=SENDER, alg="RS256"), "one")
        await send(broker, queue, credential(role=OWNER, alg="ES256"), "two")
        taken = await take(broker, queue, credential(role=RECEIVER, alg="ES256"), 2)
        expect(taken, [b"one", b"two"])
        for asked in (
            {"role": RECEIVER},
            {"role": "Reader"},
            {"role": OWNER, "audience": "https://storage.azure.com"},
            {"role": OWNER, "forged": 1},
            {"role": OWNER, "seconds": -5},
        ):
            await refused(send(broker, queue, credential(**asked), "never"))
        await refused(take(broker, queue, credential(role=SENDER), 1))

    async def renewal(broker):
        """The client renews its token on the links that are open."""
        queue = broker.queue("identity-renewal")
        known = credential(role=OWNER, seconds=SHORT_S)
        started, count = time.monotonic(), 0
        async with connected(broker, known) as opened:
            async with opened.get_queue_sender(queue) as sender:
                async with opened.get_queue_receiver(queue) as receiver:
                    while time.monotonic() - started < LONG_S:
                        await sender.send_messages(ServiceBusMessage(f"{count}"))
                        (message,) = await receive(receiver, 1)
                        expect(body(message), f"{count}".encode())
                        await receiver.complete_message(message)
                        count += 1
                        await asyncio.sleep(0.5)
        expect(known.calls > 3, True, f"renewed, with {known.calls} tokens")

    async def management(broker):
        address = f"{broker.host}:{broker.port}"
        verify = {"connection_verify": options(broker)["connection_verify"], "retry_total": 0}
        queue = f"{broker.client}.identity.made"
        async with Admin(administration(address, credential(role=OWNER), **verify)) as admin:
            await admin.create_queue(queue, forward_to=broker.queue("identity"))
            expect((await admin.get_queue(queue)).name, queue)
            await admin.delete_queue(queue)
        async with Admin(administration(address, credential(role=SENDER), **verify)) as admin:
            await fails(ClientAuthenticationError, admin.get_queue(broker.queue("identity")))

    return {
        "identity": identity,
        "identity-renewal": renewal,
        "identity-management": management,
    }
