import static java.util.Map.entry;

import jakarta.jms.BytesMessage;
import jakarta.jms.CompletionListener;
import jakarta.jms.DeliveryMode;
import jakarta.jms.InvalidDestinationException;
import jakarta.jms.JMSException;
import jakarta.jms.JMSSecurityException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.qpid.jms.JmsConnectionFactory;

/** Sending to a queue, receiving and settling. */
final class Queues {
    static final Map<String, Harness.Scenario> SCENARIOS = Map.ofEntries(
            entry("send-one", Queues::sendOne),
            entry("batch-100", Queues::batch),
            entry("large", Queues::large),
            entry("complete", Queues::complete),
            entry("abandon", Queues::abandon),
            entry("dead-letter", Queues::deadLetter),
            entry("max-delivery", Queues::maxDelivery),
            entry("lock-expiry", Queues::lockExpiry),
            entry("receive-and-delete", Queues::receiveAndDelete),
            entry("prefetch", Queues::prefetch),
            entry("drain", Queues::drain),
            entry("wrong-key", Queues::wrongKey),
            entry("missing-entity", Queues::missingEntity),
            entry("oversize", Queues::oversize));

    private Queues() {}

    private static void sendOne(Harness.Broker broker) throws Exception {
        String queue = broker.queue("send-one");
        try (Peer peer = Peer.connect(broker)) {
            BytesMessage sent = peer.session.createBytesMessage();
            sent.writeBytes("hello".getBytes(StandardCharsets.UTF_8));
            sent.setJMSType("greeting");
            sent.setJMSCorrelationID("c-1");
            sent.setStringProperty("text", "é");
            sent.setIntProperty("int", 7);
            sent.setDoubleProperty("fraction", 1.5);
            sent.setBooleanProperty("flag", true);
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            producer.send(sent, DeliveryMode.PERSISTENT, 7, 0);
            Message message = Peer.one(peer.consumer(queue));
            Harness.expect(Peer.bytes(message), "hello".getBytes(StandardCharsets.UTF_8), "body");
            Harness.expect(message.getJMSMessageID(), sent.getJMSMessageID(), "message id");
            Harness.expect(message.getJMSType(), "greeting", "type");
            Harness.expect(message.getJMSCorrelationID(), "c-1", "correlation id");
            Harness.expect(message.getJMSPriority(), 7, "priority");
            Harness.expect(message.getJMSDeliveryMode(), DeliveryMode.PERSISTENT, "delivery mode");
            Harness.expect(message.getJMSDestination(), peer.queue(queue), "destination");
            Harness.expect(message.getObjectProperty("text"), "é", "text");
            Harness.expect(message.getObjectProperty("int"), 7, "int");
            Harness.expect(message.getObjectProperty("fraction"), 1.5, "fraction");
            Harness.expect(message.getObjectProperty("flag"), true, "flag");
            Harness.expect(message.getIntProperty("JMSXDeliveryCount"), 1, "delivery count");
            Harness.expect(message.getJMSRedelivered(), false, "redelivered");
            peer.expectEmpty(queue);
        }
    }

    /** The client cannot send the envelope, so these are 100 messages without waiting in between. */
    private static void batch(Harness.Broker broker) throws Exception {
        String queue = broker.queue("batch-100");
        String[] wanted = IntStream.range(0, 100).mapToObj(i -> "body " + i).toArray(String[]::new);
        BlockingQueue<String> done = new LinkedBlockingQueue<>();
        CompletionListener listener = new CompletionListener() {
            @Override
            public void onCompletion(Message message) {
                done.add("accepted");
            }

            @Override
            public void onException(Message message, Exception error) {
                done.add(error.toString());
            }
        };
        try (Peer peer = Peer.connect(broker)) {
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            for (Message message : peer.texts(wanted)) {
                producer.send(message, listener);
            }
            for (int i = 0; i < wanted.length; i++) {
                Harness.expect(done.poll(Harness.ANSWER_MS, TimeUnit.MILLISECONDS), "accepted", "outcome");
            }
            peer.expectAll(queue, wanted);
        }
    }

