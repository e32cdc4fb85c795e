// A group member with sarama, the classic protocol; see agent.
package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"ottla.example/clients/agent"
)

var opt = agent.Options

// member is what sarama calls in each generation.
type member struct {
	lock     sync.Mutex
	client   sarama.Client
	session  sarama.ConsumerGroupSession
	position map[int32]int64 // the offset after the last record that was delivered
}

// Setup runs when an assignment has come, before records do.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.position = session, map[int32]int64{}
	partitions := session.Claims()[opt["topic"]]
	if opt["seek_ms"] != "" {
		time, _ := strconv.ParseInt(opt["seek_ms"], 10, 64)
		for _, partition := range partitions {
			offset, err := m.client.GetOffset(opt["topic"], partition, time)
			if err != nil {
				return err
			}
			session.ResetOffset(opt["topic"], partition, offset, "")
			session.MarkOffset(opt["topic"], partition, offset, "")
		}
	}
	agent.Partitions("assignment", partitions)
	return nil
}

// Cleanup runs at the end of a generation.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	agent.Partitions("assignment", nil)
	return nil
}

// ConsumeClaim delivers one partition until the generation ends.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession,
	claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.lock.Lock()
			agent.Record(message.Partition, message.Offset, message.Value)
			m.position[message.Partition] = message.Offset + 1
			m.lock.Unlock()
			if opt["commit"] == "batch" {
				session.MarkMessage(message, "")
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// sarama does not say whether a commit succeeded: `sent` is not `commit`.
func (m *member) commit(note string) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for partition, offset := range m.position {
		m.session.MarkOffset(opt["topic"], partition, offset, note)
	}
	m.session.Commit()
	agent.Say("sent", map[string]any{"offsets": m.position})
}

func committed(admin sarama.ClusterAdmin) {
	answer, err := admin.ListConsumerGroupOffsets(opt["group"], nil)
	if err != nil {
		agent.Error(err)
		return
	}
	offsets, metadata := map[int32]int64{}, map[int32]string{}
	for partition, there := range answer.Blocks[opt["topic"]] {
		offsets[partition], metadata[partition] = there.Offset, there.Metadata
	}
	agent.Say("committed", map[string]any{"offsets": offsets, "metadata": metadata})
}

func remove(admin sarama.ClusterAdmin, group string) {
	err := admin.DeleteConsumerGroup(group)
	var code sarama.KError
	switch {
	case err == nil:
		agent.Deleted(0)
	case errors.As(err, &code):
		agent.Deleted(int(code))
	default:
		agent.Error(err)
	}
}

func configuration() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	if opt["reset"] == "latest" {
		config.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	config.Consumer.Offsets.AutoCommit.Enable = opt["commit"] == "batch"
	config.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
	config.Consumer.Group.Session.Timeout = agent.Millis("session_ms")
	config.Consumer.Group.Heartbeat.Interval = agent.Millis("heartbeat_ms")
	config.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	config.Consumer.Group.InstanceId = opt["instance"]
	return config
}

func main() {
	client, err := sarama.NewClient([]string{opt["bootstrap"]}, configuration())
	agent.Must(err)
	admin, err := sarama.NewClusterAdminFromClient(client)
	agent.Must(err)
	group, err := sarama.NewConsumerGroupFromClient(opt["group"], client)
	agent.Must(err)
	go func() {
		for err := range group.Errors() {
			agent.Error(err)
		}
	}()
	m := &member{client: client}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{opt["topic"]}, m); err != nil && ctx.Err() == nil {
				agent.Error(err)
				time.Sleep(100 * time.Millisecond)
			}
		}
		close(ended)
	}()
	for command := range agent.Commands {
		switch command[0] {
		case "commit":
			m.commit(command[1])
		case "committed":
			committed(admin)
		case "delete":
			remove(admin, command[1])
		case "close":
			stop()
			<-ended
			_ = group.Close()
			agent.Say("closed", nil)
			os.Exit(0)
		}
	}
}
