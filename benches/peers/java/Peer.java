import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's own client for Java as a contender: one mode, one run, one line of JSON. */
public final class Peer {
    /** A run that sees nothing for so long has failed. */
    private static final long SILENCE = TimeUnit.SECONDS.toNanos(60);
    private static final Duration POLL = Duration.ofMillis(500);

    private final Arguments arguments;
    private final Report report = new Report();

    private Peer(Arguments arguments) {
        this.arguments = arguments;
    }

    public static void main(String[] words) {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        try {
            var peer = new Peer(new Arguments(words));
            peer.run(words[0]);
            System.out.println(peer.report);
        } catch (Exception failure) {
            System.err.println("java: " + failure);
            System.exit(1);
        }
    }

    private void run(String mode) throws Exception {
        report.put("peer", "java");
        report.put("version", AppInfoParser.getVersion());
        switch (mode) {
            case "consume" -> consume();
            case "produce" -> produce();
            case "latency" -> latency();
            case "idle" -> idle();
            case "longpoll" -> longpoll();
            default -> throw new IllegalArgumentException("no mode is called " + mode);
        }
        report.put("peak_bytes", Process.peakBytes());
    }

    // ---- consume ----

    /** A value that was seen has been in somebody's hand. */
    static byte[] hand;

    private void consume() throws Exception {
        long wanted = arguments.number("messages");
        long work = arguments.has("work-ns") ? arguments.number("work-ns") : 0;
        var meter = new Meter();
        long seen = 0;
        long bytes = 0;
        long first = 0;
        try (var consumer = new KafkaConsumer<byte[], byte[]>(consumerSettings())) {
            if (arguments.has("group")) {
                consumer.subscribe(List.of(arguments.text("topic")));
            } else {
                assign(consumer);
            }
            long last = System.nanoTime();
            reading:
            while (seen < wanted) {
                var records = consumer.poll(POLL);
                if (records.isEmpty()) {
                    check(System.nanoTime() - last < SILENCE, "saw " + seen + " of " + wanted + " messages");
                    continue;
                }
                last = System.nanoTime();
                if (seen == 0) {
                    first = last;
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    hand = record.value();
                    bytes += record.value().length;
                    if (work > 0) {
                        spin(work);
                    }
                    if (++seen == wanted) {
                        break reading;
                    }
                }
            }
            meter.stop();
        }
        check(bytes > 0, "the messages have no bytes");
        report.work(seen, bytes, meter);
        report.put("first_seconds", (first - meter.begun) / 1e9);
    }

    private static void spin(long nanoseconds) {
        long end = System.nanoTime() + nanoseconds;
        while (System.nanoTime() < end) {
            Thread.onSpinWait();
        }
    }

    private List<TopicPartition> assign(KafkaConsumer<byte[], byte[]> consumer) {
        var partitions = consumer.partitionsFor(arguments.text("topic")).stream()
                .map(info -> new TopicPartition(info.topic(), info.partition()))
                .collect(Collectors.toList());
        consumer.assign(partitions);
        return partitions;
    }

    private Map<String, Object> consumerSettings() {
        var settings = new HashMap<String, Object>();
        settings.put("bootstrap.servers", arguments.text("bootstrap"));
        settings.put("key.deserializer", ByteArrayDeserializer.class);
        settings.put("value.deserializer", ByteArrayDeserializer.class);
        settings.put("auto.offset.reset", "earliest");
        if (arguments.has("group")) {
            settings.put("group.id", "peer-" + UUID.randomUUID());
        }
        if (arguments.has("tuned")) {
            // One answer brings much of every partition (default: 50 MiB, 1 MiB of each partition).
            settings.put("fetch.max.bytes", 64 << 20);
            settings.put("max.partition.fetch.bytes", 4 << 20);
            // A poll hands over what has arrived, not 500 records of it; the bound is what may be prefetched anyway.
            settings.put("max.poll.records", 10_000);
            // The kernel sizes the socket's buffer as it needs it, instead of 64 KiB.
            settings.put("receive.buffer.bytes", -1);
        }
        return settings;
    }

