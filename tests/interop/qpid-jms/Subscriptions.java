import jakarta.jms.Destination;
import jakarta.jms.InvalidDestinationException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.TemporaryTopic;
import jakarta.jms.Topic;
import java.util.Map;

/** What the client makes by asking for it: subscriptions of a topic, and destinations for answers. */
final class Subscriptions {
    static final Map<String, Harness.Scenario> SCENARIOS = Map.of(
            "subscriptions", Subscriptions::subscriptions,
            "replies", Subscriptions::replies);
    /** Names of subscriptions belong to a client, whatever the topic: so no other program has this one. */
    private static final String CLIENT = "interop-qpid-jms";

    private Subscriptions() {}

    private static void subscriptions(Harness.Broker broker) throws Exception {
        String name = broker.queue("subscriptions");
        try (Peer publisher = Peer.connect(broker)) {
            durable(broker, publisher, publisher.session.createTopic(name));
            shared(broker, publisher, publisher.session.createTopic(name));
            passing(broker, publisher, publisher.session.createTopic(name));
        }
    }

    private static void durable(Harness.Broker broker, Peer publisher, Topic topic) throws Exception {
        String red = "colour = 'red'";
        try (Peer mine = Peer.named(broker, CLIENT)) {
            mine.session.createDurableConsumer(topic, "own", red, false).close();
        }
        publisher.send(topic, publisher.coloured("a", "red", 1), publisher.coloured("b", "blue", 1),
                publisher.coloured("c", "red", 1));
        try (Peer mine = Peer.named(broker, CLIENT)) {
            MessageConsumer consumer = mine.session.createDurableConsumer(topic, "own", red, false);
            Peer.expectBodies(consumer, "a");
            // A client that is called so already is not refused as such, but may not share what is not shared.
            try (Peer second = Peer.named(broker, CLIENT)) {
                Harness.refused(JMSException.class, "amqp:resource-locked",
                        () -> second.session.createDurableConsumer(topic, "own", red, false));
                Harness.refused(JMSException.class, "amqp:resource-locked",
                        () -> second.session.unsubscribe("own"));
            }
            Harness.refused(JMSException.class, () -> mine.session.unsubscribe("own"));
            consumer.close();
            // What it had and did not give out is there for the next, and another selector is another subscription.
            consumer = mine.session.createDurableConsumer(topic, "own", red, false);
            Peer.expectBodies(consumer, "c");
            consumer.close();
            consumer = mine.session.createDurableSubscriber(topic, "own");
            publisher.send(topic, publisher.coloured("d", "blue", 1));
            Peer.expectBodies(consumer, "d");
            consumer.close();
            mine.session.unsubscribe("own");
            Harness.refused(InvalidDestinationException.class, () -> mine.session.unsubscribe("own"));
        }
    }

    private static void shared(Harness.Broker broker, Peer publisher, Topic topic) throws Exception {
        // With a client id the subscription is the client's own, without one it is everybody's.
        for (String client : new String[] {CLIENT, null}) {
            try (Peer mine = open(broker, client)) {
                MessageConsumer first = mine.session.createSharedDurableConsumer(topic, "all");
                MessageConsumer second = mine.session.createSharedDurableConsumer(topic, "all");
                publisher.send(topic, publisher.texts("d", "e"));
                expectShared(first, second);
                first.close();
                second.close();
            }
            publisher.send(topic, publisher.texts("d", "e"));
            try (Peer mine = open(broker, client); Peer other = open(broker, client)) {
                MessageConsumer first = mine.session.createSharedDurableConsumer(topic, "all");
                MessageConsumer second = other.session.createSharedDurableConsumer(topic, "all");
                expectShared(first, second);
                first.close();
                second.close();
                other.session.unsubscribe("all");
                Harness.refused(InvalidDestinationException.class, () -> mine.session.unsubscribe("all"));
            }
            try (Peer mine = open(broker, client); Peer other = open(broker, client)) {
                MessageConsumer first = mine.session.createSharedConsumer(topic, "passing");
                MessageConsumer second = other.session.createSharedConsumer(topic, "passing");
                publisher.send(topic, publisher.texts("d", "e"));
                expectShared(first, second);
                first.close();
                second.close();
                publisher.send(topic, publisher.texts("missed"));
                first = mine.session.createSharedConsumer(topic, "passing");
                Harness.expect(first.receive(Harness.EMPTY_MS), null, "message of a subscription that is gone");
            }
        }
    }