    private static void large(Harness.Broker broker) throws Exception {
        String queue = broker.queue("large");
        byte[] sent = Harness.pattern(Harness.LARGE);
        try (Peer peer = Peer.connect(broker)) {
            BytesMessage message = peer.session.createBytesMessage();
            message.writeBytes(sent);
            peer.send(peer.queue(queue), message);
            Harness.expect(Peer.bytes(peer.taken(queue, 1).get(0)), sent, "body");
        }
    }

    private static void complete(Harness.Broker broker) throws Exception {
        String queue = broker.queue("complete");
        try (Peer peer = Peer.connect(broker, Session.CLIENT_ACKNOWLEDGE)) {
            peer.send(queue, "1", "2", "3");
            try (MessageConsumer consumer = peer.consumer(queue)) {
                for (String wanted : new String[] {"1", "2", "3"}) {
                    Peer.expectOne(consumer, wanted, 1).acknowledge();
                }
            }
            peer.expectEmpty(queue);
        }
    }

    private static void abandon(Harness.Broker broker) throws Exception {
        String queue = broker.queue("abandon");
        try (Peer peer = Peer.connect(broker, Peer.INDIVIDUAL, Peer.ONE)) {
            peer.send(queue, "again", "later");
            MessageConsumer consumer = peer.consumer(queue);
            Peer.settle(Peer.expectOne(consumer, "again", 1), Peer.MODIFIED_FAILED);
            Peer.settle(Peer.expectOne(consumer, "again", 2), Peer.RELEASED);
            Peer.settle(Peer.expectOne(consumer, "again", 2), Peer.ACCEPTED);
        }
        try (Peer peer = Peer.connect(broker, Session.CLIENT_ACKNOWLEDGE, Peer.ONE)) {
            MessageConsumer consumer = peer.consumer(queue);
            Peer.expectOne(consumer, "later", 1);
            // The client gives it out again by itself, and to the broker when the session ends.
            peer.session.recover();
            Peer.expectOne(consumer, "later", 2);
            peer.session.close();
        }
        try (Peer peer = Peer.connect(broker)) {
            Peer.expectOne(peer.consumer(queue), "later", 2);
            peer.expectEmpty(queue);
        }
    }

    private static void deadLetter(Harness.Broker broker) throws Exception {
        String queue = broker.queue("dead-letter");
        try (Peer peer = Peer.connect(broker, Peer.INDIVIDUAL, Peer.ONE)) {
            peer.send(queue, "bad", "good");
            MessageConsumer consumer = peer.consumer(queue);
            Peer.settle(Peer.one(consumer), Peer.REJECTED);
            Peer.settle(Peer.expectOne(consumer, "good", 1), Peer.ACCEPTED);
            Message dead = Peer.one(peer.consumer(queue + Harness.DEAD));
            Harness.expect(Peer.body(dead), "bad", "body");
            Peer.settle(dead, Peer.ACCEPTED);
            peer.expectEmpty(queue);
            peer.expectEmpty(queue + Harness.DEAD);
        }
    }

    /** The queue allows three deliveries. */
    private static void maxDelivery(Harness.Broker broker) throws Exception {
        String queue = broker.queue("max-delivery");
        try (Peer peer = Peer.connect(broker, Peer.INDIVIDUAL, Peer.ONE)) {
            peer.send(queue, "poison");
            MessageConsumer consumer = peer.consumer(queue);
            for (int count = 1; count <= 3; count++) {
                Peer.settle(Peer.expectOne(consumer, "poison", count), Peer.MODIFIED_FAILED);
            }
            peer.expectEmpty(queue);
            Message dead = Peer.one(peer.consumer(queue + Harness.DEAD));
            Harness.expect(dead.getStringProperty("DeadLetterReason"), "MaxDeliveryCountExceeded", "reason");
            Peer.settle(dead, Peer.ACCEPTED);
            peer.expectEmpty(queue + Harness.DEAD);
        }
    }

