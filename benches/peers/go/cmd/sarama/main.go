// sarama puts github.com/IBM/sarama to the test.
package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"

	"klamm-peers/peer"
)

func main() {
	peer.Run("sarama", "github.com/IBM/sarama", map[string]peer.Mode{
		"consume":  consume,
		"produce":  produce,
		"latency":  latency,
		"idle":     idle,
		"longpoll": longpoll,
	})
}

func consumerConfig(task peer.Task) *sarama.Config {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	if task.Tuned {
		// Larger or smaller answers than the usual were not faster.
		tune(config)
	}
	return config
}

func producerConfig(task peer.Task) (*sarama.Config, error) {
	codec, found := map[string]sarama.CompressionCodec{
		"none":   sarama.CompressionNone,
		"gzip":   sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy,
		"lz4":    sarama.CompressionLZ4,
		"zstd":   sarama.CompressionZSTD,
	}[task.Compression]
	if !found {
		return nil, fmt.Errorf("no codec is called %q", task.Compression)
	}
	config := sarama.NewConfig()
	// The default is the leader's acknowledgement alone. Idempotence is not the default, and stays off.
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = codec
	// The only way to learn that a record is in the log.
	config.Producer.Return.Successes = true
	if task.Tuned {
		tune(config)
		// Requests wait until they are worth it; by default they leave with what there is.
		config.Producer.Flush.Frequency = 10 * time.Millisecond
		config.Producer.Flush.Bytes = 1 << 20
	}
	return config, nil
}

func tune(config *sarama.Config) {
	// Goroutines take turns less often (default: 256).
	config.ChannelBufferSize = 1024
	// Nobody looks at them.
	metrics.UseNilMetrics = true
}

func produce(task peer.Task) (peer.Report, error) {
	config, err := producerConfig(task)
	if err != nil {
		return nil, err
	}
	meter := peer.Begin()
	producer, err := sarama.NewAsyncProducer(brokers(task), config)
	if err != nil {
		return nil, err
	}
	go func() {
		for i := range task.Messages {
			producer.Input() <- &sarama.ProducerMessage{Topic: task.Topic, Value: sarama.ByteEncoder(task.Value(i))}
		}
	}()
	for acknowledged := range task.Messages {
		select {
		case <-producer.Successes():
		case failure := <-producer.Errors():
			return nil, fmt.Errorf("after %d of %d records: %w", acknowledged, task.Messages, failure)
		}
	}
	meter.Stop()
	report := meter.Report(task.Messages, task.Messages*task.ValueBytes)
	report["idempotent"] = config.Producer.Idempotent
	return report, producer.Close()
}

func latency(task peer.Task) (peer.Report, error) {
	config, err := producerConfig(task)
	if err != nil {
		return nil, err
	}
	// Nothing lingers.
	config.Producer.Flush.Frequency, config.Producer.Flush.Bytes = 0, 0
	delays := peer.NewDelays(task)
	// Either side has a client of its own: on the same connection records would wait behind the fetch.
	close, err := assign(task, func(partition sarama.PartitionConsumer) {
		for message := range partition.Messages() {
			if delays.See(message.Value) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	producer, err := sarama.NewAsyncProducer(brokers(task), config)
	if err != nil {
		return nil, err
	}
	failures := make(chan error, 1)
	go func() {
		for {
			select {
			case <-producer.Successes():
			case failure := <-producer.Errors():
				failures <- failure
				return
			}
		}
	}()
	report, err := delays.Send(func(value []byte) error {
		select {
		case producer.Input() <- &sarama.ProducerMessage{Topic: task.Topic, Value: sarama.ByteEncoder(value)}:
			return nil
		case failure := <-failures:
			return failure
		}
	})
	if err != nil {
		return nil, err
	}
	report["idempotent"] = config.Producer.Idempotent
	return report, close()
}

func idle(task peer.Task) (peer.Report, error) {
	messages := make(chan struct{}, 1)
	close, err := assign(task, func(partition sarama.PartitionConsumer) {
		for range partition.Messages() {
			messages <- struct{}{}
		}
	})
	if err != nil {
		return nil, err
	}
	time.Sleep(peer.Settling)
	meter := peer.Begin()
	select {
	case <-messages:
		return nil, errors.New("the topic is not empty")
	case <-time.After(task.Seconds):
	}
	meter.Stop()
	report := meter.Report(0, 0)
	report.AddIdle()
	return report, close()
}

// assign begins to read all partitions from their earliest offset, each by a goroutine.
func assign(task peer.Task, read func(sarama.PartitionConsumer)) (func() error, error) {
	consumer, err := sarama.NewConsumer(brokers(task), consumerConfig(task))
	if err != nil {
		return nil, err
	}
	partitions, err := consumer.Partitions(task.Topic)
	if err != nil {
		return nil, err
	}
	// All at once, as its groups do: questions for offsets wait behind fetches on the same connection.
	all := make([]sarama.PartitionConsumer, len(partitions))
	failures := make(chan error, len(partitions))
	for at, number := range partitions {
		go func() {
			partition, err := consumer.ConsumePartition(task.Topic, number, sarama.OffsetOldest)
			if err == nil {
				all[at] = partition
				go read(partition)
			}
			failures <- err
		}()
	}
	for range partitions {
		if err := <-failures; err != nil {
			return nil, err
		}
	}
	return func() error {
		for _, partition := range all {
			partition.AsyncClose()
		}
		return consumer.Close()
	}, nil
}

func brokers(task peer.Task) []string {
	return strings.Split(task.Bootstrap, ",")
}