    private static Peer open(Harness.Broker broker, String client) throws JMSException {
        return client == null ? Peer.connect(broker, Peer.ONE) : Peer.named(broker, client, Peer.ONE);
    }

    /** Both take from one subscription: what one got the other does not. */
    private static void expectShared(MessageConsumer first, MessageConsumer second) throws JMSException {
        Peer.expectBodies(first, "d");
        Peer.expectBodies(second, "e");
        Harness.expect(first.receiveNoWait(), null, "one more message");
    }

    private static void passing(Harness.Broker broker, Peer publisher, Topic topic) throws Exception {
        try (Peer peer = Peer.connect(broker)) {
            MessageConsumer every = peer.session.createConsumer(topic);
            MessageConsumer red = peer.session.createConsumer(topic, "colour = 'red'");
            MessageConsumer foreign = peer.session.createConsumer(topic, null, true);
            publisher.send(topic, publisher.coloured("f", "blue", 1), publisher.coloured("g", "red", 1));
            Peer.expectBodies(every, "f", "g");
            Peer.expectBodies(red, "g");
            Peer.expectBodies(foreign, "f", "g");
            Harness.expect(red.receiveNoWait(), null, "message that was not selected");
        }
    }

    /** Asks over a destination that is made for the answers; a producer without a destination answers. */
    private static void replies(Harness.Broker broker) throws Exception {
        String queue = broker.queue("replies");
        try (Peer asker = Peer.connect(broker); Peer answerer = Peer.connect(broker)) {
            TemporaryQueue answers = asker.session.createTemporaryQueue();
            TemporaryTopic news = asker.session.createTemporaryTopic();
            for (Destination replyTo : new Destination[] {answers, news}) {
                try (MessageConsumer consumer = asker.session.createConsumer(replyTo)) {
                    Message question = asker.session.createTextMessage("question");
                    question.setJMSReplyTo(replyTo);
                    asker.send(asker.queue(queue), question);
                    Message asked = answerer.taken(queue, 1).get(0);
                    Harness.expect(asked.getJMSReplyTo(), replyTo, "reply to");
                    Harness.refused(JMSException.class, () -> answerer.session.createConsumer(asked.getJMSReplyTo()));
                    answer(answerer, asked);
                    Message answer = Peer.expectOne(consumer, "answer", 1);
                    Harness.expect(answer.getJMSCorrelationID(), question.getJMSMessageID(), "correlation id");
                }
            }
            anonymous(asker.session, broker);
            var gone = answerer.queue(answers.getQueueName());
            answers.delete();
            news.delete();
            Harness.refused(InvalidDestinationException.class, () -> answerer.session.createProducer(gone));
        }
    }

    private static void answer(Peer peer, Message question) throws JMSException {
        try (MessageProducer producer = peer.session.createProducer(null)) {
            Message answer = peer.session.createTextMessage("answer");
            answer.setJMSCorrelationID(question.getJMSMessageID());
            producer.send(question.getJMSReplyTo(), answer);
        }
    }

    /** Each message says where it goes, and one that cannot go there is refused by itself. */
    private static void anonymous(Session session, Harness.Broker broker) throws JMSException {
        try (MessageProducer producer = session.createProducer(null)) {
            Destination nowhere = session.createQueue(broker.queue("there-is-no-such-queue"));
            Message message = session.createTextMessage("lost");
            Harness.refused(JMSException.class, "amqp:not-found", () -> producer.send(nowhere, message));
            Destination queue = session.createQueue(broker.queue("replies"));
            producer.send(queue, session.createTextMessage("by its own address"));
            try (MessageConsumer consumer = session.createConsumer(queue)) {
                Peer.expectBodies(consumer, "by its own address");
            }
        }
    }
}
