// Dead letters: by reason, look, requeue, discard.

import { get, post } from './api.js'
import { ask, bytes, count, empty, failure, h, plural, put, say, table, when } from './dom.js'

const help = {
  json: 'The publisher breaks the contract. Mend it, publish the turn again under its id, then discard the letter.',
  rule: 'The publisher breaks the contract. Mend it, publish the turn again under its id, then discard the letter.',
  type: 'A message of a type that this version does not know.',
  size: 'The turn is too long: raise max_payload of NATS, restart the consumers and requeue.',
  subject: 'It was published on the subject of another session: mend the publisher.',
  future: 'It is dated more than 24 hours ahead: set the clock that dated it. Requeueing works once the date is near enough.',
  redacted: 'It redacts a turn and carries text: publish the redaction again, empty, then discard the letter.',
  'session-too-large': 'The session has no room for it: raise --session-max-bytes and requeue, or begin another session.',
  'session-unwritable': 'Nothing is wrong with the turn: mend the file that the reason names, then requeue.',
}

export function letters(root, shared) {
  let list = null, kind = '', chosen = new Set(), seen = -1, loading = false
  const kinds = h('div', { class: 'kinds', role: 'group', 'aria-label': 'Reasons' })
  const tools = h('div', { class: 'tools' })
  const body = h('div', {})
  root.append(h('h1', {}, 'Dead letters'), kinds, tools, body)

  async function load() {
    if (loading) return
    loading = true
    try {
      list = await get('letters', { kind })
      seen = list.total
      chosen = new Set([...chosen].filter(seq => list.letters.some(l => l.sequence === seq)))
      draw()
    } catch (err) {
      put(body, failure(err, load))
    } finally {
      loading = false
    }
  }

  function draw() {
    put(kinds, list.total === 0 ? [] : [pick('', 'all', list.counted), ...list.kinds.map(k => pick(k.kind, k.kind, k.count))])
    drawTools()
    if (list.letters.length === 0) {
      put(body, empty(kind ? 'There are no dead letters of this kind any more.' : 'There are no dead letters.',
        !kind && h('p', {}, 'Every message of the stream could be processed.')))
      return
    }
    const all = h('input', {
      type: 'checkbox', 'aria-label': 'Choose all that are shown',
      onchange: e => { chosen = new Set(e.target.checked ? list.letters.map(l => l.sequence) : []); draw() },
    })
    all.checked = chosen.size === list.letters.length
    put(body,
      kind && h('p', { class: 'hint' }, help[kind] ?? ''),
      table('Dead letters', [[all, 'tick'], ['No.', 'n'], ['Since'], ['Kind'], ['Group'], ['Size', 'n'], ['Reason', 'wide'], ['']], list.letters.map(row)),
      list.total > list.letters.length && h('p', { class: 'muted' }, `${count(list.letters.length)} of ${count(list.total)} are shown, the newest first.`))
  }

  function pick(value, name, n) {
    return h('button', {
      type: 'button', class: 'chip', 'aria-pressed': String(kind === value),
      onclick: () => { kind = value; chosen.clear(); load() },
    }, name, h('span', { class: 'chip-n' }, count(n)))
  }

  function drawTools() {
    if (list.total === 0) { put(tools); return }
    const off = shared.last?.read_only
    const byKind = chosen.size === 0 && kind !== ''
    const n = byKind ? list.kinds.find(k => k.kind === kind)?.count ?? 0 : chosen.size
    const what = byKind ? `all ${count(n)} of kind ${kind}` : plural(n, 'letter')
    put(tools,
      h('button', { type: 'button', class: 'primary', id: 'requeue', disabled: off || n === 0, onclick: () => act('requeue', what, byKind) }, n ? `Requeue ${what}` : 'Requeue'),
      h('button', { type: 'button', class: 'danger', id: 'discard', disabled: off || n === 0, onclick: () => act('discard', what, byKind) }, n ? `Discard ${what}` : 'Discard'),
      h('span', { class: 'muted' }, off ? 'This console is read-only.' : n ? '' : 'Choose letters, or a kind.'))
  }

  async function act(verb, what, byKind) {
    const sure = verb === 'discard'
      ? await ask({ title: `Discard ${what}?`, body: 'They are removed for good. The events that they were made of stay in the stream of turns for as long as it keeps them.', yes: `Discard ${what}`, danger: true })
      : !byKind || await ask({ title: `Requeue ${what}?`, body: 'Each is published again. What still cannot be processed becomes a dead letter again.', yes: `Requeue ${what}` })
    if (!sure) return
    try {
      const done = await post(`letters/${verb}`, byKind ? { kind, until: list.until } : { seqs: [...chosen] })
      if (verb === 'discard') say(`${count(done.discarded)} discarded.`)
      else if (done.back.length || done.kept.length) say([`${count(done.requeued)} requeued`,
        ...(done.back.length ? [`${count(done.back.length)} came back: ${done.back[0].why}`] : []),
        ...(done.kept.length ? [`${count(done.kept.length)} had to stay: ${done.kept[0].why}`] : [])].join('; '), true)
      else say(`${count(done.requeued)} requeued.`)
      chosen.clear()
    } catch (err) {
      say(err.message, true)
    }
    await load()
    shared.refresh()
  }

  function row(l) {
    const box = h('input', {
      type: 'checkbox', 'aria-label': `Choose letter ${l.sequence}`,
      onchange: e => { e.target.checked ? chosen.add(l.sequence) : chosen.delete(l.sequence); drawTools() },
    })
    box.checked = chosen.has(l.sequence)
    return h('tr', {}, h('td', { class: 'tick' }, box), h('td', { class: 'n' }, String(l.sequence)), h('td', {}, when(l.time)),
      h('td', {}, h('span', { class: 'tag' }, l.kind)), h('td', { class: 'group' }, l.group), h('td', { class: 'n size' }, bytes(l.bytes)),
      h('td', { class: 'wide reason' }, l.doubt ? h('span', { class: 'tag', title: l.doubt }, 'in doubt') : '', l.doubt ? ' ' : '', l.reason), h('td', { class: 'look' }, h('button', { type: 'button', class: 'quiet small', 'aria-label': `Look at letter ${l.sequence}`, onclick: () => look(l.sequence) }, 'Look')))
  }

  async function look(seq) {
    const payload = h('div', {})
    const inner = h('div', {}, h('p', { class: 'muted' }, 'Reading …'))
    const close = () => { dialog.close(); dialog.remove() }
    const dialog = h('dialog', { class: 'large', 'aria-labelledby': 'letter-title', onclose: () => dialog.remove() },
      h('h2', { id: 'letter-title' }, `Dead letter ${seq}`), inner,
      h('div', { class: 'actions' }, h('button', { type: 'button', class: 'quiet', autofocus: true, onclick: close }, 'Close')))
    document.body.append(dialog)
    dialog.showModal()
    try {
      const l = await get(`letters/${seq}`)
      put(inner,
        h('dl', { class: 'headers' }, [['Since', l.time], ['Group', l.group], ['Sequence in the stream', l.stream_sequence || 'not known'],
          ...(l.doubt ? [['Doubt', l.doubt]] : []), ...l.headers].map(([k, v]) =>
          h('div', {}, h('dt', {}, k), h('dd', {}, String(v))))),
        payload)
      hidden(l)
    } catch (err) {
      put(inner, failure(err))
    }
    function hidden(l) {
      put(payload, h('button', {
        type: 'button', class: 'quiet', id: 'show-payload', onclick: async () => {
          try {
            const full = await get(`letters/${seq}`, { text: 1 })
            put(payload, h('h3', {}, 'Payload'), h('pre', { tabindex: '0' }, full.payload))
          } catch (err) {
            put(payload, failure(err))
          }
        },
      }, `Show the payload (${bytes(l.bytes)})`), h('p', { class: 'muted' }, 'What somebody said is in it.'))
    }
  }

  load()
  return {
    update(o) {
      const total = o.state?.streams[1]?.messages
      if (list && total !== undefined && total !== seen && chosen.size === 0 && !document.querySelector('dialog')) { seen = total; load() }
    },
  }
}
