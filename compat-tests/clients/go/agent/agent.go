// Package agent is what the Go group members have in common: arguments, commands and events, as in
// agent.py beside this folder.
package agent

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options are the KEY=VALUE arguments.
var Options = map[string]string{}

// Commands are the lines on standard input: a verb, and what follows it.
var Commands = make(chan [2]string)

var out sync.Mutex

func init() {
	for _, argument := range os.Args[1:] {
		key, value, _ := strings.Cut(argument, "=")
		Options[key] = value
	}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			verb, rest, _ := strings.Cut(lines.Text(), " ")
			Commands <- [2]string{verb, rest}
		}
		os.Exit(3) // the test has gone
	}()
}

// Millis is an option in milliseconds.
func Millis(key string) time.Duration {
	value, err := strconv.Atoi(Options[key])
	Must(err)
	return time.Duration(value) * time.Millisecond
}

// Must ends the process with an event that says why.
func Must(err error) {
	if err != nil {
		Error(err)
		os.Exit(1)
	}
}

// Say prints one event.
func Say(event string, more map[string]any) {
	if more == nil {
		more = map[string]any{}
	}
	more["event"] = event
	line, _ := json.Marshal(more)
	out.Lock()
	defer out.Unlock()
	_, _ = os.Stdout.Write(append(line, '\n'))
}

// Record says that a record was delivered.
func Record(partition int32, offset int64, value []byte) {
	Say("record", map[string]any{"partition": partition, "offset": offset, "value": string(value)})
}

// Partitions says `assigned`, `revoked`, `lost`, or the whole `assignment`.
func Partitions(event string, partitions []int32) {
	if partitions == nil {
		partitions = []int32{}
	}
	Say(event, map[string]any{"partitions": partitions})
}

// Error says what went wrong.
func Error(err error) {
	Say("error", map[string]any{"message": err.Error()})
}

// Deleted says how the deletion of the group ended, by Kafka's code.
func Deleted(code int) {
	Say("deleted", map[string]any{"code": code})
}
