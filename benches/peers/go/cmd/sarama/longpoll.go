package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

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
		members[side] = member
	}
	return peer.TakeTurns(task, []peer.Call{
		{Name: "commit", Do: func(side peer.Side, turn int) error { return members[side].commit(task.Topic, turn) }},
		{Name: "metadata", Do: func(side peer.Side, _ int) error {
			return members[side].client.RefreshMetadata(task.Written)
		}},
		{Name: "produce", Do: func(side peer.Side, _ int) error { return members[side].produce(task.Written) }},
	})
}

// A group of one, and a producer, of one client, as its interface allows.
type waiting struct {
	client   sarama.Client
	producer sarama.SyncProducer
	session  sarama.ConsumerGroupSession
	failures <-chan error
}

func join(task peer.Task, side peer.Side) (*waiting, error) {
	config, err := producerConfig(peer.Task{Compression: "none"})
	if err != nil {
		return nil, err
	}
	config.ClientID = side.ClientID()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.MaxWaitTime = side.MaxWait()
	config.Consumer.Group.Heartbeat.Interval = peer.Heartbeats
	// Heartbeats wait behind fetches: by default it would lose its membership.
	config.Consumer.Group.Session.Timeout = 60 * time.Second
	config.Consumer.Return.Errors = true
	client, err := sarama.NewClient(brokers(task), config)
	if err != nil {
		return nil, err
	}
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return nil, err
	}
	group, err := sarama.NewConsumerGroupFromClient(side.ClientID()+"-"+task.Topic, client)
	if err != nil {
		return nil, err
	}
	if side == peer.Paused {
		group.PauseAll()
	}
	sessions := make(chan sarama.ConsumerGroupSession, 1)
	go func() {
		// A rebalance would end the session, and with it the measurement.
		group.Consume(context.Background(), []string{task.Topic}, idleHandler{sessions, side == peer.Paused, group})
	}()
	select {
	case session := <-sessions:
		return &waiting{client, producer, session, group.Errors()}, nil
	case err := <-group.Errors():
		return nil, err
	case <-time.After(peer.Silence):
		return nil, errors.New("nothing was assigned")
	}
}

// What an offset is committed for must differ from the last one, or nothing is sent.
func (w *waiting) commit(topic string, turn int) error {
	for _, partition := range w.session.Claims()[topic] {
		w.session.MarkOffset(topic, partition, int64(turn)+1, "")
	}
	w.session.Commit()
	select {
	case err := <-w.failures:
		return err
	case <-w.session.Context().Done():
		return errors.New("the session has ended")
	default:
		return nil
	}
}

func (w *waiting) produce(topic string) error {
	_, _, err := w.producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("written")})
	return err
}

type idleHandler struct {
	sessions chan<- sarama.ConsumerGroupSession
	paused   bool
	group    sarama.ConsumerGroup
}

func (h idleHandler) Setup(session sarama.ConsumerGroupSession) error {
	h.sessions <- session
	return nil
}

func (h idleHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h idleHandler) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	if h.paused {
		h.group.PauseAll()
	}
	for message := range claim.Messages() {
		return fmt.Errorf("nothing is to be read, and there is offset %d", message.Offset)
	}
	return nil
}
