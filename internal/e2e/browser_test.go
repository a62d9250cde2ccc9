//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var updatePictures = flag.Bool("update", false, "take the pictures of the documentation anew")

// browser is a headless Chromium with one page open.
type browser struct {
	t    *testing.T
	ctx  context.Context
	seen *seen
}

// seen is what the page has asked for, and complained about.
type seen struct {
	mu      sync.Mutex
	asked   []string
	trouble []string
}

// openBrowser opens a page. It fails without a Chromium, which make e2e installs.
func openBrowser(t *testing.T, url string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: make e2e installs it", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 800), chromedp.Flag("font-render-hinting", "none"), chromedp.Flag("lang", "en-GB"),
		chromedp.Env("TZ=UTC"), chromedp.WSURLReadTimeout(consolePatience))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	// The browser outlives the test's context, which ends before clean-ups run.
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(end)
	b := &browser{t: t, ctx: ctx, seen: &seen{}}
	if err := chromedp.Listen(ctx, b.seen.note); err != nil {
		t.Fatal(err)
	}
	b.do(command(log.Enable, cdp.Empty{}), command(network.Enable, network.EnableParams{}), chromedp.Navigate(url))
	return b
}

// of is the browser in a part of the test.
func (b *browser) of(t *testing.T) *browser { return &browser{t, b.ctx, b.seen} }

func (s *seen) note(event any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		s.asked = append(s.asked, e.Request.URL)
	case *runtime.EventExceptionThrown:
		s.trouble = append(s.trouble, fmt.Sprintf("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			s.trouble = append(s.trouble, fmt.Sprintf("console.%s: %v", e.Type, e.Args))
		}
	case *log.EventEntryAdded: // what breaks the policy is among them
		// A server that is too busy for an answer says so, and the page shows it.
		busy := e.Entry.Source == "network" && strings.Contains(e.Entry.Text, "status of 503")
		if (e.Entry.Level == "error" || e.Entry.Level == "warning") && !busy {
			s.trouble = append(s.trouble, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

// quiet checks that the page has asked nobody but its server, and complained of nothing.
func (b *browser) quiet(base string) {
	b.t.Helper()
	b.seen.mu.Lock()
	defer b.seen.mu.Unlock()
	for _, url := range b.seen.asked {
		if !strings.HasPrefix(url, base+"/") {
			b.t.Errorf("the page asked for %s", url)
		}
	}
	if len(b.seen.asked) < 10 {
		b.t.Errorf("only %d requests were seen", len(b.seen.asked))
	}
	for _, what := range b.seen.trouble {
		b.t.Errorf("the page complained: %s", what)
	}
}

// command is a command of the protocol as a step.
func command[P, R any](cmd cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, cmd, params)
		return err
	})
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("%v\n%s", err, b.body())
	}
}

