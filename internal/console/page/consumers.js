// Consumer groups, and the members that have answered.

import { command, count, decimal, empty, h, plural, set, since, span, table, when } from './dom.js'

export function consumers(root) {
  const body = h('div', { class: 'stack' })
  root.append(h('h1', {}, 'Consumers'), body)
  return {
    update(o) {
      if (!o.state) {
        set(body, o.stale, () => empty('Nothing is known yet.', h('p', {}, o.stale ?? '')))
        return
      }
      set(body, o.state.groups.map(g => [g, since(g.last_acked)]), () => o.state.groups.length === 0
        ? empty('There is no consumer group.', h('p', {}, 'Nobody writes transcripts. Start a consumer:'), command('afterword consume'))
        : o.state.groups.map(group))
    },
  }
}

function group(g) {
  return h('section', { class: 'panel', 'aria-label': `Group ${g.name}` },
    h('header', {}, h('h2', {}, g.name), h('span', { class: 'muted' }, `writes folder ${g.folder.slice(0, 8)}, joined last by ${g.host || 'nobody knows whom'}`)),
    h('dl', { class: 'facts' },
      fact('Lag', plural(g.lag, 'turn')), fact('Oldest that waits', span(g.age_seconds)), fact('Written', `${decimal(g.rate)} /s`),
      fact('In flight', count(g.ack_pending)), fact('Redelivered', count(g.redelivered)), fact('Last acknowledgement', since(g.last_acked))),
    g.members.length === 0
      ? empty('No consumer of this group answers.', h('p', {}, 'One that hangs, that has lost NATS, or that is older than this page does not.'), command(`afterword consume --group ${g.name}`))
      : table(`Members of ${g.name}`, [['Host'], ['State'], ['Version'], ['Acknowledged', 'n'], ['In flight', 'n'], ['Last ack', 'n'], ['Running', 'n'], ['Process', 'n']],
        g.members.map(m => h('tr', {},
          h('th', { scope: 'row' }, m.host || '–'),
          h('td', {}, m.disputed ? h('span', { class: 'state bad' }, 'two answers differ: one is forged') : m.not_ready ? h('span', { class: 'state bad' }, m.not_ready) : h('span', { class: 'state good' }, 'takes turns')),
          h('td', { class: 'mono' }, m.version || '–'), n(count(m.acked)), n(count(m.in_flight)), n(when(m.last_ack, true)),
          n(span((Date.now() - new Date(m.started)) / 1000)), n(String(m.pid))))))
}

const n = value => h('td', { class: 'n' }, value)
const fact = (name, value) => h('div', {}, h('dt', {}, name), h('dd', {}, value))
