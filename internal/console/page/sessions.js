// Sessions: search, read a transcript, compare its copies, replay it.

import { get, post } from './api.js'
import { bytes, command, count, empty, failure, h, plural, put, say, span, visible, when } from './dom.js'

export function sessions(root, shared, params) {
  let asked = 0, opened = ''
  const search = h('input', { id: 'prefix', type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'beginning of a session id' })
  const list = h('div', { class: 'list', 'aria-live': 'polite' })
  const more = h('div', {})
  const finder = h('section', { class: 'finder', 'aria-label': 'Find sessions' },
    h('form', { class: 'search', role: 'search', onsubmit: e => { e.preventDefault(); find() } },
      h('label', { for: 'prefix', class: 'visually-hidden' }, 'Beginning of a session id'), search, h('button', { class: 'primary' }, 'Search')), list, more)
  const reader = h('section', { class: 'reader', 'aria-label': 'Transcript' })
  const split = h('div', { class: 'split' }, finder, reader)
  root.append(h('h1', {}, 'Sessions'), split)

  async function find(cursor) {
    const mine = ++asked
    try {
      const page = await get('sessions', { prefix: search.value, cursor })
      if (mine !== asked) return
      const rows = page.sessions.map(one => h('li', {}, h('a', { href: `#/sessions?id=${encodeURIComponent(one.session_id)}`, 'aria-current': one.session_id === opened ? 'true' : null },
        h('span', { class: 'id' }, one.session_id), h('span', { class: 'muted' }, plural(one.turns, 'turn')), h('span', { class: 'muted end' }, when(one.updated_at)))))
      if (cursor) list.querySelector('ul').append(...rows)
      else if (rows.length) put(list, h('ul', {}, rows))
      else put(list, empty(search.value ? 'No session begins so.' : 'There are no transcripts yet.', exact()))
      put(more, page.next ? [h('button', { type: 'button', class: 'quiet', onclick: () => find(page.next) }, 'More')] : [])
    } catch (err) {
      if (mine !== asked) return
      put(list, failure(err), exact())
      put(more)
    }
  }

  const exact = () => search.value && h('p', {}, h('a', { href: `#/sessions?id=${encodeURIComponent(search.value)}` }, 'Open the session with exactly this id'))

  function navigate(p) {
    const id = p.get('id') ?? ''
    if (id === opened && id) return
    opened = id
    split.classList.toggle('is-open', Boolean(id))
    for (const a of list.querySelectorAll('a')) {
      if (a.querySelector('.id')?.textContent === visible(id)) a.setAttribute('aria-current', 'true')
      else a.removeAttribute('aria-current')
    }
    put(reader, id ? read(id, shared) : [empty('Choose a session.', h('p', { class: 'muted' }, 'What was said stays hidden until you ask for it.'))])
  }

  let typing
  search.addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(find, 250) })
  find()
  navigate(params)
  return { navigate, close() { clearTimeout(typing); asked++ } }
}

/** read shows one transcript. */
function read(id, shared) {
  let text = false, turns = [], first = 0
  const facts = h('p', { class: 'muted line' })
  const chat = h('ol', { class: 'chat', 'aria-label': 'Turns, oldest first' })
  const earlier = h('div', {})
  const copies = h('div', { class: 'copies', 'aria-live': 'polite' })
  const toggle = h('button', { type: 'button', class: 'quiet', id: 'show-text', 'aria-pressed': 'false', onclick: () => { text = !text; load() } }, 'Show what was said')
  const again = h('button', { type: 'button', class: 'quiet', id: 'replay-this', disabled: !shared.last?.can_replay, onclick: replay }, 'Replay this session')
  const compare = h('button', { type: 'button', class: 'quiet', id: 'compare', onclick: agree }, 'Compare again')

  async function load(before) {
    try {
      const page = await get('transcript', { session: id, before, text: text ? 1 : '', limit: before === undefined ? Math.min(200, Math.max(50, turns.length)) : 50 })
      turns = before === undefined ? page.turns : [...page.turns, ...turns]
      first = page.first
      put(facts, h('span', {}, plural(page.total, 'turn')), h('span', {}, `revision ${count(page.revision)}`), h('span', {}, `from the ${page.source}`),
        page.partial ? h('span', { class: 'warning' }, 'turns may be missing: the stream has removed some, and there are no transcripts here that must have all of them') : '')
      toggle.setAttribute('aria-pressed', String(text))
      toggle.textContent = text ? 'Hide what was said' : 'Show what was said'
      put(chat, turns.map(exchange))
      put(earlier, first > 0 ? [h('button', { type: 'button', class: 'quiet', onclick: () => load(first) }, `Earlier turns (${count(first)})`)] : [])
    } catch (err) {
      put(chat, h('li', {}, failure(err, () => load())))
    }
  }

  async function agree() {
    put(copies, h('p', { class: 'muted' }, 'Comparing …'))
    try {
      const a = await get('agreement', { session: id })
      put(copies, verdict(a), h('div', { class: 'three' }, copy('File', a.file), copy('Stream', a.stream), copy('Redis', a.redis)),
        command(a.command))
    } catch (err) {
      put(copies, failure(err, agree))
    }
  }

  async function replay() {
    again.disabled = true
    try {
      const { id: number } = await post('replays', { session: id })
      say('The replay has begun.')
      for (let tries = 0; tries < 120; tries++) {
        const r = (await get('replays')).replays.find(r => r.id === number)
        if (r && r.state !== 'running') {
          say(r.state === 'done' ? `Replayed: ${plural(r.turns, 'turn was', 'turns were')} merged.` : `The replay has ${r.state}. ${r.error ?? ''}`, r.state !== 'done')
          break
        }
        await new Promise(done => setTimeout(done, 500))
      }
      load()
      agree()
    } catch (err) {
      say(err.message, true)
    }
    again.disabled = false
  }

  load()
  agree()
  return [
    h('header', {}, h('a', { class: 'back', href: '#/sessions' }, '‹ All sessions'), h('h2', { class: 'id' }, id), facts),
    h('div', { class: 'tools' }, toggle, again, compare), copies, earlier, chat,
  ]
}

