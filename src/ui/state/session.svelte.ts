/** Owns the administrator's token and the one API client that sends it. */
import { ApiClient, ApiError } from '../api/client.ts'

const KEY = 'skein.adminToken'

class AdminAccess {
  /** Kept for this tab's session only. */
  token = $state(read())
  /** True once the server refused without a token or with this one: the page then shows the field. */
  asked = $state(false)

  set(token: string): void {
    this.token = token.trim()
    try {
      if (this.token) sessionStorage.setItem(KEY, this.token)
      else sessionStorage.removeItem(KEY)
    } catch {
      // Storage may be forbidden; the token then lasts as long as the page.
    }
  }

  /** Looks at a failure and asks for the token when that is what it lacks. */
  notice(caught: unknown): void {
    if (caught instanceof ApiError && caught.needsToken) this.asked = true
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
