package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klamm-peers/peer"
)

// How long calls take while the same client has a fetch waiting in the broker.
func longpoll(task peer.Task) (peer.Report, error) {
	var members [2]*waiting
	for side := range members {
		member, err := join(task, peer.Side(side))
		if err != nil {
			return nil, err
		}
		defer member.client.Close()
		members[side] = member
	}
	return peer.TakeTurns(task, []peer.Call{
		{Name: "commit", Do: func(side peer.Side, _ int) error { return members[side].commit() }},
		{Name: "metadata", Do: func(side peer.Side, _ int) error { return members[side].metadata(task.Written) }},
		{Name: "produce", Do: func(side peer.Side, _ int) error { return members[side].produce(task.Written) }},
	})
}

// A group of one, and a producer: one client is both.
type waiting struct {
	client  *kgo.Client
	offsets map[string]map[int32]kgo.EpochOffset
}

func join(task peer.Task, side peer.Side) (*waiting, error) {
	task.Group = true
	assigned := make(chan map[string][]int32, 1)
	options := append(consumerOptions(task),
		kgo.ClientID(side.ClientID()),
		kgo.HeartbeatInterval(peer.Heartbeats),
		kgo.FetchMaxWait(side.MaxWait()),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			assigned <- partitions
		}),
		kgo.ProducerLinger(0),
	)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	if side == peer.Paused {
		client.PauseFetchTopics(task.Topic)
	}
	offsets := map[int32]kgo.EpochOffset{}
	select {
	case partitions := <-assigned:
		for _, partition := range partitions[task.Topic] {
			offsets[partition] = kgo.EpochOffset{Epoch: -1}
		}
	case <-time.After(peer.Silence):
		return nil, errors.New("nothing was assigned")
	}
	return &waiting{client, map[string]map[int32]kgo.EpochOffset{task.Topic: offsets}}, nil
}

func (w *waiting) commit() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Silence)
	defer cancel()
	w.client.CommitOffsetsSync(ctx, w.offsets, func(
		_ *kgo.Client, _ *kmsg.OffsetCommitRequest, _ *kmsg.OffsetCommitResponse, failure error,
	) {
		err = failure
	})
	return err
}

func (w *waiting) metadata(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Silence)
	defer cancel()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = append(request.Topics, asked)
	answer, err := request.RequestWith(ctx, w.client)
	if err == nil && len(answer.Topics) != 1 {
		err = fmt.Errorf("%d topics", len(answer.Topics))
	}
	return err
}

func (w *waiting) produce(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Silence)
	defer cancel()
	return w.client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("written")}).FirstErr()
}