    // ---- produce ----

    private void produce() throws Exception {
        long count = arguments.number("messages");
        String topic = arguments.text("topic");
        byte[][] values = values();
        var failure = new AtomicReference<Exception>();
        var acknowledged = new AtomicLong();
        var meter = new Meter();
        try (var producer = new KafkaProducer<byte[], byte[]>(producerSettings())) {
            for (long i = 0; i < count && failure.get() == null; i++) {
                byte[] value = values[(int) (i % values.length)];
                producer.send(new ProducerRecord<>(topic, value), (metadata, error) -> {
                    if (error == null) {
                        // Only the producer's own thread counts.
                        acknowledged.setPlain(acknowledged.getPlain() + 1);
                    } else {
                        failure.compareAndSet(null, error);
                    }
                });
            }
            producer.flush();
            meter.stop();
        }
        if (failure.get() != null) {
            throw new IllegalStateException(failure.get());
        }
        check(acknowledged.get() == count, acknowledged + " of " + count + " records were acknowledged");
        report.work(count, count * arguments.number("value-bytes"), meter);
        report.put("idempotent", true);
    }

    private byte[][] values() throws IOException {
        byte[] file = Files.readAllBytes(Path.of(arguments.text("values")));
        int length = (int) arguments.number("value-bytes");
        check(file.length >= length && file.length % length == 0, "the file holds no values of " + length + " bytes");
        var values = new byte[file.length / length][];
        for (int i = 0; i < values.length; i++) {
            values[i] = Arrays.copyOfRange(file, i * length, (i + 1) * length);
        }
        return values;
    }

    private Map<String, Object> producerSettings() {
        var settings = new HashMap<String, Object>();
        settings.put("bootstrap.servers", arguments.text("bootstrap"));
        settings.put("key.serializer", ByteArraySerializer.class);
        settings.put("value.serializer", ByteArraySerializer.class);
        // The default, as is idempotence.
        settings.put("acks", "all");
        if (arguments.has("compression")) {
            settings.put("compression.type", arguments.text("compression"));
        }
        if (arguments.has("tuned")) {
            // Batches of 16 KiB are what costs most: the partitioner goes on to the next partition after each.
            settings.put("batch.size", 256 << 10);
            settings.put("linger.ms", 10);
            // Twelve partitions with some large batches each, without waiting for room (default: 32 MiB).
            settings.put("buffer.memory", 128L << 20);
            settings.put("max.request.size", 4 << 20);
            // The kernel sizes the socket's buffer as it needs it, instead of 128 KiB.
            settings.put("send.buffer.bytes", -1);
        }
        return settings;
    }

    // ---- latency ----

    private static final int WARM_UP = 50;

    private void latency() throws Exception {
        int count = WARM_UP + (int) arguments.number("messages");
        var taken = new long[count];
        var ready = new CountDownLatch(1);
        var warm = new CountDownLatch(WARM_UP);
        var failure = new AtomicReference<Throwable>();
        var settings = producerSettings();
        settings.put("linger.ms", 0);
        var meter = new Meter();
        var reading = new Thread(() -> {
            try (var consumer = new KafkaConsumer<byte[], byte[]>(consumerSettings())) {
                var partitions = assign(consumer);
                consumer.seekToEnd(partitions);
                partitions.forEach(consumer::position);
                ready.countDown();
                receive(consumer, taken, warm);
            } catch (Exception error) {
                failure.compareAndSet(null, error);
                ready.countDown();
            }
        });
        reading.start();
        ready.await();
        try (var producer = new KafkaProducer<byte[], byte[]>(settings)) {
            send(producer, WARM_UP, failure);
            check(warm.await(60, TimeUnit.SECONDS), "the records of the warm-up have not arrived");
            send(producer, count - WARM_UP, failure);
            reading.join();
            meter.stop();
        }
        if (failure.get() != null) {
            throw new IllegalStateException(failure.get());
        }
        long[] counted = Arrays.copyOfRange(taken, WARM_UP, count);
        report.work(counted.length, counted.length * arguments.number("value-bytes"), meter);
        report.percentiles("", counted);
        report.put("idempotent", true);
    }

