package stream

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamInfo is the state of one stream, as `afterword stream info` shows it.
type StreamInfo struct {
	Name      string     `json:"name"`
	Messages  uint64     `json:"messages"`
	Bytes     uint64     `json:"bytes"`
	FirstSeq  uint64     `json:"first_seq"`
	FirstTime *time.Time `json:"first_time,omitempty"` // absent when empty
	LastSeq   uint64     `json:"last_seq"`
	LastTime  *time.Time `json:"last_time,omitempty"` // absent when empty
	Subjects  uint64     `json:"subjects"`            // sessions, in the stream of turns
	Replicas  int        `json:"replicas"`
	Leader    string     `json:"leader,omitempty"` // absent without a cluster
	// Limits; 0 means none.
	MaxAge   time.Duration `json:"max_age_ns"`
	MaxBytes int64         `json:"max_bytes"`
	MaxMsgs  int64         `json:"max_msgs"`
	// MaxMsgSize is of a message with its headers, in bytes.
	MaxMsgSize int64 `json:"max_msg_size"`
	// PayloadLimit is the longest turn that is accepted now, in bytes: see [PayloadLimit].
	PayloadLimit int `json:"payload_limit"`
	// Problem is what [Ensure] would refuse; empty when nothing.
	Problem string `json:"problem,omitempty"`
	// Problems are all settings under which turns are refused or lost, or commands fail.
	Problems  []Problem      `json:"problems"`
	Consumers []ConsumerInfo `json:"consumers"`
}

// ConsumerInfo is the state of one consumer.
type ConsumerInfo struct {
	Name       string `json:"name"`
	Durable    bool   `json:"durable"`    // false for a reader that is gone when it has read
	Deliveries uint64 `json:"deliveries"` // since it was made, redeliveries included
	// OldestTime is when the oldest message was stored that is not acknowledged, LagAge how old it
	// was then, by the clock of the server; absent and 0 when all are, or it is no durable.
	OldestTime  *time.Time    `json:"oldest_time,omitempty"`
	LagAge      time.Duration `json:"lag_ns"`
	Pending     uint64        `json:"pending"`     // not delivered yet
	AckPending  int           `json:"ack_pending"` // delivered, not acknowledged yet
	Redelivered int           `json:"redelivered"` // of those, delivered more than once
	Delivered   uint64        `json:"delivered"`   // highest stream sequence delivered
	AckFloor    uint64        `json:"ack_floor"`   // everything up to this stream sequence is acknowledged
	// Waiting counts the requests for messages that stand: with none, and nothing
	// delivered for long, nobody consumes.
	Waiting       int        `json:"waiting"`
	LastDelivered *time.Time `json:"last_delivered,omitempty"` // absent when nothing was
	LastAcked     *time.Time `json:"last_acked,omitempty"`     // absent when nothing was
	// Folder and Host say where a consumer group writes: the id of its transcripts folder,
	// and the host that joined it last. Absent for another consumer.
	Folder string `json:"folder,omitempty"`
	Host   string `json:"host,omitempty"`
	// Unread counts the messages that the stream had removed before the group began, or its new
	// folder took it over: their turns are in the folder only if they were copied there.
	Unread uint64 `json:"unread,omitempty"`
	Leader string `json:"leader,omitempty"`
	// Problems are its settings under which turns are lost; of a group only.
	Problems []Problem `json:"problems,omitempty"`
}

// Lag is the number of turns that the consumer has not acknowledged.
func (c ConsumerInfo) Lag() uint64 { return c.Pending + uint64(c.AckPending) }

