"""Moves the messages of a queue or subscription of one namespace to an entity of another.

    pip install azure-servicebus
    export SOURCE='Endpoint=sb://…'     # a rule with Listen, and with Send for --scheduled
    export TARGET='Endpoint=sb://…'     # a rule with Send, and with Listen for --sessions
    python move_messages.py orders                          # to the entity of the same name
    python move_messages.py orders --scheduled              # also what is scheduled, for its time
    python move_messages.py baskets --sessions              # session by session, with the state of each
    python move_messages.py orders --dead-letters --to orders-dead
    python move_messages.py news/Subscriptions/all --to news-backlog

A message is completed at the source when the target has accepted it. If this program is killed between
the two, the message is at both: it keeps its id, so a target that detects duplicates drops the second
one. Order is kept within a session, and within a queue as long as nobody else receives from it.

Body, properties, application properties and what is left of the time to live go along. Numbers, locks,
delivery counts and the time of the first enqueueing do not: for the target it is a new message. Deferred
messages are counted and left, since their receivers know them by numbers that mean nothing elsewhere.
"""

import argparse
import datetime
import os
import sys
import urllib.parse

from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusClient,
    ServiceBusMessageState,
    ServiceBusSubQueue,
    parse_connection_string,
)
from azure.servicebus.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.servicebus.exceptions import MessageSizeExceededError, OperationTimeoutError

BATCH = 100
# A longer time to live than this is none.
FOR_EVER = datetime.timedelta(days=365 * 100)
# Annotations that the sender of a message sets; the others are what a broker says of it.
OF_THE_SENDER = ("x-opt-partition-key", "x-opt-via-partition-key")


def connect(variable, authority=None, **options):
    text = os.environ.get(variable) or sys.exit(f"{variable} has no connection string")
    if authority:
        options["connection_verify"] = authority
    endpoint = parse_connection_string(text).endpoint.rstrip("/")
    if urllib.parse.urlsplit(endpoint).port and "UseDevelopmentEmulator" not in text:
        # With TLS the client goes to 5671, whatever port the endpoint has.
        options["custom_endpoint_address"] = endpoint
    return ServiceBusClient.from_connection_string(text, **options)


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def again(message):
    """The message as it was sent, with a time to live that ends when it would have ended."""
    raw = message.raw_amqp_message
    header = dict(raw.header or {})
    header = {name: header[name] for name in ("durable", "priority") if header.get(name) is not None}
    left = message.expires_at_utc and message.expires_at_utc - datetime.datetime.now(datetime.timezone.utc)
    if left and left < FOR_EVER:
        header["time_to_live"] = max(int(left.total_seconds() * 1000), 1)
    properties = dict(raw.properties or {})
    # These two follow from the time to live.
    properties = {k: v for k, v in properties.items() if k not in ("absolute_expiry_time", "creation_time")}
    annotations = {k: v for k, v in (raw.annotations or {}).items() if text(k) in OF_THE_SENDER}
    body = {
        AmqpMessageBodyType.DATA: "data_body",
        AmqpMessageBodyType.SEQUENCE: "sequence_body",
        AmqpMessageBodyType.VALUE: "value_body",
    }[raw.body_type]
    # A sequence has to be had as a list, the parts of a data body as well.
    content = raw.body if body == "value_body" else list(raw.body)
    return AmqpAnnotatedMessage(
        **{body: content},
        header=header or None,
        properties=properties or None,
        application_properties=raw.application_properties,
        annotations=annotations or None,
    )


def send(sender, messages):
    """In as few batches as they fit into; what is too large for one goes alone."""
    batch = sender.create_message_batch()
    for message in messages:
        copy = again(message)
        try:
            batch.add_message(copy)
            continue
        except MessageSizeExceededError:
            if len(batch):
                sender.send_messages(batch)
            batch = sender.create_message_batch()
        try:
            batch.add_message(copy)
        except MessageSizeExceededError:
            sender.send_messages(copy)
    if len(batch):
        sender.send_messages(batch)


