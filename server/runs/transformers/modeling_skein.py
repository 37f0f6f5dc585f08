"""A Llama-style decoder with learned boundaries between stages, as Skein trained and scored it.

At a boundary only a few numbers a token pass: with n the stream over its root mean square,
    code = n[:k] + send_out(silu(send_in(n)))
    received = scale * (pad(code) + receive_out(silu(receive_in(code))) + token_table[token])
    stream[t] = received[t] + sum over j from 1 of receive_taps[j - 1] * received[t - j]
where token_table was never trained. The whole context is read again for each new token.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

try:
    from transformers.generation import GenerationMixin
except ImportError:  # Before 4.26 every model could generate.
    GenerationMixin = object

from .configuration_skein import SkeinConfig


def normalised(x, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return self.weight * normalised(x, self.eps)


def rotated(x, theta):
    """x [batch, heads, length, head_dim], rotate-half."""
    length, dim = x.shape[-2:]
    steps = torch.arange(0, dim, 2, dtype=torch.float32, device=x.device) / dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=x.device), theta**-steps)
    cos, sin = (torch.cat([of, of], -1).to(x.dtype) for of in (angles.cos(), angles.sin()))
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.theta = config.rope_theta
        self.dim = config.hidden_size // self.heads
        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, self.dim * self.kv_heads, bias=False)
        self.v_proj = nn.Linear(width, self.dim * self.kv_heads, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, hidden):
        batch, length, width = x.shape

        def split(y, heads):
            return y.view(batch, length, heads, self.dim).transpose(1, 2)

        q = rotated(split(self.q_proj(x), self.heads), self.theta)
        shared = self.heads // self.kv_heads
        k = rotated(split(self.k_proj(x), self.kv_heads), self.theta).repeat_interleave(shared, 1)
        v = split(self.v_proj(x), self.kv_heads).repeat_interleave(shared, 1)
        scores = (q @ k.transpose(-1, -2) / self.dim**0.5).masked_fill(hidden, torch.finfo(x.dtype).min)
        mixed = scores.softmax(-1) @ v
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, hidden):
        x = x + self.self_attn(self.input_layernorm(x), hidden)
        return x + self.mlp(self.post_attention_layernorm(x))


class Taps(nn.Module):
    """A short causal convolution of each column by itself, on top of what goes in."""

    def __init__(self, count, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, width))

    def forward(self, x):
        length = x.shape[-2]
        y = x
        for back, weight in enumerate(self.weight[: length - 1], 1):
            y = y + F.pad(x[..., : length - back, :], (0, 0, back, 0)) * weight
        return y


class Boundary(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, k, inner = config.hidden_size, config.code_width, config.code_hidden
        self.send_in = nn.Linear(width, inner, bias=False)
        self.send_out = nn.Linear(inner, k, bias=False)
        self.receive_in = nn.Linear(k, inner, bias=False)
        self.receive_out = nn.Linear(inner, width, bias=False)
        self.receive_taps = Taps(config.received_taps, width)
        self.k, self.eps, self.scale = k, config.rms_norm_eps, config.received_scale
        self.dtype = getattr(torch, config.code_dtype)

    def forward(self, x, token_rows):
        n = normalised(x, self.eps)
        code = n[..., : self.k] + self.send_out(F.silu(self.send_in(n)))
        limit = torch.finfo(self.dtype).max
        code = code.clamp(-limit, limit).to(self.dtype).to(x.dtype)
        padded = F.pad(code, (0, x.shape[-1] - self.k))
        return self.receive_taps(self.scale * (padded + self.receive_out(F.silu(self.receive_in(code))) + token_rows))


class SkeinModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_table = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_table.weight.requires_grad_(False)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.boundaries = nn.ModuleList([Boundary(config) for _ in config.boundary_after_layers])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.boundary_at = {count: place for place, count in enumerate(config.boundary_after_layers)}

    def forward(self, input_ids, attention_mask=None):
        length = input_ids.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).triu(1)
        if attention_mask is not None:
            hidden = hidden | ~attention_mask[:, None, None, :].bool()
        x = self.embed_tokens(input_ids)
        for count, layer in enumerate(self.layers, 1):
            x = layer(x, hidden)
            if count in self.boundary_at:
                x = self.boundaries[self.boundary_at[count]](x, self.token_table(input_ids))
        return self.norm(x)


class SkeinForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = SkeinConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.model = SkeinModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(0.0, self.config.initializer_range)

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        most = self.config.max_position_embeddings
        mask = None if attention_mask is None else attention_mask[:, -most:]
        return {"input_ids": input_ids[:, -most:], "attention_mask": mask}

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        logits = self.lm_head(self.model(input_ids, attention_mask))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
