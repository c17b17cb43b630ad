// Package peer is what the programs have in common: their arguments, their clocks, and the line that they print.
package peer

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// Silence is how long a run may see nothing before it has failed.
const Silence = 60 * time.Second

// Settling passes until every partition has been fetched from: what comes before that is not idle.
const Settling = 3 * time.Second

// Task is what the command line says.
type Task struct {
	Mode        string
	Bootstrap   string
	Topic       string
	Messages    int
	Work        time.Duration
	Values      [][]byte
	ValueBytes  int
	Compression string
	Rate        int
	Seconds     time.Duration
	Tuned       bool
	Group       bool
	// A topic that nobody fetches.
	Written string
}

// Mode does a task and reports what it has cost.
type Mode func(Task) (Report, error)

// Report is the line of JSON, field by field.
type Report map[string]any

// Run is a program's main: module is the path of the client's library, modes what it can do.
func Run(name, module string, modes map[string]Mode) {
	report, err := run(modes)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	report["peer"] = name
	report["version"] = version(module)
	report["peak_bytes"] = status("VmHWM:") * 1024
	line, err := json.Marshal(report)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
}

func run(modes map[string]Mode) (Report, error) {
	task, err := parse(os.Args[1:])
	if err != nil {
		return nil, err
	}
	mode, found := modes[task.Mode]
	if !found {
		return nil, fmt.Errorf("no mode is called %q", task.Mode)
	}
	return mode(task)
}

func parse(words []string) (Task, error) {
	if len(words) == 0 {
		return Task{}, errors.New("a mode is missing")
	}
	task := Task{Mode: words[0]}
	flags := flag.NewFlagSet(task.Mode, flag.ContinueOnError)
	flags.StringVar(&task.Bootstrap, "bootstrap", "", "HOST:PORT of a broker")
	flags.StringVar(&task.Topic, "topic", "", "name of the topic")
	flags.IntVar(&task.Messages, "messages", 0, "messages to read or write")
	flags.IntVar(&task.ValueBytes, "value-bytes", 100, "bytes of a value")
	flags.StringVar(&task.Compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	flags.IntVar(&task.Rate, "rate", 1000, "messages a second")
	flags.BoolVar(&task.Tuned, "tuned", false, "settings for throughput")
	flags.BoolVar(&task.Group, "group", false, "as a member of a group")
	flags.StringVar(&task.Written, "written", "", "name of another topic, to write to")
	work := flags.Int64("work-ns", 0, "nanoseconds of work with each message")
	seconds := flags.Int("seconds", 10, "how long to go on")
	values := flags.String("values", "", "file with values, one behind the other")
	if err := flags.Parse(words[1:]); err != nil {
		return task, err
	}
	task.Work = time.Duration(*work)
	task.Seconds = time.Duration(*seconds) * time.Second
	switch {
	case flags.NArg() > 0:
		return task, fmt.Errorf("%q is no option", flags.Arg(0))
	case task.Bootstrap == "" || task.Topic == "":
		return task, errors.New("--bootstrap or --topic is missing")
	case task.Messages <= 0 && task.Mode != "idle" && task.Mode != "longpoll":
		return task, errors.New("--messages is missing")
	case task.Written == "" && task.Mode == "longpoll":
		return task, errors.New("--written is missing")
	case task.Rate <= 0 || task.ValueBytes < 8:
		return task, errors.New("--rate or --value-bytes is too small")
	case task.Mode == "produce":
		return task, task.read(*values)
	}
	return task, nil
}

func (t *Task) read(file string) error {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	length := t.ValueBytes
	if len(bytes) == 0 || len(bytes)%length != 0 {
		return fmt.Errorf("%s holds no values of %d bytes", file, length)
	}
	for at := 0; at < len(bytes); at += length {
		t.Values = append(t.Values, bytes[at:at+length:at+length])
	}
	return nil
}

// Value is the value of the record with this number.
func (t *Task) Value(number int) []byte {
	return t.Values[number%len(t.Values)]
}

// Hand is where a value goes that was seen: it has been in somebody's hand.
var Hand []byte

// Spin keeps the processor busy.
func Spin(work time.Duration) {
	for begun := time.Now(); time.Since(begun) < work; {
	}
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version
		}
	}
	return ""
}
