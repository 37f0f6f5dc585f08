/** Owns the start of the page: styles, the shell, and a volunteer that goes on where the last visit left it. */
import { mount } from 'svelte'
import { config } from 'zod'
import App from './App.svelte'
import './style/tokens.css'
import './style/base.css'

// The page's content policy forbids compiling code from text, which zod would try for speed.
config({ jitless: true })

mount(App, { target: document.getElementById('app')! })
