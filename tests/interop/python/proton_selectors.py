"""proton with selectors, which its own filter option puts on a link, and with links that only look."""

from proton import Delivery, Link, Message, Terminus, symbol
from proton.reactor import Filter, LinkOption, Selector

from harness import expect
from proton_features import refused, send_messages
from proton_links import Connected, Receiver, expect_empty

BIG_RED = "colour = 'red' AND size BETWEEN 2 AND 9"


def select(connection, address, text):
    return Receiver(connection, address, options=[Selector(text)])


def filters_of(receiver):
    filters = receiver.link.remote_source.filter
    filters.rewind()
    return filters.get_object() if filters.next() else None


def coloured(text, colour, size):
    return Message(body=text, properties={"colour": colour, "size": size})


class Browser(LinkOption):
    """Asks for copies, settled, as the queue browser of qpid-jms does."""

    def apply(self, link):
        link.source.distribution_mode = Terminus.DIST_MODE_COPY
        link.snd_settle_mode = Link.SND_SETTLED

    def test(self, link):
        return True


def browse(broker):
    queue = broker.queue("browse")
    with Connected(broker) as connection:
        messages = [("a", "red", 1), ("b", "blue", 5), ("c", "red", 9)]
        send_messages(connection, queue, *(coloured(*message) for message in messages))
        holder = Receiver(connection, queue)
        held, delivery = holder.one()
        browser = Receiver(connection, queue, options=[Browser()])
        seen = [browser.one() for _ in messages]
        expect([message.body for message, _ in seen], ["a", "b", "c"], "seen")
        expect([delivery.settled for _, delivery in seen], [True] * 3, "settled")
        # A queue browser asks for more and drains to find the end.
        browser.link.flow(10)
        browser.drain()
        send_messages(connection, queue, coloured("d", "red", 3))
        expect(browser.one()[0].body, "d", "seen when it came")
        browser.close()
        reds = Receiver(connection, queue, options=[Browser(), Selector("colour = 'red'")])
        expect([reds.one()[0].body for _ in range(3)], ["a", "c", "d"], "seen of a colour")
        reds.close()
        holder.accept(delivery)
        for wanted in ("b", "c", "d"):
            message, delivery = holder.one()
            expect((message.body, message.delivery_count), (wanted, 0), "what is left")
            holder.accept(delivery)
        holder.close()
        expect_empty(connection, queue)


def selectors(broker):
    queue = broker.queue("selectors")
    with Connected(broker) as connection:
        for text in ("colour = ", "size BETWEEN 1"):
            refused("amqp:invalid-field", lambda text=text: select(connection, queue, text))
        messages = [("a", "red", 1), ("b", "blue", 5), ("c", "red", 9), ("d", "green", 5)]
        send_messages(connection, queue, *(coloured(*message) for message in messages))
        receiver = select(connection, queue, BIG_RED)
        filters = filters_of(receiver)
        expect([value.value for value in filters.values()], [BIG_RED], "filter in place")
        message, delivery = receiver.one()
        expect(message.body, "c", "selected")
        receiver.settle(delivery, Delivery.MODIFIED)
        message, delivery = receiver.one()
        expect((message.body, message.delivery_count), ("c", 1), "selected again")
        receiver.accept(delivery)
        # The next to come is for the credit given now, and the others are not.
        receiver.link.flow(1)
        send_messages(connection, queue, coloured("e", "blue", 3), coloured("f", "red", 3))
        message, delivery = receiver.take()
        expect(message.body, "f", "selected when it came")
        receiver.accept(delivery)
        receiver.close()
        unknown = Receiver(connection, queue, options=[Filter({symbol("x"): "y"})])
        expect(filters_of(unknown), None, "filters in place")
        for wanted in ("a", "b", "d", "e"):
            message, delivery = unknown.one()
            expect((message.body, message.delivery_count), (wanted, 0), "what is left")
            unknown.accept(delivery)
        unknown.close()
        expect_empty(connection, queue)


SCENARIOS = {"selectors": selectors, "browse": browse}
