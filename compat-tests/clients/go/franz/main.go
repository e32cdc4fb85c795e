// A group member with franz-go, in both group protocols; see agent.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"ottla.example/clients/agent"
)

var (
	opt      = agent.Options
	ctx      = context.Background()
	position = map[int32]int64{} // the offset after the last record that was delivered
)

func commit(client *kgo.Client, note string) {
	wanted, done := map[int32]kgo.EpochOffset{}, map[int32]int64{}
	for partition, offset := range position {
		wanted[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
		done[partition] = offset
	}
	if len(wanted) == 0 {
		return
	}
	if err := commitAsMember(client, wanted, note); err != nil {
		agent.Error(err)
		return
	}
	agent.Say("commit", map[string]any{"offsets": done})
}

func gone(event string) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
		if event == "revoked" && opt["commit"] == "batch" {
			commit(client, "")
		}
		for _, partition := range partitions[opt["topic"]] {
			delete(position, partition)
		}
		agent.Partitions(event, partitions[opt["topic"]])
	}
}

func settings() []kgo.Opt {
	settings := []kgo.Opt{
		kgo.SeedBrokers(opt["bootstrap"]),
		kgo.ConsumerGroup(opt["group"]),
		kgo.ConsumeTopics(opt["topic"]),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.SessionTimeout(agent.Millis("session_ms")),
		kgo.HeartbeatInterval(agent.Millis("heartbeat_ms")),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			agent.Partitions("assigned", p[opt["topic"]])
		}),
		kgo.OnPartitionsRevoked(gone("revoked")),
		kgo.OnPartitionsLost(gone("lost")),
	}
	switch {
	case opt["seek_ms"] != "":
		at := kgo.NewOffset().AfterMilli(agent.Millis("seek_ms").Milliseconds())
		settings = append(settings, kgo.ConsumeResetOffset(at))
	case opt["reset"] == "earliest":
		settings = append(settings, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	case opt["reset"] == "latest":
		settings = append(settings, kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	default:
		settings = append(settings, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	}
	switch {
	case opt["protocol"] == "consumer":
		settings = append(settings, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	case opt["assignor"] == "cooperative":
		settings = append(settings, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	default:
		settings = append(settings, kgo.Balancers(kgo.RangeBalancer()))
	}
	if opt["instance"] != "" {
		settings = append(settings, kgo.InstanceID(opt["instance"]))
	}
	return settings
}

// commitAsMember fails with the first partition's error.
func commitAsMember(client *kgo.Client, wanted map[int32]kgo.EpochOffset, note string) error {
	annotated := kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		for t := range request.Topics {
			for p := range request.Topics[t].Partitions {
				request.Topics[t].Partitions[p].Metadata = &note
			}
		}
		return nil
	})
	var failed error
	offsets := map[string]map[int32]kgo.EpochOffset{opt["topic"]: wanted}
	client.CommitOffsetsSync(annotated, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if answer == nil {
				return
			}
			for _, topic := range answer.Topics {
				for _, partition := range topic.Partitions {
					failed = errors.Join(failed, kerr.ErrorForCode(partition.ErrorCode))
				}
			}
		})
	return failed
}

func committed(client *kgo.Client) {
	found, err := kadm.NewClient(client).FetchOffsets(ctx, opt["group"])
	if err != nil {
		agent.Error(err)
		return
	}
	offsets, metadata := map[int32]int64{}, map[int32]string{}
	for partition, there := range found[opt["topic"]] {
		offsets[partition], metadata[partition] = there.At, there.Metadata
	}
	agent.Say("committed", map[string]any{"offsets": offsets, "metadata": metadata})
}

func remove(client *kgo.Client, group string) {
	answer, err := kadm.NewClient(client).DeleteGroup(ctx, group)
	if err == nil {
		err = answer.Err
	}
	var code *kerr.Error
	switch {
	case err == nil:
		agent.Deleted(0)
	case errors.As(err, &code):
		agent.Deleted(int(code.Code))
	default:
		agent.Error(err)
	}
}

func obey(client *kgo.Client, command [2]string) {
	switch command[0] {
	case "commit":
		commit(client, command[1])
	case "committed":
		committed(client)
	case "delete":
		remove(client, command[1])
	case "close":
		client.CloseAllowingRebalance()
		agent.Say("closed", nil)
		os.Exit(0)
	}
}

func main() {
	client, err := kgo.NewClient(settings()...)
	agent.Must(err)
	for {
		select {
		case command := <-agent.Commands:
			obey(client, command)
		default:
		}
		limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := client.PollFetches(limited)
		cancel()
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) {
				agent.Error(err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			agent.Record(record.Partition, record.Offset, record.Value)
			position[record.Partition] = record.Offset + 1
		})
		if opt["commit"] == "batch" && fetches.NumRecords() > 0 {
			commit(client, "")
		}
		client.AllowRebalance()
	}
}
