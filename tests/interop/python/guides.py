"""The programs of the guides in docs, as they stand there, between namespaces of the broker under test."""

import datetime
import os
import subprocess
import sys
import tomllib
import types
import urllib.parse

from azure.core.pipeline.transport import RequestsTransport
from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.management import AccessRights, AuthorizationRule, ServiceBusAdministrationClient

import harness
from harness import expect
from sync_client import body, receive
from testing import Namespace

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "docs", "moving")
SHOP = {
    "queue": [
        {"name": "orders", "forward_dead_lettered_messages_to": "dead", "default_message_time_to_live": "14d"},
        {"name": "dead"},
        # Made before what it forwards to, if the names were all.
        {"name": "arrivals", "forward_to": "news"},
        {"name": "baskets", "requires_session": True, "duplicate_detection_history_time_window": "10m"},
        {"name": "closed", "status": "send-disabled"},
    ],
    "topic": [
        {
            "name": "news",
            "subscription": [
                {"name": "all"},
                {
                    "name": "some",
                    "max_delivery_count": 3,
                    "forward_to": "orders",
                    "rule": [
                        {"name": "sql", "sql_filter": "priority >= 5", "sql_action": "SET urgent = TRUE"},
                        {"name": "fields", "correlation_filter": {"reply_to": "desk", "properties": {"n": 7}}},
                        {"name": "nothing", "sql_filter": "1=0"},
                    ],
                },
            ],
        }
    ],
}
KEY = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="


class Plain(RequestsTransport):
    def send(self, request, **options):
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **options)


def admin_of(namespace):
    return ServiceBusAdministrationClient.from_connection_string(
        namespace.connection_string, transport=Plain()
    )


def run(program, *arguments, code=0, **variables):
    """The lines that a program writes."""
    done = subprocess.run(
        [sys.executable, os.path.join(PROGRAMS, program), *arguments],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **variables},
    )
    expect(done.returncode, code, f"{program}: {done.stdout[-300:]} {done.stderr[-600:]}")
    return done.stdout.splitlines()


def move_entities(broker):
    with Namespace(broker, **SHOP) as source, Namespace(broker) as target:
        both = {"SOURCE": source.connection_string, "TARGET": target.connection_string}
        rule = AuthorizationRule(
            claim_type="SharedAccessKey", claim_value="None", type="SharedAccessAuthorizationRule",
            rights=[AccessRights.SEND], key_name="clerk", primary_key=KEY, secondary_key=KEY,
        )
        with admin_of(source) as admin:
            orders = admin.get_queue("orders")
            orders.authorization_rules = [rule]
            admin.update_queue(orders)
        expect(run("copy_topology.py", **both)[-1], "8 entities, 0 failures")
        expect(run("copy_topology.py", "--check", **both)[-1], "8 entities, 0 differences")
        with admin_of(target) as admin:
            (copied,) = admin.get_queue("orders").authorization_rules
            expect((copied.key_name, copied.primary_key), ("clerk", KEY))
            admin.delete_rule("news", "some", "sql")
            dead = admin.get_queue("dead")
            dead.max_delivery_count = 77
            admin.update_queue(dead)
        lines = run("copy_topology.py", "--check", code=1, **both)
        expect("dead: max_delivery_count: 10 there, 77 here" in lines, True, lines)
        expect("news/Subscriptions/some: rule sql differs" in lines, True, lines)
        expect(lines[-1], "8 entities, 2 differences")
        run("copy_topology.py", **both)
        expect(run("copy_topology.py", "--check", **both)[-1], "8 entities, 0 differences")


