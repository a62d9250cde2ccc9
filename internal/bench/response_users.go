package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chatBound     = 60 * time.Second // of one chat, after which a user gives up
	questionBytes = 200
	tabsEvery     = 10 // of so many users the last shares the session of the one before: a second tab
)

// crowd is many users who chat at the same time, each one turn after the other.
type crowd struct {
	url    string
	client *http.Client
	users  int
	pause  time.Duration // between an answer and the next question, on average
	first  time.Duration // within which all users begin

	from, until atomic.Int64 // what begins between is measured; Unix nanoseconds, 0 not yet

	mu   sync.Mutex
	seen crowdResult
}

// crowdResult is what all users saw.
type crowdResult struct {
	took     []time.Duration
	errors   int
	why      error               // the first of them
	accepted map[string][]string // what was said and answered, by session, the warm-up included
}

// newCrowd makes users who all together ask about rate times a second, or as fast
// as they get answers if that is slower, or rate is 0.
func newCrowd(addr string, users int, think time.Duration, rate int) *crowd {
	c := &crowd{url: "http://" + addr, users: users, seen: crowdResult{accepted: make(map[string][]string)}}
	if rate > 0 {
		c.pause = max(0, time.Duration(users)*time.Second/time.Duration(rate)-think)
	}
	c.first = think + c.pause
	c.client = &http.Client{Timeout: chatBound, Transport: &http.Transport{MaxIdleConnsPerHost: users, IdleConnTimeout: 2 * time.Minute}}
	return c
}

// run returns when all users are done: warm, then measure, between which fault is called.
func (c *crowd) run(ctx context.Context, warm, measure time.Duration, fault func() error) (crowdResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.client.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range c.users {
		all.Go(func() { c.user(ctx, i) })
	}
	err := pause(ctx, warm)
	if err == nil {
		err = fault()
	}
	now := time.Now()
	c.until.Store(now.Add(measure).UnixNano())
	c.from.Store(now.UnixNano())
	if err != nil {
		cancel()
	}
	all.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c.seen, err
}

// session names the session of a user.
func (c *crowd) session(user int) string {
	if user%tabsEvery == tabsEvery-1 {
		user--
	}
	return fmt.Sprintf("user-%05d", user)
}

func (c *crowd) user(ctx context.Context, me int) {
	var mine crowdResult
	var said []string
	session := c.session(me)
	rnd := rand.New(rand.NewPCG(uint64(me), 1))
	wait := time.Duration(rnd.Int64N(int64(c.first) + 1))
	for n := 0; pause(ctx, wait) == nil; n++ {
		began := time.Now()
		from, until := c.from.Load(), c.until.Load()
		if until > 0 && began.UnixNano() >= until {
			break
		}
		measured := from > 0 && began.UnixNano() >= from
		text := fmt.Sprintf("u%05d-t%05d", me, n)
		err := c.chat(ctx, session, text)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			said = append(said, text)
		} else {
			mine.errors++
			mine.why = err
		}
		if measured {
			mine.took = append(mine.took, time.Since(began))
		}
		wait = time.Duration((0.5 + rnd.Float64()) * float64(c.pause))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.took = append(c.seen.took, mine.took...)
	c.seen.errors += mine.errors
	if c.seen.why == nil {
		c.seen.why = mine.why
	}
	c.seen.accepted[session] = append(c.seen.accepted[session], said...)
}

// chat asks and reads the answer to its end.
func (c *crowd) chat(ctx context.Context, session, text string) error {
	body, err := json.Marshal(chatRequest{session, text + " " + strings.Repeat("well? ", questionBytes/6)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/chat", bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(answer))
	}
	var reply chatReply
	return json.Unmarshal(answer, &reply)
}

// report asks the API how it is.
func (c *crowd) report(ctx context.Context) (r chatReport, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/report", nil)
	if err != nil {
		return r, err
	}
	res, err := c.client.Do(req)
	if err != nil {
		return r, err
	}
	defer res.Body.Close()
	return r, json.NewDecoder(res.Body).Decode(&r)
}

// label is what a text of a user is known by.
func label(text string) string {
	name, _, _ := strings.Cut(text, " ")
	return name
}
