package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"klamm-peers/peer"
)

func consume(task peer.Task) (peer.Report, error) {
	r := &reading{task: task, meter: peer.Begin(), done: make(chan struct{})}
	begin := r.assigned
	if task.Group {
		begin = r.joined
	}
	if err := begin(); err != nil {
		return nil, err
	}
	if err := r.wait(); err != nil {
		return nil, err
	}
	r.meter.Stop()
	if r.bytes.Load() == 0 {
		return nil, errors.New("the messages have no bytes")
	}
	report := r.meter.Report(int(r.seen.Load()), int(r.bytes.Load()))
	report["first_seconds"] = r.meter.Since(r.first)
	return report, nil
}

// What the partitions' goroutines have read together.
type reading struct {
	task        peer.Task
	meter       *peer.Meter
	begun       sync.Once
	first       time.Time
	seen, bytes atomic.Int64
	done        chan struct{}
}

func (r *reading) assigned() error {
	_, err := assign(r.task, func(partition sarama.PartitionConsumer) {
		r.read(partition.Messages(), func(*sarama.ConsumerMessage) {})
	})
	return err
}

func (r *reading) joined() error {
	name := fmt.Sprintf("peer-%d", time.Now().UnixNano())
	group, err := sarama.NewConsumerGroup(brokers(r.task), name, consumerConfig(r.task))
	if err != nil {
		return err
	}
	go func() {
		// A rebalance ends a session; the next one begins.
		for group.Consume(context.Background(), []string{r.task.Topic}, handler{r}) == nil {
		}
	}()
	return nil
}

type handler struct{ *reading }

func (h handler) Setup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	h.read(claim.Messages(), func(message *sarama.ConsumerMessage) { session.MarkMessage(message, "") })
	return nil
}

// So many messages at most does a goroutine count for itself.
const some = 4096

// read adds up what one partition brings. Goroutines rarely meet: when they have nothing more to do at the moment.
func (r *reading) read(messages <-chan *sarama.ConsumerMessage, finish func(*sarama.ConsumerMessage)) {
	seen, bytes := 0, 0
	for message := range messages {
		r.begun.Do(func() { r.first = time.Now() })
		// Not peer.Hand: it is for one goroutine.
		seen, bytes = seen+1, bytes+len(message.Value)
		if r.task.Work > 0 {
			peer.Spin(r.task.Work)
		}
		finish(message)
		if len(messages) == 0 || seen == some {
			r.add(seen, bytes)
			seen, bytes = 0, 0
		}
	}
}

func (r *reading) add(seen, bytes int) {
	r.bytes.Add(int64(bytes))
	now := int(r.seen.Add(int64(seen)))
	if before := now - seen; before < r.task.Messages && now >= r.task.Messages {
		close(r.done)
	}
}

func (r *reading) wait() error {
	for before := int64(-1); ; {
		select {
		case <-r.done:
			return nil
		case <-time.After(peer.Silence):
			seen := r.seen.Load()
			if seen == before {
				return fmt.Errorf("saw %d of %d messages", seen, r.task.Messages)
			}
			before = seen
		}
	}
}
