package peer

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Meter measures time, and the processor time of the whole process, its garbage collector included.
type Meter struct {
	begun        time.Time
	user, system float64
	seconds      float64
}

// Begin is called right before the client is made.
func Begin() *Meter {
	m := &Meter{}
	m.user, m.system = processorSeconds()
	m.begun = time.Now()
	return m
}

// Stop ends the measurement; a client may be closed behind it.
func (m *Meter) Stop() {
	m.seconds = time.Since(m.begun).Seconds()
	user, system := processorSeconds()
	m.user, m.system = user-m.user, system-m.system
}

// Since is how long after the beginning that was.
func (m *Meter) Since(moment time.Time) float64 {
	return moment.Sub(m.begun).Seconds()
}

// Report says what so much work has cost.
func (m *Meter) Report(messages, bytes int) Report {
	return Report{
		"messages":       messages,
		"bytes":          bytes,
		"seconds":        m.seconds,
		"user_seconds":   m.user,
		"system_seconds": m.system,
	}
}

// AddIdle adds what a client keeps while nothing happens.
func (r Report) AddIdle() {
	r["threads"] = status("Threads:")
	r["connections"] = connections()
}

func processorSeconds() (user, system float64) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		panic(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ticks := func(at int) float64 {
		ticks, _ := strconv.ParseFloat(fields[at], 64)
		return ticks / 100
	}
	return ticks(11), ticks(12)
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
