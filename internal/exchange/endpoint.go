package exchange

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Endpoints of OpenAI's interface, by what is in their paths: conversing first, since one ends as another does.
var (
	conversing = []string{"/chat/completions", "/responses", "/conversations", "/messages"}
	wordless   = []string{"/embeddings", "/moderations", "/completions", "/images/generations", "/images/edits", "/audio/speech", "/audio/transcriptions", "/videos", "/rerank"}
)

// wordlessMembers are members of requests that have an input and no conversation, and wordlessModels parts of the
// names of models to which such requests are made.
var (
	wordlessMembers = []string{"encoding_format", "dimensions", "voice"}
	wordlessModels  = []string{"embed", "moderation", "tts"}
)

const conversingRule = "expected is a request to one that has, as /v1/chat/completions or /v1/responses"

// checkEndpoint refuses a request whose input is no part of a conversation: what is to be embedded, checked or read aloud.
func checkEndpoint(o *object) error {
	requests := []*object{o}
	for _, name := range []string{"request", "body"} {
		if in, err := objectOf(fieldOf(o, name), o.path(name)); err == nil {
			requests = append(requests, in)
		}
	}
	for _, in := range requests {
		if fieldOf(in, "messages") != nil || fieldOf(in, "output") != nil {
			return nil
		}
	}
	url := fieldOf(o, "url")
	if url.Kind() == '"' && fieldOf(o, "body").Kind() == '{' {
		path := unquote(url)
		has := func(part string) bool { return strings.Contains(path, part) }
		if slices.ContainsFunc(conversing, has) {
			return nil
		}
		if i := slices.IndexFunc(wordless, has); i >= 0 {
			return refuse(o.path("url"), "names %s, an endpoint whose requests have no conversation; %s", wordless[i], conversingRule)
		}
		return refuse(o.path("url"), "names an endpoint whose requests have no conversation that is known; %s", conversingRule)
	}
	for _, in := range requests {
		if v := fieldOf(in, "input"); v.Kind() != '"' && v.Kind() != '[' {
			continue
		}
		name := ""
		for _, f := range in.list {
			if slices.Contains(wordlessMembers, f.name) || f.name == "model" && isWordless(f.value) {
				name = f.name
			}
		}
		if name != "" {
			return refuse(in.path(name), "is that of an endpoint whose requests have no conversation, as /v1/embeddings; %s", conversingRule)
		}
	}
	return nil
}

func isWordless(model jsontext.Value) bool {
	return slices.ContainsFunc(wordlessModels, func(part string) bool { return strings.Contains(unquoteOr(model), part) })
}
