// Runs Kafka's own tools again and again in one JVM, because each start costs seconds.
//
// Each line on standard input is one call: `groups` (kafka-consumer-groups) or `console`
// (kafka-console-consumer) and its arguments, separated by spaces. What the tool prints,
// on both of its outputs, comes back followed by a line with nothing but a dot. A call that would
// end the program ends only itself.

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;

public final class ToolScript {
    private static final class Ended extends RuntimeException {
        Ended(int code, String message) {
            super(code + (message == null ? "" : ": " + message), null, false, false);
        }
    }

    private ToolScript() { }

    private static void run(String tool, String[] arguments) throws Exception {
        if ("console".equals(tool)) {
            ConsoleConsumer.main(arguments);
        } else {
            ConsumerGroupCommand.main(arguments);
        }
    }

    private static String call(String line) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8);
        PrintStream stdout = System.out;
        PrintStream stderr = System.err;
        System.setOut(out);
        System.setErr(out);
        try {
            String[] words = line.split(" ");
            run(words[0], Arrays.copyOfRange(words, 1, words.length));
        } catch (RuntimeException ended) {
            out.println(ended);
        } finally {
            System.setOut(stdout);
            System.setErr(stderr);
        }
        return bytes.toString(StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        Exit.setExitProcedure((code, message) -> {
            throw new Ended(code, message);
        });
        InputStreamReader bytes = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        BufferedReader lines = new BufferedReader(bytes);
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.print(call(line));
            System.out.println(".");
            System.out.flush();
        }
    }
}
