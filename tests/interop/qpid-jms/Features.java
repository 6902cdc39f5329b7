import static java.util.Map.entry;

import jakarta.jms.BytesMessage;
import jakarta.jms.InvalidSelectorException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.QueueBrowser;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.Enumeration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.qpid.jms.JmsConnectionFactory;
import org.apache.qpid.jms.message.JmsMessageIDBuilder;
import org.apache.qpid.jms.policy.JmsDefaultMessageIDPolicy;

/** Delays, lifetimes, transactions, selectors and browsers. */
final class Features {
    static final Map<String, Harness.Scenario> SCENARIOS = Map.ofEntries(
            entry("schedule", Features::schedule),
            entry("duplicates", Features::duplicates),
            entry("time-to-live", Features::timeToLive),
            entry("transaction", Features::transaction),
            entry("selectors", Features::selectors),
            entry("browse", Features::browse));

    private Features() {}

    static void sendLater(MessageProducer producer, Message message, long delay) throws JMSException {
        producer.setDeliveryDelay(delay);
        producer.send(message);
    }

    private static void schedule(Harness.Broker broker) throws Exception {
        String queue = broker.queue("schedule");
        try (Peer peer = Peer.connect(broker)) {
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            Message[] messages = peer.texts("later", "sooner", "at once");
            sendLater(producer, messages[0], 4000);
            sendLater(producer, messages[1], 3000);
            sendLater(producer, messages[2], 0);
            MessageConsumer consumer = peer.consumer(queue);
            for (int i : new int[] {2, 1, 0}) {
                Message message = Peer.expectOne(consumer, Peer.body(messages[i]), 1);
                Harness.expect(message.getJMSDeliveryTime(), messages[i].getJMSDeliveryTime(), "delivery time");
                long early = message.getJMSDeliveryTime() - System.currentTimeMillis();
                Harness.expect(early <= 0, true, "it came when it was due");
            }
            peer.expectEmpty(queue);
        }
    }

    /** Gives messages the ids of a list: an application has no other way to choose one. */
    private static final class Ids implements JmsMessageIDBuilder {
        private final List<String> left;

        Ids(String... ids) {
            left = new ArrayList<>(List.of(ids));
        }

        @Override
        public Object createMessageID(String producer, long sequence) {
            return left.remove(0);
        }

        @Override
        public JmsMessageIDBuilder initialize(String producer) {
            return this;
        }
    }

    /** The queue remembers ids for a minute. */
    private static void duplicates(Harness.Broker broker) throws Exception {
        String queue = broker.queue("duplicates");
        JmsConnectionFactory factory = Peer.factory(broker);
        JmsDefaultMessageIDPolicy policy = new JmsDefaultMessageIDPolicy();
        policy.setMessageIDBuilder(new Ids("ID:a", "ID:b", "ID:a", "ID:c", "ID:b", "ID:a"));
        factory.setMessageIDPolicy(policy);
        try (Peer peer = Peer.start(factory.createConnection(), Session.AUTO_ACKNOWLEDGE)) {
            peer.send(queue, "a", "b", "a", "c", "b");
            peer.expectAll(queue, "a", "b", "c");
            peer.send(queue, "after completion");
            peer.expectEmpty(queue);
        }
    }

    /** Messages of the queue live for three seconds at most, and end in the dead-letter queue. */
    private static void timeToLive(Harness.Broker broker) throws Exception {
        String queue = broker.queue("time-to-live");
        // Else the client itself passes over messages that are over, also where the broker keeps them.
        try (Peer peer = Peer.connect(broker, "jms.localMessageExpiry=false")) {
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            Map<String, Long> lifetimes = Map.of("short", 1000L, "long", 3_600_000L, "unset", 0L);
            for (Map.Entry<String, Long> each : lifetimes.entrySet()) {
                producer.setTimeToLive(each.getValue());
                producer.send(peer.session.createTextMessage(each.getKey()));
            }
            Thread.sleep(4000);
            peer.expectEmpty(queue);
            Set<String> bodies = new HashSet<>();
            for (Message dead : peer.taken(queue + Harness.DEAD, lifetimes.size())) {
                Harness.expect(dead.getStringProperty("DeadLetterReason"), "TTLExpiredException", "reason");
                bodies.add(Peer.body(dead));
            }
            Harness.expect(bodies, lifetimes.keySet(), "dead letters");
        }
    }

