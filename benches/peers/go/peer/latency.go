package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Until so many records were seen, a client is not yet as it will be.
const warmUp = 50

// Delays are the times between sending a record and having it in hand.
type Delays struct {
	task  Task
	meter *Meter
	begun uint64
	warm  chan struct{}
	done  chan struct{}
	taken []time.Duration
}

// NewDelays starts the clock.
func NewDelays(task Task) *Delays {
	return &Delays{
		task:  task,
		meter: Begin(),
		begun: now(),
		warm:  make(chan struct{}),
		done:  make(chan struct{}),
		taken: make([]time.Duration, 0, warmUp+task.Messages),
	}
}

// See takes the value of a record that has arrived. True when it was the last. For one goroutine.
func (d *Delays) See(value []byte) bool {
	sent := binary.BigEndian.Uint64(value)
	if sent < d.begun {
		return false // by an earlier run
	}
	d.taken = append(d.taken, time.Duration(now()-sent))
	switch len(d.taken) {
	case warmUp:
		close(d.warm)
	case cap(d.taken):
		close(d.done)
	}
	return len(d.taken) == cap(d.taken)
}

// Send sends all records at even times, and returns when the other side has seen them.
func (d *Delays) Send(send func(value []byte) error) (Report, error) {
	if err := d.sendSome(warmUp, send); err != nil {
		return nil, err
	}
	if err := await(d.warm); err != nil {
		return nil, err
	}
	if err := d.sendSome(d.task.Messages, send); err != nil {
		return nil, err
	}
	if err := await(d.done); err != nil {
		return nil, err
	}
	d.meter.Stop()
	report := d.meter.Report(d.task.Messages, d.task.Messages*d.task.ValueBytes)
	report.AddPercentiles("", d.taken[warmUp:])
	return report, nil
}

func (d *Delays) sendSome(count int, send func(value []byte) error) error {
	ticks, err := newTicker(time.Second / time.Duration(d.task.Rate))
	if err != nil {
		return err
	}
	defer ticks.file.Close()
	for range count {
		if err := ticks.wait(); err != nil {
			return err
		}
		value := make([]byte, d.task.ValueBytes)
		binary.BigEndian.PutUint64(value, now())
		if err := send(value); err != nil {
			return err
		}
	}
	return nil
}

// now is the kernel's monotonic time, which all processes share, in nanoseconds.
func now() uint64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(err)
	}
	return uint64(at.Nano())
}

func await(event chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-time.After(Silence):
		return errors.New("records that were sent have not arrived")
	}
}

// AddPercentiles adds the median and the 99th of a hundred.
func (r Report) AddPercentiles(prefix string, taken []time.Duration) {
	slices.Sort(taken)
	microseconds := func(percent int) float64 {
		return float64(taken[(len(taken)-1)*percent/100].Nanoseconds()) / 1e3
	}
	r[prefix+"p50_us"] = microseconds(50)
	r[prefix+"p99_us"] = microseconds(99)
}

// A timer of the kernel's. The runtime's own fire on whole milliseconds while nothing else happens, which is as long as
// the interval that is to be even.
type ticker struct {
	file *os.File
	left uint64
}

func newTicker(interval time.Duration) (*ticker, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("a timer: %w", err)
	}
	every := unix.NsecToTimespec(interval.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return nil, fmt.Errorf("a timer: %w", err)
	}
	return &ticker{file: os.NewFile(uintptr(fd), "timer")}, nil
}

// wait returns once for every interval, also for those that were missed.
func (t *ticker) wait() error {
	if t.left == 0 {
		var count [8]byte
		if _, err := t.file.Read(count[:]); err != nil {
			return fmt.Errorf("a timer: %w", err)
		}
		t.left = binary.NativeEndian.Uint64(count[:])
	}
	t.left--
	return nil
}
