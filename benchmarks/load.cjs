// Puts load on one server: each request holds the next comment. Prints what came back as JSON.
'use strict'

const fs = require('node:fs')
const autocannon = require('autocannon')

const { url, texts, connections, seconds, rate, parts } = JSON.parse(process.argv[2])
const bodies = JSON.parse(fs.readFileSync(texts, 'utf8')).map((text) => JSON.stringify({ texts: [text] }))
const found = Array.from({ length: parts }, () => ({ sent: 0, statuses: {}, errors: 0, latencies: [] }))
let next = 0

// The current part of the time; undefined if the time is over.
const begin = performance.now()
const now = () => found[Math.floor((performance.now() - begin) / 1000 / seconds * parts)]

const setupRequest = (request) => {
  const part = now()
  if (part) part.sent++
  return { ...request, body: bodies[next++ % bodies.length] }
}

const run = autocannon({
  url,
  connections,
  connectionRate: rate || undefined,
  duration: seconds,
  timeout: 60,
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  requests: [{ setupRequest }]
}, (error) => {
  if (error) throw error
  const { user, system } = process.cpuUsage()
  process.stdout.write(JSON.stringify({ parts: found, cpu_s: (user + system) / 1e6 }))
})

// Only answers with 2xx count for the latency: refusals are fast, and would make the rest look fast, too.
run.on('response', (client, status, bytes, ms) => {
  const part = now()
  if (!part) return
  part.statuses[status] = (part.statuses[status] || 0) + 1
  if (status >= 200 && status < 300) part.latencies.push(Math.round(ms * 100) / 100)
})
run.on('reqError', () => {
  const part = now()
  if (part) part.errors++
})
