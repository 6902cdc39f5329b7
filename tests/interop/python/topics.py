"""Topics, for both clients of the SDK: the scenarios are written once, for asyncio.

The SDK for Python has no calls for rules on AMQP, so they are declared in the configuration.
"""

from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import MessageNotFoundError, MessagingEntityNotFoundError

import harness
from aio_client import body, raises, receive
from harness import expect

DEAD = {"sub_queue": ServiceBusSubQueue.DEAD_LETTER}


class Awaitable:
    """Something of the blocking client, to be used like its twin of asyncio."""

    def __init__(self, blocking):
        self.blocking = blocking

    async def __aenter__(self):
        self.blocking.__enter__()
        return self

    async def __aexit__(self, *error):
        self.blocking.__exit__(*error)

    def __getattr__(self, name):
        member = getattr(self.blocking, name)
        if isinstance(self.blocking, ServiceBusClient):
            return lambda *given, **named: Awaitable(member(*given, **named))
        if name == "session":
            return Awaitable(member)
        if not callable(member):
            return member

        async def call(*given, **named):
            return member(*given, **named)

        return call


async def publish_all(client, topic, *messages):
    async with client.get_topic_sender(topic) as sender:
        for message in messages:
            await sender.send_messages(message)


async def publish_texts(client, topic, *texts):
    await publish_all(client, topic, *map(ServiceBusMessage, texts))


async def complete_all(receiver, count):
    messages = await receive(receiver, count)
    for message in messages:
        await receiver.complete_message(message)
    return messages


async def taken(client, topic, name, count, **options):
    """What a subscription has, which has to be that many messages and no more."""
    async with client.get_subscription_receiver(topic, name, **options) as receiver:
        messages = await complete_all(receiver, count)
        rest = await receiver.receive_messages(1, max_wait_time=harness.EMPTY_S)
        expect([body(m) for m in rest], [], f"messages left in {name}")
        return messages


def bodies(messages):
    return [str(message) for message in messages]


def sized(text, size, colour):
    return ServiceBusMessage(text, subject=colour, application_properties={"size": size})


def properties(message):
    return {key.decode(): value for key, value in (message.application_properties or {}).items()}


async def publish(client, topic):
    await publish_texts(client, topic, "1")
    async with client.get_topic_sender(topic) as sender:
        batch = await sender.create_message_batch()
        for text in ("2", "3"):
            batch.add_message(ServiceBusMessage(text))
        await sender.send_messages(batch)
    for name in ("a", "b"):
        messages = await taken(client, topic, name, 3)
        expect(bodies(messages), ["1", "2", "3"], f"bodies of {name}")
        numbers = [message.sequence_number for message in messages]
        expect(numbers, sorted(set(numbers)), "sequence numbers")
    for missing in (
        client.get_queue_receiver(topic),
        client.get_subscription_receiver(topic, "none"),
    ):
        await raises(
            MessagingEntityNotFoundError, lambda: missing.receive_messages(1, max_wait_time=2)
        )


async def publish_scheduled(client, topic):
    due = harness.now() + harness.seconds(4)
    async with client.get_topic_sender(topic) as sender:
        messages = [ServiceBusMessage(text) for text in ("first", "cancelled")]
        numbers = await sender.schedule_messages(messages, due)
        await sender.send_messages(ServiceBusMessage("second", scheduled_enqueue_time_utc=due))
        await sender.send_messages(ServiceBusMessage("at once"))
        await sender.cancel_scheduled_messages(numbers[1])
        await raises(
            MessageNotFoundError, lambda: sender.cancel_scheduled_messages(numbers[1])
        )
    async with client.get_subscription_receiver(topic, "a") as receiver:
        seen = await receiver.peek_messages(10, sequence_number=1)
        expect(bodies(seen), ["at once"], "messages that are not due are the topic's")
        (now,) = await complete_all(receiver, 1)
        expect(str(now), "at once")
        messages = await complete_all(receiver, 2)
        expect(bodies(messages), ["first", "second"], "bodies")
        expect(all(m.enqueued_time_utc >= due for m in messages), True, "enqueued when due")


async def filters(client, topic):
    await publish_all(
        client,
        topic,
        sized("one", 1, "red"),
        sized("seven", 7, "blue"),
        sized("eight", 8, "red"),
        ServiceBusMessage("none"),
    )
    for name, wanted in (
        ("everything", ["one", "seven", "eight", "none"]),
        ("nothing", []),
        ("sql", ["seven"]),
        ("missing", ["none"]),
        ("correlation", ["one", "eight"]),
        ("typed", ["seven"]),
    ):
        messages = await taken(client, topic, name, len(wanted))
        expect(bodies(messages), wanted, f"bodies of {name}")


