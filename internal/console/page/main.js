// The page: which view is shown, and the figures that all of them share.

import { get } from './api.js'
import { h, s, set, span, text } from './dom.js'
import { overview } from './overview.js'
import { sessions } from './sessions.js'
import { consumers } from './consumers.js'
import { letters } from './letters.js'
import { replays } from './replays.js'
import { tail } from './tail.js'

const views = {
  overview: { name: 'Overview', make: overview, icon: 'M3 13h4l2-7 4 12 3-8 1 3h4' },
  sessions: { name: 'Sessions', make: sessions, icon: 'M4 5h16v11H10l-4 3v-3H4zM8 9h8M8 12h5' },
  consumers: { name: 'Consumers', make: consumers, icon: 'M4 5h16v5H4zM4 14h16v5H4zM7 7.5h1M7 16.500h1' },
  letters: { name: 'Dead letters', short: 'Letters', make: letters, icon: 'M4 6h16v12H4zM4 7l8 6 8-6' },
  replays: { name: 'Replays', make: replays, icon: 'M5 12a7 7 0 1 1 2 5M5 19v-4h4' },
  tail: { name: 'Live tail', short: 'Live', make: tail, icon: 'M12 12h.01M8.500 8.500a5 5 0 0 0 0 7M15.500 8.500a5 5 0 0 1 0 7M5.500 5.500a9 9 0 0 0 0 13M18.500 5.500a9 9 0 0 1 0 13' },
}

const pollEvery = 2000
const staleAfter = 10
const window15 = 15 * 60_000

const content = document.getElementById('content')
const links = {}
for (const [key, view] of Object.entries(views)) {
  const badge = h('span', { class: 'badge', hidden: true })
  const a = h('a', { href: `#/${key}` },
    s('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' }, s('path', { d: view.icon })),
    h('span', { class: 'long' }, view.name), h('span', { class: 'short', 'aria-hidden': 'true' }, view.short ?? view.name), badge)
  if (view.short) a.setAttribute('aria-label', view.name)
  links[key] = { a, badge }
  document.getElementById('nav').append(h('li', {}, a))
}

/** shared is what every view may look at. */
const shared = { last: null, samples: [], fetched: 0, error: null, refresh: poll, isOpen: () => true }
let open = null, openKey = '', timer

function route() {
  const [path, search] = location.hash.replace(/^#\/?/, '').split('?')
  const key = views[path] ? path : 'overview'
  const params = new URLSearchParams(search)
  if (openKey === key && open?.navigate) {
    open.navigate(params)
    return
  }
  open?.close?.()
  openKey = key
  for (const [k, { a }] of Object.entries(links)) {
    if (k === key) a.setAttribute('aria-current', 'page')
    else a.removeAttribute('aria-current')
  }
  document.title = `${views[key].name} · afterword console`
  const root = h('div', { class: `view view-${key}` })
  content.replaceChildren(root)
  open = views[key].make(root, shared, params)
  if (shared.last) open.update?.(shared.last)
  if (document.activeElement && document.activeElement !== document.body) document.getElementById('view').focus({ preventScroll: true })
}

/** age is how old the figures are, in seconds. */
function age() {
  if (!shared.last?.state) return Infinity
  return (Date.now() - shared.fetched) / 1000 + (new Date(shared.last.now) - new Date(shared.last.state.at)) / 1000
}

function staleness() {
  const el = document.getElementById('stale')
  const why = shared.error ?? shared.last?.stale
  const old = age()
  const is = why && (old > staleAfter || !shared.last?.state)
  el.hidden = !is
  document.body.classList.toggle('is-stale', Boolean(is))
  if (!is) return
  text(el, old === Infinity ? `There are no figures yet: ${why}` : `These figures are ${span(old)} old: ${why}`)
}

async function poll() {
  clearTimeout(timer)
  if (!document.hidden) {
    try {
      const since = shared.samples.at(-1)?.t ?? 0
      const o = await get('overview', { since })
      shared.error = null
      shared.fetched = Date.now()
      shared.last = o
      shared.samples = [...shared.samples.filter(p => p.t > new Date(o.now) - window15), ...o.samples]
      frame(o)
      open?.update?.(o)
    } catch (err) {
      shared.error = err.message
    }
    staleness()
  }
  clearTimeout(timer)
  timer = setTimeout(poll, pollEvery)
}

/** frame shows what is around every view. */
function frame(o) {
  const critical = o.troubles.filter(t => t.level === 'critical').length
  const dead = o.state?.streams[1]?.messages ?? 0
  mark(links.overview.badge, o.troubles.length, critical ? 'critical' : 'warning', 'things are wrong')
  mark(links.letters.badge, dead, 'warning', 'dead letters')
  set(document.getElementById('facts'), [o.version, o.read_only], () => [
    h('span', {}, o.version), o.read_only && h('span', { class: 'tag' }, 'read-only'),
  ])
}

function mark(badge, n, kind, what) {
  badge.hidden = n === 0
  badge.className = `badge ${kind}`
  text(badge, n > 999 ? '999+' : String(n))
  badge.title = `${n} ${what}`
}

document.addEventListener('visibilitychange', () => { if (!document.hidden) poll() })
window.addEventListener('hashchange', route)
setInterval(staleness, 1000)
route()
poll()
