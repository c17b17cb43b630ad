package peer

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Meter measures time, and the processor time of the whole process, its garbage collector included.
type Meter struct {
	begun     time.Time
	processor processorTime
	seconds   float64
}

// Begin is called right before the client is made.
func Begin() *Meter {
	return &Meter{processor: processor(), begun: time.Now()}
}

// Stop ends the measurement; a client may be closed behind it.
func (m *Meter) Stop() {
	m.seconds = time.Since(m.begun).Seconds()
	before, now := m.processor, processor()
	m.processor = processorTime{all: now.all - before.all, user: now.user - before.user, system: now.system - before.system}
}

// Since is how long after the beginning that was.
func (m *Meter) Since(moment time.Time) float64 {
	return moment.Sub(m.begun).Seconds()
}

// Report says what so much work has cost.
func (m *Meter) Report(messages, bytes int) Report {
	used := m.processor
	share := 0.5
	if counted := used.user + used.system; counted > 0 {
		share = used.user / counted
	}
	return Report{
		"messages":       messages,
		"bytes":          bytes,
		"seconds":        m.seconds,
		"user_seconds":   used.all * share,
		"system_seconds": used.all * (1 - share),
	}
}

// AddIdle adds what a client keeps while nothing happens.
func (r Report) AddIdle() {
	r["threads"] = status("Threads:")
	r["connections"] = connections()
}

// In seconds. Only the sum is known exactly: the two modes are counted in hundredths.
type processorTime struct{ all, user, system float64 }

func processor() processorTime {
	var all unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &all); err != nil {
		panic(err)
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		panic(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ticks := func(at int) float64 {
		ticks, _ := strconv.ParseFloat(fields[at], 64)
		return ticks / 100
	}
	return processorTime{all: float64(all.Nano()) / 1e9, user: ticks(11), system: ticks(12)}
}

func connections() int {
	files, _ := filepath.Glob("/proc/self/fd/*")
	sockets := 0
	for _, file := range files {
		if target, _ := os.Readlink(file); strings.HasPrefix(target, "socket:") {
			sockets++
		}
	}
	return sockets
}

func status(name string) int {
	file, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(file)) {
		if value, found := strings.CutPrefix(line, name); found {
			number, _ := strconv.Atoi(strings.Fields(value)[0])
			return number
		}
	}
	return 0
}
