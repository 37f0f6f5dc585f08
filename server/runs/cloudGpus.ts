/** Owns what rented GPUs are assumed to do and to cost, for comparison alone; the prices age, so each says when it was seen. */
import type { Quote } from '../../src/protocol/quote.ts'

export type CloudGpu = Omit<Quote['clouds'][number], 'seconds' | 'dollars'>

const price = 'list price on demand of one provider: https://jarvislabs.ai/blog/h100-vs-a100'

export const CLOUD_GPUS: readonly CloudGpu[] = [
  {
    gpu: 'NVIDIA H100 SXM 80 GB',
    peakFlops: 989e12,
    mfu: 0.4,
    dollarsPerHour: 2.69,
    sources: {
      peak: 'NVIDIA H100 data sheet: BF16 without sparsity',
      mfu: 'Llama 3 (Grattafiori et al. 2024) reports 0.38 to 0.43; small models reach far less',
      price,
    },
    asOf: '2026-04',
  },
  {
    gpu: 'NVIDIA A100 80 GB',
    peakFlops: 312e12,
    mfu: 0.4,
    dollarsPerHour: 1.49,
    sources: {
      peak: 'NVIDIA A100 data sheet: BF16 without sparsity',
      mfu: 'assumed as for the H100; small models reach far less',
      price,
    },
    asOf: '2026-04',
  },
]
