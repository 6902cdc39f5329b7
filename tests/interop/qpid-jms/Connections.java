import jakarta.jms.JMSException;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Map;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.qpid.jms.JmsConnectionFactory;

/** The ways to a broker, and connections that last. */
final class Connections {
    static final Map<String, Harness.Scenario> SCENARIOS = Map.of(
            "tls", Connections::tls,
            "websocket", Connections::webSocket,
            "idle", Connections::idle,
            "reconnect", Connections::reconnect);
    private static final char[] NO_PASSWORD = {};

    private Connections() {}

    private static void tls(Harness.Broker broker) throws Exception {
        exchange(broker, "tls", new JmsConnectionFactory(Harness.RULE, Harness.KEY, broker.uri("amqps")), false);
        String external = broker.uri("amqps", "amqp.saslMechanisms=EXTERNAL");
        exchange(broker, "tls", new JmsConnectionFactory(external), true);
    }

    private static void webSocket(Harness.Broker broker) throws Exception {
        for (String scheme : new String[] {"amqpws", "amqpwss"}) {
            String uri = broker.uri(scheme).replace("?", "/$servicebus/websocket?");
            exchange(broker, "websocket", new JmsConnectionFactory(Harness.RULE, Harness.KEY, uri), false);
        }
    }

    private static void exchange(Harness.Broker broker, String scenario, JmsConnectionFactory factory, boolean own)
            throws Exception {
        factory.setSslContext(trust(own));
        try (Peer peer = Peer.start(factory.createConnection(), Session.AUTO_ACKNOWLEDGE)) {
            peer.send(broker.queue(scenario), "by another door");
            peer.expectAll(broker.queue(scenario), "by another door");
        }
    }

    /** Trusts the broker's authority, and shows a certificate of its own if it is to. */
    private static SSLContext trust(boolean own) throws Exception {
        Path folder = Path.of(System.getenv("INTEROP_CERTIFICATES"));
        KeyStore authorities = KeyStore.getInstance(KeyStore.getDefaultType());
        authorities.load(null, NO_PASSWORD);
        authorities.setCertificateEntry("ca", certificate(folder.resolve("ca.pem")));
        TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(authorities);
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        KeyStore shown = KeyStore.getInstance(KeyStore.getDefaultType());
        shown.load(null, NO_PASSWORD);
        if (own) {
            Certificate[] chain = {certificate(folder.resolve("interop.pem"))};
            shown.setKeyEntry("interop", key(folder.resolve("interop.key")), NO_PASSWORD, chain);
        }
        keys.init(shown, NO_PASSWORD);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trusted.getTrustManagers(), null);
        return context;
    }

    private static Certificate certificate(Path path) throws Exception {
        try (InputStream file = Files.newInputStream(path)) {
            return CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }

    private static PrivateKey key(Path path) throws Exception {
        String text = Files.readString(path).replaceAll("-----[^-]+-----|\\s", "");
        PKCS8EncodedKeySpec encoded = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text));
        try {
            return KeyFactory.getInstance("EC").generatePrivate(encoded);
        } catch (GeneralSecurityException error) {
            throw new AssertionError("the key of the certificate", error);
        }
    }

    private static void idle(Harness.Broker broker) throws Exception {
        String queue = broker.queue("idle");
        // With this the client closes the connection when the broker is silent for so long.
        try (Peer peer = Peer.connect(broker, "amqp.idleTimeout=20000")) {
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            MessageConsumer consumer = peer.consumer(queue);
            producer.send(peer.session.createTextMessage("before"));
            Peer.expectBodies(consumer, "before");
            Thread.sleep(Harness.IDLE_MS);
            producer.send(peer.session.createTextMessage("after"));
            Peer.expectBodies(consumer, "after");
        }
    }

    /** The client connects again by itself, and makes its sessions, consumers and producers anew. */
    private static void reconnect(Harness.Broker broker) throws Exception {
        String queue = broker.queue("reconnect");
        String uri = "failover:(amqp://" + broker.host() + ":" + broker.port() + ")?" + Peer.ONE
                + "&jms.sendTimeout=60000&jms.requestTimeout=60000";
        var factory = new JmsConnectionFactory(Harness.RULE, Harness.KEY, uri);
        try (Peer peer = Peer.start(factory.createConnection(), Session.CLIENT_ACKNOWLEDGE)) {
            MessageProducer producer = peer.session.createProducer(peer.queue(queue));
            MessageConsumer consumer = peer.consumer(queue);
            for (String text : new String[] {"done", "locked", "kept"}) {
                producer.send(peer.session.createTextMessage(text));
            }
            Peer.expectOne(consumer, "done", 1).acknowledge();
            Peer.expectOne(consumer, "locked", 1);
            Harness.waitForRestart();
            producer.send(peer.session.createTextMessage("new"));
            for (String wanted : new String[] {"locked", "kept", "new"}) {
                var message = Peer.one(consumer);
                Harness.expect(Peer.body(message), wanted, "body");
                message.acknowledge();
            }
            Harness.expect(consumer.receive(Harness.EMPTY_MS), null, "message left");
        } catch (JMSException error) {
            throw new AssertionError("not connected again", error);
        }
    }
}
