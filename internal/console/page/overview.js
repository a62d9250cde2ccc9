// What is wrong, and how it goes.

import { chart } from './chart.js'
import { bytes, command, count, decimal, empty, h, millis, set, span, table } from './dom.js'

const shown = 10 * 60_000

/** troubles lists what is wrong, the worst first, with the command that helps. */
export function troubles(list) {
  return h('ul', { class: 'troubles' }, list.map(t => h('li', { class: t.level },
    h('span', { class: 'level' }, t.level), h('span', { class: 'what' }, h('span', { class: 'muted' }, t.name), ' ', t.what,
      t.view && [' ', h('a', { href: `#/${t.view}` }, 'Look')], t.hint && h('span', { class: 'more' }, t.hint)), command(t.command))))
}

export function overview(root, shared) {
  const wrong = h('section', { 'aria-label': 'What is wrong', 'aria-live': 'polite', class: 'wrong' })
  const charts = [
    chart({ title: 'Lag', note: 'turns not acknowledged', format: count, window: shown, floor: 10, lines: [{ key: 'lag', name: 'turns', kind: 'a' }] }),
    chart({ title: 'Oldest turn that waits', note: 'age', format: span, window: shown, floor: 1, lines: [{ key: 'age', name: 'age', kind: 'a' }] }),
    chart({
      title: 'Turns per second', format: decimal, window: shown, floor: 10,
      lines: [{ key: 'stored', name: 'stored', kind: 'a' }, { key: 'written', name: 'written', kind: 'b' }],
    }),
    chart({
      title: 'End to end', note: 'until durable, p99', format: millis, window: shown, floor: 10,
      lines: [{ key: 'end', name: 'published', kind: 'a' }, { key: 'late', name: 'stored', kind: 'b' }],
    }),
    chart({ title: 'Dead letters', note: 'in the stream', format: count, window: shown, floor: 10, lines: [{ key: 'dead', name: 'letters', kind: 'a' }] }),
    chart({ title: 'Disk of the data', note: 'in use', format: v => `${decimal(v)} %`, window: shown, most: 100, lines: [{ key: 'disk', name: 'used', kind: 'a' }] }),
  ]
  const groups = h('div', {}), streams = h('div', {})
  root.append(h('h1', {}, 'Overview'), wrong, h('div', { class: 'cards' }, charts.map(c => c.el)),
    h('section', { 'aria-label': 'Consumer groups' }, h('h2', {}, 'Consumer groups'), groups),
    h('section', { 'aria-label': 'Streams' }, h('h2', {}, 'Streams'), streams))

  return {
    update(o) {
      set(wrong, [o.troubles, !o.checked], () => o.troubles.length ? troubles(o.troubles)
        : h('p', { class: 'well' }, o.checked ? 'Nothing is wrong.' : 'Looking …'))
      for (const c of charts) c.update(shared.samples, new Date(o.now).getTime())
      if (!o.state) return
      set(groups, o.state.groups, () => o.state.groups.length === 0 ? empty('There is no consumer group yet.', command('afterword consume'))
        : table('Consumer groups', [['Group'], ['Members', 'n'], ['Lag', 'n'], ['Oldest', 'n'], ['Written/s', 'n'], ['In flight', 'n'], ['Redelivered', 'n']],
          o.state.groups.map(g => h('tr', {}, h('th', { scope: 'row' }, h('a', { href: '#/consumers' }, g.name)), n(count(g.members.length)),
            n(count(g.lag)), n(span(g.age_seconds)), n(decimal(g.rate)), n(count(g.ack_pending)), n(count(g.redelivered))))))
      set(streams, o.state.streams, () => table('Streams', [['Stream'], ['Messages', 'n'], ['Size', 'n'], ['Limit', 'n'], ['Sessions', 'n'], ['Replicas', 'n']],
        o.state.streams.map(st => h('tr', {}, h('th', { scope: 'row' }, st.name), n(count(st.messages)), n(bytes(st.bytes)),
          n(st.max_bytes ? bytes(st.max_bytes) : 'none'), n(st.name.endsWith('TURNS') ? count(st.subjects) : ''), n(count(st.replicas))))))
    },
  }
}

const n = value => h('td', { class: 'n' }, value)