    /** At even times, without waiting for acknowledgements. */
    private void send(KafkaProducer<byte[], byte[]> producer, int count, AtomicReference<Throwable> failure) {
        String topic = arguments.text("topic");
        int length = Math.max(Long.BYTES, (int) arguments.number("value-bytes"));
        long rate = arguments.number("rate");
        long begun = System.nanoTime();
        for (long i = 0; i < count && failure.get() == null; i++) {
            sleepUntil(begun + 1_000_000_000 * i / rate);
            var value = ByteBuffer.allocate(length).putLong(System.nanoTime()).array();
            producer.send(new ProducerRecord<>(topic, value), (metadata, error) -> {
                if (error != null) {
                    failure.compareAndSet(null, error);
                }
            });
        }
    }

    private void receive(KafkaConsumer<byte[], byte[]> consumer, long[] taken, CountDownLatch warm) {
        int seen = 0;
        long last = System.nanoTime();
        while (seen < taken.length) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                last = System.nanoTime();
                taken[seen++] = last - ByteBuffer.wrap(record.value()).getLong();
                warm.countDown();
            }
            check(System.nanoTime() - last < SILENCE, "saw " + seen + " of " + taken.length + " messages");
        }
    }

    private static void sleepUntil(long moment) {
        for (long left; (left = moment - System.nanoTime()) > 0; ) {
            LockSupport.parkNanos(left);
        }
    }

    // ---- idle ----

    /** Until every partition has been fetched from: what comes before that is not idle. */
    private static final long SETTLING = TimeUnit.SECONDS.toNanos(3);

    private void idle() throws Exception {
        try (var consumer = new KafkaConsumer<byte[], byte[]>(consumerSettings())) {
            assign(consumer);
            poll(consumer, SETTLING);
            check(fetches(consumer) > 0, "nothing was fetched");
            var meter = new Meter();
            poll(consumer, TimeUnit.SECONDS.toNanos(arguments.number("seconds")));
            meter.stop();
            report.work(0, 0, meter);
            report.put("threads", Process.threads());
            report.put("connections", Process.connections());
        }
    }

    private static void poll(KafkaConsumer<byte[], byte[]> consumer, long nanoseconds) {
        long end = System.nanoTime() + nanoseconds;
        for (long left; (left = end - System.nanoTime()) > 0; ) {
            var records = consumer.poll(Duration.ofNanos(Math.min(left, POLL.toNanos())));
            check(records.isEmpty(), "the topic is not empty");
        }
    }

    private static double fetches(KafkaConsumer<byte[], byte[]> consumer) {
        return consumer.metrics().entrySet().stream()
                .filter(metric -> metric.getKey().name().equals("fetch-total"))
                .filter(metric -> metric.getKey().group().equals("consumer-fetch-manager-metrics"))
                .mapToDouble(metric -> (Double) metric.getValue().metricValue())
                .sum();
    }

    // ---- longpoll ----

    /** As often do members send one, so that there are enough to compare. */
    private static final int HEARTBEATS_MS = 20;
    private static final int WARM_UP_TURNS = 100;
    private static final long WARM_UP_AT_MOST = TimeUnit.SECONDS.toNanos(2);
    /** Who waits longer waits for the long poll itself: once tells it all. */
    private static final long LONG = TimeUnit.SECONDS.toNanos(1);

    /** One of two clients that do the same in turns, call by call: whoever watches their requests knows them by this. */
    private enum Side {
        POLLING("polling", "", 10_000),
        /** A fetch from before all was paused is soon back. */
        PAUSED("paused", "without_", 100);

        final String clientId;
        final String prefix;
        /** So long a fetch waits for a record that does not come. */
        final int maxWaitMs;

        Side(String clientId, String prefix, int maxWaitMs) {
            this.clientId = clientId;
            this.prefix = prefix;
            this.maxWaitMs = maxWaitMs;
        }
    }

    private interface Call {
        void run(Member member) throws Exception;
    }

    /** How long calls take while the same consumer has a fetch waiting in the broker; and a producer beside it. */
    private void longpoll() throws Exception {
        try (var polling = new Member(Side.POLLING);
                var paused = new Member(Side.PAUSED)) {
            var members = List.of(polling, paused);
            Thread.sleep(1000);
            var taken = new LinkedHashMap<String, List<Long>>();
            var isLong = new HashSet<String>();
            Meter meter = null;
            long begun = System.nanoTime();
            long end = Long.MAX_VALUE;
            for (int turn = 0; System.nanoTime() < end; turn++) {
                boolean isWarm = turn >= WARM_UP_TURNS || System.nanoTime() - begun >= WARM_UP_AT_MOST;
                if (meter == null && turn > 0 && isWarm) {
                    taken.keySet().removeIf(key -> !isLong.contains(key.substring(0, key.indexOf('_'))));
                    meter = new Meter();
                    // At least one turn counts, however long it takes.
                    end = meter.begun + TimeUnit.SECONDS.toNanos(arguments.number("seconds"));
                }
                members.forEach(Member::poll);
                time("commit", members, turn, taken, isLong, Member::commit);
                time("metadata", members, turn, taken, isLong, Member::metadata);
                time("produce", members, turn, taken, isLong, Member::produce);
            }
            meter.stop();
            report.work(0, 0, meter);
            // To close them may take long.
            report.put("ended_at", System.currentTimeMillis() / 1e3);
            report.put("calls", taken.values().stream().mapToInt(List::size).max().orElse(0));
            for (var calls : taken.entrySet()) {
                report.percentiles(calls.getKey(), calls.getValue().stream().mapToLong(it -> it).toArray());
            }
        }
    }

    private static void time(
            String name,
            List<Member> members,
            int turn,
            Map<String, List<Long>> taken,
            Set<String> isLong,
            Call call)
            throws Exception {
        if (isLong.contains(name)) {
            return;
        }
        // Neither is always the first.
        for (int i = 0; i < 2; i++) {
            var member = members.get((turn + i) % 2);
            long before = System.nanoTime();
            call.run(member);
            long took = System.nanoTime() - before;
            taken.computeIfAbsent(name + "_" + member.side.prefix, key -> new ArrayList<>()).add(took);
            if (took >= LONG) {
                isLong.add(name);
            }
        }
    }

    /** A group of one, and a producer: there is no client that both could share. */
    private final class Member implements AutoCloseable {
        final Side side;
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final KafkaProducer<byte[], byte[]> producer;
        private final Map<TopicPartition, OffsetAndMetadata> offsets;

        Member(Side side) {
            this.side = side;
            var consuming = consumerSettings();
            consuming.put("client.id", side.clientId);
            consuming.put("group.id", side.clientId + "-" + UUID.randomUUID());
            consuming.put("enable.auto.commit", false);
            consuming.put("fetch.max.wait.ms", side.maxWaitMs);
            consuming.put("heartbeat.interval.ms", HEARTBEATS_MS);
            consumer = new KafkaConsumer<>(consuming);
            consumer.subscribe(List.of(arguments.text("topic")));
            long begun = System.nanoTime();
            while (consumer.assignment().isEmpty()) {
                poll();
                check(System.nanoTime() - begun < SILENCE, "nothing was assigned");
            }
            if (side == Side.PAUSED) {
                consumer.pause(consumer.assignment());
            }
            offsets = consumer.assignment().stream().collect(Collectors.toMap(it -> it, it -> new OffsetAndMetadata(0)));
            var producing = producerSettings();
            producing.put("client.id", side.clientId);
            producing.put("linger.ms", 0);
            producer = new KafkaProducer<>(producing);
        }

        /** Fetches leave and come back in here. */
        void poll() {
            check(consumer.poll(Duration.ofMillis(1)).isEmpty(), "the topic is not empty");
        }

        void commit() {
            consumer.commitSync(offsets);
        }

        /** Of all topics: what it knows of one it does not ask for. */
        void metadata() {
            check(!consumer.listTopics().isEmpty(), "there are topics");
        }

        void produce() throws Exception {
            producer.send(new ProducerRecord<>(arguments.text("written"), new byte[100])).get();
        }

        @Override
        public void close() {
            producer.close();
            consumer.close();
        }
    }

    private static void check(boolean isRight, String otherwise) {
        if (!isRight) {
            throw new IllegalStateException(otherwise);
        }
    }

    /** What the command line says behind the mode: names with or without a value. */
    private static final class Arguments {
        private static final Set<String> ALONE = Set.of("tuned", "group");

        private final Map<String, String> values = new HashMap<>();

        Arguments(String[] words) {
            check(words.length > 0, "a mode is missing");
            for (int at = 1; at < words.length; at++) {
                check(words[at].startsWith("--"), words[at] + " is no option");
                String name = words[at].substring(2);
                if (ALONE.contains(name)) {
                    values.put(name, "");
                } else {
                    check(at + 1 < words.length, words[at] + " needs a value");
                    values.put(name, words[++at]);
                }
            }
        }

        boolean has(String name) {
            return values.containsKey(name);
        }

        String text(String name) {
            check(has(name), "--" + name + " is missing");
            return values.get(name);
        }

        long number(String name) {
            return Long.parseLong(text(name));
        }
    }

    /** Time and processor time of the whole process, its compiler and collector included. */
    private static final class Meter {
        final long begun = System.nanoTime();
        private final double[] usedBefore = Process.processorSeconds();
        double seconds;
        double userSeconds;
        double systemSeconds;

        void stop() {
            seconds = (System.nanoTime() - begun) / 1e9;
            double[] used = Process.processorSeconds();
            userSeconds = used[0] - usedBefore[0];
            systemSeconds = used[1] - usedBefore[1];
        }
    }

    /** What Linux tells about this process. */
    private static final class Process {
        static double[] processorSeconds() {
            String stat = read("/proc/self/stat");
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            return new double[] {Long.parseLong(fields[11]) / 100.0, Long.parseLong(fields[12]) / 100.0};
        }

        static long peakBytes() {
            return status("VmHWM:") * 1024;
        }

        static long threads() {
            return status("Threads:");
        }

        static long connections() throws IOException {
            var sockets = new HashSet<String>();
            try (var files = Files.newDirectoryStream(Path.of("/proc/self/fd"))) {
                for (Path file : files) {
                    try {
                        sockets.add(Files.readSymbolicLink(file).toString());
                    } catch (IOException closed) {
                        // The directory itself was open while it was read.
                    }
                }
            }
            return sockets.stream().filter(target -> target.startsWith("socket:")).count();
        }

        private static long status(String name) {
            return read("/proc/self/status").lines()
                    .filter(line -> line.startsWith(name))
                    .mapToLong(line -> Long.parseLong(line.split("\\s+")[1]))
                    .findFirst()
                    .orElseThrow();
        }

        private static String read(String file) {
            try {
                return Files.readString(Path.of(file));
            } catch (IOException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    /** One line of JSON. */
    private static final class Report {
        private final Map<String, Object> fields = new LinkedHashMap<>();

        void put(String name, Object value) {
            fields.put(name, value instanceof String ? "\"" + value + "\"" : value);
        }

        void work(long messages, long bytes, Meter meter) {
            put("messages", messages);
            put("bytes", bytes);
            put("seconds", meter.seconds);
            put("user_seconds", meter.userSeconds);
            put("system_seconds", meter.systemSeconds);
        }

        void percentiles(String prefix, long[] nanoseconds) {
            check(nanoseconds.length > 0, "nothing was measured");
            Arrays.sort(nanoseconds);
            put(prefix + "p50_us", nanoseconds[nanoseconds.length / 2] / 1e3);
            put(prefix + "p99_us", nanoseconds[nanoseconds.length * 99 / 100] / 1e3);
        }

        @Override
        public String toString() {
            return fields.entrySet().stream()
                    .map(field -> "\"" + field.getKey() + "\":" + field.getValue())
                    .collect(Collectors.joining(",", "{", "}"));
        }
    }
}
