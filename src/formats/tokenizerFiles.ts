/** Owns the shape of the two files with which `AutoTokenizer` and the `tokenizers` libraries load a tokenizer of ours. */

export interface TokenizerFiles {
  readonly 'tokenizer.json': string
  readonly 'tokenizer_config.json': string
}

/**
 * A BPE without merges, which leaves every piece of text as the single symbols of `vocab`: Rust, Python and JavaScript
 * libraries all read it, which not all do of the `WordLevel` model.
 * @param preTokenizer cuts the text @param decoder puts symbols together again; both as tokenizer.json has them
 */
export function filesWithoutMerges(
  vocab: Readonly<Record<string, number>>,
  preTokenizer: object,
  decoder: object,
  modelMaxLength: number,
): TokenizerFiles {
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: preTokenizer,
    post_processor: null,
    decoder,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  }
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: modelMaxLength,
    clean_up_tokenization_spaces: false,
    add_bos_token: false,
    add_eos_token: false,
  }
  return {
    'tokenizer.json': `${JSON.stringify(tokenizer, null, 2)}\n`,
    'tokenizer_config.json': `${JSON.stringify(config, null, 2)}\n`,
  }
}
