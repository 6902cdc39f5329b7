"""A broker under test control: a namespace for each test, a clock of its own, and faults."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import time
import urllib.parse
import urllib.request
import uuid

from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import MessageLockLostError, ServiceBusServerBusyError, SessionLockLostError

import harness
from harness import expect
from sync_client import body, raises, receive, send


class Control:
    """The requests of one namespace; without one, of the default one."""

    def __init__(self, broker, rule=harness.RULE, key=harness.KEY):
        self.address = f"{broker.host}:{broker.port}"
        self.rule, self.key = rule, key

    def token(self):
        resource = urllib.parse.quote(f"sb://{self.address}/", safe="")
        expiry = int(time.time()) + 3600
        signed = hmac.digest(self.key.encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256)
        signature = urllib.parse.quote(base64.b64encode(signed), safe="")
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={self.rule}"

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://{self.address}/$peeklock/{path}",
            method=method,
            headers={"Authorization": self.token()},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class Namespace:
    """A namespace as long as a test takes."""

    def __init__(self, broker, **wanted):
        self.broker, self.wanted = broker, wanted
        self.name = f"test-{uuid.uuid4().hex}"

    def __enter__(self):
        made = Control(self.broker).ask("PUT", f"namespaces/{self.name}", self.wanted)
        self.connection_string = made["connectionString"]
        self.control = Control(self.broker, made["rule"], made["key"])
        return self

    def __exit__(self, *_):
        Control(self.broker).ask("DELETE", f"namespaces/{self.name}")

    def client(self, **options):
        return ServiceBusClient.from_connection_string(self.connection_string, **options)


def namespace_per_test(broker):
    """Sixty tests over the same queue and host, eight at a time: none sees another's messages."""

    def test(number):
        queues = [{"name": "orders", "lock_duration": "1m"}]
        with Namespace(broker, queue=queues, virtual_time=True) as namespace, namespace.client() as client:
            send(client, "orders", f"of {number}")
            with client.get_queue_receiver("orders") as receiver:
                (first,) = receive(receiver, 1)
                expect(body(first), f"of {number}".encode())
                if number % 3 != 0:
                    receiver.abandon_message(first)
            if number % 3 == 0:
                # The lock ends: a minute passes for this test alone.
                advance = {"operation": "advance", "milliseconds": 60_000}
                expect(namespace.control.ask("POST", "clock", advance)["state"], "running")
            with client.get_queue_receiver("orders") as receiver:
                (again,) = receive(receiver, 1)
                expect(body(again), f"of {number}".encode())
                receiver.complete_message(again)
                expect(receiver.receive_messages(1, max_wait_time=0.2), [])
        return namespace.name

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = set(pool.map(test, range(60)))
    left = Control(broker).ask("GET", "namespaces")["namespaces"]
    expect([one["name"] for one in left if one["name"] in made], [])


def faults(broker):
    """The client goes on after what it may try again, and raises what it cannot mend."""
    queues = [{"name": "q"}, {"name": "s", "requires_session": True}]
    with Namespace(broker, queue=queues) as namespace:

        def inject(**fault):
            return namespace.control.ask("POST", "faults", fault)

        with namespace.client(retry_backoff_factor=0.1) as client:
            with client.get_queue_sender("q") as sender:
                inject(fault="server-busy", entity="q", times=2)
                sender.send_messages(ServiceBusMessage("after a busy server"))
                inject(fault="drop-link", entity="q")
                sender.send_messages(ServiceBusMessage("after a dropped link"))
                inject(fault="drop-connection", entity="q")
                sender.send_messages(ServiceBusMessage("after a dropped connection"))
                inject(fault="drop-link", entity="q", now=True)
                sender.send_messages(ServiceBusMessage("after a link that was dropped before"))
                inject(fault="server-busy", entity="q", times=100)
                raises(ServiceBusServerBusyError, lambda: sender.send_messages(ServiceBusMessage("no")))
                namespace.control.ask("DELETE", "faults")
                inject(fault="delay", entity="q", milliseconds=1500)
                began = time.monotonic()
                sender.send_messages(ServiceBusMessage("late"))
                expect(1.4 < time.monotonic() - began, True, "the answer came late")
            expect(namespace.control.ask("GET", "faults"), {"faults": []})
            with client.get_queue_receiver("q") as receiver:
                messages = receive(receiver, 5)
                expect(body(messages[0]), b"after a busy server")
                inject(fault="lock-lost", entity="q")
                raises(MessageLockLostError, lambda: receiver.complete_message(messages[0]))
                receiver.complete_message(messages[1])
                (again,) = receive(receiver, 1)
                expect((body(again), again.delivery_count), (b"after a busy server", 1))
            with client.get_queue_sender("s") as sender:
                sender.send_messages(ServiceBusMessage("1", session_id="a"))
            with client.get_queue_receiver("s", session_id="a") as receiver:
                (message,) = receive(receiver, 1)
                inject(fault="session-lock-lost", entity="s", session="a")
                raises(SessionLockLostError, lambda: receiver.complete_message(message))


SCENARIOS = {"namespace-per-test": namespace_per_test, "faults": faults}