async def actions(client, topic):
    await publish_all(client, topic, sized("small", 1, "red"), sized("big", 7, "blue"))
    seen = [
        (str(message), message.subject, properties(message))
        for message in await taken(client, topic, "a", 2)
    ]
    seen.sort(key=lambda copy: copy[1])
    doubled = {"size": 14, "RuleName": b"double"}
    expect(seen, [("big", "blue", {"size": 7}), ("big", "doubled", doubled)], "copies")


async def subscription_peek(client, topic):
    await publish_texts(client, topic, "1", "2", "3")
    async with client.get_subscription_receiver(topic, "a") as receiver:
        (locked,) = await receive(receiver, 1)
        seen = await receiver.peek_messages(10, sequence_number=1)
        expect(bodies(seen), ["1", "2", "3"], "peeked, the locked one among them")
        expect({m.state for m in seen}, {ServiceBusMessageState.ACTIVE}, "states")
        after = await receiver.peek_messages(10, sequence_number=seen[0].sequence_number + 1)
        expect(bodies(after), ["2", "3"], "peeked behind the first")
        await receiver.renew_message_lock(locked)
        await receiver.complete_message(locked)
        await complete_all(receiver, 2)


async def subscription_delete(client, topic):
    await publish_texts(client, topic, "1", "2", "3")
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with client.get_subscription_receiver(topic, "a", receive_mode=mode) as receiver:
        messages = await receive(receiver, 3)
        expect(bodies(messages), ["1", "2", "3"], "bodies")
    await taken(client, topic, "a", 0)


async def subscription_dead_letter(client, topic):
    """The subscription allows two deliveries."""
    await publish_texts(client, topic, "bad", "poison", "good")
    async with client.get_subscription_receiver(topic, "a") as receiver:
        (bad,) = await receive(receiver, 1)
        await receiver.dead_letter_message(
            bad, reason="unreadable", error_description="it made no sense"
        )
        for count in range(2):
            (poison,) = await receive(receiver, 1)
            expect((str(poison), poison.delivery_count), ("poison", count))
            await receiver.abandon_message(poison)
    expect(bodies(await taken(client, topic, "a", 1)), ["good"], "bodies")
    dead = await taken(client, topic, "a", 2, **DEAD)
    expect(bodies(dead), ["bad", "poison"], "dead letters")
    reasons = [message.dead_letter_reason for message in dead]
    expect(reasons, ["unreadable", "MaxDeliveryCountExceeded"], "reasons")
    expect(dead[0].dead_letter_error_description, "it made no sense", "description")
    expect(len(await taken(client, topic, "b", 3)), 3, "messages of the other subscription")


async def subscription_sessions(client, topic):
    pairs = (("x", "x1"), ("y", "y1"), ("x", "x2"))
    await publish_all(client, topic, *(ServiceBusMessage(t, session_id=s) for s, t in pairs))
    async with client.get_subscription_receiver(topic, "a", session_id="x") as receiver:
        messages = await complete_all(receiver, 2)
        expect(bodies(messages), ["x1", "x2"], "bodies")
        await receiver.session.set_state("half done")
        await receiver.session.renew_lock()
        expect(await receiver.session.get_state(), b"half done", "state")
    named = {"session_id": NEXT_AVAILABLE_SESSION, "max_wait_time": 5}
    async with client.get_subscription_receiver(topic, "a", **named) as receiver:
        (message,) = await complete_all(receiver, 1)
        expect((str(message), message.session_id), ("y1", "y"), "body, session")


async def subscription_forward(client, topic):
    """One subscription forwards to a queue, the other to a topic that takes what is big."""
    await publish_all(client, topic, sized("small", 1, "red"), sized("big", 7, "blue"))
    async with client.get_queue_receiver(f"{topic}.queue") as receiver:
        messages = await complete_all(receiver, 2)
        expect(bodies(messages), ["small", "big"], "bodies")
    messages = await taken(client, f"{topic}.topic", "end", 1)
    expect(bodies(messages), ["big"], "bodies behind the other topic")


SCENARIOS = {
    "publish": publish,
    "publish-scheduled": publish_scheduled,
    "filters": filters,
    "actions": actions,
    "subscription-peek": subscription_peek,
    "subscription-delete": subscription_delete,
    "subscription-dead-letter": subscription_dead_letter,
    "subscription-sessions": subscription_sessions,
    "subscription-forward": subscription_forward,
}


def scenarios(connect):
    """The scenarios of a client. `connect` makes one for a broker; it need not be the one of asyncio."""

    def bound(name, scenario):
        async def run(broker):
            client = connect(broker, retry_total=0)
            if isinstance(client, ServiceBusClient):
                client = Awaitable(client)
            async with client:
                await scenario(client, broker.topic(name))

        return run

    return {name: bound(name, scenario) for name, scenario in SCENARIOS.items()}
