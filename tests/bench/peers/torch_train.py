"""Owns the training step in PyTorch on the CPU: reads one JSON object a line, answers each with one.

{"prepare": {model, optimizer, batch, weights, tensors}} loads f32 weights from a file, laid out as `tensors` says;
{"steps": [{step, lr, tokens, targets}, …]} trains and answers {"losses", "milliseconds"}; {"release": true} forgets.
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))


def norm(x, weight, eps):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


class Model:
    def __init__(self, model, optimizer, batch, weights, tensors):
        self.c, self.o, self.batch = model, optimizer, batch
        with open(weights, "rb") as file:
            flat = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
        self.w = {}
        for t in tensors:
            part = flat[t["offset"] : t["offset"] + t["length"]]
            self.w[t["name"]] = part.reshape(t["shape"]).clone().requires_grad_()
        decays = lambda t: t["init"] != "ones"
        groups = [
            dict(params=[self.w[t["name"]] for t in tensors if decays(t)], weight_decay=optimizer["weightDecay"]),
            dict(params=[self.w[t["name"]] for t in tensors if not decays(t)], weight_decay=0.0),
        ]
        betas = (optimizer["beta1"], optimizer["beta2"])
        self.adamw = torch.optim.AdamW(groups, betas=betas, eps=optimizer["eps"], foreach=True)
        block, dim = model["blockSize"], model["dModel"] // model["heads"]
        frequencies = model["ropeTheta"] ** (-torch.arange(0, dim, 2).double() / dim)
        angles = torch.outer(torch.arange(block).double(), frequencies)
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()
        self.causal = torch.full((block, block), -math.inf).triu(1)

    def rotate(self, x):
        half = x.shape[-1] // 2
        return x * self.cos + torch.cat([-x[..., half:], x[..., :half]], -1) * self.sin

    def loss(self, tokens, targets):
        c, w = self.c, self.w
        block, heads, kv_heads, dim = c["blockSize"], c["heads"], c["kvHeads"], c["dModel"] // c["heads"]
        split = lambda x, n: x.view(self.batch, block, n, dim).transpose(1, 2)
        h = F.embedding(tokens, w["model.embed_tokens.weight"])
        for layer in range(c["layers"]):
            p = lambda name: w[f"model.layers.{layer}.{name}.weight"]
            x = norm(h, p("input_layernorm"), c["normEps"])
            q = self.rotate(split(F.linear(x, p("self_attn.q_proj")), heads))
            k = self.rotate(split(F.linear(x, p("self_attn.k_proj")), kv_heads))
            v = split(F.linear(x, p("self_attn.v_proj")), kv_heads)
            if kv_heads != heads:
                k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in (k, v))
            scores = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(dim) + self.causal, -1)
            mixed = (scores @ v).transpose(1, 2).reshape(self.batch, block, -1)
            h = h + F.linear(mixed, p("self_attn.o_proj"))
            x = norm(h, p("post_attention_layernorm"), c["normEps"])
            h = h + F.linear(F.silu(F.linear(x, p("mlp.gate_proj"))) * F.linear(x, p("mlp.up_proj")), p("mlp.down_proj"))
        h = norm(h, w["model.norm.weight"], c["normEps"])
        logits = F.linear(h, w["model.embed_tokens.weight" if c["tieEmbeddings"] else "lm_head.weight"])
        return F.cross_entropy(logits.view(-1, c["vocabSize"]), targets.view(-1))

    def step(self, tokens, targets, lr):
        shape = (self.batch, self.c["blockSize"])
        self.adamw.zero_grad(set_to_none=True)
        loss = self.loss(torch.tensor(tokens).view(shape), torch.tensor(targets).view(shape))
        loss.backward()
        if self.o["gradClip"] > 0:
            torch.nn.utils.clip_grad_norm_(list(self.w.values()), self.o["gradClip"])
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        return loss.item()


model = None
for line in sys.stdin:
    question = json.loads(line)
    answer = {}
    if "prepare" in question:
        model = Model(**question["prepare"])
    elif "steps" in question:
        start = time.perf_counter()
        losses = [model.step(s["tokens"], s["targets"], s["lr"]) for s in question["steps"]]
        answer = dict(losses=losses, milliseconds=(time.perf_counter() - start) * 1000)
    else:
        model = None
    print(json.dumps(answer), flush=True)
