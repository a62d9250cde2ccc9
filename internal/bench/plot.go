package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Panel is one chart of a picture: bars, or lines.
type Panel struct {
	Title string
	Unit  string // of the bars, or of the y axis
	Bars  []Measure
	X     string // label of the x axis, unit included; for lines
	Lines []Line
}

// Line is a curve of a panel. Both axes are logarithmic, so every value is above 0.
type Line struct {
	Name string
	X, Y []float64
}

// barsOf is a panel that compares measures of one unit.
func barsOf(title string, bars ...Measure) Panel {
	p := Panel{Title: title, Bars: bars}
	if len(bars) > 0 {
		p.Unit = bars[0].Unit
	}
	return p
}

// Sizes of a picture, in its units.
const (
	plotWidth  = 760
	margin     = 24
	titleSpace = 34
	barSpace   = 46
	axisSpace  = 44
	lineHeight = 300
	valueSpace = 130 // right of the longest bar
	leftSpace  = 64  // left of a y axis
)

// style follows the reader's light or dark.
const style = `
.bg{fill:#fff}.text{fill:#1f2328}.soft{fill:#59636e}.grid{stroke:#d1d9e0}.axis{stroke:#59636e}.whisker{stroke:#1f2328}
.f0{fill:#0969da}.f1{fill:#8c959f}.f2{fill:#bc4c00}.f3{fill:#1a7f37}.f4{fill:#8250df}.f5{fill:#bf8700}
.s0{stroke:#0969da}.s1{stroke:#8c959f}.s2{stroke:#bc4c00}.s3{stroke:#1a7f37}.s4{stroke:#8250df}.s5{stroke:#bf8700}
@media (prefers-color-scheme:dark){
.bg{fill:#0d1117}.text{fill:#f0f6fc}.soft{fill:#9198a1}.grid{stroke:#3d444d}.axis{stroke:#9198a1}.whisker{stroke:#f0f6fc}
.f0{fill:#4493f8}.f1{fill:#9198a1}.f2{fill:#f0883e}.f3{fill:#3fb950}.f4{fill:#ab7df8}.f5{fill:#d29922}
.s0{stroke:#4493f8}.s1{stroke:#9198a1}.s2{stroke:#f0883e}.s3{stroke:#3fb950}.s4{stroke:#ab7df8}.s5{stroke:#d29922}}
text{font:13px system-ui,sans-serif}.title{font-weight:600;font-size:15px}.small{font-size:11px}`

const colours = 6

// picture is an SVG that is being drawn.
type picture struct{ b bytes.Buffer }

