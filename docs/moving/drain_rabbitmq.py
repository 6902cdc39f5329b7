"""Moves the messages of a queue of RabbitMQ to a queue or topic of Peeklock.

    pip install pika azure-servicebus
    export SOURCE='amqp://guest:guest@old.example:5672/%2F'
    export TARGET='Endpoint=sb://new.example;SharedAccessKeyName=RULE;SharedAccessKey=KEY'
    python drain_rabbitmq.py orders --to orders
    python drain_rabbitmq.py baskets --to baskets --session customer

It is AMQP 0-9-1 on the side of RabbitMQ: its plug-in for AMQP 1.0 (seen in 3.10) leaves out the headers.

A message is acknowledged at RabbitMQ when Peeklock has accepted it. If this program is killed between the
two, the message is at both: it keeps its id, if it has one, and a queue that detects duplicates drops the
second one.

| RabbitMQ | Peeklock |
|---|---|
| routing key | subject, which filters call sys.Label |
| headers | application properties; tables and lists as JSON; x-… are left out |
| message_id, correlation_id, content_type, reply_to | the same |
| expiration | time to live, counted anew |
| priority | kept, and of no effect |
| type, app_id, timestamp | application properties of these names |
"""

import argparse
import datetime
import json
import os
import sys
import urllib.parse

from azure.servicebus import ServiceBusClient, parse_connection_string
from azure.servicebus.amqp import AmqpAnnotatedMessage
from azure.servicebus.exceptions import MessageSizeExceededError

BATCH = 100
AS_THEY_ARE = (str, bytes, bool, int, float)


def value(header):
    if isinstance(header, datetime.datetime):
        # pika leaves out that it is UTC.
        return header.replace(tzinfo=datetime.timezone.utc)
    return header if isinstance(header, AS_THEY_ARE) else json.dumps(header, default=str)


def message_of(routing_key, properties, body, session=None):
    headers = {name: value(it) for name, it in (properties.headers or {}).items() if not name.startswith("x-")}
    for name in ("type", "app_id", "timestamp"):
        if (it := getattr(properties, name)) is not None:
            headers.setdefault(name, it)
    header = {"durable": True}
    if properties.priority is not None:
        header["priority"] = properties.priority
    if properties.expiration:
        header["time_to_live"] = int(properties.expiration)
    names = ("message_id", "correlation_id", "content_type", "reply_to")
    own = {name: getattr(properties, name) for name in names if getattr(properties, name)}
    if session and headers.get(session) is not None:
        own["group_id"] = str(headers[session])
    if routing_key:
        own["subject"] = routing_key
    return AmqpAnnotatedMessage(data_body=body, header=header, properties=own, application_properties=headers)


def send(sender, messages):
    """In as few batches as they fit into; what is too large for one goes alone."""
    batch = sender.create_message_batch()
    for message in messages:
        try:
            batch.add_message(message)
            continue
        except MessageSizeExceededError:
            if len(batch):
                sender.send_messages(batch)
            batch = sender.create_message_batch()
        try:
            batch.add_message(message)
        except MessageSizeExceededError:
            sender.send_messages(message)
    if len(batch):
        sender.send_messages(batch)


def drain(channel, sender, arguments):
    moved, waiting, last = 0, [], None
    channel.basic_qos(prefetch_count=2 * BATCH)
    for method, properties, body in channel.consume(arguments.queue, inactivity_timeout=arguments.wait):
        if method is not None:
            last = method.delivery_tag
            waiting.append(message_of(method.routing_key, properties, body, arguments.session))
            if len(waiting) < BATCH and moved + len(waiting) < arguments.count:
                continue
        if waiting:
            send(sender, waiting)
            channel.basic_ack(last, multiple=True)
            moved += len(waiting)
            waiting = []
        if method is None or moved >= arguments.count:
            break
    channel.cancel()
    return moved


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("queue", help="queue of RabbitMQ")
    parser.add_argument("--to", help="queue or topic of Peeklock [default: the same name]")
    parser.add_argument("--session", metavar="NAME", help="header with the session")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="not more than so many")
    parser.add_argument("--wait", type=float, default=5, help="seconds without a message that mean the end")
    parser.add_argument("--ca", help="authority of the target's certificate, in PEM")
    arguments = parser.parse_args()
    # Here, so that what is above can be used without it.
    import pika

    for name in ("SOURCE", "TARGET"):
        if name not in os.environ:
            sys.exit(f"{name} has no address")
    options = {"connection_verify": arguments.ca} if arguments.ca else {}
    endpoint = parse_connection_string(os.environ["TARGET"]).endpoint.rstrip("/")
    if urllib.parse.urlsplit(endpoint).port and "UseDevelopmentEmulator" not in os.environ["TARGET"]:
        # With TLS the client goes to 5671, whatever port the endpoint has.
        options["custom_endpoint_address"] = endpoint
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["SOURCE"]))
    with ServiceBusClient.from_connection_string(os.environ["TARGET"], **options) as client:
        with client.get_queue_sender(arguments.to or arguments.queue) as sender:
            moved = drain(connection.channel(), sender, arguments)
    connection.close()
    print(f"{moved} messages moved")


if __name__ == "__main__":
    main()