    /** Takes a message of one queue and sends to another, rolled back and then committed. */
    private static void transaction(Harness.Broker broker) throws Exception {
        String queue = broker.queue("transaction");
        String results = broker.queue("transaction.results");
        try (Peer peer = Peer.connect(broker, Session.SESSION_TRANSACTED); Peer other = Peer.connect(broker)) {
            other.send(queue, "work");
            MessageConsumer consumer = peer.consumer(queue);
            MessageProducer producer = peer.session.createProducer(peer.queue(results));
            Peer.expectOne(consumer, "work", 1);
            producer.send(peer.session.createTextMessage("rolled back"));
            other.expectEmpty(results);
            peer.session.rollback();
            Harness.expect(Peer.body(Peer.one(consumer)), "work", "body");
            producer.send(peer.session.createTextMessage("committed"));
            other.expectEmpty(results);
            peer.session.commit();
            consumer.close();
            other.expectEmpty(queue);
            // Here locks last long: it is the rollback that makes the message come again.
            consumer = peer.consumer(results);
            Peer.expectOne(consumer, "committed", 1);
            peer.session.rollback();
            Peer.expectOne(consumer, "committed", 2);
            peer.session.commit();
            consumer.close();
            other.expectEmpty(results);
            // Within a transaction the client does not wait for what becomes of a message.
            producer.send(peer.session.createTextMessage("not without the other"));
            BytesMessage large = peer.session.createBytesMessage();
            large.writeBytes(new byte[Harness.OVERSIZE]);
            producer.send(large);
            Harness.refused(JMSException.class, "amqp:transaction:rollback", peer.session::commit);
            producer.send(peer.session.createTextMessage("after"));
            peer.session.commit();
            other.expectAll(results, "after");
        }
    }

    private static void selectors(Harness.Broker broker) throws Exception {
        String queue = broker.queue("selectors");
        try (Peer peer = Peer.connect(broker, Peer.INDIVIDUAL, Peer.ONE, "jms.validateSelector=false")) {
            Queue destination = peer.session.createQueue(queue);
            for (String wrong : List.of("colour = ", "size BETWEEN 1")) {
                Harness.refused(JMSException.class, "amqp:invalid-field",
                        () -> peer.session.createConsumer(destination, wrong));
            }
            peer.send(destination, peer.coloured("a", "red", 1), peer.coloured("b", "blue", 5),
                    peer.coloured("c", "red", 9), peer.coloured("d", "green", 5));
            String bigRed = "colour = 'red' AND size BETWEEN 2 AND 9 AND JMSPriority = 4";
            MessageConsumer consumer = peer.session.createConsumer(destination, bigRed);
            Peer.settle(Peer.expectOne(consumer, "c", 1), Peer.MODIFIED_FAILED);
            Peer.settle(Peer.expectOne(consumer, "c", 2), Peer.ACCEPTED);
            Harness.expect(consumer.receiveNoWait(), null, "message that was not selected");
            peer.send(destination, peer.coloured("e", "blue", 3), peer.coloured("f", "red", 3));
            Peer.settle(Peer.expectOne(consumer, "f", 1), Peer.ACCEPTED);
            consumer.close();
        }
        try (Peer peer = Peer.connect(broker)) {
            Queue destination = peer.session.createQueue(queue);
            Harness.refused(InvalidSelectorException.class, () -> peer.session.createConsumer(destination, "size = "));
            // By what the headers of JMS are in AMQP.
            TextMessage typed = peer.session.createTextMessage("typed");
            typed.setJMSType("order");
            typed.setJMSCorrelationID("ID:of-it");
            peer.send(destination, typed);
            String headers = "JMSType = 'order' AND JMSCorrelationID = 'ID:of-it' AND JMSDeliveryMode = 'PERSISTENT'"
                    + " AND JMSMessageID = '" + typed.getJMSMessageID() + "' AND JMSXGroupID IS NULL"
                    + " AND JMSTimestamp = " + typed.getJMSTimestamp();
            try (MessageConsumer consumer = peer.session.createConsumer(destination, headers)) {
                Peer.expectBodies(consumer, "typed");
            }
            peer.expectAll(queue, "a", "b", "d", "e");
        }
    }

    private static void browse(Harness.Broker broker) throws Exception {
        String queue = broker.queue("browse");
        try (Peer holder = Peer.connect(broker, Session.CLIENT_ACKNOWLEDGE, Peer.ONE);
                Peer peer = Peer.connect(broker)) {
            Queue destination = peer.session.createQueue(queue);
            Harness.expect(seen(peer.session.createBrowser(destination)), List.of(), "seen of nothing");
            peer.send(destination, peer.coloured("a", "red", 1), peer.coloured("b", "blue", 5),
                    peer.coloured("c", "red", 9));
            MessageConsumer consumer = holder.consumer(queue);
            Message held = Peer.expectOne(consumer, "a", 1);
            Harness.expect(seen(peer.session.createBrowser(destination)), List.of("a", "b", "c"), "seen");
            peer.send(destination, peer.coloured("d", "red", 3));
            List<String> reds = seen(peer.session.createBrowser(destination, "colour = 'red'"));
            Harness.expect(reds, List.of("a", "c", "d"), "seen of a colour");
            held.acknowledge();
            consumer.close();
            try (Peer small = Peer.connect(broker, "jms.prefetchPolicy.all=1")) {
                QueueBrowser browser = small.session.createBrowser(small.session.createQueue(queue));
                Harness.expect(seen(browser), List.of("b", "c", "d"), "seen one by one");
            }
            peer.expectAll(queue, "b", "c", "d");
        }
    }

    private static List<String> seen(QueueBrowser browser) throws JMSException {
        List<String> bodies = new ArrayList<>();
        Enumeration<?> messages = browser.getEnumeration();
        while (messages.hasMoreElements()) {
            bodies.add(Peer.body((Message) messages.nextElement()));
        }
        browser.close();
        return bodies;
    }
}