def is_empty(receiver):
    """Whether nothing is left but what is deferred or scheduled: quicker than waiting for it."""
    return all(message.state != ServiceBusMessageState.ACTIVE for message in receiver.peek_messages(BATCH))


def drain(receiver, sender, wait, most, until=lambda _: False):
    moved = 0
    while moved < most and not until(receiver):
        messages = receiver.receive_messages(min(BATCH, most - moved), max_wait_time=wait)
        if not messages:
            break
        send(sender, messages)
        for message in messages:
            receiver.complete_message(message)
        moved += len(messages)
    return moved


def receiver_of(client, entity, **options):
    topic, found, subscription = entity.partition("/Subscriptions/")
    if found:
        return client.get_subscription_receiver(topic, subscription, **options)
    return client.get_queue_receiver(entity, **options)


def sessions(source, target, entity, to, sender, wait, most):
    moved = 0
    while moved < most:
        try:
            with receiver_of(source, entity, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=wait) as receiver:
                state = receiver.session.get_state()
                if state:
                    with receiver_of(target, to, session_id=receiver.session.session_id) as other:
                        other.session.set_state(state)
                moved += drain(receiver, sender, wait, most - moved, until=is_empty)
                receiver.session.set_state(None)
        except OperationTimeoutError:
            break
    return moved


def in_state(receiver, state):
    number, found = 0, []
    while messages := receiver.peek_messages(BATCH, sequence_number=number):
        found += [message for message in messages if message.state == state]
        number = messages[-1].sequence_number + 1
    return found


def scheduled(source, entity, sender):
    with receiver_of(source, entity) as receiver, source.get_queue_sender(entity) as own:
        found = in_state(receiver, ServiceBusMessageState.SCHEDULED)
        for message in found:
            sender.schedule_messages(again(message), message.scheduled_enqueue_time_utc)
            own.cancel_scheduled_messages(message.sequence_number)
    return len(found)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("entity", help="queue, or TOPIC/Subscriptions/NAME")
    parser.add_argument("--to", help="queue or topic of the target [default: the same name]")
    parser.add_argument("--dead-letters", action="store_true", help="those of its dead-letter queue")
    parser.add_argument("--sessions", action="store_true", help="it requires sessions")
    parser.add_argument("--scheduled", action="store_true", help="what is scheduled as well")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="not more than so many")
    parser.add_argument("--wait", type=float, default=5, help="seconds without a message that mean the end")
    parser.add_argument("--ca", help="authority of the target's certificate, in PEM")
    arguments = parser.parse_args()
    entity, to = arguments.entity, arguments.to or arguments.entity
    if "/Subscriptions/" in to:
        parser.error("nobody can send to a subscription: --to names a queue or topic")
    if arguments.scheduled and "/Subscriptions/" in entity:
        parser.error("what is scheduled is the topic's: publish it again")
    if arguments.dead_letters and not arguments.to:
        parser.error("nobody can send to a dead-letter queue: --to names a queue for them")
    wait, most = arguments.wait, arguments.count

    # That no session is left is known by a timeout, which is not to be tried again.
    tries = {"retry_total": 0} if arguments.sessions else {}
    with connect("SOURCE", **tries) as source, connect("TARGET", arguments.ca) as target:
        with target.get_queue_sender(to) as sender:
            if arguments.sessions and not arguments.dead_letters:
                moved = sessions(source, target, entity, to, sender, wait, most)
            else:
                part = ServiceBusSubQueue.DEAD_LETTER if arguments.dead_letters else None
                with receiver_of(source, entity, sub_queue=part) as receiver:
                    moved = drain(receiver, sender, wait, most)
                    deferred = len(in_state(receiver, ServiceBusMessageState.DEFERRED))
                if deferred:
                    print(f"{deferred} deferred messages are left")
            print(f"{moved} messages moved")
            if arguments.scheduled:
                print(f"{scheduled(source, entity, sender)} scheduled messages moved")


if __name__ == "__main__":
    main()
