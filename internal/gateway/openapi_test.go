package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// description is the document, read once by a validator.
var description = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err == nil {
		err = doc.Validate(context.Background())
	}
	return doc, err
})

// conforms holds an answer of the gateway against the document.
func conforms(t *testing.T, method, path string, a *answer) {
	t.Helper()
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, pattern, _, _ := New(Config{Publisher: full{}}).routes.find(req)
	if pattern == "" || method == http.MethodHead {
		return // nothing at this path, or no body
	}
	item := doc.Paths.Value(pattern)
	if item == nil {
		if a.status != http.StatusMethodNotAllowed && a.status != http.StatusForbidden && a.status != http.StatusMisdirectedRequest {
			t.Errorf("%s is not in the document and answers %d", pattern, a.status)
		}
		return
	}
	op := item.GetOperation(method)
	if op == nil {
		switch {
		case a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotFound, a.status == http.StatusForbidden, a.status == http.StatusMisdirectedRequest:
		case method == http.MethodOptions && a.status == http.StatusNoContent:
		default:
			t.Errorf("%s %s answers %d and is not in the document", method, pattern, a.status)
		}
		return
	}
	err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: pattern, PathItem: item, Method: method, Operation: op},
		},
		Status: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{MultiError: true},
	})
	if err != nil {
		t.Errorf("%s %s: the answer %d is not as the document says: %v", method, path, a.status, err)
	}
}

// Each route is in the document, and each path of the document is served.
func TestOpenAPIRoutes(t *testing.T) {
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("version %s", doc.OpenAPI)
	}
	var routes, documented []string
	for _, r := range New(Config{Publisher: full{}}).routes {
		if r.method != "" {
			routes = append(routes, r.method+" "+r.pattern)
		}
	}
	ids := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			documented = append(documented, method+" "+path)
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" {
				t.Errorf("%s %s: operation id %q, summary %q", method, path, op.OperationID, op.Summary)
			}
			ids[op.OperationID] = true
		}
	}
	slices.Sort(routes)
	slices.Sort(documented)
	if !slices.Equal(routes, documented) {
		t.Errorf("routes     %q\ndocumented %q", routes, documented)
	}
}

// What each operation really takes and answers is as the document says; the document
// does not allow just anything, either.
func TestOpenAPIAnswers(t *testing.T) {
	w := newWorld(t, nil) // every answer that a world gets is held against the document
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	try := func(method, path, body string, status int, header ...string) *answer {
		t.Helper()
		a := w.do(method, path, body, header...).want(status)
		req := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		_, pattern, at, err := New(Config{Publisher: full{}}).routes.find(req)
		if err != nil {
			t.Fatal(err)
		}
		item := doc.Paths.Value(pattern)
		if status < 400 && req.Header.Get("Content-Type") != batchTypes[0] { // lines have no schema
			err := openapi3filter.ValidateRequest(t.Context(), &openapi3filter.RequestValidationInput{
				Request: req, PathParams: map[string]string{"id": at.session, "turn": at.turn},
				Route: &routers.Route{Spec: doc, Path: pattern, PathItem: item, Method: method, Operation: item.GetOperation(method)},
			})
			if err != nil {
				t.Errorf("%s %s: %v", method, path, err)
			}
		}
		seen[item.GetOperation(method).OperationID] = true
		return a
	}
	const turn = `{"id":"t1","timestamp":"2026-01-31T12:00:00Z","user":"hi","assistant":"ho","rev":2,"usage":{"input_tokens":1,"output_tokens":2},
		"tool_calls":[{"id":"c","name":"n","arguments":{},"result":[1]}],"attachments":[{"uri":"u","size":3}],"meta":{"a":1},"x":[]}`
	const js, lines = "application/json", "application/x-ndjson"
	try("POST", "/v1/sessions/a%2Fb/turns", turn, 202, "Content-Type", js, "Idempotency-Key", "t1")
	try("POST", "/v1/sessions/a%2Fb/turns", `{"user":"hi"}`, 201, "Content-Type", js, "Prefer", "wait=20")
	try("POST", "/v1/turns", `{"session_id":"c","user":"hi","assistant":"ho"}`, 202, "Content-Type", lines)
	try("POST", "/v1/turns", `{"session_id":"c","user":"hi"}`, 201, "Content-Type", lines, "Prefer", "wait=20")
	try("POST", "/v1/turns", "{}\n"+`{"session_id":"c","user":"hi"}`, 422, "Content-Type", lines)
	w.consume()
	a := try("GET", "/v1/sessions/a%2Fb/history?limit=2", "", 200)
	try("GET", "/v1/sessions/a%2Fb/history?limit=2", "", 304, "If-None-Match", a.header.Get("ETag"))
	a = try("GET", "/v1/sessions/a%2Fb/transcript", "", 200)
	try("GET", "/v1/sessions/a%2Fb/transcript", "", 304, "If-None-Match", a.header.Get("ETag"))
	try("GET", "/v1/sessions/nobody/history", "", 200)
	try("GET", "/v1/sessions/nobody/transcript", "", 404)
	try("GET", "/v1/sessions/a%2Fb/turns/t1?rev=2", "", 200)
	try("GET", "/v1/sessions?prefix=a&limit=1", "", 200)
	try("GET", "/v1/events?after=0&limit=1&session=c", "", 200)
	try("GET", "/healthz", "", 200)
	try("GET", "/readyz", "", 200)
	try("GET", "/metrics", "", 200)
	try("GET", "/openapi.json", "", 200)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !seen[op.OperationID] {
				t.Errorf("%s %s was not tried", method, path)
			}
		}
	}
	// A query has the parameters of the document, each once, and no others.
	for path, item := range doc.Paths.Map() {
		if !strings.HasPrefix(path, "/v1/") {
			continue
		}
		path = strings.NewReplacer("{id}", "s", "{turn}", "t").Replace(path)
		for method, op := range item.Operations() {
			send := func(query string) *answer {
				return w.do(method, path+"?"+query, "")
			}
			for _, name := range []string{"limitt", "Limit", "text"} {
				send(name+"=1").problem(http.StatusBadRequest, name)
			}
			for _, ref := range op.Parameters {
				if p := ref.Value; p.In == openapi3.ParameterInQuery {
					if p := send(p.Name+"=1&"+p.Name+"=1").problem(http.StatusBadRequest, p.Name); !strings.Contains(p.Detail, "twice") {
						t.Errorf("%s %s, twice %s: %+v", method, path, ref.Value.Name, p)
					}
				}
			}
		}
	}
	for name, body := range map[string]string{
		"Accepted": `{"id":"t1","timestamp":"2026-01-31T12:00:00Z","rev":1,"level":"lost"}`,
		"Problem":  `{"title":"x","status":400}`,
		"History":  `{"session_id":"s","source":"redis","degraded":false,"revision":1,"turns":[{"id":"t1"}]}`,
		"Turn":     `{"assistant":"no user"}`,
	} {
		v, err := openapi3filter.JSONBodyDecoder(strings.NewReader(body), nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if doc.Components.Schemas[name].Value.VisitJSON(v, openapi3.EnableJSONSchema2020()) == nil {
			t.Errorf("%s allows %s", name, body)
		}
	}
}
