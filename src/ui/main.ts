/** Owns the start of the page: styles, the shell, and a volunteer that goes on where the last visit left it. */
import { mount } from 'svelte'
import App from './App.svelte'
import './style/tokens.css'
import './style/base.css'

mount(App, { target: document.getElementById('app')! })
