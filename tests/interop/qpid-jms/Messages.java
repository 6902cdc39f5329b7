import jakarta.jms.BytesMessage;
import jakarta.jms.DeliveryMode;
import jakarta.jms.JMSContext;
import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.StreamMessage;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Every kind of message of JMS, its headers and properties, and the ways to receive it. */
final class Messages {
    static final Map<String, Harness.Scenario> SCENARIOS = Map.of("message-types", Messages::messageTypes);

    private Messages() {}

    private static void messageTypes(Harness.Broker broker) throws Exception {
        String queue = broker.queue("message-types");
        try (Peer peer = Peer.connect(broker, "jms.populateJMSXUserID=true")) {
            bodies(peer, queue);
            headers(peer, queue);
            listener(peer, queue);
            peer.expectEmpty(queue);
        }
        context(broker, queue);
    }

    /** One of each kind, sent and received. */
    private static void bodies(Peer peer, String queue) throws JMSException {
        Session session = peer.session;
        MapMessage map = session.createMapMessage();
        map.setInt("int", 7);
        map.setString("text", "é");
        map.setBytes("bytes", new byte[] {1, 2});
        StreamMessage stream = session.createStreamMessage();
        stream.writeLong(7);
        stream.writeString("é");
        stream.writeBytes(new byte[] {1, 2});
        ArrayList<String> list = new ArrayList<>(List.of("a", "b"));
        ObjectMessage serialized = session.createObjectMessage(list);
        ObjectMessage typed = session.createObjectMessage();
        typed.setBooleanProperty("JMS_AMQP_TYPED_ENCODING", true);
        typed.setObject(list);
        BytesMessage bytes = session.createBytesMessage();
        bytes.writeInt(7);
        bytes.writeUTF("é");
        TextMessage text = session.createTextMessage("é");
        peer.send(peer.queue(queue), text, session.createTextMessage(), bytes, map, stream, serialized, typed,
                session.createMessage());

        List<Message> got = peer.taken(queue, 8);
        Harness.expect(Peer.body(got.get(0)), "é", "text");
        Harness.expect(Peer.body(got.get(1)), null, "text without a text");
        BytesMessage gotBytes = (BytesMessage) got.get(2);
        Harness.expect(List.of(gotBytes.readInt(), gotBytes.readUTF()), List.of(7, "é"), "bytes");
        MapMessage gotMap = (MapMessage) got.get(3);
        Harness.expect(List.of(gotMap.getInt("int"), gotMap.getString("text")), List.of(7, "é"), "map");
        Harness.expect(gotMap.getBytes("bytes"), new byte[] {1, 2}, "bytes of the map");
        StreamMessage gotStream = (StreamMessage) got.get(4);
        Harness.expect(List.of(gotStream.readLong(), gotStream.readString()), List.of(7L, "é"), "stream");
        Harness.expect(gotStream.readObject(), new byte[] {1, 2}, "bytes of the stream");
        Harness.expect(((ObjectMessage) got.get(5)).getObject(), list, "object");
        Harness.expect(((ObjectMessage) got.get(6)).getObject(), list, "object in types of AMQP");
        Message plain = got.get(7);
        boolean other = plain instanceof TextMessage || plain instanceof BytesMessage || plain instanceof MapMessage;
        Harness.expect(other, false, "a message without a body is of another kind");
    }

    private static void headers(Peer peer, String queue) throws JMSException {
        Message sent = peer.session.createTextMessage("headers");
        sent.setJMSReplyTo(peer.session.createTopic("answers"));
        sent.setJMSCorrelationIDAsBytes(new byte[] {1, 2, 3});
        sent.setJMSType("order");
        sent.setStringProperty("JMSXGroupID", "group");
        sent.setIntProperty("JMSXGroupSeq", 3);
        sent.setByteProperty("byte", (byte) -1);
        sent.setShortProperty("short", (short) -2);
        sent.setLongProperty("long", Long.MIN_VALUE);
        sent.setFloatProperty("float", 0.5f);
        sent.setDoubleProperty("double", -0.25);
        sent.setObjectProperty("null", null);
        try (var producer = peer.session.createProducer(peer.queue(queue))) {
            producer.send(sent, DeliveryMode.NON_PERSISTENT, 9, 60_000);
        }
        Message got = peer.taken(queue, 1).get(0);
        Harness.expect(got.getJMSReplyTo(), peer.session.createTopic("answers"), "reply to");
        Harness.expect(got.getJMSCorrelationIDAsBytes(), new byte[] {1, 2, 3}, "correlation id");
        Harness.expect(got.getJMSType(), "order", "type");
        Harness.expect(got.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "delivery mode");
        Harness.expect(got.getJMSPriority(), 9, "priority");
        Harness.expect(got.getJMSTimestamp(), sent.getJMSTimestamp(), "timestamp");
        Harness.expect(got.getJMSExpiration(), sent.getJMSExpiration(), "expiration");
        Harness.expect(got.getStringProperty("JMSXGroupID"), "group", "group");
        Harness.expect(got.getIntProperty("JMSXGroupSeq"), 3, "place in the group");
        Harness.expect(got.getStringProperty("JMSXUserID"), Harness.RULE, "user");
        Object[] wanted = {(byte) -1, (short) -2, Long.MIN_VALUE, 0.5f, -0.25, null};
        Object[] values = new Object[wanted.length];
        String[] names = {"byte", "short", "long", "float", "double", "null"};
        for (int i = 0; i < names.length; i++) {
            values[i] = got.getObjectProperty(names[i]);
        }
        Harness.expect(values, wanted, "properties");
    }

    /** Messages come to a listener, until the connection is stopped. */
    private static void listener(Peer peer, String queue) throws JMSException, InterruptedException {
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        Session session = peer.connection.createSession();
        MessageConsumer consumer = session.createConsumer(peer.queue(queue));
        consumer.setMessageListener(message -> {
            try {
                heard.add(Peer.body(message));
            } catch (JMSException error) {
                heard.add(error.toString());
            }
        });
        for (String wanted : new String[] {"1", "2"}) {
            peer.send(queue, wanted);
            Harness.expect(heard.poll(Harness.ANSWER_MS, TimeUnit.MILLISECONDS), wanted, "heard");
        }
        peer.connection.stop();
        peer.send(queue, "3");
        Harness.expect(heard.poll(Harness.EMPTY_MS, TimeUnit.MILLISECONDS), null, "heard while stopped");
        peer.connection.start();
        Harness.expect(heard.poll(Harness.ANSWER_MS, TimeUnit.MILLISECONDS), "3", "heard");
        session.close();
    }

    /** The short way of JMS 2.0. */
    private static void context(Harness.Broker broker, String queue) {
        try (JMSContext context = Peer.factory(broker).createContext()) {
            Queue destination = context.createQueue(queue);
            context.createProducer().setProperty("size", 7).setPriority(2).send(destination, "in short");
            String body = context.createConsumer(destination, "size = 7 AND JMSPriority < 4")
                    .receiveBody(String.class, Harness.ANSWER_MS);
            Harness.expect(body, "in short", "body");
        }
    }
}