def fill(client, later):
    with client.get_queue_sender("orders") as sender:
        sender.send_messages([
            ServiceBusMessage(
                f"order {number}", message_id=f"id-{number}", subject="order", correlation_id="c",
                content_type="text/plain", application_properties={"table": number, "price": 2.5, "paid": True},
                time_to_live=datetime.timedelta(hours=1) if number == 0 else None,
            )
            for number in range(150)
        ])
        sender.schedule_messages(ServiceBusMessage("later", message_id="later"), later)
        sender.send_messages([ServiceBusMessage("bad"), ServiceBusMessage("put aside")])
    with client.get_queue_receiver("orders") as receiver:
        for message in receive(receiver, 152):
            if str(message) == "bad":
                receiver.dead_letter_message(message, reason="no table", error_description="none named")
            elif str(message) == "put aside":
                receiver.defer_message(message)
            else:
                receiver.abandon_message(message)
    with client.get_queue_sender("baskets") as sender:
        for session in ("a", "b"):
            for number in range(3):
                sender.send_messages(ServiceBusMessage(f"{session}{number}", session_id=session))
    with client.get_queue_receiver("baskets", session_id="a") as receiver:
        receiver.session.set_state(b"half full")


def move_messages(broker):
    queues = [{"name": "orders"}, {"name": "baskets", "requires_session": True}, {"name": "dead"}]
    later = harness.now() + harness.seconds(3600)
    with Namespace(broker, queue=queues) as source, Namespace(broker, queue=queues) as target:
        both = {"SOURCE": source.connection_string, "TARGET": target.connection_string}

        def move(*arguments):
            return run("move_messages.py", *arguments, "--wait", "2", **both)

        with source.client() as client:
            fill(client, later)
        moved = move("orders", "--scheduled")
        expect(moved, [
            "1 deferred messages are left", "150 messages moved", "1 scheduled messages moved",
        ])
        expect(move("orders", "--dead-letters", "--to", "dead"), ["1 messages moved"])
        expect(move("baskets", "--sessions"), ["6 messages moved"])
        with target.client() as client:
            with client.get_queue_receiver("orders") as receiver:
                messages = receive(receiver, 150)
                expect([str(m) for m in messages], [f"order {number}" for number in range(150)])
                first = messages[0]
                expect((first.message_id, first.subject, first.content_type), ("id-0", "order", "text/plain"))
                expect(first.application_properties, {b"table": 0, b"price": 2.5, b"paid": True})
                left = first.expires_at_utc - harness.now()
                expect(harness.seconds(3000) < left < harness.seconds(3600), True, left)
                # Abandoned there, new here.
                expect({m.delivery_count for m in messages}, {0})
                (scheduled,) = receiver.peek_messages(10, sequence_number=messages[-1].sequence_number + 1)
                expect((str(scheduled), scheduled.scheduled_enqueue_time_utc), ("later", later))
            with client.get_queue_receiver("dead") as receiver:
                (message,) = receive(receiver, 1)
                expect(message.application_properties[b"DeadLetterReason"], b"no table")
            for session, state in (("a", b"half full"), ("b", None)):
                with client.get_queue_receiver("baskets", session_id=session) as receiver:
                    expect(receiver.session.get_state(), state)
                    expect([str(m) for m in receive(receiver, 3)], [f"{session}{n}" for n in range(3)])
        with source.client() as client:
            with client.get_queue_receiver("orders") as receiver:
                expect([str(m) for m in receiver.peek_messages(10)], ["put aside"])
            with client.get_queue_receiver("orders", sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
                expect(receiver.peek_messages(10), [])


def move_amqp(broker):
    """Peeklock is the old broker as well: any that speaks AMQP 1.0 will do."""
    ordered = {"requires_session": True, "duplicate_detection_history_time_window": "10m"}
    new = [{"name": "orders", **ordered}, {"name": "small", "max_message_size": "4 KiB"}]

    def url(namespace):
        key = urllib.parse.quote(namespace.control.key, safe="")
        return f"amqp://{namespace.control.rule}:{key}@{broker.host}:{broker.port}"

    with Namespace(broker, queue=[{"name": "old"}, {"name": "sizes"}]) as source:
        with Namespace(broker, queue=new) as target:
            both = {"SOURCE": url(source), "TARGET": url(target)}
            with source.client() as client:
                with client.get_queue_sender("old") as sender:
                    properties = [{"customer": f"c{number % 2}"} for number in range(500)]
                    sender.send_messages([
                        ServiceBusMessage(str(number), application_properties=one)
                        for number, one in enumerate(properties)
                    ])
                with client.get_queue_sender("sizes") as sender:
                    sender.send_messages([ServiceBusMessage(text) for text in ("x", "x" * 8000, "y")])
            options = ("--session", "customer", "--ids", "--wait", "2")
            expect(run("drain_amqp.py", "old", "orders", *options, **both), ["500 messages moved"])
            with target.client() as client:
                with client.get_queue_receiver("orders", session_id="c1") as receiver:
                    messages = receive(receiver, 250)
                    expect([str(m) for m in messages], [str(n) for n in range(1, 500, 2)])
                    expect(len({m.message_id for m in messages}), 250)
            lines = run("drain_amqp.py", "sizes", "small", "--wait", "2", code=1, **both)
            expect((len(lines), lines[-1]), (2, "2 messages moved"), lines)
            with source.client() as client, client.get_queue_receiver("sizes") as receiver:
                (left,) = receive(receiver, 1)
                expect((len(body(left)), left.delivery_count), (8000, 0))
            with target.client() as client:
                from_rabbitmq(client)
            missing = run("drain_amqp.py", "nothing", "small", code=1, **both)
            expect(missing, ["0 messages moved"])


def from_rabbitmq(client):
    """What the program for RabbitMQ makes of a message; RabbitMQ itself is not run here."""
    sys.path.insert(0, PROGRAMS)
    import drain_rabbitmq

    headers = {"customer": "c9", "table": 7, "paid": True, "tags": ["a", {"b": 1}], "x-death": [{"count": 1}]}
    properties = types.SimpleNamespace(
        message_id="m1", correlation_id="c", content_type="text/plain", reply_to="answers", priority=5,
        expiration="3600000", type="order", app_id="shop", timestamp=None, headers=headers,
    )
    with client.get_queue_sender("orders") as sender:
        drain_rabbitmq.send(sender, [drain_rabbitmq.message_of("order.paid", properties, b"two", "customer")])
    with client.get_queue_receiver("orders", session_id="c9") as receiver:
        (message,) = receive(receiver, 1)
        expect((body(message), message.subject, message.message_id), (b"two", "order.paid", "m1"))
        expect((message.correlation_id, message.content_type, message.reply_to), ("c", "text/plain", "answers"))
        expect(message.time_to_live, harness.seconds(3600))
        wanted = {b"customer": b"c9", b"table": 7, b"paid": True, b"tags": b'["a", {"b": 1}]'}
        expect(message.application_properties, {**wanted, b"type": b"order", b"app_id": b"shop"})


def guides(broker):
    """The programs that the guides show for Peeklock, with the entities that they show."""

    def here(program, namespace):
        """The program as it stands in the guide, but for the place and the key."""
        with open(os.path.join(PROGRAMS, program), encoding="utf-8") as file:
            text = file.read()
        parts = dict(part.split("=", 1) for part in namespace.connection_string.split(";") if part)
        for old, new in (
            ("sb://localhost", parts["Endpoint"]),
            ("localhost:5672", f"{broker.host}:{broker.port}"),
            ("RootManageSharedAccessKey", parts["SharedAccessKeyName"]),
            ("SAS_KEY_VALUE", parts["SharedAccessKey"]),
        ):
            text = text.replace(old, new)
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
        )
        expect(done.returncode, 0, f"{program}: {done.stderr[-600:]}")
        return done.stdout

    with open(os.path.join(PROGRAMS, "shop.toml"), "rb") as file:
        shop = tomllib.load(file)
    with Namespace(broker, **shop) as namespace:
        expect(here("rabbitmq_after.py", namespace), "shipped order 1\nin the dead-letter queue: broken order\n")
    with Namespace(broker, **shop) as namespace:
        expect(here("amqp_worker.py", namespace), "shipped order 1\n")


SCENARIOS = {
    "move-entities": move_entities,
    "move-messages": move_messages,
    "move-amqp": move_amqp,
    "guides": guides,
}
