/** Owns the Worker at one end of a measured link. */
import * as Comlink from 'comlink'
import { end } from './end.ts'

Comlink.expose(end)
