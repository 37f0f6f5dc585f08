/** Owns the launch form: its values, the dataset (chosen or uploaded), what is wrong, and the launch itself. */
import type { DatasetView, RunSummary, TokenizerKind } from '../../protocol/api.ts'
import type { ErrorBody } from '../../protocol/errors.ts'
import type { Quote, QuoteRequest } from '../../protocol/quote.ts'
import type { ApiClient } from '../api/client.ts'
import {
  configFigures,
  defaultValues,
  fieldOfError,
  readConfig,
  type ConfigFigures,
  type FormErrors,
  type FormValues,
} from '../console/configForm.ts'
import { readPayment, readPrice } from '../console/paymentForm.ts'
import { modelPresets, type ModelPreset } from '../console/runFields.ts'

export interface Upload {
  readonly name: string
  readonly bytes: number
  /** Share sent, from 0 to 1. */
  progress: number
}

type LaunchApi = Pick<ApiClient, 'datasets' | 'launch' | 'quote' | 'uploadDataset'>

export class LaunchForm {
  name = $state('')
  values = $state<FormValues>(defaultValues())
  /** Planck for 10^15 FLOPs, and planck in all; both empty where nobody is paid. */
  price = $state('')
  budget = $state('')
  datasets = $state.raw<DatasetView[] | null>(null)
  datasetId = $state('')
  /** How the next text is cut when it is uploaded. */
  tokenizer = $state<TokenizerKind>('byte')
  upload = $state<Upload | null>(null)
  uploadError = $state.raw<ErrorBody | null>(null)
  busy = $state(false)
  serverError = $state.raw<ErrorBody | null>(null)
  /** Before the first attempt only whole-configuration errors are shown; an empty field is not yet a mistake. */
  attempted = $state(false)

  quote = $state.raw<Quote | null>(null)
  quoteError = $state.raw<ErrorBody | null>(null)
  /** Counts the questions: an answer to an earlier one comes too late. */
  #asked = 0

  readonly #api: LaunchApi
  readonly #explain: (caught: unknown) => ErrorBody

  dataset = $derived(this.datasets?.find((d) => d.id === this.datasetId) ?? null)
  #read = $derived(readConfig(this.values, this.dataset ?? undefined))
  #payment = $derived(readPayment(this.price, this.budget))
  figures = $derived<ConfigFigures | null>(this.#read.config ? configFigures(this.#read.config) : null)
  preset = $derived(
    modelPresets.find((p) => Object.entries(p.values).every(([path, v]) => Number(this.values[path]) === v)) ?? null,
  )
  errors = $derived.by<FormErrors>(() => {
    const errors: FormErrors = { ...this.#read.errors, ...this.#payment.errors }
    if (this.attempted && this.name.trim() === '') errors.name = 'Give the run a name.'
    if (this.name.trim().length > 120) errors.name = 'Use at most 120 characters.'
    if (this.attempted && !this.dataset) errors.datasetId = 'Choose a dataset, or upload a text file.'
    if (this.serverError) {
      const path = fieldOfError(this.serverError.code)
      if (path) errors[path] ??= `${this.serverError.message} ${this.serverError.remedy}`
    }
    return errors
  })

  /** Null while there is nothing that could be launched. */
  quoteRequest = $derived.by<QuoteRequest | null>(() => {
    const { config } = this.#read
    const planckPerPflop = readPrice(this.price)
    return config && this.dataset
      ? { datasetId: this.dataset.id, config, ...(planckPerPflop === undefined ? {} : { planckPerPflop }) }
      : null
  })

  constructor(api: LaunchApi, explain: (caught: unknown) => ErrorBody) {
    this.#api = api
    this.#explain = explain
  }

  async loadDatasets(): Promise<void> {
    try {
      this.datasets = (await this.#api.datasets()).toSorted((a, b) => b.createdAt - a.createdAt)
      if (!this.dataset) this.datasetId = this.datasets[0]?.id ?? ''
    } catch (caught) {
      this.serverError = this.#explain(caught)
    }
  }

  set(path: string, value: string | boolean): void {
    this.values[path] = value
    this.serverError = null
  }

  choosePreset(preset: ModelPreset): void {
    for (const [path, value] of Object.entries(preset.values)) this.set(path, String(value))
  }

  /** Uploads at once, so that a bad file is known before anything else is filled in. */
  async uploadFile(file: File): Promise<void> {
    const name = file.name.replace(/\.[^.]*$/, '') || file.name
    this.upload = { name, bytes: file.size, progress: 0 }
    this.uploadError = null
    try {
      const dataset = await this.#api.uploadDataset(name, file, this.tokenizer, (share) => {
        if (this.upload) this.upload.progress = share
      })
      this.datasets = [dataset, ...(this.datasets ?? []).filter((d) => d.id !== dataset.id)]
      this.datasetId = dataset.id
    } catch (caught) {
      this.uploadError = this.#explain(caught)
    } finally {
      this.upload = null
    }
  }

  /** Keeps what is known of the run as it stands, and nothing of how it stood before. */
  async askQuote(request: QuoteRequest | null): Promise<void> {
    const asked = ++this.#asked
    let quote: Quote | null = null
    let error: ErrorBody | null = null
    try {
      quote = request && (await this.#api.quote(request))
    } catch (caught) {
      error = this.#explain(caught)
    }
    if (asked !== this.#asked) return
    this.quote = quote
    this.quoteError = error
  }

  /** Launches, and returns the new run; null when something is wrong, which the form then says. */
  async launch(): Promise<RunSummary | null> {
    this.attempted = true
    this.serverError = null
    const { config } = this.#read
    if (!config || !this.dataset || Object.keys(this.errors).length > 0) return null
    this.busy = true
    try {
      const { payment } = this.#payment
      const request = { name: this.name.trim(), datasetId: this.dataset.id, config }
      return await this.#api.launch(payment ? { ...request, payment } : request)
    } catch (caught) {
      this.serverError = this.#explain(caught)
      return null
    } finally {
      this.busy = false
    }
  }
}
