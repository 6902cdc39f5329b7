"""proton with topics: to publish and to receive takes no more than plain AMQP."""

import time

from proton import Delivery, Link, Message, symbol, timestamp

from harness import expect
from proton_features import open_session, refused, send_messages, session_of
from proton_links import DEAD, Connected, Receiver, SettleMode, expect_empty, send


def of(topic, subscription):
    return f"{topic}/Subscriptions/{subscription}"


def taken(connection, address, count):
    """What is there, which has to be that many messages and no more."""
    receiver = Receiver(connection, address)
    messages = []
    for _ in range(count):
        message, delivery = receiver.one()
        receiver.accept(delivery)
        messages.append(message)
    receiver.close()
    expect_empty(connection, address)
    return messages


def expect_bodies(connection, address, *wanted):
    messages = taken(connection, address, len(wanted))
    expect([message.body for message in messages], list(wanted), f"bodies of {address}")


def sized(text, size, colour):
    return Message(body=text, subject=colour, properties={"size": size})


def publish(connection, topic):
    send(connection, topic, "1", "2")
    for address in (of(topic, "a"), f"{topic}/subscriptions/B"):
        expect_bodies(connection, address, "1", "2")
    for address in (topic, of(topic, "none")):
        refused("amqp:not-found", lambda: Receiver(connection, address))
    refused("amqp:not-allowed", lambda: connection.create_sender(of(topic, "a")))


def publish_scheduled(connection, topic):
    due = int(time.time() * 1000) + 3000
    later = {symbol("x-opt-scheduled-enqueue-time"): timestamp(due)}
    send_messages(connection, topic, Message(body="later", annotations=later))
    send(connection, topic, "at once")
    now, then = taken(connection, of(topic, "a"), 2)
    expect((now.body, then.body), ("at once", "later"), "bodies")
    enqueued = then.annotations[symbol("x-opt-enqueued-time")]
    expect(enqueued >= due, True, "enqueued when it was due")


def filters(connection, topic):
    messages = [sized("one", 1, "red"), sized("seven", 7, "blue"), sized("eight", 8, "red")]
    send_messages(connection, topic, *messages, Message(body="none"))
    expect_bodies(connection, of(topic, "everything"), "one", "seven", "eight", "none")
    expect_bodies(connection, of(topic, "nothing"))
    expect_bodies(connection, of(topic, "sql"), "seven")
    expect_bodies(connection, of(topic, "missing"), "none")
    expect_bodies(connection, of(topic, "correlation"), "one", "eight")
    expect_bodies(connection, of(topic, "typed"), "seven")


def actions(connection, topic):
    send_messages(connection, topic, sized("small", 1, "red"), sized("big", 7, "blue"))
    copies = taken(connection, of(topic, "a"), 2)
    seen = sorted((copy.subject, copy.body, copy.properties) for copy in copies)
    doubled = {"size": 14, "RuleName": "double"}
    expect(seen, [("blue", "big", {"size": 7}), ("doubled", "big", doubled)], "copies")


def subscription_delete(connection, topic):
    send(connection, topic, "1", "2")
    settled = SettleMode(sender=Link.SND_SETTLED)
    receiver = Receiver(connection, of(topic, "a"), options=settled)
    for wanted in ("1", "2"):
        message, delivery = receiver.one()
        expect((message.body, delivery.settled), (wanted, True), "body, settled")
    receiver.close()
    expect_empty(connection, of(topic, "a"))


def subscription_dead_letter(connection, topic):
    """The subscription allows two deliveries."""
    send(connection, topic, "poison", "good")
    receiver = Receiver(connection, of(topic, "a"))
    for count in range(2):
        message, delivery = receiver.one()
        expect((message.body, message.delivery_count), ("poison", count))
        delivery.local.failed = True
        receiver.settle(delivery, Delivery.MODIFIED)
    receiver.close()
    expect_bodies(connection, of(topic, "a"), "good")
    (dead,) = taken(connection, of(topic, "a") + DEAD, 1)
    reason = dead.properties["DeadLetterReason"]
    expect((dead.body, reason), ("poison", "MaxDeliveryCountExceeded"), "body, reason")
    expect_bodies(connection, of(topic, "b"), "poison", "good")


def subscription_sessions(connection, topic):
    pairs = (("x", "x1"), ("y", "y1"), ("x", "x2"))
    send_messages(connection, topic, *(Message(body=text, group_id=name) for name, text in pairs))
    for asked, wanted in (("x", ("x1", "x2")), (None, ("y1",))):
        receiver = open_session(connection, of(topic, "a"), asked)
        expect(session_of(receiver), wanted[0][0], "session")
        for text in wanted:
            message, delivery = receiver.one()
            expect(message.body, text, "body")
            receiver.accept(delivery)
        receiver.close()


def subscription_forward(connection, topic):
    """One subscription forwards to a queue, the other to a topic that takes what is big."""
    send_messages(connection, topic, sized("small", 1, "red"), sized("big", 7, "blue"))
    expect_bodies(connection, f"{topic}.queue", "small", "big")
    expect_bodies(connection, of(f"{topic}.topic", "end"), "big")


def bound(name, scenario):
    def run(broker):
        with Connected(broker) as connection:
            scenario(connection, broker.topic(name))

    return run


SCENARIOS = {
    name: bound(name, scenario)
    for name, scenario in {
        "publish": publish,
        "publish-scheduled": publish_scheduled,
        "filters": filters,
        "actions": actions,
        "subscription-delete": subscription_delete,
        "subscription-dead-letter": subscription_dead_letter,
        "subscription-sessions": subscription_sessions,
        "subscription-forward": subscription_forward,
    }.items()
}
