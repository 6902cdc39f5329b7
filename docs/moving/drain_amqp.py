"""Moves messages from any broker that speaks AMQP 1.0 to a queue or topic of Peeklock.

    pip install python-qpid-proton
    export SOURCE='amqp://guest:guest@old.example:5672'
    export TARGET='amqps://RULE:KEY@new.example:5671'       # / and + of the key as %2F and %2B
    python drain_amqp.py ADDRESS ENTITY

ADDRESS is what the old broker calls the queue, ENTITY a queue or topic of Peeklock:

    Peeklock, Azure Service Bus             orders, or news/Subscriptions/all
    ActiveMQ Classic and Artemis            orders
    RabbitMQ                                see drain_rabbitmq.py instead, which keeps the headers

A message is acknowledged at the old broker when Peeklock has accepted it. If this program is killed
between the two, the message is at both. What Peeklock refuses, for its size for example, stays where it
is, and the exit code is 1.

--session NAME takes the session of a message from this application property; `group-id`, where JMS keeps
JMSXGroupID, is the session as it is. --ids numbers the ids of messages that have none, so that a queue
that detects duplicates takes them.
"""

import argparse
import collections
import os
import sys
import urllib.parse

from proton import SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container

CREDIT = 200


class Drain(MessagingHandler):
    def __init__(self, arguments):
        # Credit is given by hand, and what came is settled when the other side has it.
        super().__init__(prefetch=0, auto_accept=False)
        self.arguments = arguments
        self.waiting, self.on_the_way = [], {}
        self.moved, self.numbered, self.refused, self.reasons = 0, 0, [], []
        self.broken = None

    def on_start(self, event):
        self.container = event.container
        self.source = self.container.create_receiver(self.connect("SOURCE"), self.arguments.address)
        self.target = self.container.create_sender(self.connect("TARGET"), self.arguments.entity)
        self.source.flow(CREDIT)
        self.quiet = self.container.schedule(self.arguments.wait, self)

    def connect(self, variable):
        url = os.environ.get(variable) or sys.exit(f"{variable} has no address")
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "amqps"
        options = {"allowed_mechs": "PLAIN" if parts.username else "ANONYMOUS", "reconnect": False}
        if secure:
            domain = SSLDomain(SSLDomain.MODE_CLIENT)
            if self.arguments.ca and variable == "TARGET":
                domain.set_trusted_ca_db(self.arguments.ca)
            domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
            options["ssl_domain"] = domain
        if parts.username:
            user, password = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
            options |= {"user": user, "password": password, "allow_insecure_mechs": True}
        address = f"{parts.scheme}://{parts.hostname}:{parts.port or (5671 if secure else 5672)}"
        return self.container.connect(address, **options)

    def on_message(self, event):
        message = event.message
        if self.arguments.session:
            message.group_id = str((message.properties or {}).get(self.arguments.session, "")) or None
        if self.arguments.ids and message.id is None:
            self.numbered += 1
            message.id = f"{self.arguments.address}-{os.getpid()}-{self.numbered}"
        # What the old broker said of the delivery, and of how often it tried, is of no use here.
        message.instructions = None
        message.delivery_count, message.first_acquirer = 0, False
        message.durable = True
        self.waiting.append((message, event.delivery))
        self.forward()

    def on_sendable(self, _event):
        self.forward()

    def forward(self):
        while self.waiting and self.target.credit:
            message, came = self.waiting.pop(0)
            self.on_the_way[self.target.send(message)] = came
        self.wait_again()

    def on_accepted(self, event):
        if came := self.on_the_way.pop(event.delivery, None):
            self.accept(came)
            self.moved += 1
            self.more()

    def on_rejected(self, event):
        if came := self.on_the_way.pop(event.delivery, None):
            condition = event.delivery.remote.condition
            self.reasons.append(condition.description or condition.name if condition else "no reason")
            # Given back at the end, or it would come again at once.
            self.refused.append(came)
            self.more()

    def more(self):
        if self.moved < self.arguments.count:
            self.source.flow(1)
        self.wait_again()

    def wait_again(self):
        """The end comes when nothing has happened for a while."""
        self.quiet.cancel()
        self.quiet = self.container.schedule(self.arguments.wait, self)

    def on_timer_task(self, _event):
        for came in [*self.refused, *(came for _, came in self.waiting)]:
            self.release(came, delivered=False)
        self.waiting.clear()
        self.source.connection.close()
        self.target.connection.close()

    def on_transport_error(self, event):
        self.fail(event.transport.condition)

    def on_link_error(self, event):
        self.fail(event.link.remote_condition)

    def on_connection_error(self, event):
        self.fail(event.connection.remote_condition)

    def fail(self, condition):
        self.broken = self.broken or f"{condition.name}: {condition.description}"
        self.quiet.cancel()
        self.on_timer_task(None)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="the queue at the old broker, by its AMQP 1.0 address")
    parser.add_argument("entity", help="queue or topic of Peeklock")
    parser.add_argument("--session", metavar="NAME", help="application property with the session")
    parser.add_argument("--ids", action="store_true", help="give an id to messages without one")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="not many more than so many")
    parser.add_argument("--wait", type=float, default=5, help="seconds without a message that mean the end")
    parser.add_argument("--ca", help="authority of the target's certificate, in PEM")
    drain = Drain(parser.parse_args())
    Container(drain).run()
    for reason, times in collections.Counter(drain.reasons).items():
        print(f"{times} refused and left: {reason}")
    print(f"{drain.moved} messages moved")
    if drain.broken:
        sys.exit(f"ended early: {drain.broken}")
    return 1 if drain.refused else 0


if __name__ == "__main__":
    sys.exit(main())
