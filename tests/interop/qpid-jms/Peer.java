import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.Destination;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import java.util.ArrayList;
import java.util.List;
import org.apache.qpid.jms.JmsConnectionFactory;

/** A connection with a session of the kind that a scenario wants, and what all scenarios do with these. */
final class Peer implements AutoCloseable {
    /** Of qpid-jms: each message is acknowledged by itself, with an outcome of its own. */
    static final int INDIVIDUAL = 101;
    static final int ACCEPTED = 1;
    static final int REJECTED = 2;
    static final int RELEASED = 3;
    static final int MODIFIED_FAILED = 4;
    /** One message at a time, and only when it is asked for. */
    static final String ONE = "jms.prefetchPolicy.all=0";

    final Connection connection;
    final Session session;

    Peer(Connection connection, int mode) throws JMSException {
        this.connection = connection;
        this.session = connection.createSession(mode);
    }

    static JmsConnectionFactory factory(Harness.Broker broker, String... options) {
        return new JmsConnectionFactory(Harness.RULE, Harness.KEY, broker.uri("amqp", options));
    }

    static Peer connect(Harness.Broker broker, int mode, String... options) throws JMSException {
        return start(factory(broker, options).createConnection(), mode);
    }

    static Peer connect(Harness.Broker broker, String... options) throws JMSException {
        return connect(broker, Session.AUTO_ACKNOWLEDGE, options);
    }

    static Peer named(Harness.Broker broker, String name, String... options) throws JMSException {
        Connection connection = factory(broker, options).createConnection();
        connection.setClientID(name);
        return start(connection, Session.AUTO_ACKNOWLEDGE);
    }

    static Peer start(Connection connection, int mode) throws JMSException {
        try {
            connection.start();
            return new Peer(connection, mode);
        } catch (JMSException error) {
            connection.close();
            throw error;
        }
    }

    Destination queue(String name) throws JMSException {
        return session.createQueue(name);
    }

    MessageConsumer consumer(String queue) throws JMSException {
        return session.createConsumer(queue(queue));
    }

    void send(Destination destination, Message... messages) throws JMSException {
        try (MessageProducer producer = session.createProducer(destination)) {
            for (Message message : messages) {
                producer.send(message);
            }
        }
    }

    void send(String queue, String... bodies) throws JMSException {
        send(queue(queue), texts(bodies));
    }

    Message[] texts(String... bodies) throws JMSException {
        Message[] messages = new Message[bodies.length];
        for (int i = 0; i < bodies.length; i++) {
            messages[i] = session.createTextMessage(bodies[i]);
        }
        return messages;
    }

    TextMessage coloured(String body, String colour, int size) throws JMSException {
        TextMessage message = session.createTextMessage(body);
        message.setStringProperty("colour", colour);
        message.setIntProperty("size", size);
        return message;
    }

    static Message one(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(Harness.ANSWER_MS);
        if (message == null) {
            throw new AssertionError("no message");
        }
        return message;
    }

    static String body(Message message) throws JMSException {
        return ((TextMessage) message).getText();
    }

    static byte[] bytes(Message message) throws JMSException {
        byte[] bytes = new byte[(int) ((BytesMessage) message).getBodyLength()];
        ((BytesMessage) message).readBytes(bytes);
        return bytes;
    }

    /** One or more messages in this order, not more than that, and each for the first time. */
    static void expectBodies(MessageConsumer consumer, String... wanted) throws JMSException {
        for (String text : wanted) {
            expectOne(consumer, text, 1);
        }
    }

    static Message expectOne(MessageConsumer consumer, String body, int deliveries) throws JMSException {
        Message message = one(consumer);
        Harness.expect(body(message), body, "body");
        Harness.expect(message.getIntProperty("JMSXDeliveryCount"), deliveries, "delivery count");
        Harness.expect(message.getJMSRedelivered(), deliveries > 1, "redelivered");
        return message;
    }

    void expectAll(String queue, String... wanted) throws JMSException {
        try (MessageConsumer consumer = consumer(queue)) {
            expectBodies(consumer, wanted);
        }
        expectEmpty(queue);
    }

    /** What is there, which has to be that many messages. */
    List<Message> taken(String queue, int count) throws JMSException {
        List<Message> messages = new ArrayList<>();
        try (MessageConsumer consumer = consumer(queue)) {
            for (int i = 0; i < count; i++) {
                messages.add(one(consumer));
            }
        }
        expectEmpty(queue);
        return messages;
    }

    void expectEmpty(String queue) throws JMSException {
        try (MessageConsumer consumer = consumer(queue)) {
            Message left = consumer.receive(Harness.EMPTY_MS);
            Harness.expect(left, null, "message left");
        }
    }

    static void settle(Message message, int outcome) throws JMSException {
        message.setIntProperty("JMS_AMQP_ACK_TYPE", outcome);
        message.acknowledge();
    }

    @Override
    public void close() throws JMSException {
        connection.close();
    }
}
