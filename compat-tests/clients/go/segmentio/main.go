// A group member with segmentio's kafka-go, the classic protocol; see agent. Its reader does not
// tell which partitions it has: only records show that.
package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"ottla.example/clients/agent"
)

var (
	opt    = agent.Options
	ctx    = context.Background()
	lock   sync.Mutex
	latest = map[int]kafka.Message{} // the last message of each partition
)

func commit(reader *kafka.Reader) {
	lock.Lock()
	defer lock.Unlock()
	offsets := map[int]int64{}
	messages := []kafka.Message{}
	for partition, message := range latest {
		offsets[partition] = message.Offset + 1
		messages = append(messages, message)
	}
	if err := reader.CommitMessages(ctx, messages...); err != nil {
		agent.Error(err)
		return
	}
	agent.Say("commit", map[string]any{"offsets": offsets})
}

func read(reader *kafka.Reader) {
	for {
		message, err := reader.FetchMessage(ctx)
		if err != nil {
			agent.Error(err)
			return
		}
		lock.Lock()
		agent.Record(int32(message.Partition), message.Offset, message.Value)
		latest[message.Partition] = message
		lock.Unlock()
		if opt["commit"] != "batch" {
			continue
		}
		if err := reader.CommitMessages(ctx, message); err != nil {
			agent.Error(err)
			continue
		}
		done := map[int]int64{message.Partition: message.Offset + 1}
		agent.Say("commit", map[string]any{"offsets": done})
	}
}

func committed(client *kafka.Client) {
	topic := opt["topic"]
	all, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		agent.Error(err)
		return
	}
	wanted := []int{}
	for _, partition := range all.Topics[0].Partitions {
		wanted = append(wanted, partition.ID)
	}
	found, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: opt["group"], Topics: map[string][]int{topic: wanted}})
	if err != nil {
		agent.Error(err)
		return
	}
	offsets, metadata := map[int]int64{}, map[int]string{}
	for _, there := range found.Topics[topic] {
		if there.CommittedOffset >= 0 {
			offsets[there.Partition] = there.CommittedOffset
			metadata[there.Partition] = there.Metadata
		}
	}
	agent.Say("committed", map[string]any{"offsets": offsets, "metadata": metadata})
}

func remove(client *kafka.Client, group string) {
	wanted := &kafka.DeleteGroupsRequest{GroupIDs: []string{group}}
	answer, err := client.DeleteGroups(ctx, wanted)
	if err == nil {
		err = answer.Errors[group]
	}
	var code kafka.Error
	switch {
	case err == nil:
		agent.Deleted(0)
	case errors.As(err, &code):
		agent.Deleted(int(code))
	default:
		agent.Error(err)
	}
}

func main() {
	start := kafka.FirstOffset
	if opt["reset"] == "latest" {
		start = kafka.LastOffset
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:           []string{opt["bootstrap"]},
		GroupID:           opt["group"],
		Topic:             opt["topic"],
		StartOffset:       start,
		MaxWait:           100 * time.Millisecond,
		SessionTimeout:    agent.Millis("session_ms"),
		HeartbeatInterval: agent.Millis("heartbeat_ms"),
		RebalanceTimeout:  10 * time.Second,
	})
	client := &kafka.Client{Addr: kafka.TCP(opt["bootstrap"])}
	go read(reader)
	for command := range agent.Commands {
		switch command[0] {
		case "commit":
			commit(reader)
		case "committed":
			committed(client)
		case "delete":
			remove(client, command[1])
		case "close":
			_ = reader.Close()
			agent.Say("closed", nil)
			os.Exit(0)
		}
	}
}
