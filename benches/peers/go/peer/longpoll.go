package peer

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

const (
	// Heartbeats is how often members send one, so that there are enough to compare.
	Heartbeats = 20 * time.Millisecond

	// Until the first fetch waits in the broker, and for connections to be made.
	longPollSettling = time.Second
	warmUpTurns      = 100
	warmUpAtMost     = 2 * time.Second
	// Who waits longer waits for the long poll itself: once tells it all.
	long = time.Second
	// Between two turns: nobody works without a pause.
	turnPause = time.Millisecond
)

// Side is one of two clients that do the same in turns, call by call.
type Side int

const (
	// Polling fetches what does not come.
	Polling Side = iota
	// Paused fetches nothing: it is a member, too, but all is paused.
	Paused
)

// ClientID is by which whoever watches its requests knows it.
func (s Side) ClientID() string {
	return [...]string{"polling", "paused"}[s]
}

// MaxWait is how long its fetches wait in the broker: one from before all was paused is soon back.
func (s Side) MaxWait() time.Duration {
	return [...]time.Duration{10 * time.Second, 100 * time.Millisecond}[s]
}

// Call is what both do; its name stands in the report.
type Call struct {
	Name string
	Do   func(side Side, turn int) error
}

// TakeTurns calls all in turns until the time is over, but nothing again that has taken long. At least one turn counts.
func TakeTurns(task Task, calls []Call) (Report, error) {
	time.Sleep(longPollSettling)
	taken := map[string][]time.Duration{}
	isLong := map[string]bool{}
	var meter *Meter
	begun := time.Now()
	end := begun
	turn := 0
	for ; meter == nil || time.Now().Before(end); turn++ {
		if meter == nil && turn > 0 && (turn >= warmUpTurns || time.Since(begun) >= warmUpAtMost) {
			maps.DeleteFunc(taken, func(key string, _ []time.Duration) bool {
				name, _, _ := strings.Cut(key, "_")
				return !isLong[name]
			})
			meter = Begin()
			end = time.Now().Add(task.Seconds)
		}
		time.Sleep(turnPause)
		for _, call := range calls {
			if isLong[call.Name] {
				continue
			}
			// Neither is always the first.
			for i := range 2 {
				side := Side((turn + i) % 2)
				before := time.Now()
				if err := call.Do(side, turn); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", call.Name, side.ClientID(), err)
				}
				took := time.Since(before)
				key := call.Name + [...]string{"_", "_without_"}[side]
				taken[key] = append(taken[key], took)
				isLong[call.Name] = isLong[call.Name] || took >= long
			}
		}
	}
	meter.Stop()
	// To close them may take long.
	ended := float64(time.Now().UnixNano()) / 1e9
	report := meter.Report(0, 0)
	most := 0
	for key, taken := range taken {
		most = max(most, len(taken))
		report.AddPercentiles(key, taken)
	}
	report["calls"] = most
	report["ended_at"] = ended
	return report, nil
}