func (p *picture) add(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

func (p *picture) text(x, y float64, class, anchor, s string) {
	p.add(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, escape(s))
}

func (p *picture) line(x1, y1, x2, y2 float64, class string) {
	p.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s" stroke-width="1"/>`, x1, y1, x2, y2, class)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

// Plot draws the panels of a result as an SVG.
func (r *Result) Plot() []byte {
	var p picture
	height := float64(margin)
	for i := range r.Panels {
		height += r.Panels[i].height()
	}
	foot := fmt.Sprintf("median of the runs, thin line: least to most; %d CPUs, %s, %s, %s", r.Machine.CPUs, r.Machine.FileSystem, r.Machine.Kernel, r.Began.Format("2006-01-02"))
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" role="img" aria-label="%s">`, plotWidth, height+margin, plotWidth, height+margin, escape("afterword bench "+r.Bench))
	p.add("<style>%s</style>", style)
	p.add(`<rect class="bg" width="100%%" height="100%%"/>`)
	y := float64(margin)
	for i := range r.Panels {
		panel := &r.Panels[i]
		p.text(margin, y+12, "text title", "start", panel.Title)
		if len(panel.Lines) > 0 {
			p.curves(panel, y+titleSpace)
		} else {
			p.bars(panel, y+titleSpace)
		}
		y += panel.height()
	}
	p.text(margin, height+8, "soft small", "start", foot)
	p.add("</svg>")
	return p.b.Bytes()
}

func (p *Panel) height() float64 {
	if len(p.Lines) > 0 {
		return titleSpace + lineHeight + axisSpace + 20*math.Ceil(float64(len(p.Lines))/2)
	}
	return titleSpace + barSpace*float64(len(p.Bars)) + axisSpace
}

// bars draws lying bars with their names above and their values behind them.
func (p *picture) bars(panel *Panel, top float64) {
	most := 0.0
	for _, m := range panel.Bars {
		most = max(most, m.Max)
	}
	if most <= 0 {
		most = 1
	}
	step := niceStep(most / 5)
	scale := (plotWidth - 2*margin - valueSpace) / most
	bottom := top + barSpace*float64(len(panel.Bars))
	for v := 0.0; v <= most*1.0001; v += step {
		x := margin + v*scale
		p.line(x, top, x, bottom, "grid")
		p.text(x, bottom+14, "soft small", "middle", Short(v))
	}
	p.text(plotWidth-margin, bottom+14, "soft small", "end", panel.Unit)
	for i, m := range panel.Bars {
		y := top + barSpace*float64(i)
		p.text(margin, y+14, "text", "start", m.Name)
		p.add(`<rect x="%d" y="%.1f" width="%.1f" height="16" rx="2" class="f%d"/>`, margin, y+20, max(m.Median*scale, 1), i%colours)
		p.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="whisker" stroke-width="1.5"/>`, margin+m.Min*scale, y+28, margin+m.Max*scale, y+28)
		p.text(margin+m.Max*scale+8, y+33, "text", "start", Short(m.Median)+" "+m.Unit)
	}
}

// curves draws lines over two logarithmic axes.
func (p *picture) curves(panel *Panel, top float64) {
	x0, x1 := decades(panel.Lines, func(l Line) []float64 { return l.X })
	y0, y1 := decades(panel.Lines, func(l Line) []float64 { return l.Y })
	left, right, bottom := float64(leftSpace), float64(plotWidth-margin), top+lineHeight
	atX := func(v float64) float64 { return left + (math.Log10(v)-x0)/(x1-x0)*(right-left) }
	atY := func(v float64) float64 { return bottom - (math.Log10(v)-y0)/(y1-y0)*lineHeight }
	for e := x0; e <= x1; e++ {
		x := atX(math.Pow(10, e))
		p.line(x, top, x, bottom, "grid")
		p.text(x, bottom+15, "soft small", "middle", Short(math.Pow(10, e)))
	}
	for e := y0; e <= y1; e++ {
		y := atY(math.Pow(10, e))
		p.line(left, y, right, y, "grid")
		p.text(left-6, y+4, "soft small", "end", Short(math.Pow(10, e)))
	}
	p.line(left, bottom, right, bottom, "axis")
	p.line(left, top, left, bottom, "axis")
	p.text(left-6, top-8, "soft small", "end", panel.Unit)
	p.text(right, bottom+30, "soft small", "end", panel.X)
	for i, l := range panel.Lines {
		var points []string
		for k := range l.X {
			points = append(points, fmt.Sprintf("%.1f,%.1f", atX(l.X[k]), atY(l.Y[k])))
			p.add(`<circle cx="%.1f" cy="%.1f" r="3.5" class="f%d"/>`, atX(l.X[k]), atY(l.Y[k]), i%colours)
		}
		p.add(`<polyline points="%s" fill="none" class="s%d" stroke-width="2"/>`, strings.Join(points, " "), i%colours)
		x, y := left+float64(i%2)*(right-left)/2, bottom+52+20*float64(i/2)
		p.add(`<rect x="%.1f" y="%.1f" width="12" height="12" rx="2" class="f%d"/>`, x, y-10, i%colours)
		p.text(x+18, y, "text", "start", l.Name)
	}
}

// decades are the powers of ten around all values.
func decades(lines []Line, of func(Line) []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, v := range of(l) {
			lo, hi = min(lo, math.Floor(math.Log10(v))), max(hi, math.Ceil(math.Log10(v)))
		}
	}
	if !(lo < hi) {
		hi = lo + 1
	}
	return lo, hi
}

// niceStep is the next of 1, 2 and 5 times a power of ten.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= v {
			return f * power
		}
	}
	return 10 * power
}

// Short writes a figure with as many digits as it deserves.
func Short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 999.5:
		return grouped(int64(math.Round(v)))
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// grouped writes a whole number with commas.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
