package transcript

import (
	"fmt"
	"strings"
	"testing"
)

// Unknown members that resemble known ones are named, nested ones too; others are not.
func TestMisspellings(t *testing.T) {
	for member, want := range map[string]string{
		`"assistnt":"x"`: "assistant", `"Assistant":"x"`: "assistant", `"assitant":"x"`: "assistant", `"assistent":"x"`: "assistant",
		`"asisstant":"x"`: "assistant", `"ASSISTANT":"x"`: "assistant", `"User":"x"`: "user", `"userId":"x"`: "user_id", `"user-id":"x"`: "user_id",
		`"sessionId":"x"`: "session_id", `"SessionID":"x"`: "session_id", `"sesion_id":"x"`: "session_id", `"finishReason":"x"`: "finish_reason",
		`"toolCalls":[]`: "tool_calls", `"tool_call":[]`: "tool_calls", `"time_stamp":"x"`: "timestamp", `"timestmap":"x"`: "timestamp",
		`"completedAt":"x"`: "completed_at", `"Status":"x"`: "status", `"staus":"x"`: "status", `"Rev":2`: "rev", `"ID":"x"`: "id",
		`"traceId":"x"`: "trace_id", `"attachment":[]`: "attachments", `"modle":"x"`: "model", `"Meta":{}`: "meta", `"supercedes":"x"`: "supersedes",
		`"usage":{"inputTokens":1}`: "usage.input_tokens", `"usage":{"output_token":1}`: "usage.output_tokens",
		`"tool_calls":[{},{"argument":1}]`:  "tool_calls[1].arguments",
		`"attachments":[{"mediaType":"a"}]`: "attachments[0].media_type",
		`"attachments":[{"sha-256":"a"}]`:   "attachments[0].sha256",
		`"usr":"x"`:                         "user", `"users":"x"`: "user", `"uesr":"x"`: "user", `"rve":2`: "rev", `"tool_calls":[{"nme":"f"}]`: "tool_calls[0].name", `"mta":{}`: "meta",
		`"userr":"x"`: "user", `"useer":"x"`: "user", `"usser":"x"`: "user", `"uuser":"x"`: "user", `"idd":"x"`: "id", `"revv":2`: "rev",
		`"metaa":{}`: "meta", `"meeta":{}`: "meta", `"tool_calls":[{"namme":"f"}]`: "tool_calls[0].name", `"attachments":[{"urii":"x"}]`: "attachments[0].uri",
		`"user\u200b":"x"`: "user", "\"\ufeffuser\":1": "user", `"us\u00ader":1`: "user", `"id\u00a0":1`: "id", `"rev\ufe0f":1`: "rev", `"\u202emeta":{}`: "meta",
		`"user\u0000":1`: "user", `"parentId":"x"`: "parent", `"parent_id":"x"`: "parent", `"parentID":"x"`: "parent",
		`"parents_id":"x"`: "", `"\u200b":1`: "", `"user\u200bname":1`: "", `"id2":1`: "", `"userx":1`: "", `"grandparent":1`: "",
		`"used":1`: "", `"url":"x"`: "", `"ref":1`: "", `"uid":1`: "", `"beta":1`: "", `"tool_calls":[{"type":"x","game":1}]`: "", `"attachments":[{"url":"x"}]`: "",
		`"x-new":1`: "", `"x_user":1`: "", `"title":1`: "", `"role":1`: "", `"content":1`: "", `"language":1`: "", `"created_at":1`: "",
		`"username":1`: "", `"metadata":1`: "", `"":1`: "", `"a.b":1`: "", `"thread_id":1`: "", `"tags":[]`: "", `"temperature":1`: "",
		`"usage":{"total_tokens":1}`: "", `"meta":{"assistnt":1}`: "", `"x-new":{"assistnt":1}`: "", `"tool_calls":[{"type":"function"}]`: "",
		`"é":1`: "", `"` + strings.Repeat("assistant", 1000) + `":1`: "",
	} {
		d, err := ParseDraft([]byte(`{"user":"u",` + member + `}`))
		if err != nil {
			t.Errorf("%.80s: %v", member, err)
			continue
		}
		found := d.Misspellings()
		switch {
		case want == "" && len(found) > 0:
			t.Errorf("%.80s: %+v", member, found)
		case want != "" && (len(found) != 1 || found[0].Meant != want):
			t.Errorf("%.80s: %+v, want %s", member, found, want)
		case want != "" && !strings.Contains(found[0].Rule().Error(), want):
			t.Errorf("%.80s: %v", member, found[0].Rule())
		}
	}
	if _, err := ParseDraft([]byte(`{"User":"u"}`)); err == nil || err.Error() != `user is missing; "User" is another member: names are exact` {
		t.Errorf("%v", err)
	}
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, `,"assistan%d":1`, i)
	}
	d, err := ParseDraft([]byte(`{"user":"u"` + b.String() + `}`))
	if n := len(d.Misspellings()); err != nil || n == 0 || n > maxUnknown {
		t.Errorf("%d of 10,000 are named: %v", n, err)
	}
}

// Every member that a turn may have is compared with.
func TestMisspellingsKnowAll(t *testing.T) {
	for _, name := range topMembers {
		if !knownMember(name) {
			t.Errorf("%s is no known member", name)
		}
		if found := resembled(strings.ToUpper(name)); found != name {
			t.Errorf("%s resembles %q", strings.ToUpper(name), found)
		}
	}
	for outer, names := range nestedMembers {
		for _, name := range names {
			if found := resembled(outer + "." + strings.ToUpper(name)); found != outer+"."+name {
				t.Errorf("%s.%s resembles %q", outer, strings.ToUpper(name), found)
			}
		}
	}
}
