import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Runs the scenarios and prints a line for each, as python/harness.py does. */
final class Harness {
    static final String RULE = "RootManageSharedAccessKey";
    static final String KEY = "SAS_KEY_VALUE";
    static final String DEAD = "/$DeadLetterQueue";
    static final int LARGE = 900 * 1024;
    static final int OVERSIZE = 1_500_000;
    static final long ANSWER_MS = 15_000;
    /** How long a receiver waits before the test says that a queue is empty. */
    static final long EMPTY_MS = 1_000;
    static final long IDLE_MS = 70_000;
    /** Longer than any scenario takes: a client that waits for ever is a failure, not a stop of the tests. */
    private static final long SCENARIO_S = 150;
    private static final List<String> ON_DEMAND = List.of("idle", "reconnect");

    private Harness() {}

    @FunctionalInterface
    interface Scenario {
        void run(Broker broker) throws Exception;
    }

    @FunctionalInterface
    interface Attempt {
        void run() throws Exception;
    }

    record Broker(String client, String host, int port) {
        String queue(String scenario) {
            return client + "." + scenario;
        }

        /** The address with options of the client besides those that make it answer in time. */
        String uri(String scheme, String... options) {
            String waits = "jms.requestTimeout=" + ANSWER_MS + "&jms.sendTimeout=" + ANSWER_MS;
            String more = options.length == 0 ? "" : "&" + String.join("&", options);
            return scheme + "://" + host + ":" + port + "?" + waits + more;
        }
    }

    static void expect(Object actual, Object wanted, String what) {
        if (!Objects.deepEquals(actual, wanted)) {
            throw new AssertionError(what + ": " + shorten(actual) + " instead of " + shorten(wanted));
        }
    }

    private static String shorten(Object value) {
        String text = String.valueOf(value);
        return text.length() <= 200 ? text : text.substring(0, 200) + "…";
    }

    /** Answers the error, for a closer look. */
    static <E extends Exception> E refused(Class<E> kind, Attempt attempt) {
        try {
            attempt.run();
        } catch (Exception error) {
            if (kind.isInstance(error)) {
                return kind.cast(error);
            }
            throw new AssertionError(error.getClass().getName() + " instead of " + kind.getName(), error);
        }
        throw new AssertionError("no " + kind.getSimpleName());
    }

    static void refused(Class<? extends Exception> kind, String text, Attempt attempt) {
        String message = String.valueOf(refused(kind, attempt).getMessage());
        expect(message.contains(text), true, "'" + text + "' in '" + message + "'");
    }

    /** Bytes that show a piece that is missing, doubled or moved. */
    static byte[] pattern(int size) {
        ByteBuffer bytes = ByteBuffer.allocate(size);
        for (int i = 0; i < size / 4; i++) {
            bytes.putInt(i);
        }
        return bytes.array();
    }

    /** Says that the broker may be restarted now, and waits until somebody says that it was. */
    static void waitForRestart() throws IOException {
        System.out.println("READY: restart the broker, then press Enter");
        if (System.in.read() < 0) {
            throw new AssertionError("nobody restarted the broker");
        }
    }

    static int run(String client, Map<String, Scenario> scenarios, String[] arguments) {
        String host = "localhost";
        int port = 5672;
        List<String> names = scenarios.keySet().stream().filter(name -> !ON_DEMAND.contains(name)).toList();
        for (int i = 0; i < arguments.length; i++) {
            switch (arguments[i]) {
                case "--list" -> {
                    System.out.println(String.join("\n", scenarios.keySet()));
                    return 0;
                }
                case "--host" -> host = arguments[++i];
                case "--port" -> port = Integer.parseInt(arguments[++i]);
                case "--only" -> names = List.of(arguments[++i].split(","));
                default -> throw new IllegalArgumentException(arguments[i]);
            }
        }
        Broker broker = new Broker(client, host, port);
        int failed = 0;
        for (String name : names) {
            long started = System.nanoTime();
            try {
                within(scenarios.get(name), broker);
                System.out.printf("PASS %s %.1fs%n", name, (System.nanoTime() - started) / 1e9);
            } catch (Throwable error) {
                failed++;
                error.printStackTrace();
                String text = (error.getClass().getSimpleName() + ": " + error.getMessage()).replaceAll("\\s+", " ");
                System.out.println("FAIL " + name + " " + text.substring(0, Math.min(400, text.length())));
            }
        }
        return failed == 0 ? 0 : 1;
    }

    private static void within(Scenario scenario, Broker broker) throws Throwable {
        CompletableFuture<Throwable> end = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                scenario.run(broker);
                end.complete(null);
            } catch (Throwable error) {
                end.complete(error);
            }
        });
        thread.setDaemon(true);
        thread.start();
        Throwable error = end.get(SCENARIO_S, TimeUnit.SECONDS);
        if (error != null) {
            throw error;
        }
    }
}
