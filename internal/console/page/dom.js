// Elements and words. Data reaches the page as text nodes and attributes only.

const SVG = 'http://www.w3.org/2000/svg'

/** visible shows characters that steer how a text is shown, or do not show, by their number, as the commands do on a terminal. */
export const visible = t => String(t).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, c => c === '\n' || c === '\t' || c === '\r' ? c
  : Array.from({ length: c.length }, (_, i) => '\\u' + c.charCodeAt(i).toString(16).padStart(4, '0')).join(''))

const nodes = children => children.flat(Infinity).filter(c => c !== undefined && c !== null && c !== false && c !== '')
  .map(c => c instanceof Node ? c : visible(c))

function fill(el, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) el.addEventListener(name.slice(2), value)
    else el.setAttribute(name, value === true ? '' : name === 'title' || name === 'aria-label' ? visible(value) : value)
  }
  el.append(...nodes(children))
  return el
}

/** h makes an element. */
export const h = (name, props, ...children) => fill(document.createElement(name), props, children)

/** s makes an element of SVG. */
export const s = (name, props, ...children) => fill(document.createElementNS(SVG, name), props, children)

/** put replaces what is in an element. */
export const put = (el, ...children) => el.replaceChildren(...nodes(children))

/** set replaces what is in an element, when key is not what it was made of last time. */
export function set(el, key, make) {
  const now = JSON.stringify(key)
  if (el.dataset.key === now) return
  el.dataset.key = now
  put(el, make())
}

/** text sets the text of an element if it differs, so that nothing is announced twice. */
export function text(el, value) {
  value = visible(value)
  if (el.textContent !== value) el.textContent = value
}

let sayTimer
/** say tells people what has become of something they did. */
export function say(message, bad) {
  const region = document.getElementById('said')
  region.textContent = ''
  clearTimeout(sayTimer)
  sayTimer = setTimeout(() => { region.textContent = visible(message) }, 50)
  const toast = h('p', { class: bad ? 'toast bad' : 'toast' }, message)
  document.getElementById('toasts').append(toast)
  setTimeout(() => toast.remove(), bad ? 12000 : 6000)
}

/** command shows a command with a button that copies it. */
export function command(line) {
  if (!line) return null
  const copy = h('button', {
    type: 'button', class: 'quiet small', 'aria-label': `Copy the command ${line}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(line)
        say('Copied.')
      } catch {
        say('This browser does not let the page copy; select the command instead.', true)
      }
    },
  }, 'Copy')
  return h('span', { class: 'command' }, h('code', {}, line), copy)
}

/** ask opens a dialog and resolves to whether it was confirmed. */
export function ask({ title, body, yes, danger }) {
  return new Promise(resolve => {
    const close = answer => { dialog.close(); dialog.remove(); resolve(answer) }
    const dialog = h('dialog', { 'aria-labelledby': 'ask-title', oncancel: e => { e.preventDefault(); close(false) } },
      h('h2', { id: 'ask-title' }, title), h('p', {}, body),
      h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'quiet', autofocus: true, onclick: () => close(false) }, 'Keep everything as it is'),
        h('button', { type: 'button', class: danger ? 'danger' : 'primary', onclick: () => close(true) }, yes)))
    document.body.append(dialog)
    dialog.showModal()
  })
}

/** empty says that there is nothing, and why. */
export const empty = (title, ...more) => h('div', { class: 'empty' }, h('p', { class: 'strong' }, title), ...more)

/** failure says what went wrong. */
export const failure = (err, again) => h('div', { class: 'failure', role: 'alert' },
  h('p', {}, err.message), again && h('button', { type: 'button', class: 'quiet', onclick: again }, 'Try again'))

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export const count = n => n === undefined || n === null ? '–' : Math.abs(n) >= 1e6 ? short.format(n) : whole.format(n)
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`
export const decimal = n => n === undefined || n === null ? '–' : n >= 100 ? count(Math.round(n)) : n >= 10 ? n.toFixed(1) : n === 0 ? '0' : n.toFixed(n < 1 ? 2 : 1)

export function bytes(n) {
  if (n === undefined || n === null) return '–'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let i = 0
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++ }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`
}

export function span(seconds) {
  if (seconds === undefined || seconds === null) return '–'
  if (seconds < 0.0005) return '0 s'
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 100) return `${Math.round(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86400)} d`
}

export const millis = ms => ms === undefined || ms === null ? '–' : span(ms / 1000)

/** when shows a moment, with all of it in the title. */
export function when(iso, ago) {
  if (!iso) return h('span', { class: 'muted' }, '–')
  const at = new Date(iso)
  const day = at.toLocaleDateString('sv')
  const time = at.toLocaleTimeString('sv')
  const today = new Date().toLocaleDateString('sv') === day
  return h('time', { datetime: at.toISOString(), title: iso }, ago ? since(iso) : today ? time : `${day} ${time}`)
}

/** since is how long ago a moment was. */
export function since(iso) {
  if (!iso) return '–'
  return `${span(Math.max(0, (Date.now() - new Date(iso)) / 1000))} ago`
}

/** table makes a table that can be scrolled by itself on a narrow screen. */
export function table(caption, heads, rows) {
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {}, h('caption', { class: 'visually-hidden' }, caption),
      h('thead', {}, h('tr', {}, heads.map(([name, kind]) => h('th', { scope: 'col', class: kind }, name)))),
      h('tbody', {}, rows)))
}
