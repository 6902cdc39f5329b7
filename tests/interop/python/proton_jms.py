"""proton with links as qpid-jms attaches them: subscriptions by name, shared and not, found and deleted."""

from proton import Data, Link, Message, Terminus, symbol
from proton.reactor import Container, DurableSubscription, LinkOption, Selector

from harness import expect
from proton_features import refused, send_messages
from proton_links import Connected, Receiver, SettleMode, connect, send
from proton_selectors import coloured


class Capabilities(LinkOption):
    """What qpid-jms says of the destination."""

    def __init__(self, *names):
        self.names = names

    def apply(self, link):
        link.source.capabilities.put_array(False, Data.SYMBOL)
        link.source.capabilities.enter()
        for name in self.names:
            link.source.capabilities.put_symbol(symbol(name))
        link.source.capabilities.exit()

    def test(self, link):
        return True


class NoSource(LinkOption):
    def apply(self, link):
        link.source.type = Terminus.UNSPECIFIED

    def test(self, link):
        return True


def client(broker, name):
    """A connection whose container, and so whose JMS client, is called so."""
    container = Container()
    container.container_id = name
    return connect(broker, container=container)


def subscribe(connection, topic, name, *options):
    modes = SettleMode(Link.SND_UNSETTLED, Link.RCV_FIRST)
    return Receiver(connection, topic, options=[modes, *options], name=name)


def durable(connection, topic, name, *options, kinds=("topic",)):
    return subscribe(connection, topic, name, DurableSubscription(), Capabilities(*kinds), *options)


def leave(receiver):
    """As a JMS consumer closes: what it had subscribed to is kept."""
    receiver.link.detach()
    receiver.connection.wait(lambda: receiver.queue.left, msg="the answer to the detach")
    receiver.link.free()


def expect_taken(receiver, *wanted):
    for body in wanted:
        message, delivery = receiver.one()
        expect(message.body, body, "body")
        receiver.accept(delivery)


def unsubscribe(connection, name):
    """An attach without a source finds the subscription, and closing it deletes it."""
    found = Receiver(connection, None, options=[NoSource()], name=name)
    source = found.link.remote_source
    expect(source.durability, Terminus.DELIVERIES, "durability of what was found")
    address = source.address
    found.close()
    return address


def subscriptions(broker):
    topic = broker.topic("subscriptions")
    with Connected(broker) as publisher:
        mine = client(broker, "interop")
        receiver = durable(mine, topic, "own", Selector("colour = 'red'"))
        leave(receiver)
        messages = [("a", "red", 1), ("b", "blue", 2), ("c", "red", 3)]
        send_messages(publisher, topic, *(coloured(*message) for message in messages))
        mine.close()
        mine = client(broker, "interop")
        receiver = durable(mine, topic, "own", Selector("colour = 'red'"))
        expect_taken(receiver, "a")
        receiver.link.flow(1)
        receiver.take()
        # What it had and did not settle is there for the next.
        leave(receiver)
        receiver = durable(mine, topic, "own", Selector("colour = 'red'"))
        expect_taken(receiver, "c")
        same = client(broker, "interop")
        refused("amqp:resource-locked", lambda: durable(same, topic, "own"))
        same.close()
        leave(receiver)
        expect(unsubscribe(mine, "own"), topic, "address of what was found")
        refused("amqp:not-found", lambda: Receiver(mine, None, options=[NoSource()], name="own"))

        kinds = ("topic", "shared", "global")
        first = durable(mine, topic, "all|global", kinds=kinds)
        other = client(broker, "other")
        second = durable(other, topic, "all|global2", kinds=kinds)
        send(publisher, topic, "d", "e")
        expect_taken(first, "d")
        expect_taken(second, "e")
        leave(first)
        leave(second)

        passing = subscribe(mine, topic, "qpid-jms:receiver:1", Capabilities("topic"))
        send(publisher, topic, "f")
        expect_taken(passing, "f")
        passing.close()
        mine.close()
        other.close()


def replies(broker):
    """Asks over a queue that is made for the answers, and answers by a link without an address."""
    queue = broker.queue("replies")
    with Connected(broker) as asker, Connected(broker) as answerer:
        answers = Receiver(asker, None, dynamic=True)
        address = answers.link.remote_source.address
        send_messages(asker, queue, Message(body="question", reply_to=address))
        requests = Receiver(answerer, queue)
        message, delivery = requests.one()
        requests.accept(delivery)
        refused("amqp:not-allowed", lambda: Receiver(answerer, message.reply_to))
        relay = answerer.create_sender(None)
        relay.send(Message(body="answer", address=message.reply_to))
        relay.close()
        expect_taken(answers, "answer")
        requests.close()
        answers.close()
        refused("amqp:not-found", lambda: answerer.create_sender(address))


SCENARIOS = {"subscriptions": subscriptions, "replies": replies}
