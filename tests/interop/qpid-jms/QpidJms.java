import java.util.TreeMap;
import java.util.Map;

/**
 * qpid-jms, the client of Apache Qpid for JMS: SASL PLAIN, and the settings that it has by default where a
 * scenario needs no others.
 */
public final class QpidJms {
    private QpidJms() {}

    public static void main(String[] arguments) {
        Map<String, Harness.Scenario> scenarios = new TreeMap<>();
        scenarios.putAll(Queues.SCENARIOS);
        scenarios.putAll(Features.SCENARIOS);
        scenarios.putAll(Topics.SCENARIOS);
        scenarios.putAll(Subscriptions.SCENARIOS);
        scenarios.putAll(Messages.SCENARIOS);
        scenarios.putAll(Connections.SCENARIOS);
        System.exit(Harness.run("qpid-jms", scenarios, arguments));
    }
}