    /** The queue locks for five seconds. Only a commit tells the client what came of a settlement. */
    private static void lockExpiry(Harness.Broker broker) throws Exception {
        String queue = broker.queue("lock-expiry");
        try (Peer late = Peer.connect(broker, Session.SESSION_TRANSACTED, Peer.ONE);
                Peer other = Peer.connect(broker)) {
            other.send(queue, "first");
            Peer.expectOne(late.consumer(queue), "first", 1);
            Peer.expectOne(other.consumer(queue), "first", 2);
            // Of all conditions this is the one that the client takes for a transaction in doubt.
            Harness.refused(JMSException.class, "amqp:transaction:rollback", late.session::commit);
            other.expectEmpty(queue);
        }
    }

    private static void receiveAndDelete(Harness.Broker broker) throws Exception {
        String queue = broker.queue("receive-and-delete");
        String[] wanted = IntStream.range(0, 10).mapToObj(String::valueOf).toArray(String[]::new);
        String presettled = "jms.presettlePolicy.presettleConsumers=true";
        try (Peer peer = Peer.connect(broker, Session.CLIENT_ACKNOWLEDGE, presettled)) {
            peer.send(queue, wanted);
            Peer.expectBodies(peer.consumer(queue), wanted);
        }
        try (Peer peer = Peer.connect(broker)) {
            peer.expectEmpty(queue);
        }
    }

    private static void prefetch(Harness.Broker broker) throws Exception {
        String queue = broker.queue("prefetch");
        String[] wanted = IntStream.range(0, 50).mapToObj(String::valueOf).toArray(String[]::new);
        try (Peer peer = Peer.connect(broker, "jms.prefetchPolicy.all=10")) {
            peer.send(queue, wanted);
            peer.expectAll(queue, wanted);
        }
    }

    /** Looking for a message without waiting takes the credit back, with a window and without. */
    private static void drain(Harness.Broker broker) throws Exception {
        String queue = broker.queue("drain");
        for (String window : new String[] {"jms.prefetchPolicy.all=0", "jms.prefetchPolicy.all=10"}) {
            try (Peer peer = Peer.connect(broker, window)) {
                try (MessageConsumer consumer = peer.consumer(queue)) {
                    Harness.expect(consumer.receiveNoWait(), null, "message");
                    peer.send(queue, "1", "2", "3");
                    for (String wanted : new String[] {"1", "2", "3"}) {
                        Harness.expect(Peer.body(consumer.receiveNoWait()), wanted, "body");
                    }
                    Harness.expect(consumer.receiveNoWait(), null, "message");
                }
                peer.expectEmpty(queue);
            }
        }
    }

    private static void wrongKey(Harness.Broker broker) throws Exception {
        var factory = new JmsConnectionFactory(Harness.RULE, "WRONG_KEY", broker.uri("amqp"));
        Harness.refused(JMSSecurityException.class, () -> factory.createConnection().start());
    }

    private static void missingEntity(Harness.Broker broker) throws Exception {
        String queue = broker.queue("there-is-no-such-queue");
        String text = "The messaging entity '";
        try (Peer peer = Peer.connect(broker)) {
            var nowhere = peer.queue(queue);
            Harness.refused(InvalidDestinationException.class, text, () -> peer.session.createProducer(nowhere));
            Harness.refused(InvalidDestinationException.class, text, () -> peer.session.createConsumer(nowhere));
        }
    }

    private static void oversize(Harness.Broker broker) throws Exception {
        String queue = broker.queue("oversize");
        try (Peer peer = Peer.connect(broker)) {
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            BytesMessage message = peer.session.createBytesMessage();
            message.writeBytes(new byte[Harness.OVERSIZE]);
            String condition = "amqp:link:message-size-exceeded";
            Harness.refused(JMSException.class, condition, () -> producer.send(message));
            producer.send(peer.session.createTextMessage("small"));
            peer.expectAll(queue, "small");
        }
    }
}
