// franz puts github.com/twmb/franz-go to the test.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"klamm-peers/peer"
)

func main() {
	peer.Run("franz-go", "github.com/twmb/franz-go", map[string]peer.Mode{
		"consume":  consume,
		"produce":  produce,
		"latency":  latency,
		"idle":     idle,
		"longpoll": longpoll,
	})
}

func consume(task peer.Task) (peer.Report, error) {
	meter := peer.Begin()
	client, err := kgo.NewClient(consumerOptions(task)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var first time.Time
	seen, bytes := 0, 0
	for seen < task.Messages {
		fetches, err := poll(client)
		if err != nil {
			return nil, fmt.Errorf("after %d of %d messages: %w", seen, task.Messages, err)
		}
		if first.IsZero() {
			first = time.Now()
		}
		for record := range fetches.RecordsAll() {
			peer.Hand = record.Value
			bytes += len(record.Value)
			if task.Work > 0 {
				peer.Spin(task.Work)
			}
			if task.Tuned {
				record.Recycle()
			}
			if seen++; seen == task.Messages {
				break
			}
		}
	}
	meter.Stop()
	if bytes == 0 {
		return nil, errors.New("the messages have no bytes")
	}
	report := meter.Report(seen, bytes)
	report["first_seconds"] = meter.Since(first)
	return report, nil
}

func poll(client *kgo.Client) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Silence)
	defer cancel()
	fetches := client.PollFetches(ctx)
	return fetches, fetches.Err()
}

func consumerOptions(task peer.Task) []kgo.Opt {
	options := []kgo.Opt{
		kgo.SeedBrokers(task.Bootstrap),
		kgo.ConsumeTopics(task.Topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
	}
	if task.Group {
		options = append(options, kgo.ConsumerGroup(fmt.Sprintf("peer-%d", time.Now().UnixNano())))
	}
	if task.Tuned {
		options = append(options,
			// Answers that the processor's cache holds: larger ones are slower (default: 50 MiB, 1 MiB of each partition).
			kgo.FetchMaxBytes(4<<20),
			// Records are used again, instead of leaving them to the garbage collector. A pool of the bytes that were
			// decompressed costs more than it saves: they are zeroed each time.
			kgo.WithPools(&pool{}),
		)
	}
	return options
}

// The records of a batch, kept for the next one.
type pool struct{ records sync.Pool }

func (p *pool) GetRecords(n int) []kgo.Record {
	if kept, _ := p.records.Get().(*[]kgo.Record); kept != nil && cap(*kept) >= n {
		return (*kept)[:n]
	}
	return make([]kgo.Record, n)
}

func (p *pool) PutRecords(records []kgo.Record) { p.records.Put(&records) }

func produce(task peer.Task) (peer.Report, error) {
	options, err := producerOptions(task)
	if err != nil {
		return nil, err
	}
	meter := peer.Begin()
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	// Callbacks of one client are called one at a time.
	var failure error
	acknowledged := 0
	done := func(_ *kgo.Record, err error) {
		if err == nil {
			acknowledged++
		} else if failure == nil {
			failure = err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range task.Messages {
		client.Produce(ctx, &kgo.Record{Topic: task.Topic, Value: task.Value(i)}, done)
	}
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	meter.Stop()
	if failure != nil {
		return nil, failure
	}
	if acknowledged != task.Messages {
		return nil, fmt.Errorf("%d of %d records were acknowledged", acknowledged, task.Messages)
	}
	report := meter.Report(task.Messages, task.Messages*task.ValueBytes)
	report["idempotent"] = true
	return report, nil
}

func producerOptions(task peer.Task) ([]kgo.Opt, error) {
	codec, found := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}[task.Compression]
	if !found {
		return nil, fmt.Errorf("no codec is called %q", task.Compression)
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(task.Bootstrap),
		// The default, as is idempotence.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// The default is snappy.
		kgo.ProducerBatchCompression(codec),
	}
	if task.Tuned {
		options = append(options,
			// Who writes does not wait so often for who sends (default: 50 000).
			kgo.MaxBufferedRecords(500_000),
			// The next partition comes after half a batch, not after a sixteenth.
			kgo.RecordPartitioner(kgo.UniformBytesPartitioner(512<<10, true, true, nil)),
		)
		if task.Compression != "none" {
			// Recommended for who writes much: batches are filled until they are large when compressed.
			options = append(options, kgo.StreamingCompression())
		}
	}
	return options, nil
}

// One client on both sides, as is usual; it has connections of their own for either.
func latency(task peer.Task) (peer.Report, error) {
	options, err := producerOptions(task)
	if err != nil {
		return nil, err
	}
	options = append(options,
		kgo.ProducerLinger(0),
		kgo.ConsumeTopics(task.Topic),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
	)
	delays := peer.NewDelays(task)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var failure atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failure.CompareAndSwap(nil, &err)
		}
	}
	go func() {
		for {
			fetches, err := poll(client)
			if err != nil {
				fail(err)
				return
			}
			for record := range fetches.RecordsAll() {
				if delays.See(record.Value) {
					return
				}
			}
		}
	}()
	done := func(_ *kgo.Record, err error) { fail(err) }
	report, err := delays.Send(func(value []byte) error {
		client.Produce(context.Background(), &kgo.Record{Topic: task.Topic, Value: value}, done)
		if failure := failure.Load(); failure != nil {
			return *failure
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	report["idempotent"] = true
	return report, nil
}

func idle(task peer.Task) (peer.Report, error) {
	client, err := kgo.NewClient(consumerOptions(task)...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	seen := make(chan error, 1)
	go func() {
		fetches, err := poll(client)
		if err == nil && !fetches.Empty() {
			err = errors.New("the topic is not empty")
		}
		seen <- err
	}()
	time.Sleep(peer.Settling)
	meter := peer.Begin()
	select {
	case err := <-seen:
		return nil, err
	case <-time.After(task.Seconds):
	}
	meter.Stop()
	report := meter.Report(0, 0)
	report.AddIdle()
	return report, nil
}
