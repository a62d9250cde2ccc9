// Replays of this process: start, progress, cancel.

import { get, post } from './api.js'
import { ask, command, count, empty, failure, h, plural, put, say, set, span, when } from './dom.js'

const ranges = [['', 'everything the stream holds'], ['1', 'the last hour'], ['24', 'the last day'], ['168', 'the last week']]

export function replays(root, shared) {
  let timer, closed = false, can = null
  const session = h('input', { id: 'replay-session', autocomplete: 'off', spellcheck: 'false', placeholder: 'empty means all sessions' })
  const since = h('select', { id: 'replay-since' }, ranges.map(([v, name]) => h('option', { value: v }, name)))
  const speed = h('input', { id: 'replay-rate', type: 'number', min: '0', step: '1', inputmode: 'numeric', placeholder: 'no bound' })
  const start = h('button', { class: 'primary', id: 'replay-start' }, 'Start')
  const form = h('form', { class: 'panel form', 'aria-label': 'Start a replay', onsubmit: begin },
    h('label', { for: 'replay-session' }, 'Session', session), h('label', { for: 'replay-since' }, 'Of', since),
    h('label', { for: 'replay-rate' }, 'Turns per second at most', speed), start)
  const note = h('p', { class: 'hint' }, 'A replay merges what the stream holds into the transcripts. Nothing that is there is removed, so it may run at any time.')
  const list = h('div', { class: 'stack', 'aria-live': 'polite' })
  root.append(h('h1', {}, 'Replays'), note, form, list)

  async function begin(e) {
    e.preventDefault()
    const all = session.value === ''
    const what = all ? 'all sessions' : `session ${session.value}`
    if (all && !await ask({ title: 'Replay all sessions?', body: 'The whole stream is read and merged. It takes disk and NATS from others; bound the turns per second if that matters.', yes: 'Replay all sessions' })) return
    try {
      await post('replays', {
        ...all ? { all: true } : { session: session.value },
        ...since.value ? { since: new Date(Date.now() - since.value * 3600_000).toISOString() } : {},
        ...Number(speed.value) > 0 ? { rate: Math.round(Number(speed.value)) } : {},
      })
      say(`The replay of ${what} has begun.`)
    } catch (err) {
      say(err.message, true)
    }
    load()
  }

  async function load() {
    clearTimeout(timer)
    let running = false
    try {
      const { replays: all } = await get('replays')
      running = all.some(r => r.state === 'running')
      set(list, all, () => all.length ? all.map(card) : empty('No replay was started here since this process runs.', h('p', {}, 'On the command line:'), command('afterword replay --all --dry-run')))
    } catch (err) {
      delete list.dataset.key
      put(list, failure(err, load))
    }
    if (!closed) timer = setTimeout(load, running ? 700 : 4000)
  }

  function card(r) {
    const part = r.state === 'done' ? 1 : r.total ? r.done / r.total : 0
    const meter = h('progress', { max: '1', value: String(part), 'aria-label': `Progress of replay ${r.id}` })
    return h('section', { class: `panel replay ${r.state}`, 'aria-label': `Replay ${r.id}` },
      h('header', {}, h('h2', {}, r.session_id ? h('a', { href: `#/sessions?id=${encodeURIComponent(r.session_id)}` }, r.session_id) : 'All sessions'),
        h('span', { class: `state ${r.state === 'failed' ? 'bad' : r.state === 'done' ? 'good' : ''}` }, r.state),
        r.state === 'running' && h('button', { type: 'button', class: 'quiet small', 'aria-label': `Cancel replay ${r.id}`, onclick: () => cancel(r.id) }, 'Cancel')),
      meter,
      h('p', { class: 'line' },
        h('span', {}, `${count(r.done)} of ${count(r.total)} messages`),
        r.state === 'running' ? h('span', {}, r.eta_seconds === undefined ? 'time left not known yet' : `about ${span(Math.max(1, r.eta_seconds))} left`)
          : h('span', {}, `${plural(r.turns, 'turn')} merged in ${span((new Date(r.ended) - new Date(r.started)) / 1000)}`),
        r.skipped > 0 && h('span', {}, `${plural(r.skipped, 'message is', 'messages are')} no turns`),
        r.since && h('span', {}, 'since ', when(r.since)), r.rate > 0 && h('span', {}, `at most ${count(r.rate)} /s`),
        h('span', {}, 'started ', when(r.started))),
      r.error && h('p', { class: 'failure' }, r.error),
      r.state === 'cancelled' && h('p', { class: 'muted' }, 'What was merged by then stays.'))
  }

  async function cancel(id) {
    try {
      await post(`replays/${id}/cancel`)
      say('The replay is being cancelled.')
    } catch (err) {
      say(err.message, true)
    }
    load()
  }

  load()
  return {
    update(o) {
      if (can === o.can_replay) return
      can = o.can_replay
      for (const el of form.elements) el.disabled = !can
      if (o.read_only) note.textContent = 'This console is read-only, so it starts no replays.'
    },
    close() { closed = true; clearTimeout(timer) },
  }
}