function verdict(a) {
  if (!a.compared) return h('p', { class: 'state' }, 'There are no transcripts on this machine to compare.')
  if (a.agrees) {
    return h('p', { class: 'state good' }, 'File, stream and Redis agree.',
      a.file_only > 0 && ` ${plural(a.file_only, 'turn is', 'turns are')} in the file only: the stream has dropped them since, or never had them.`)
  }
  const d = a.difference ?? {}
  const parts = [d.error, d.missing && `${plural(d.missing, 'turn is', 'turns are')} missing in the file`, d.stale && `${plural(d.stale, 'turn is', 'turns are')} out of date in the file`, d.cache && `Redis: ${d.cache}`].filter(Boolean)
  return h('p', { class: 'state bad' }, `They differ: ${parts.join('; ')}.`)
}

function copy(name, c) {
  const words = { present: 'present', absent: 'not there', none: 'not used here', unknown: 'not readable' }
  return h('div', { class: `copy ${c.state}` }, h('h3', {}, name), h('p', { class: 'strong' }, c.state === 'present' ? plural(c.turns, 'turn') : words[c.state]),
    h('p', { class: 'muted' }, c.state === 'present' ? `revision ${count(c.revision)}` : c.why ?? ''))
}

function exchange(t) {
  return h('li', { class: t.off_path ? 'aside' : null },
    h('p', { class: 'meta' }, when(t.timestamp), h('span', { class: t.status === 'complete' ? 'muted' : 'tag' }, t.status), t.rev > 1 && h('span', { class: 'muted' }, `rev ${t.rev}`),
      t.off_path && h('span', { class: 'tag' }, 'another branch'), t.supersedes && h('span', { class: 'muted' }, `supersedes ${t.supersedes}`), t.parent && h('span', { class: 'muted' }, `follows ${t.parent}`),
      t.model && h('span', { class: 'muted' }, t.model), t.seconds > 0 && h('span', { class: 'muted' }, span(t.seconds)),
      t.tools > 0 && h('span', { class: 'muted' }, plural(t.tools, 'tool call')), t.attachments > 0 && h('span', { class: 'muted' }, plural(t.attachments, 'attachment')),
      h('span', { class: 'muted mono end turn-id' }, t.id)),
    t.status === 'redacted' ? [] : [bubble('user', 'User', t.user, t.user_bytes), answer(t)],
    t.error && h('p', { class: 'failure' }, t.error))
}

/** answer shows what the assistant answered: a text, calls of tools, or nothing yet. */
function answer(t) {
  const instead = words => h('div', { class: 'bubble assistant waiting' }, h('span', { class: 'who' }, 'Assistant'), h('p', { class: 'muted' }, words))
  if (t.assistant_bytes > 0) return bubble('assistant', 'Assistant', t.assistant, t.assistant_bytes)
  if (t.tools > 0) return instead(`${plural(t.tools, 'tool call')}, no text`)
  return t.status === 'pending' ? instead('no answer yet') : bubble('assistant', 'Assistant', t.assistant, t.assistant_bytes)
}

/** bubble shows what was said, or how long it is. */
export function bubble(kind, who, said, size) {
  if (said !== undefined) return h('div', { class: `bubble ${kind}` }, h('span', { class: 'who' }, who), h('p', { class: 'said' }, said || '(empty)'))
  const bar = h('span', { class: 'length', 'aria-hidden': 'true' })
  bar.style.width = `${Math.min(100, 12 + 14 * Math.log2(1 + size / 16))}%`
  return h('div', { class: `bubble ${kind} is-hidden` }, h('span', { class: 'who' }, who), bar, h('span', { class: 'size' }, `${bytes(size)}, hidden`))
}
