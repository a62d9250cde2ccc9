package publisher

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/afterword-io/afterword/transcript"
)

// maxErrorText bounds what Fail keeps of an error, in bytes.
const maxErrorText = 4096

// Begin accepts what the user said, before the model is called, as revision 1
// with status pending: a crash of the call keeps it. It returns the turn with its
// id and timestamp, to be given to Complete or Fail. It does so with
// [ErrOverflow] too: the answer may still find room.
func (p *Publisher) Begin(ctx context.Context, t transcript.Turn) (transcript.Turn, *Receipt, error) {
	if t.Rev > 1 {
		return t, nil, &transcript.RuleError{Member: "rev", Rule: "must be 1, or left out, in a turn that begins"}
	}
	t.Rev, t.Status = 1, transcript.Pending
	d, err := t.Draft()
	if err != nil {
		return t, nil, err
	}
	r, err := p.PublishDraft(ctx, &d)
	if at, ok := d.Timestamp(); ok {
		t.ID, t.Timestamp = d.ID, at.Time()
	}
	return t, r, err
}

// Complete accepts the turn with its answer, as the next revision: status complete unless
// the turn has another final one, completed_at now unless the turn has it.
// t is what Begin returned, with the answer filled in.
func (p *Publisher) Complete(ctx context.Context, t transcript.Turn) (*Receipt, error) {
	if !t.Status.Final() || t.Status == "" {
		t.Status = transcript.Complete
	}
	return p.finish(ctx, t)
}

// Fail accepts the turn as the next revision with status failed and the text of
// cause as its error. An answer that had come in part is kept. t is what Begin returned.
func (p *Publisher) Fail(ctx context.Context, t transcript.Turn, cause error) (*Receipt, error) {
	t.Status = transcript.Failed
	if cause != nil {
		t.Error = errorText(cause)
	}
	return p.finish(ctx, t)
}

func (p *Publisher) finish(ctx context.Context, t transcript.Turn) (*Receipt, error) {
	t.Rev = max(t.Rev, 1) + 1
	if t.CompletedAt.IsZero() {
		now, err := p.clock.after(transcript.InstantOf(t.Timestamp))
		if err != nil {
			return nil, err
		}
		t.CompletedAt = now.Time()
	}
	return p.Publish(ctx, t)
}

// errorText makes the text of any error fit to be a member.
func errorText(err error) string {
	text := strings.ToValidUTF8(err.Error(), string(utf8.RuneError))
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "")
	}
	return text
}
