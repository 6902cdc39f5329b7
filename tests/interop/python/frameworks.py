"""Kombu and Celery, which make their own queues: both clients of the SDK behind a broker's URL."""

import contextlib
import os
import socket
from unittest import mock

import celery
import kombu
from celery.worker import state

from harness import KEY, RULE, expect

# Kombu insists on a host name of Azure, and speaks TLS. The name service and the list of authorities are
# the machine's; here they are set for the process.
HOST = "peeklock.servicebus.windows.net"
URL = f"azureservicebus://{RULE}:{KEY}@{HOST}"


@contextlib.contextmanager
def machine_of(broker):
    """A machine where the name is the broker's, and its authority is trusted."""
    authority = os.path.join(os.environ["INTEROP_CERTIFICATES"], "ca.pem")
    resolve = socket.getaddrinfo

    def resolve_ours(host, port, *args, **options):
        ours = host in (HOST, HOST.encode())
        host, port = (broker.host, broker.port) if ours else (host, port)
        return resolve(host, port, *args, **options)

    with (
        mock.patch.dict(os.environ, REQUESTS_CA_BUNDLE=authority),
        mock.patch("certifi.where", lambda: authority),
        mock.patch("socket.getaddrinfo", resolve_ours),
    ):
        yield


def options(broker, scenario):
    return {
        "queue_name_prefix": f"{broker.queue(scenario)}.",
        "wait_time_seconds": 1,
        "peek_lock_seconds": 30,
        "retry_total": 0,
    }


def use_kombu(broker):
    with machine_of(broker), kombu.Connection(
        URL, transport_options=options(broker, "kombu")
    ) as connection:
        queue = connection.SimpleQueue("meals")
        queue.clear()
        for meal in ("soup", "fish", "cake"):
            queue.put({"meal": meal})
        expect(queue.qsize(), 3, "messages in the queue")
        soup = queue.get(timeout=10)
        expect(soup.payload, {"meal": "soup"})
        soup.ack()
        fish = queue.get(timeout=10)
        expect(fish.payload, {"meal": "fish"})
        fish.ack()
        expect(queue.qsize(), 1, "messages in the queue")
        expect(queue.clear(), 1, "purged")
        expect(queue.qsize(), 0, "messages in the queue")
        queue.queue.delete()
        queue.close()


def use_celery(broker):
    app = celery.Celery("kitchen", broker=URL)
    app.conf.update(
        broker_transport_options=options(broker, "celery"),
        # There is no exchange that reaches all workers.
        worker_enable_remote_control=False,
        task_default_queue="orders",
        task_acks_late=True,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
    )
    cooked = []

    @app.task(name="kitchen.cook")
    def cook(meal, portions):
        cooked.append((meal, portions))
        if len(cooked) == 3:
            # Looked at when the message of this task is acknowledged.
            state.should_stop = True

    with machine_of(broker):
        for portions in (1, 2, 3):
            cook.delay("soup", portions=portions)
        worker = app.Worker(
            pool="solo", without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True
        )
        worker.start()
    expect(cooked, [("soup", 1), ("soup", 2), ("soup", 3)], "cooked")


SCENARIOS = {"kombu": use_kombu, "celery": use_celery}
