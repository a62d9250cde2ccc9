// A small chart: one or two lines over the last minutes, drawn as SVG.

import { h, s, text } from './dom.js'

const W = 360, H = 84, LEFT = 2, RIGHT = 2, TOP = 6, BOTTOM = 4

/**
 * chart makes a card with a figure and its course. lines are [{key, name, kind}] of a sample;
 * format makes words of a value; window is how many milliseconds are shown.
 */
export function chart({ title, note, lines, format, window: most_, floor = 1, most }) {
  const figure = h('span', { class: 'figure' }, '–')
  const second = h('span', { class: 'second' })
  const drawing = s('svg', { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', role: 'img', class: 'chart' })
  const paths = lines.map(line => ({
    area: s('path', { class: `area ${line.kind}` }), stroke: s('path', { class: `line ${line.kind}`, 'vector-effect': 'non-scaling-stroke' }),
  }))
  const grid = s('path', { class: 'grid', 'vector-effect': 'non-scaling-stroke', d: `M0 ${TOP}H${W}M0 ${(TOP + H - BOTTOM) / 2}H${W}M0 ${H - BOTTOM}H${W}` })
  const cursor = s('path', { class: 'cursor', 'vector-effect': 'non-scaling-stroke' })
  drawing.append(grid, ...paths.map(p => p.area), ...paths.map(p => p.stroke), cursor)
  const top = h('span', { class: 'scale top' })
  const from = h('span', {}), to = h('span', {}, 'now')
  const legend = lines.length > 1 && h('ul', { class: 'legend' }, lines.map(l => h('li', {}, h('i', { class: l.kind }), l.name)))
  const el = h('section', { class: 'card', 'aria-label': title },
    h('header', {}, h('h2', {}, title), legend),
    h('p', { class: 'now' }, figure, second),
    h('div', { class: 'plot' }, drawing, top),
    h('p', { class: 'axis' }, from, note && h('span', { class: 'note' }, note), to))

  let shown = [], now = 0, pointed = null, span = most_
  const x = t => LEFT + (W - LEFT - RIGHT) * (1 - (now - t) / span)

  function draw() {
    const values = shown.flatMap(p => lines.map(l => p[l.key])).filter(v => v !== undefined)
    const high = most ?? nice(Math.max(floor, ...values))
    const y = v => H - BOTTOM - (H - TOP - BOTTOM) * Math.min(1, v / high)
    text(top, values.length ? format(high) : '')
    lines.forEach((line, i) => {
      let stroke = '', area = '', start = null, last = null
      for (const p of shown) {
        const v = p[line.key]
        if (v === undefined || p.t < now - span || last !== null && p.t - last > 60_000) { // a hole is a hole
          if (start !== null) area += `L${x(last).toFixed(1)} ${H - BOTTOM}Z`
          start = last = null
          if (v === undefined || p.t < now - span) continue
        }
        const at = `${x(p.t).toFixed(1)} ${y(v).toFixed(1)}`
        if (start === null) {
          start = p.t
          stroke += `M${at}l0 0` // a lone point is a dot
          area += `M${x(p.t).toFixed(1)} ${H - BOTTOM}L${at}`
        } else {
          stroke += `L${at}`
          area += `L${at}`
        }
        last = p.t
      }
      if (start !== null) area += `L${x(last).toFixed(1)} ${H - BOTTOM}Z`
      paths[i].stroke.setAttribute('d', stroke)
      paths[i].area.setAttribute('d', area)
    })
    const value = l => {
      const at = pointed ?? shown.findLast(p => p[l.key] !== undefined)
      return at?.[l.key] === undefined ? '–' : format(at[l.key])
    }
    text(figure, value(lines[0]))
    text(second, lines.length > 1 ? `${lines[1].name} ${value(lines[1])}` : '')
    cursor.setAttribute('d', pointed ? `M${x(pointed.t).toFixed(1)} ${TOP}V${H - BOTTOM}` : '')
    text(to, pointed ? new Date(pointed.t).toLocaleTimeString('sv') : 'now')
    drawing.setAttribute('aria-label', `${title}: ${lines.map(l => `${l.name} ${value(l)}`).join(', ')}`)
  }

  drawing.addEventListener('pointermove', e => {
    const box = drawing.getBoundingClientRect()
    const t = now - span * (1 - (e.clientX - box.left) / box.width)
    pointed = shown.reduce((best, p) => best === null || Math.abs(p.t - t) < Math.abs(best.t - t) ? p : best, null)
    draw()
  })
  drawing.addEventListener('pointerleave', () => { pointed = null; draw() })

  return {
    el,
    update(samples, at) {
      shown = samples
      now = at
      span = Math.min(most_, Math.max(120_000, Math.ceil((at - (shown[0]?.t ?? at)) / 60_000) * 60_000)) // the page was opened just now
      text(from, `${Math.round(span / 60_000)} min ago`)
      draw()
    },
  }
}

/** nice is the next round number. */
function nice(v) {
  const p = 10 ** Math.floor(Math.log10(v))
  return [1, 2, 2.5, 5, 10].map(m => m * p).find(m => m >= v * 0.999) ?? v
}