func (b *browser) body() string {
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`)) // for a message only
	return text
}

func (b *browser) evaluate(js string) {
	b.t.Helper()
	b.value(`(() => { ` + js + ` })()`)
}

func (b *browser) value(js string) string {
	b.t.Helper()
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`String(`+js+`)`))
	if err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return s
}

// sees waits until an expression is true.
func (b *browser) sees(js string) {
	b.t.Helper()
	deadline := time.Now().Add(consolePatience)
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`(() => { try { return Boolean(`+js+`) } catch { return false } })()`))
		if err == nil && ok {
			return
		}
		if b.ctx.Err() != nil || time.Now().After(deadline) {
			b.t.Fatalf("never true: %s (%v)\nthe page:\n%s\nit complained: %q", js, err, b.body(), b.complaints())
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func (b *browser) complaints() []string {
	b.seen.mu.Lock()
	defer b.seen.mu.Unlock()
	return append([]string{}, b.seen.trouble...)
}

func (b *browser) seesText(selector, text string) {
	b.t.Helper()
	b.sees(fmt.Sprintf(`[...document.querySelectorAll(%s)].some(e => e.textContent.includes(%s))`, quoteJS(selector), quoteJS(text)))
}

func (b *browser) visit(view string) {
	b.t.Helper()
	b.evaluate(`location.hash = "#/` + view + `"`)
	name, _, _ := strings.Cut(view, "?")
	b.sees(`document.querySelector(".view-` + name + ` h1") !== null`)
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.sees(`document.querySelector(` + quoteJS(selector) + `) !== null && !document.querySelector(` + quoteJS(selector) + `).disabled`)
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.sees(`document.querySelector(` + quoteJS(selector) + `) !== null`)
	b.evaluate(`document.querySelector(` + quoteJS(selector) + `).select()`) // what is typed replaces it
	b.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

func (b *browser) key(name string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(map[string]string{"Escape": kb.Escape, "Tab": kb.Tab, "Enter": kb.Enter}[name]))
}

// look sets the width of the page and its colours.
func (b *browser) look(width, height int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}))
}

// sights are the views as they are looked at, and what has to be there by then.
var sights = []struct{ view, ready string }{
	{"overview", `document.querySelectorAll(".view-overview table").length === 2`},
	{"sessions?id=garden-1", `document.querySelector(".copies .state, .copies .failure") !== null && document.querySelectorAll(".list li").length > 10`},
	{"consumers", `document.querySelector(".view-consumers tbody tr") !== null`},
	{"letters", `document.querySelector(".view-letters tbody tr") !== null`},
	{"replays", `document.querySelectorAll(".replay").length === 2`},
	{"tail", `document.querySelectorAll(".tail li").length > 8`},
}

// pictures looks at every view wide and narrow, light and dark: nothing is cut off and
// everything can be read. With -update it keeps pictures for the documentation.
func (b *browser) pictures() {
	b.t.Helper()
	for _, look := range []struct {
		name          string
		width, height int64
		scheme        string
		kept          bool
	}{{"wide", 1280, 800, "light", true}, {"wide-dark", 1280, 800, "dark", false}, {"narrow-light", 390, 844, "light", false}, {"narrow", 390, 844, "dark", true}} {
		b.look(look.width, look.height, look.scheme)
		for _, sight := range sights {
			name, _, _ := strings.Cut(sight.view, "?")
			b.visit(sight.view)
			b.sees(sight.ready + ` && document.querySelector("#toasts").childElementCount === 0`)
			b.sees(`document.documentElement.scrollWidth <= innerWidth`) // no view is wider than the screen
			b.readable(look.name + " " + name)
			if look.kept || look.scheme == "dark" && name == "overview" {
				b.shoot(name + "-" + look.name)
			}
		}
	}
	b.look(1280, 800, "light")
}

// readable checks that text stands out from what is behind it: 4.5 to 1, as WCAG AA asks.
func (b *browser) readable(what string) {
	b.t.Helper()
	pairs, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]struct {
		Ink, Paper [3]float64
		Text       string
	}](inks))
	if err != nil {
		b.t.Fatal(err)
	}
	if len(pairs) < 10 {
		b.t.Errorf("%s: only %d texts", what, len(pairs))
	}
	for _, p := range pairs {
		if c := contrast(p.Ink, p.Paper); c < 4.5 {
			b.t.Errorf("%s: %q has a contrast of %.1f", what, p.Text, c)
		}
	}
}

// inks lists colours of texts and of what is behind them.
const inks = `(() => {
  const rgb = c => c.match(/[\d.]+/g).map(Number)
  const paper = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.5) return c.slice(0, 3) } return [255, 255, 255] }
  return [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.closest(".visually-hidden, .skip, :disabled, svg")
      && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .map(e => ({ Ink: rgb(getComputedStyle(e).color).slice(0, 3), Paper: paper(e), Text: e.textContent.trim().slice(0, 40) }))
})()`

func contrast(a, b [3]float64) float64 {
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + .05) / (min(la, lb) + .05)
}

// luminance is that of WCAG.
func luminance(rgb [3]float64) float64 {
	var linear [3]float64
	for i, v := range rgb {
		if v /= 255; v <= .04045 {
			linear[i] = v / 12.92
		} else {
			linear[i] = math.Pow((v+.055)/1.055, 2.4)
		}
	}
	return .2126*linear[0] + .7152*linear[1] + .0722*linear[2]
}

// keyboard checks that every view can be reached and used with keys alone, and that one
// can see where one is.
func (b *browser) keyboard() {
	b.t.Helper()
	b.visit("overview")
	b.evaluate(`document.activeElement.blur(); window.getSelection().removeAllRanges(); document.body.focus()`)
	const focused = `document.activeElement.getAttribute("href") ?? document.activeElement.id`
	for _, view := range []string{"sessions", "consumers", "letters", "replays", "tail", "overview"} {
		found := false
		for range 60 {
			b.key("Tab")
			if b.value(focused) == "#/"+view {
				found = true
				break
			}
		}
		if !found {
			b.t.Fatalf("the view %s cannot be reached with the Tab key", view)
		}
		b.sees(`getComputedStyle(document.activeElement).outlineStyle !== "none"`)
		b.key("Enter")
		b.sees(`document.querySelector(".view-` + view + ` h1") !== null && document.querySelector('nav a[aria-current="page"]').getAttribute("href") === "#/` + view + `"`)
		b.sees(`document.querySelectorAll("main, nav, header").length >= 3`)
		// Whatever can be used is an element that keys reach, and has a name.
		b.sees(`[...document.querySelectorAll("button, input, select, a[href]")].filter(e => e.checkVisibility()).every(e =>
			e.tabIndex >= 0 && (e.textContent.trim() || e.getAttribute("aria-label") || (e.labels ?? []).length > 0))`)
		b.evaluate(`document.activeElement.blur()`)
		b.evaluate(`document.querySelector(".skip").focus()`)
	}
}

// shoot keeps a picture, if that is asked for.
func (b *browser) shoot(name string) {
	b.t.Helper()
	if !*updatePictures {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "console", name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
