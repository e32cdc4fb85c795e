// A group member with Apache Kafka's Java consumer, in both group protocols; see agent.py.
//
// Compiled against the client that it runs with: the current one, and 2.8, so it uses nothing newer.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.StringDeserializer;

public final class GroupMember implements ConsumerRebalanceListener {
    private final Map<String, String> options = new HashMap<>();
    private final ConcurrentLinkedQueue<String> commands = new ConcurrentLinkedQueue<>();
    private final Map<Integer, Long> position = new TreeMap<>();
    private final KafkaConsumer<String, String> consumer;

    private GroupMember(String[] arguments) {
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            options.put(parts[0], parts[1]);
        }
        consumer = new KafkaConsumer<>(settings(), new StringDeserializer(), new StringDeserializer());
        Thread reader = new Thread(this::readCommands);
        reader.setDaemon(true);
        reader.start();
    }

    private Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        settings.put("group.id", options.get("group"));
        settings.put("auto.offset.reset", options.get("reset"));
        settings.put("enable.auto.commit", "false");
        settings.put("fetch.max.wait.ms", "100");
        if ("consumer".equals(options.get("protocol"))) {
            settings.put("group.protocol", "consumer");
        } else {
            boolean cooperative = "cooperative".equals(options.get("assignor"));
            settings.put("session.timeout.ms", options.get("session_ms"));
            settings.put("heartbeat.interval.ms", options.get("heartbeat_ms"));
            settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer."
                + (cooperative ? "CooperativeStickyAssignor" : "RangeAssignor"));
        }
        if (options.containsKey("instance")) {
            settings.put("group.instance.id", options.get("instance"));
        }
        return settings;
    }

    private void readCommands() {
        InputStreamReader bytes = new InputStreamReader(System.in, StandardCharsets.UTF_8);
        try (BufferedReader lines = new BufferedReader(bytes)) {
            lines.lines().forEach(commands::add);
        } catch (java.io.IOException ended) {
            // As at the end of the input.
        }
        Runtime.getRuntime().halt(3); // the test has gone
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ") + '"';
    }

    private static void say(String event, String more) {
        String line = "{\"event\":" + quoted(event) + more + "}\n";
        byte[] bytes = line.getBytes(StandardCharsets.UTF_8);
        System.out.write(bytes, 0, bytes.length);
        System.out.flush();
    }

    private static void error(Exception error) {
        say("error", ",\"message\":" + quoted(String.valueOf(error)));
    }

    private static String map(Map<Integer, ?> values) {
        return values.entrySet().stream()
            .map(e -> "\"" + e.getKey() + "\":"
                + (e.getValue() instanceof String ? quoted((String) e.getValue()) : e.getValue()))
            .collect(Collectors.joining(",", "{", "}"));
    }

    private static void partitions(String event, Collection<TopicPartition> partitions) {
        say(event, partitions.stream().map(p -> String.valueOf(p.partition()))
            .collect(Collectors.joining(",", ",\"partitions\":[", "]")));
    }

    private TopicPartition partition(int partition) {
        return new TopicPartition(options.get("topic"), partition);
    }

    private void commit(String note) {
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        position.forEach((p, offset) -> wanted.put(partition(p), new OffsetAndMetadata(offset, note)));
        if (wanted.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(wanted);
            say("commit", ",\"offsets\":" + map(position));
        } catch (KafkaException failed) {
            error(failed);
        }
    }

    private void committed() {
        Map<Integer, Long> offsets = new TreeMap<>();
        Map<Integer, String> metadata = new TreeMap<>();
        java.util.Set<TopicPartition> all = consumer.partitionsFor(options.get("topic")).stream()
            .map(p -> partition(p.partition())).collect(Collectors.toSet());
        consumer.committed(all).forEach((p, there) -> {
            if (there != null) {
                offsets.put(p.partition(), there.offset());
                metadata.put(p.partition(), there.metadata());
            }
        });
        say("committed", ",\"offsets\":" + map(offsets) + ",\"metadata\":" + map(metadata));
    }

    private void delete(String group) throws InterruptedException {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        try (Admin admin = Admin.create(settings)) {
            admin.deleteConsumerGroups(Collections.singleton(group)).all().get();
            say("deleted", ",\"code\":0");
        } catch (ExecutionException failed) {
            say("deleted", ",\"code\":" + Errors.forException(failed.getCause()).code());
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
        if (options.containsKey("seek_ms") && !assigned.isEmpty()) {
            long time = Long.parseLong(options.get("seek_ms"));
            Map<TopicPartition, Long> times = new HashMap<>();
            assigned.forEach(p -> times.put(p, time));
            consumer.offsetsForTimes(times).forEach((p, there) -> consumer.seek(p, there.offset()));
        }
        partitions("assigned", assigned);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
        if ("batch".equals(options.get("commit"))) {
            commit("");
        }
        onPartitionsLost(revoked);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> lost) {
        lost.forEach(p -> position.remove(p.partition()));
        partitions("revoked", lost);
    }

    private boolean obey(String command) throws InterruptedException {
        String[] parts = command.split(" ", 2);
        switch (parts[0]) {
            case "commit": commit(parts.length > 1 ? parts[1] : ""); return true;
            case "committed": committed(); return true;
            case "delete": delete(parts[1]); return true;
            default: return false;
        }
    }

    private void run() throws InterruptedException {
        consumer.subscribe(Collections.singleton(options.get("topic")), this);
        while (true) {
            String command = commands.poll();
            if (command != null && !obey(command)) {
                break;
            }
            try {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<String, String> record : records) {
                    say("record", ",\"partition\":" + record.partition() + ",\"offset\":"
                        + record.offset() + ",\"value\":" + quoted(record.value()));
                    position.put(record.partition(), record.offset() + 1);
                }
                if (!records.isEmpty() && "batch".equals(options.get("commit"))) {
                    commit("");
                }
            } catch (KafkaException failed) {
                error(failed);
            }
        }
        consumer.close();
        say("closed", "");
    }

    public static void main(String[] arguments) throws InterruptedException {
        new GroupMember(arguments).run();
    }
}
