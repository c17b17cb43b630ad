import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Runs a broker and its clients for a moment in one JVM, which is told to keep what it has loaded: a JVM that starts from
 * that needs half the time. Its arguments: the properties of a broker that has no data yet, and its address.
 */
public final class Rehearsal {
    public static void main(String[] args) throws Exception {
        String cluster = "UmVoZWFyc2FsT2ZLbGFtbQ";
        if (kafka.tools.StorageTool.execute(new String[] {"format", "-t", cluster, "-c", args[0]}, System.err) != 0) {
            System.exit(1);
        }
        Thread broker = new Thread(() -> kafka.Kafka.main(new String[] {args[0]}), "broker");
        broker.setDaemon(true);
        broker.start();
        Map<String, Object> client = Map.of("bootstrap.servers", args[1]);
        try (Admin admin = Admin.create(client)) {
            admin.createTopics(List.of(new NewTopic("rehearsal", 1, (short) 1))).all().get();
            try (var producer = new KafkaProducer<>(client, new ByteArraySerializer(), new ByteArraySerializer())) {
                producer.send(new ProducerRecord<>("rehearsal", new byte[1])).get();
            }
            Properties reads = new Properties();
            reads.putAll(client);
            reads.put("group.id", "rehearsal");
            reads.put("auto.offset.reset", "earliest");
            try (var consumer = new KafkaConsumer<>(reads, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                consumer.subscribe(List.of("rehearsal"));
                for (int polls = 0; consumer.poll(Duration.ofSeconds(1)).isEmpty() && polls < 60; polls++) { }
                consumer.commitSync();
            }
            admin.describeTopics(List.of("rehearsal")).allTopicNames().get();
        }
        System.exit(0);
    }
}
