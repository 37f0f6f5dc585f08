/** Owns the administrator's token and the one API client that sends it. */
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import { ApiClient, ApiError } from '../api/client.ts'

const KEY = 'skein.adminToken'

class AdminAccess {
  /** Kept for this tab's session only. */
  token = $state(read())
  /** True once the server refused without a token or with this one: the page then shows the field. */
  asked = $state(false)
  /** The token as it stands was refused. */
  refused = $state(false)

  set(token: string): void {
    this.token = token.trim()
    this.refused = false
    try {
      if (this.token) sessionStorage.setItem(KEY, this.token)
      else sessionStorage.removeItem(KEY)
    } catch {
      // Storage may be forbidden; the token then lasts as long as the page.
    }
  }

  /** The failure as the page shows it; where the token is what it lacks, the page asks for it. */
  notice(caught: unknown): ErrorBody {
    const error = toErrorBody(caught)
    if (!(caught instanceof ApiError && caught.needsToken)) return error
    this.asked = true
    this.refused = true
    return { ...error, remedy: 'Enter the token below, then try again.' }
  }
}

function read(): string {
  try {
    return sessionStorage.getItem(KEY) ?? ''
  } catch {
    return ''
  }
}

export const adminAccess = new AdminAccess()
export const api = new ApiClient({ token: () => adminAccess.token })
