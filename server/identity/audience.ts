/** Owns by which name a request called this server, and whether that is a name of its own. */
import type { IncomingHttpHeaders } from 'node:http'

export interface AudienceOptions {
  /** Hosts, with their ports unless default, that this server is reached by; empty: whatever a request says. */
  hosts: readonly string[]
  /** Believe X-Forwarded-Host. */
  trustProxy: boolean
}

/** Host and port in the one form in which they are compared: as a URL has them. */
export function normalHost(value: string): string | null {
  return /^[^/?#@\s]+$/.test(value) ? (URL.parse(`http://${value}`)?.host ?? null) : null
}

/**
 * The host that a request was made to; null when it names none, or one that is not this server's. A stranger who stands between
 * a device and this server chooses what `Host` says, so that only `hosts` keeps it from passing on what was signed for itself.
 */
export function audienceOf(headers: IncomingHttpHeaders, { hosts, trustProxy }: AudienceOptions): string | null {
  const forwarded = trustProxy ? headers['x-forwarded-host'] : undefined
  const said = (Array.isArray(forwarded) ? forwarded[0] : forwarded)?.split(',')[0]?.trim() || headers.host
  const host = said === undefined ? null : normalHost(said)
  return host === null || (hosts.length > 0 && !hosts.includes(host)) ? null : host
}
