// Turns as the stream stores them.

import { events } from './api.js'
import { bytes, count, h, plural, put, text } from './dom.js'

const most = 200 // turns that are shown
const held = 500 // that are kept while paused

export function tail(root) {
  let source = null, paused = false, withText = false, waiting = [], total = 0, gaps = 0, typing
  const prefix = h('input', { id: 'tail-prefix', type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'beginning of a session id' })
  const pause = h('button', { type: 'button', class: 'quiet', id: 'tail-pause', 'aria-pressed': 'false', onclick: toggle }, 'Pause')
  const show = h('button', { type: 'button', class: 'quiet', id: 'tail-text', 'aria-pressed': 'false', onclick: showText }, 'Show what was said')
  const state = h('span', { class: 'state', role: 'status' })
  const figures = h('span', { class: 'muted' })
  const list = h('ol', { class: 'tail', 'aria-label': 'Turns, the newest first' })
  const none = h('div', { class: 'empty' }, h('p', { class: 'strong' }, 'Nothing was stored since you look.'), h('p', { class: 'muted' }, 'Turns appear here as the stream stores them.'))
  root.append(h('h1', {}, 'Live tail'),
    h('form', { class: 'tools', role: 'search', onsubmit: e => { e.preventDefault(); listen() } },
      h('label', { for: 'tail-prefix', class: 'visually-hidden' }, 'Only sessions that begin with'), prefix, pause, show, state, figures),
    none, list)

  function listen() {
    source?.close()
    text(state, 'connecting …')
    state.className = 'state'
    source = events('tail', { prefix: prefix.value, text: withText ? 1 : '' })
    source.addEventListener('open', () => live())
    source.addEventListener('idle', () => live())
    source.addEventListener('waiting', e => { text(state, `waiting: ${JSON.parse(e.data).why}`); state.className = 'state bad' })
    source.addEventListener('turn', e => { live(); total++; add(row(JSON.parse(e.data))) })
    source.addEventListener('gap', e => {
      const gap = JSON.parse(e.data)
      gaps += gap.missed
      add(h('li', { class: 'gap' }, gap.reason === 'slow' ? `${count(gap.missed)} turns are left out here: they came faster than they can be shown.`
        : gap.reason === 'reset' ? 'The stream was made again here.' : 'Turns that the stream does not have any more are left out here.'))
    })
    source.onerror = () => {
      text(state, source.readyState === EventSource.CLOSED ? 'refused; trying again' : 'the connection is lost; trying again')
      state.className = 'state bad'
      if (source.readyState === EventSource.CLOSED) typing = setTimeout(listen, 3000)
    }
  }

  function live() {
    text(state, paused ? 'paused' : 'live')
    state.className = paused ? 'state' : 'state good'
    tally()
  }

  function tally() {
    text(figures, `${plural(total, 'turn')}${gaps ? `, ${count(gaps)} left out` : ''}${paused && waiting.length ? `, ${count(waiting.length)} wait` : ''}`)
    pause.textContent = paused ? (waiting.length ? `Go on (${count(waiting.length)})` : 'Go on') : 'Pause'
  }

  function add(li) {
    none.hidden = true
    if (paused) {
      waiting.push(li)
      if (waiting.length > held) { waiting.shift(); gaps++ }
    } else {
      list.prepend(li)
      while (list.children.length > most) list.lastChild.remove()
    }
    tally()
  }

  function toggle() {
    paused = !paused
    pause.setAttribute('aria-pressed', String(paused))
    if (!paused) {
      const came = waiting
      waiting = []
      for (const li of came) add(li)
    }
    live()
  }

  function showText() {
    withText = !withText
    show.setAttribute('aria-pressed', String(withText))
    show.textContent = withText ? 'Hide what was said' : 'Show what was said'
    if (!withText) for (const el of list.querySelectorAll('.said')) el.replaceWith(h('span', { class: 'size' }, 'hidden'))
    listen()
  }

  function row({ sequence, stored, turn: t }) {
    const said = (who, words, size) => h('div', { class: 'utterance' }, h('span', { class: 'who' }, who), words === undefined ? h('span', { class: 'size' }, bytes(size)) : h('span', { class: 'said' }, words || '(empty)'))
    return h('li', { class: withText ? 'with-text' : '' },
      h('time', { datetime: stored, title: stored }, new Date(stored).toLocaleTimeString('sv')),
      h('a', { class: 'id', href: `#/sessions?id=${encodeURIComponent(t.session_id)}` }, t.session_id),
      h('span', { class: t.status === 'complete' ? 'muted' : 'tag' }, t.status),
      said('user', t.user, t.user_bytes), said('assistant', t.assistant, t.assistant_bytes),
      h('span', { class: 'muted n' }, `#${sequence}`))
  }

  prefix.addEventListener('input', () => { // what is shown was of another filter
    clearTimeout(typing)
    source?.close()
    waiting = []
    put(list)
    none.hidden = false
    text(state, 'connecting …')
    state.className = 'state'
    tally()
    typing = setTimeout(listen, 300)
  })
  listen()
  return { close() { clearTimeout(typing); source?.close() } }
}
