import jakarta.jms.InvalidDestinationException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** Topics whose subscriptions are there already: JMS takes each of these for a queue. */
final class Topics {
    static final Map<String, Harness.Scenario> SCENARIOS = Map.of(
            "publish", Topics::publish,
            "publish-scheduled", Topics::publishScheduled,
            "filters", Topics::filters,
            "actions", Topics::actions,
            "subscription-delete", Topics::subscriptionDelete,
            "subscription-dead-letter", Topics::subscriptionDeadLetter,
            "subscription-forward", Topics::subscriptionForward);

    private Topics() {}

    private static String of(String topic, String subscription) {
        return topic + "/Subscriptions/" + subscription;
    }

    private static TextMessage sized(Peer peer, String body, int size, String type) throws JMSException {
        TextMessage message = peer.session.createTextMessage(body);
        message.setIntProperty("size", size);
        message.setJMSType(type);
        return message;
    }

    private static void publish(Harness.Broker broker) throws Exception {
        String name = broker.queue("publish");
        try (Peer peer = Peer.connect(broker)) {
            Topic topic = peer.session.createTopic(name);
            peer.send(topic, peer.texts("1", "2"));
            peer.expectAll(of(name, "a"), "1", "2");
            peer.expectAll(name + "/subscriptions/B", "1", "2");
            for (String missing : List.of(name, of(name, "none"))) {
                Harness.refused(InvalidDestinationException.class, () -> peer.consumer(missing));
            }
            var subscription = peer.queue(of(name, "a"));
            Harness.refused(JMSException.class, "amqp:not-allowed", () -> peer.session.createProducer(subscription));
        }
    }

    private static void publishScheduled(Harness.Broker broker) throws Exception {
        String name = broker.queue("publish-scheduled");
        try (Peer peer = Peer.connect(broker)) {
            MessageProducer producer = peer.session.createProducer(peer.session.createTopic(name));
            Message[] messages = peer.texts("later", "at once");
            Features.sendLater(producer, messages[0], 3000);
            Features.sendLater(producer, messages[1], 0);
            try (MessageConsumer consumer = peer.consumer(of(name, "a"))) {
                Peer.expectBodies(consumer, "at once", "later");
            }
            long early = messages[0].getJMSDeliveryTime() - System.currentTimeMillis();
            Harness.expect(early <= 0, true, "it came when it was due");
            peer.expectEmpty(of(name, "a"));
        }
    }

    private static void filters(Harness.Broker broker) throws Exception {
        String name = broker.queue("filters");
        try (Peer peer = Peer.connect(broker)) {
            peer.send(peer.session.createTopic(name), sized(peer, "one", 1, "red"), sized(peer, "seven", 7, "blue"),
                    sized(peer, "eight", 8, "red"), peer.session.createTextMessage("none"));
            peer.expectAll(of(name, "everything"), "one", "seven", "eight", "none");
            peer.expectAll(of(name, "nothing"));
            peer.expectAll(of(name, "sql"), "seven");
            peer.expectAll(of(name, "missing"), "none");
            peer.expectAll(of(name, "correlation"), "one", "eight");
            peer.expectAll(of(name, "typed"), "seven");
        }
    }

    private static void actions(Harness.Broker broker) throws Exception {
        String name = broker.queue("actions");
        try (Peer peer = Peer.connect(broker)) {
            peer.send(peer.session.createTopic(name), sized(peer, "small", 1, "red"), sized(peer, "big", 7, "blue"));
            Set<String> seen = new TreeSet<>();
            for (Message copy : peer.taken(of(name, "a"), 2)) {
                List<Object> shown = new ArrayList<>(List.of(copy.getJMSType(), Peer.body(copy)));
                shown.add(copy.getObjectProperty("size"));
                shown.add(copy.getObjectProperty("RuleName"));
                seen.add(shown.toString());
            }
            Set<String> wanted = Set.of("[blue, big, 7, null]", "[doubled, big, 14, double]");
            Harness.expect(seen, wanted, "copies");
        }
    }

    private static void subscriptionDelete(Harness.Broker broker) throws Exception {
        String name = broker.queue("subscription-delete");
        try (Peer peer = Peer.connect(broker, "jms.presettlePolicy.presettleConsumers=true")) {
            peer.send(peer.session.createTopic(name), peer.texts("1", "2"));
            peer.expectAll(of(name, "a"), "1", "2");
        }
    }

    /** The subscription allows two deliveries. */
    private static void subscriptionDeadLetter(Harness.Broker broker) throws Exception {
        String name = broker.queue("subscription-dead-letter");
        try (Peer peer = Peer.connect(broker, Peer.INDIVIDUAL, Peer.ONE); Peer reader = Peer.connect(broker)) {
            peer.send(peer.session.createTopic(name), peer.texts("poison", "good"));
            try (MessageConsumer consumer = peer.consumer(of(name, "a"))) {
                for (int count = 1; count <= 2; count++) {
                    Peer.settle(Peer.expectOne(consumer, "poison", count), Peer.MODIFIED_FAILED);
                }
            }
            reader.expectAll(of(name, "a"), "good");
            Message dead = reader.taken(of(name, "a") + Harness.DEAD, 1).get(0);
            Harness.expect(Peer.body(dead), "poison", "body");
            Harness.expect(dead.getStringProperty("DeadLetterReason"), "MaxDeliveryCountExceeded", "reason");
            reader.expectAll(of(name, "b"), "poison", "good");
        }
    }

    /** One subscription forwards to a queue, the other to a topic that takes what is big. */
    private static void subscriptionForward(Harness.Broker broker) throws Exception {
        String name = broker.queue("subscription-forward");
        try (Peer peer = Peer.connect(broker)) {
            peer.send(peer.session.createTopic(name), sized(peer, "small", 1, "red"), sized(peer, "big", 7, "blue"));
            peer.expectAll(name + ".queue", "small", "big");
            peer.expectAll(of(name + ".topic", "end"), "big");
        }
    }
}
