package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klamm-peers/peer"
)

const (
	rounds = 50
	// Between two measurements, so that their number does not depend on how long they take.
	pause = 20 * time.Millisecond
)

// How long a commit and an acknowledged record take while the same client has a fetch waiting in the broker.
func longpoll(task peer.Task) (peer.Report, error) {
	options, err := producerOptions(task)
	if err != nil {
		return nil, err
	}
	assigned := make(chan map[string][]int32, 1)
	task.Group = true
	options = append(options, consumerOptions(task)[1:]...)
	options = append(options,
		kgo.FetchMaxWait(10*time.Second),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			assigned <- partitions
		}),
		kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	// The last partition is written to: it must not be fetched, or each record would end the wait.
	const written = 11
	client.PauseFetchPartitions(map[string][]int32{task.Topic: {written}})
	if task.WithoutFetches {
		client.PauseFetchTopics(task.Topic)
	}
	offsets := map[string]map[int32]kgo.EpochOffset{task.Topic: {}}
	select {
	case partitions := <-assigned:
		for _, partition := range partitions[task.Topic] {
			offsets[task.Topic][partition] = kgo.EpochOffset{Epoch: -1}
		}
	case <-time.After(peer.Silence):
		return nil, fmt.Errorf("nothing was assigned")
	}
	var commits, produces []time.Duration
	var meter *peer.Meter
	for round, end := 0, time.Now().Add(time.Hour); time.Now().Before(end); round++ {
		if round == rounds {
			commits, produces = nil, nil
			meter = peer.Begin()
			end = time.Now().Add(task.Seconds)
		}
		time.Sleep(pause)
		committed, produced, err := measure(client, offsets, &kgo.Record{
			Topic:     task.Topic,
			Partition: written,
			Value:     make([]byte, 100),
		})
		if err != nil {
			return nil, err
		}
		commits, produces = append(commits, committed), append(produces, produced)
	}
	meter.Stop()
	report := meter.Report(0, 0)
	report.AddPercentiles("commit_", commits)
	report.AddPercentiles("produce_", produces)
	return report, nil
}

func measure(
	client *kgo.Client, offsets map[string]map[int32]kgo.EpochOffset, record *kgo.Record,
) (committed, produced time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Silence)
	defer cancel()
	begun := time.Now()
	client.CommitOffsetsSync(ctx, offsets, func(
		_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, failure error,
	) {
		err = failure
	})
	committed = time.Since(begun)
	if err != nil {
		return committed, 0, err
	}
	begun = time.Now()
	err = client.ProduceSync(ctx, record).FirstErr()
	return committed, time.Since(begun), err
}
