import java.io.BufferedReader;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Makes in a real Kafka what no command line tool can make, and tells what Java's clients see.
 *
 * Without arguments it serves: each line on standard input is BOOTSTRAP, COMMAND and its arguments, separated by
 * tabs; it answers with lines that begin with a bar, and then either "ok" or "failed" and a reason. Each test
 * process keeps such a server, because starting a JVM costs more than any command here. A BOOTSTRAP that begins with @
 * names a file of properties for all clients: addresses, and how to be let in.
 *
 * With arguments BOOTSTRAP COMMAND ... it runs that one command.
 */
public final class Corner {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final String FILLER = filler();

    /** Producers whose transactions stay open: by topic, kept from the collector. */
    private static final Map<String, KafkaProducer<byte[], byte[]>> OPEN = new HashMap<>();

    private static final BufferedReader LINES = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private final String bootstrap;
    private final PrintStream out;

    private Corner(String bootstrap, PrintStream out) {
        this.bootstrap = bootstrap;
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        // Answers go to the real standard output; whatever else prints is sent to the log.
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        System.setOut(System.err);
        if (args.length > 0) {
            new Corner(args[0], answers).run(args[1], List.of(args).subList(2, args.length));
            answers.flush();
            // Not exit: an open transaction must stay open.
            Runtime.getRuntime().halt(0);
        }
        for (String line = LINES.readLine(); line != null; line = LINES.readLine()) {
            String[] words = line.split("\t", -1);
            try {
                new Corner(words[0], answers).run(words[1], List.of(words).subList(2, words.length));
                answers.print("ok\n");
            } catch (Throwable failure) {
                failure.printStackTrace();
                answers.print("failed\t" + String.valueOf(failure).replace('\n', ' ') + "\n");
            }
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private void run(String command, List<String> args) throws Exception {
        switch (command) {
            case "format" -> format(args.get(0), args.get(1), args.subList(2, args.size()));
            case "create" -> create(args.get(0), args.get(1), Short.parseShort(args.get(2)), args.subList(3, args.size()));
            case "create-on" -> createOn(args.get(0), args.get(1), args.subList(2, args.size()));
            case "delete" -> admin(admin -> admin.deleteTopics(List.of(args.get(0))).all().get());
            case "grow" -> admin(admin -> admin.createPartitions(
                Map.of(args.get(0), NewPartitions.increaseTo(Integer.parseInt(args.get(1))))).all().get());
            case "set" -> set(args.get(0), args.subList(1, args.size()));
            case "delete-records" -> admin(admin -> admin.deleteRecords(
                Map.of(partition(args), RecordsToDelete.beforeOffset(Long.parseLong(args.get(2))))).all().get());
            case "partitions" -> partitions(args.get(0));
            case "elect" -> elect(partition(args));
            case "reassign" -> reassign(partition(args), args.get(2));
            case "list-offsets" -> listOffsets(args.get(0));
            case "committed" -> committed(args.get(0));
            case "commit" -> commit(args.get(0), new TopicPartition(args.get(1), Integer.parseInt(args.get(2))),
                Long.parseLong(args.get(3)));
            case "group" -> group(args.get(0));
            case "consume" -> consume(args.get(0), Integer.parseInt(args.get(1)), args.get(2));
            case "fill" -> fill(args.get(0), Integer.parseInt(args.get(1)), Long.parseLong(args.get(2)), args.get(3),
                Integer.parseInt(args.get(4)), Long.parseLong(args.get(5)));
            case "pour" -> pour(args.get(0), Integer.parseInt(args.get(1)), Double.parseDouble(args.get(2)),
                Long.parseLong(args.get(3)), Integer.parseInt(args.get(4)), Long.parseLong(args.get(5)));
            case "enough" -> { }
            case "member" -> member(args.get(0), args.get(1), args.get(2), args.subList(3, args.size()));
            case "send" -> send(partition(args), args.subList(2, args.size()));
            case "send-at" -> sendAt(partition(args), args.subList(2, args.size()));
            case "send-keyed" -> sendKeyed(args.get(0), args.subList(1, args.size()));
            case "corner" -> corner(partition(args));
            case "transactions" -> transactions(partition(args));
            case "finish" -> finish(args.get(0), args.get(1));
            case "tombstones" -> tombstones(partition(args), Long.parseLong(args.get(2)));
            case "zeros" -> zeros(partition(args), Integer.parseInt(args.get(2)), Integer.parseInt(args.get(3)),
                Integer.parseInt(args.get(4)), args.get(5));
            case "compact" -> compact(args.get(0));
            case "set-broker" -> set(new ConfigResource(ConfigResource.Type.BROKER, args.get(0)), args.subList(1, args.size()));
            case "allow" -> add(access(AclPermissionType.ALLOW, args));
            case "revoke" -> remove(access(AclPermissionType.ALLOW, args));
            case "deny" -> add(access(AclPermissionType.DENY, args));
            case "deny-no-more" -> remove(access(AclPermissionType.DENY, args));
            case "scram" -> scram(args.get(0), args.get(1), args.get(2));
            default -> throw new IllegalArgumentException("no command " + command);
        }
    }

    private static TopicPartition partition(List<String> args) {
        return new TopicPartition(args.get(0), Integer.parseInt(args.get(1)));
    }

    // ---------------------------------------------------------------- cluster upkeep

    private static void format(String clusterId, String properties, List<String> more) {
        PrintStream log = System.err;
        List<String> args = new ArrayList<>(List.of("format", "-t", clusterId, "-c", properties));
        args.addAll(more);
        int status = kafka.tools.StorageTool.execute(args.toArray(new String[0]), log);
        if (status != 0) {
            throw new IllegalStateException("StorageTool ended with " + status);
        }
    }

    private void create(String topic, String partitions, short copies, List<String> configs) throws Exception {
        NewTopic wanted = new NewTopic(topic, Integer.parseInt(partitions), copies).configs(configs(configs));
        admin(admin -> admin.createTopics(List.of(wanted)).all().get());
    }

    /** The assignment is written as 1,2,3/2,3,1: the brokers of each partition, the leader first. */
    private void createOn(String topic, String assignment, List<String> configs) throws Exception {
        Map<Integer, List<Integer>> replicas = new TreeMap<>();
        for (String brokers : assignment.split("/")) {
            replicas.put(replicas.size(), brokers(brokers));
        }
        NewTopic wanted = new NewTopic(topic, replicas).configs(configs(configs));
        admin(admin -> admin.createTopics(List.of(wanted)).all().get());
    }

    private static List<Integer> brokers(String list) {
        return List.of(list.split(",")).stream().map(Integer::parseInt).collect(Collectors.toList());
    }

    private static Map<String, String> configs(List<String> pairs) {
        Map<String, String> configs = new HashMap<>();
        for (String pair : pairs) {
            int at = pair.indexOf('=');
            configs.put(pair.substring(0, at), pair.substring(at + 1));
        }
        return configs;
    }

    private void set(String topic, List<String> pairs) throws Exception {
        set(new ConfigResource(ConfigResource.Type.TOPIC, topic), pairs);
    }

    private void set(ConfigResource resource, List<String> pairs) throws Exception {
        Collection<AlterConfigOp> changes = new ArrayList<>();
        configs(pairs).forEach((name, value) ->
            changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
        admin(admin -> admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get());
    }

    /** Lines: partition, leader or -1, replicas, in-sync replicas. */
    private void partitions(String topic) throws Exception {
        admin(admin -> {
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            for (var partition : described.partitions()) {
                Node leader = partition.leader();
                say(partition.partition(), leader == null ? -1 : leader.id(), ids(partition.replicas()), ids(partition.isr()));
            }
            return null;
        });
    }

    private static String ids(List<Node> nodes) {
        return nodes.stream().map(Node::idString).collect(Collectors.joining(","));
    }

    private void elect(TopicPartition partition) throws Exception {
        admin(admin -> {
            var failure = admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get().get(partition);
            if (failure.isPresent() && !(failure.get() instanceof ElectionNotNeededException)) {
                throw new IllegalStateException(failure.get());
            }
            return null;
        });
    }

    private void reassign(TopicPartition partition, String brokers) throws Exception {
        admin(admin -> {
            admin.alterPartitionReassignments(
                Map.of(partition, Optional.of(new NewPartitionReassignment(brokers(brokers))))).all().get();
            long end = System.nanoTime() + PATIENCE.toNanos();
            while (!admin.listPartitionReassignments(Set.of(partition)).reassignments().get().isEmpty()) {
                if (System.nanoTime() > end) {
                    throw new IllegalStateException("the reassignment does not end");
                }
                Thread.sleep(50);
            }
            return null;
        });
    }

    // ---------------------------------------------------------------- who may do what

    /** PRINCIPAL, OPERATION, TYPE and NAME of a resource: User:alice, READ, TOPIC, orders. */
    private static AclBinding access(AclPermissionType permission, List<String> args) {
        ResourceType type = ResourceType.valueOf(args.get(2));
        return new AclBinding(new ResourcePattern(type, args.get(3), PatternType.LITERAL), new AccessControlEntry(
            args.get(0), "*", AclOperation.valueOf(args.get(1)), permission));
    }

    private void add(AclBinding access) throws Exception {
        admin(admin -> admin.createAcls(List.of(access)).all().get());
        waitForAccess(access, true);
    }

    private void remove(AclBinding access) throws Exception {
        admin(admin -> admin.deleteAcls(List.of(access.toFilter())).all().get());
        waitForAccess(access, false);
    }

    /** The controller answers first; the broker, which decides, has it a moment later. */
    private void waitForAccess(AclBinding access, boolean there) throws Exception {
        admin(admin -> {
            long end = System.nanoTime() + PATIENCE.toNanos();
            while (admin.describeAcls(access.toFilter()).values().get().contains(access) != there) {
                if (System.nanoTime() > end) {
                    throw new IllegalStateException("brokers do not take over what is allowed");
                }
                Thread.sleep(20);
            }
            return null;
        });
    }

    private void scram(String mechanism, String user, String password) throws Exception {
        ScramMechanism known = ScramMechanism.fromMechanismName(mechanism);
        UserScramCredentialAlteration change = password.isEmpty()
            ? new UserScramCredentialDeletion(user, known)
            : new UserScramCredentialUpsertion(user, new ScramCredentialInfo(known, 4096), password);
        admin(admin -> admin.alterUserScramCredentials(List.of(change)).all().get());
    }

    // ---------------------------------------------------------------- what Java sees

    /** Lines: partition, earliest, last stable, latest. */
    private void listOffsets(String topic) throws Exception {
        admin(admin -> {
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            for (var info : described.partitions()) {
                TopicPartition partition = new TopicPartition(topic, info.partition());
                say(info.partition(),
                    offset(admin, partition, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED),
                    offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED),
                    offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED));
            }
            return null;
        });
    }

    private static long offset(Admin admin, TopicPartition partition, OffsetSpec spec, IsolationLevel level) throws Exception {
        return admin.listOffsets(Map.of(partition, spec), new ListOffsetsOptions(level)).partitionResult(partition).get().offset();
    }

    /** Lines: topic, partition, offset, metadata. */
    private void committed(String group) throws Exception {
        admin(admin -> {
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((partition, committed) -> {
                if (committed != null) {
                    say(partition.topic(), partition.partition(), committed.offset(), committed.metadata());
                }
            });
            return null;
        });
    }

    private void commit(String group, TopicPartition partition, long offset) throws Exception {
        admin(admin -> admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(offset))).all().get());
    }

    /** A line with the group's type and state, then a line for each member: id, instance, client, topic:partition,... */
    private void group(String group) throws Exception {
        admin(admin -> {
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            say(described.type(), described.groupState());
            for (var member : described.members()) {
                String assigned = member.assignment().topicPartitions().stream()
                    .map(partition -> partition.topic() + ":" + partition.partition()).sorted().collect(Collectors.joining(","));
                say(member.consumerId(), member.groupInstanceId().orElse(""), member.clientId(), assigned);
            }
            return null;
        });
    }

    /** Reads all partitions from their beginning, up to COUNT records or the end as it is now. */
    private void consume(String topic, int count, String isolation) throws IOException {
        Properties config = new Properties();
        connect(config);
        config.put("isolation.level", isolation);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic, PATIENCE).stream()
                .map(info -> new TopicPartition(topic, info.partition())).collect(Collectors.toList());
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions, PATIENCE);
            consumer.seekToBeginning(partitions);
            int seen = 0;
            long end = System.nanoTime() + PATIENCE.toNanos();
            while (seen < count && !partitions.stream().allMatch(p -> consumer.position(p) >= ends.get(p))) {
                if (System.nanoTime() > end) {
                    throw new IllegalStateException("the end of " + topic + " is not reached");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    if (seen < count && record.offset() < ends.get(new TopicPartition(topic, record.partition()))) {
                        sayRecord(record.partition(), record.offset(), record.timestamp(), record.key(), record.value(),
                            record.headers());
                        seen += 1;
                    }
                }
            }
        }
    }

    // ---------------------------------------------------------------- what tools cannot write

    /**
     * COUNT records from number START on, taking turns over the partitions: key = the number within the partition
     * as decimal text, value = "partition:number:" and filler up to the wanted size. START is a number within each
     * partition, and continues an earlier fill.
     */
    private void fill(String topic, int partitions, long count, String codec, int valueBytes, long start) throws Exception {
        Properties config = producing();
        config.put("compression.type", codec);
        config.put("batch.size", "131072");
        config.put("linger.ms", "5");
        config.put("buffer.memory", "67108864");
        // A topic so new that its leader refuses the first batch may accept the second, and then never the first.
        config.put("max.in.flight.requests.per.connection", "1");
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (var producer = producer(config)) {
            for (long n = 0; n < count && failure.get() == null; n++) {
                int partition = (int) (n % partitions);
                long number = start + n / partitions;
                producer.send(new ProducerRecord<>(topic, partition, text(String.valueOf(number)),
                    filled(partition, number, valueBytes)), (metadata, exception) -> {
                        if (exception != null) {
                            failure.set(exception);
                        }
                    });
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    /**
     * RATE records a second, taking turns over the partitions, for so many milliseconds or until another line comes on
     * standard input; numbers and values as `fill` writes them, START being the first number within each partition. Every
     * record is acked by all replicas before the answer. Lines: partition, how many records.
     */
    private void pour(String topic, int partitions, double rate, long millis, int valueBytes, long start) throws Exception {
        Properties config = producing();
        // Brokers may be gone for a while.
        config.put("delivery.timeout.ms", "600000");
        config.put("max.in.flight.requests.per.connection", "1");
        AtomicReference<Exception> failure = new AtomicReference<>();
        long sent = 0;
        try (var producer = producer(config)) {
            long begin = System.nanoTime();
            long length = millis * 1_000_000;
            boolean goesOn = true;
            while (goesOn && failure.get() == null) {
                long passed = Math.min(System.nanoTime() - begin, length);
                goesOn = passed < length && !LINES.ready();
                for (long due = (long) (passed / 1e9 * rate); sent < due; sent++) {
                    int partition = (int) (sent % partitions);
                    long number = start + sent / partitions;
                    producer.send(new ProducerRecord<>(topic, partition, text(String.valueOf(number)),
                        filled(partition, number, valueBytes)), (metadata, exception) -> {
                            if (exception != null) {
                                failure.set(exception);
                            }
                        });
                }
                Thread.sleep(2);
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        for (int partition = 0; partition < partitions; partition++) {
            say(partition, sent / partitions + (partition < sent % partitions ? 1 : 0));
        }
    }

    /**
     * A member of a group, until standard input has a line or ends. It writes what it does to a file, in the lines of
     * the members' logs (see checker/history.rs); records of `fill` are its messages. It commits after each poll.
     */
    private void member(String group, String topic, String log, List<String> settings) throws Exception {
        Properties config = new Properties();
        connect(config);
        config.put("group.id", group);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        configs(settings).forEach(config::put);
        AtomicBoolean stopped = new AtomicBoolean();
        Map<TopicPartition, Integer> assignments = new HashMap<>();
        long calls = 0;
        // No buffer: each line is there when the next thing happens.
        try (var file = new FileOutputStream(log, true);
             var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            Thread reader = new Thread(() -> {
                try {
                    LINES.readLine();
                } catch (IOException ended) {
                    // As good as a line.
                }
                stopped.set(true);
                consumer.wakeup();
            });
            reader.setDaemon(true);
            reader.start();
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    for (TopicPartition partition : partitions) {
                        assignments.merge(partition, 1, Integer::sum);
                        note(file, "assigned", partition.topic(), partition.partition(), -1);
                    }
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    for (TopicPartition partition : partitions) {
                        note(file, "revoked", partition.topic(), partition.partition());
                    }
                }

                @Override
                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    for (TopicPartition partition : partitions) {
                        note(file, "lost", partition.topic(), partition.partition(), "onPartitionsLost");
                    }
                }
            });
            note(file, "joined");
            while (!stopped.get()) {
                try {
                    for (var record : consumer.poll(Duration.ofMillis(100))) {
                        TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                        String[] words = new String(record.value(), StandardCharsets.UTF_8).split(":");
                        calls += 1;
                        note(file, "begin", calls, record.topic(), record.partition(), record.offset(), words[1],
                            assignments.getOrDefault(partition, 0), false);
                        note(file, "end", calls);
                    }
                    consumer.commitSync();
                } catch (WakeupException woken) {
                    // What it was to say is in `stopped`; what this poll brought is committed below.
                } catch (CommitFailedException | RebalanceInProgressException failed) {
                    note(file, "failed", "commit", failed);
                }
            }
            try {
                consumer.commitSync();
            } catch (KafkaException failed) {
                note(file, "failed", "commit", failed);
            }
            consumer.close(CloseOptions.timeout(PATIENCE));
            note(file, "closed", true, "", "", "");
        }
    }

    private static void note(OutputStream file, Object... words) {
        Instant now = Instant.now();
        StringBuilder line = new StringBuilder().append(now.getEpochSecond() * 1_000_000_000L + now.getNano());
        for (Object word : words) {
            line.append('\t').append(String.valueOf(word).replaceAll("[\\t\\n\\r]", " "));
        }
        try {
            file.write(text(line.append('\n').toString()));
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    private static byte[] filled(int partition, long number, int size) {
        byte[] head = text(partition + ":" + number + ":");
        byte[] value = new byte[Math.max(size, head.length)];
        System.arraycopy(head, 0, value, 0, head.length);
        int from = (int) (number * 31 % 4096);
        for (int at = head.length; at < value.length; ) {
            int length = Math.min(value.length - at, FILLER_BYTES.length - from);
            System.arraycopy(FILLER_BYTES, from, value, at, length);
            at += length;
            from = 0;
        }
        return value;
    }

    private static final byte[] FILLER_BYTES = text(FILLER);

    /** Text like what programs log, so that codecs find about as much to do as in life. */
    private static String filler() {
        StringBuilder text = new StringBuilder();
        int seed = 1;
        while (text.length() < 65536) {
            seed = seed * 1103515245 + 12345;
            text.append("{\"id\":").append(seed & 0xffffff).append(",\"user\":\"user-").append((seed >>> 8) % 1000)
                .append("\",\"action\":\"").append((seed & 64) == 0 ? "view" : "purchase").append("\",\"amount\":")
                .append((seed >>> 4) % 10000 / 100.0).append(",\"ok\":").append((seed & 128) == 0).append("}");
        }
        return text.toString();
    }

    /** Each text is a record of its own, in a batch of its own. Lines: offsets. */
    private void send(TopicPartition to, List<String> values) throws Exception {
        Properties config = producing();
        config.put("linger.ms", "0");
        try (var producer = producer(config)) {
            for (String value : values) {
                say(producer.send(record(to, null, value)).get().offset());
            }
        }
    }

    /** A record for each key, in hex, wherever Java's partitioner puts it. Lines: partitions, in the order of the keys. */
    private void sendKeyed(String topic, List<String> keys) throws Exception {
        try (var producer = producer(producing())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String key : keys) {
                sent.add(producer.send(new ProducerRecord<>(topic, HexFormat.of().parseHex(key), text("java"))));
            }
            producer.flush();
            for (var one : sent) {
                say(one.get().partition());
            }
        }
    }

    /** Times in milliseconds, each of a record whose value is the time as text; all in one batch. Lines: offsets. */
    private void sendAt(TopicPartition to, List<String> times) throws Exception {
        Properties config = producing();
        // Nothing is sent before the flush.
        config.put("linger.ms", "60000");
        config.put("batch.size", "1000000");
        try (var producer = producer(config)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String time : times) {
                sent.add(producer.send(
                    new ProducerRecord<>(to.topic(), to.partition(), Long.valueOf(time), null, text(time))));
            }
            producer.flush();
            for (var one : sent) {
                say(one.get().offset());
            }
        }
    }

    /**
     * Records at the corners of the format, in two batches. Says each as `consume` would:
     *
     * <pre>
     * batch 1  null key, null value, timestamp 0
     *          empty key, empty value, timestamp 1
     *          null key, empty value, timestamp far in the future (year 9999)
     *          empty key, null value, timestamp 1000, before the one above
     *          key "headers", headers in this order: a=1, b=null, a=2, ""="empty name", a=null, empty=""
     *          key of all 256 bytes, value of all 256 bytes backwards
     * batch 2  one record: key "large", a value of 100000 bytes of 'x'
     *          then key "ünï©ode ☃", value "日本語", header "ключ"="значение"
     * </pre>
     */
    private void corner(TopicPartition to) throws Exception {
        Properties config = producing();
        // Nothing is sent before the flush, so that each group of records is one batch.
        config.put("linger.ms", "60000");
        config.put("batch.size", "1000000");
        String topic = to.topic();
        int partition = to.partition();
        byte[] empty = {};
        byte[] up = new byte[256];
        byte[] down = new byte[256];
        IntStream.range(0, 256).forEach(n -> {
            up[n] = (byte) n;
            down[n] = (byte) (255 - n);
        });
        var headers = new ProducerRecord<>(topic, partition, 2000L, text("headers"), text("see the headers"));
        headers.headers().add("a", text("1")).add("b", null).add("a", text("2")).add("", text("empty name"))
            .add("a", null).add("empty", empty);
        byte[] large = new byte[100_000];
        java.util.Arrays.fill(large, (byte) 'x');
        var unicode = new ProducerRecord<>(topic, partition, 5000L, text("ünï©ode ☃"), text("日本語"));
        unicode.headers().add("ключ", text("значение"));
        List<List<ProducerRecord<byte[], byte[]>>> batches = List.of(
            List.of(
                new ProducerRecord<byte[], byte[]>(topic, partition, Long.valueOf(0), null, null),
                new ProducerRecord<>(topic, partition, 1L, empty, empty),
                new ProducerRecord<>(topic, partition, 253_402_300_799_000L, null, empty),
                new ProducerRecord<byte[], byte[]>(topic, partition, Long.valueOf(1000), empty, null),
                headers,
                new ProducerRecord<>(topic, partition, 3000L, up, down)),
            List.of(new ProducerRecord<>(topic, partition, 4000L, text("large"), large), unicode));
        try (var producer = producer(config)) {
            for (var batch : batches) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (var record : batch) {
                    sent.add(producer.send(record));
                }
                producer.flush();
                for (int n = 0; n < batch.size(); n++) {
                    var record = batch.get(n);
                    sayRecord(partition, sent.get(n).get().offset(), record.timestamp(), record.key(), record.value(),
                        record.headers());
                }
            }
        }
    }

    /**
     * Three producers' transactions in one partition, interleaved, and plain records between them. In each of eight
     * rounds every producer writes three batches, of one, two and three records, taking turns; a plain record follows; then
     * the producers end their transactions in turn: committed or aborted, so that every mix of three occurs once.
     * Between two rounds a transaction of one batch commits, so that two markers and a batch meet at their borders.
     * At last producer 0 begins a transaction that stays open, with plain records before and after it.
     *
     * Values tell their fate: committed-…, aborted-…, plain-…, open-…, after-… (plain, but past the last stable
     * offset). Lines: offset, value.
     */
    private void transactions(TopicPartition to) throws Exception {
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        Properties config = producing();
        config.put("linger.ms", "60000");
        try (var plain = producer(config)) {
            for (int n = 0; n < 3; n++) {
                Properties transactional = producing();
                transactional.put("linger.ms", "60000");
                transactional.put("transactional.id", to + "-" + n);
                transactional.put("transaction.timeout.ms", "900000");
                producers.add(producer(transactional));
                producers.get(n).initTransactions();
            }
            for (int round = 0; round < 8; round++) {
                for (var producer : producers) {
                    producer.beginTransaction();
                }
                for (int size = 1; size <= 3; size++) {
                    for (int n = 0; n < 3; n++) {
                        String fate = (round >> n & 1) == 0 ? "committed" : "aborted";
                        List<String> values = new ArrayList<>();
                        for (int i = 0; i < size; i++) {
                            values.add(fate + "-" + round + "-" + n + "-" + size + "-" + i);
                        }
                        batch(producers.get(n), to, values);
                    }
                }
                batch(plain, to, List.of("plain-" + round));
                for (int n = 0; n < 3; n++) {
                    if ((round >> n & 1) == 0) {
                        producers.get(n).commitTransaction();
                    } else {
                        producers.get(n).abortTransaction();
                    }
                }
                producers.get(1).beginTransaction();
                batch(producers.get(1), to, List.of("committed-between-" + round));
                producers.get(1).commitTransaction();
            }
            batch(plain, to, List.of("plain-last"));
            var open = producers.remove(0);
            OPEN.put(to.topic(), open);
            open.beginTransaction();
            batch(open, to, List.of("open-0", "open-1"));
            batch(plain, to, List.of("after-0"));
            batch(open, to, List.of("open-2"));
            batch(plain, to, List.of("after-1"));
        } finally {
            for (var producer : producers) {
                producer.close();
            }
        }
    }

    private void batch(KafkaProducer<byte[], byte[]> producer, TopicPartition to, List<String> values) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (String value : values) {
            sent.add(producer.send(record(to, null, value)));
        }
        producer.flush();
        for (int n = 0; n < values.size(); n++) {
            say(sent.get(n).get().offset(), values.get(n));
        }
    }

    /**
     * Ends the transaction that `transactions` left open in the topic: "commit" or "abort". Brokers write the markers
     * after they have answered: this waits until the whole topic is stable.
     */
    private void finish(String topic, String how) throws Exception {
        try (var producer = OPEN.remove(topic)) {
            if (how.equals("commit")) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
        }
        admin(admin -> {
            var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            long end = System.nanoTime() + PATIENCE.toNanos();
            for (var info : described.partitions()) {
                TopicPartition partition = new TopicPartition(topic, info.partition());
                while (offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
                    < offset(admin, partition, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)) {
                    if (System.nanoTime() > end) {
                        throw new IllegalStateException(partition + " does not become stable");
                    }
                    Thread.sleep(20);
                }
            }
            return null;
        });
    }

    /**
     * Partition 0 of a compacted topic (with segment.ms = 1000 or less and min.cleanable.dirty.ratio near 0) full of holes:
     * batches that are gone, that are empty, that lost single records, at the head and in the middle, and an aborted
     * transaction at the tail, so that the log ends in offsets without records. Waits until the cleaner has done its
     * work. Says what is left as `consume` would.
     *
     * Kafka keeps the last batch of each producer id even when no record of it is left: the first two producers
     * here leave an empty batch each.
     */
    private void compact(String topic) throws Exception {
        TopicPartition to = new TopicPartition(topic, 0);
        for (String round : List.of("head", "middle")) {
            Properties config = producing();
            config.put("linger.ms", "60000");
            try (var producer = producer(config)) {
                for (int batch = 0; batch < 4; batch++) {
                    for (int key = 0; key < 5; key++) {
                        producer.send(record(to, "key-" + key, round + "-" + batch + "-" + key));
                    }
                    // The middle keeps every second record of two batches in its midst.
                    if (round.equals("middle") && batch < 2) {
                        producer.send(record(to, "kept-" + batch, "kept-" + batch));
                        producer.send(record(to, "key-0", "middle-too"));
                    }
                    producer.flush();
                }
            }
        }
        Properties config = producing();
        config.put("linger.ms", "60000");
        config.put("transactional.id", topic);
        try (var producer = producer(config)) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int key = 0; key < 5; key++) {
                producer.send(record(to, "key-" + key, "last-" + key));
            }
            producer.commitTransaction();
            producer.beginTransaction();
            for (int key = 0; key < 7; key++) {
                producer.send(record(to, "key-" + key, "aborted-" + key));
            }
            producer.flush();
            // The marker comes late enough to open a segment of its own: only closed segments are cleaned.
            Thread.sleep(1500);
            producer.abortTransaction();
        }
        long end = System.nanoTime() + PATIENCE.toNanos();
        List<ConsumerRecord<byte[], byte[]>> left = readAll(to);
        while (left.size() > 7) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException(left.size() + " records are left: the cleaner has not run");
            }
            Thread.sleep(200);
            left = readAll(to);
        }
        for (var record : left) {
            sayRecord(record.partition(), record.offset(), record.timestamp(), record.key(), record.value(), record.headers());
        }
    }

    private List<ConsumerRecord<byte[], byte[]>> readAll(TopicPartition partition) throws IOException {
        Properties config = new Properties();
        connect(config);
        config.put("enable.auto.commit", "false");
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition), PATIENCE).get(partition);
            while (consumer.position(partition) < end) {
                consumer.poll(Duration.ofMillis(100)).forEach(records::add);
            }
        }
        return records;
    }

    /** COUNT records with neither key nor value, in batches as large as they come. */
    private void tombstones(TopicPartition to, long count) throws Exception {
        Properties config = producing();
        config.put("batch.size", "262144");
        config.put("linger.ms", "50");
        try (var producer = producer(config)) {
            for (long n = 0; n < count; n++) {
                producer.send(new ProducerRecord<>(to.topic(), to.partition(), null, null));
            }
        }
    }

    /** BATCHES batches of RECORDS records of SIZE zeros: next to nothing in the log, and a lot when inflated. */
    private void zeros(TopicPartition to, int batches, int records, int size, String codec) throws Exception {
        Properties config = producing();
        config.put("linger.ms", "60000");
        config.put("compression.type", codec);
        config.put("batch.size", String.valueOf((size + 100) * records + 1000));
        config.put("max.request.size", "104857600");
        config.put("buffer.memory", "104857600");
        try (var producer = producer(config)) {
            for (int batch = 0; batch < batches; batch++) {
                for (int n = 0; n < records; n++) {
                    producer.send(new ProducerRecord<>(to.topic(), to.partition(), null, new byte[size]));
                }
                producer.flush();
            }
        }
    }

    // ---------------------------------------------------------------- words

    private interface Work {
        Object with(Admin admin) throws Exception;
    }

    private void admin(Work work) throws Exception {
        Properties config = new Properties();
        connect(config);
        try (Admin admin = Admin.create(config)) {
            work.with(admin);
        }
    }

    private void connect(Properties config) throws IOException {
        if (!bootstrap.startsWith("@")) {
            config.put("bootstrap.servers", bootstrap);
            return;
        }
        try (var file = Files.newBufferedReader(Path.of(bootstrap.substring(1)))) {
            config.load(file);
        }
    }

    private Properties producing() throws IOException {
        Properties config = new Properties();
        connect(config);
        config.put("acks", "all");
        return config;
    }

    private static KafkaProducer<byte[], byte[]> producer(Properties config) {
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static ProducerRecord<byte[], byte[]> record(TopicPartition to, String key, String value) {
        return new ProducerRecord<>(to.topic(), to.partition(), key == null ? null : text(key), text(value));
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Partition, offset, timestamp, key, value, then name and value of each header: bytes as hex, null as "null". */
    private void sayRecord(int partition, long offset, long timestamp, byte[] key, byte[] value, Headers headers) {
        List<Object> words = new ArrayList<>(List.of(partition, offset, timestamp, hex(key), hex(value)));
        for (Header header : headers) {
            words.add(hex(text(header.key())));
            words.add(hex(header.value()));
        }
        say(words.toArray());
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "null" : HexFormat.of().formatHex(bytes);
    }

    private void say(Object... words) {
        StringBuilder line = new StringBuilder("|");
        for (int n = 0; n < words.length; n++) {
            line.append(n == 0 ? "" : "\t").append(words[n]);
        }
        out.print(line.append('\n'));
    }
}