// Info describes both streams, [Turns] first. It fails with [ErrNoStream] or
// [ErrUnreachable]; a misconfigured stream is described, with its Problem.
func Info(ctx context.Context, js jetstream.JetStream) ([]StreamInfo, error) {
	wants := StreamConfig{}.streams()
	infos := make([]StreamInfo, 0, len(wants))
	for _, want := range wants {
		info, err := describe(ctx, js, want)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	infos[0].Problems = append(infos[0].Problems, serverProblems(js.Conn().MaxPayload())...)
	limit := PayloadLimit(js.Conn().MaxPayload(), infos[0].MaxMsgSize, infos[1].MaxMsgSize)
	for i := range infos {
		infos[i].PayloadLimit = limit
	}
	return infos, nil
}

func describe(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout(js))
	defer cancel()
	s, err := js.Stream(ctx, want.Name)
	if err != nil {
		return StreamInfo{}, Explain(js, "look up stream "+want.Name, err)
	}
	si := s.CachedInfo()
	if err := led(si); err != nil {
		return StreamInfo{}, err
	}
	problems, err := underWay(ctx, js, want.Name, true)
	if err != nil {
		return StreamInfo{}, err
	}
	info := StreamInfo{
		Name:      want.Name,
		Messages:  si.State.Msgs,
		Bytes:     si.State.Bytes,
		FirstSeq:  si.State.FirstSeq,
		FirstTime: present(si.State.FirstTime),
		LastSeq:   si.State.LastSeq,
		LastTime:  present(si.State.LastTime),
		Subjects:  si.State.NumSubjects,
		Replicas:  si.Config.Replicas,
		MaxAge:    si.Config.MaxAge,
		MaxBytes:  max(si.Config.MaxBytes, 0),
		MaxMsgs:   max(si.Config.MaxMsgs, 0), MaxMsgSize: int64(max(si.Config.MaxMsgSize, 0)),
		Consumers: []ConsumerInfo{},
	}
	if si.Cluster != nil {
		info.Leader = si.Cluster.Leader
	}
	if info.Problems = problems; len(problems) == 0 { // else what its settings are meanwhile says nothing
		info.Problems = append([]Problem{}, problemsOf(si.Config, want)...)
		info.Problems = append(info.Problems, clusterProblems(si)...)
	}
	if err := refuse(want.Name, info.Problems); err != nil {
		info.Problem = err.Error()
	}
	var at []time.Time // when the server described each
	list := s.ListConsumers(ctx)
	for ci := range list.Info() {
		c := ConsumerInfo{
			Name:        ci.Name,
			Durable:     ci.Config.Durable != "",
			Deliveries:  ci.Delivered.Consumer,
			Pending:     ci.NumPending,
			AckPending:  ci.NumAckPending,
			Redelivered: ci.NumRedelivered,
			Delivered:   ci.Delivered.Stream,
			AckFloor:    ci.AckFloor.Stream,
			Waiting:     ci.NumWaiting,
			Folder:      ci.Config.Metadata[MetaDirectory],
			Host:        ci.Config.Metadata[MetaHost],
		}
		c.Unread, _ = strconv.ParseUint(ci.Config.Metadata[MetaUnread], 10, 64) // 0 without
		if c.Folder != "" {
			c.Problems = groupProblems(ci.Config, si.Config.Replicas)
		}
		if t := ci.Delivered.Last; t != nil {
			c.LastDelivered = present(*t)
		}
		if t := ci.AckFloor.Last; t != nil {
			c.LastAcked = present(*t)
		}
		if ci.Cluster != nil {
			c.Leader = ci.Cluster.Leader
		}
		info.Consumers = append(info.Consumers, c)
		at = append(at, ci.TimeStamp)
	}
	if err := list.Err(); err != nil {
		return StreamInfo{}, Explain(js, "list consumers of "+want.Name, err)
	}
	for i := range info.Consumers {
		if c := &info.Consumers[i]; c.Durable && c.Lag() > 0 {
			if c.OldestTime, err = oldest(ctx, js, want.Name, c.AckFloor); err != nil {
				return StreamInfo{}, Explain(js, "look up the oldest message that "+c.Name+" has not acknowledged", err)
			}
			if c.OldestTime != nil {
				c.LagAge = max(0, at[i].Sub(*c.OldestTime))
			}
		}
	}
	return info, nil
}

func present(t time.Time) *time.Time {
	if t.IsZero() || t.Unix() <= 0 { // the server sends year 1 or 1970 for "none"
		return nil
	}
	t = t.UTC()
	return &t
}
