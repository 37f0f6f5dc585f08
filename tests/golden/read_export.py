"""Scores an exported model with nothing of ours: numpy, the safetensors format and the Llama papers.

    python3 tests/golden/read_export.py FOLDER TEXT [--eval-tokens N] [--train-tokens N]
    python3 tests/golden/read_export.py FOLDER TOKENS.u16 --uint16 ...

FOLDER holds config.json, model.safetensors and, for a text, tokenizer.json: a Hugging Face folder as a run exports it.
TEXT is the UTF-8 text the run was trained on; with --uint16 a file of little-endian uint16 token ids instead.
--eval-tokens is the run's `evalTokens` (131072 by default). The held-out tail starts at --train-tokens, by default nine
tenths of all tokens, rounded down.

Prints one line of JSON: `loss` (mean over the held-out windows, nats a token), `windows`, `tokens`.
"""

import argparse
import json
import math
import pathlib

import numpy as np


def read_safetensors(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", f"{name} is {entry['dtype']}"
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4")
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def encode(folder, text):
    """Through the vocabulary of tokenizer.json: bytes by GPT-2's table of printable characters, or characters."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    model = tokenizer["model"]
    assert model["type"] == "BPE" and not model["merges"], "only a tokenizer without merges is read here"
    if tokenizer["pre_tokenizer"]["type"] == "Split":
        return np.array([model["vocab"][character] for character in text.decode()])
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable}
    characters.update((byte, chr(0x100 + place)) for place, byte in enumerate(others))
    ids = np.array([model["vocab"][characters[byte]] for byte in range(256)])
    return ids[np.frombuffer(text, np.uint8)]


def window_starts(tokens, train_tokens, block, eval_tokens):
    """As Skein chooses them: consecutive windows of the tail, thinned out evenly where there are too many."""
    available = max(0, (tokens - train_tokens - 1) // block)
    count = min(available, max(1, eval_tokens // block))
    return [train_tokens + i * available // count * block for i in range(count)]


def norm(x, weight, eps):
    return weight * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def rotate(x, theta):
    """x [batch, heads, block, head_dim], rotate-half."""
    length, dim = x.shape[-2:]
    angles = np.outer(np.arange(length), theta ** (-np.arange(0, dim, 2) / dim))
    low, high = x[..., : dim // 2], x[..., dim // 2 :]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


def logits_of(w, config, tokens):
    batch, block = tokens.shape
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    eps, theta = config["rms_norm_eps"], config["rope_theta"]
    hidden = np.triu(np.ones((block, block), bool), 1)

    def split(x, count):
        return x.reshape(batch, block, count, dim).transpose(0, 2, 1, 3)

    h = w["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        p = lambda name: w[f"model.layers.{layer}.{name}.weight"]
        x = norm(h, p("input_layernorm"), eps)
        q = rotate(split(x @ p("self_attn.q_proj").T, heads), theta)
        k = rotate(split(x @ p("self_attn.k_proj").T, kv_heads), theta).repeat(heads // kv_heads, 1)
        v = split(x @ p("self_attn.v_proj").T, kv_heads).repeat(heads // kv_heads, 1)
        scores = np.where(hidden, -np.inf, q @ k.transpose(0, 1, 3, 2) / math.sqrt(dim))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = scores / scores.sum(-1, keepdims=True) @ v
        h = h + mixed.transpose(0, 2, 1, 3).reshape(batch, block, -1) @ p("self_attn.o_proj").T
        x = norm(h, p("post_attention_layernorm"), eps)
        gate = x @ p("mlp.gate_proj").T
        h = h + (gate / (1 + np.exp(-gate)) * (x @ p("mlp.up_proj").T)) @ p("mlp.down_proj").T
    h = norm(h, w["model.norm.weight"], eps)
    return h @ w["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"].T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--uint16", action="store_true")
    parser.add_argument("--eval-tokens", type=int, default=131072)
    parser.add_argument("--train-tokens", type=int)
    args = parser.parse_args()

    config = json.loads((args.folder / "config.json").read_text())
    weights = read_safetensors(args.folder / "model.safetensors")
    data = args.text.read_bytes()
    tokens = np.frombuffer(data, "<u2").astype(int) if args.uint16 else encode(args.folder, data)
    train_tokens = math.floor(0.9 * len(tokens)) if args.train_tokens is None else args.train_tokens
    block = config["max_position_embeddings"]
    starts = window_starts(len(tokens), train_tokens, block, args.eval_tokens)
    assert starts, "the held-out tail is shorter than one window"
    total = 0.0
    for i in range(0, len(starts), 16):
        windows = np.stack([tokens[start : start + block + 1] for start in starts[i : i + 16]])
        logits = logits_of(weights, config, windows[:, :-1])
        top = logits.max(-1)
        log_sum = top + np.log(np.exp(logits - top[..., None]).sum(-1))
        total += (log_sum - np.take_along_axis(logits, windows[:, 1:, None], -1)[..., 0]).sum()
    count = len(starts) * block
    print(json.dumps(dict(loss=total / count, windows=len(starts), tokens=count)))


main()
