// What the console asks its server. Addresses are relative: a proxy may put a path in front.

export class Problem extends Error {
  constructor(message, status) {
    super(message)
    this.status = status
  }
}

const patience = 30_000

async function request(path, options) {
  let answer
  try {
    answer = await fetch(new URL(`api/${path}`, document.baseURI), { signal: AbortSignal.timeout(patience), credentials: 'same-origin', ...options })
  } catch (err) {
    throw new Problem(err.name === 'TimeoutError' ? `The console's server has not answered for ${patience / 1000} s.` : "The console's server cannot be reached.", 0)
  }
  let body
  try {
    body = await answer.json()
  } catch {
    throw new Problem(`The console's server answered ${answer.status}, and not in JSON: is something in between?`, answer.status)
  }
  if (!answer.ok) throw new Problem(body.detail ?? `The console's server answered ${answer.status}.`, answer.status)
  return body
}

const query = params => {
  const given = Object.entries(params).filter(([, v]) => v !== undefined && v !== null && v !== '' && v !== false)
  return given.length ? `?${new URLSearchParams(given)}` : ''
}

export const get = (path, params = {}) => request(path + query(params))

export const post = (path, body) => request(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body ?? {}),
})

/** events opens a stream of events. */
export const events = (path, params) => new EventSource(new URL(`api/${path}${query(params)}`, document.baseURI))
