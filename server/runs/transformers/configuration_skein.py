"""The configuration of a model that Skein trained with learned boundaries between its stages."""

from transformers import PretrainedConfig


class SkeinConfig(PretrainedConfig):
    """Fields as LlamaConfig names them, and of the boundaries:

    boundary_after_layers: how many layers lie before each boundary
    code_width, code_hidden: numbers a token of the code, hidden width of the two networks at each boundary
    code_dtype: what the code is rounded to, `float16` or `float32`
    received_scale: size of the stream behind a boundary
    received_taps: tokens before its own whose streams each takes in there
    """

    model_type = "skein"

    def __init__(
        self,
        vocab_size=256,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        initializer_range=0.02,
        boundary_after_layers=(),
        code_width=8,
        code_hidden=32,
        code_dtype="float16",
        received_scale=0.03,
        received_taps=3,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.max_position_embeddings = max_position_embeddings
        self.rms_norm_eps = rms_norm_eps
        self.rope_theta = rope_theta
        self.initializer_range = initializer_range
        self.boundary_after_layers = list(boundary_after_layers)
        self.code_width = code_width
        self.code_hidden = code_hidden
        self.code_dtype = code_dtype
        self.received_scale = received_scale
        self.received_taps = received_taps
        kwargs["use_cache"] = False
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)
