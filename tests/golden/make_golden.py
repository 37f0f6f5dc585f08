"""Makes the golden values of tests/golden: a Llama-style decoder in plain PyTorch autograd, f64, three tiny shapes, and
Muon's losses on them.

    python3 tests/golden/make_golden.py

writes NAME.json and NAME.bin beside itself; run it again only if the model itself changes. It needs torch (tried with
1.13) and nothing of ours: the forward below is written from the papers, not from the TypeScript.

NAME.json: `config` and `optimizer` as Skein's run configuration names them, `batch` (sequences a step), `rates` (one
learning rate a step), `tokens` and `targets` (a list a step), `losses` and `gradNorms` (before each step's update),
`tensors` ([name, shape] in the order of the binary). NAME.bin, little endian: every parameter as f32, then the gradient
of the first step's loss for each as f64, then the first step's logits [batch * block, vocab] as f64.

NAME.muon.json: `optimizer`, `losses` and `gradNorms` of ten steps with Muon, from the same start on the same data.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent
BLOCK = 11
BATCH = 4
STEPS = 10
OPTIMIZER = dict(beta1=0.9, beta2=0.99, eps=1e-8, weightDecay=0.1, gradClip=2.0)
MUON = dict(OPTIMIZER, kind="muon", momentum=0.95)
SHAPES = {
    "plain": dict(vocabSize=37, dModel=16, layers=2, heads=2, kvHeads=2, ffn=20, tieEmbeddings=False),
    "grouped": dict(vocabSize=37, dModel=24, layers=2, heads=4, kvHeads=2, ffn=20, tieEmbeddings=False),
    "tied": dict(vocabSize=37, dModel=16, layers=2, heads=4, kvHeads=1, ffn=20, tieEmbeddings=True),
}


def tensor_shapes(c):
    d, kv, ffn = c["dModel"], c["dModel"] // c["heads"] * c["kvHeads"], c["ffn"]
    shapes = {"model.embed_tokens.weight": [c["vocabSize"], d]}
    for layer in range(c["layers"]):
        p = f"model.layers.{layer}."
        shapes[p + "input_layernorm.weight"] = [d]
        shapes[p + "self_attn.q_proj.weight"] = [d, d]
        shapes[p + "self_attn.k_proj.weight"] = [kv, d]
        shapes[p + "self_attn.v_proj.weight"] = [kv, d]
        shapes[p + "self_attn.o_proj.weight"] = [d, d]
        shapes[p + "post_attention_layernorm.weight"] = [d]
        shapes[p + "mlp.gate_proj.weight"] = [ffn, d]
        shapes[p + "mlp.up_proj.weight"] = [ffn, d]
        shapes[p + "mlp.down_proj.weight"] = [d, ffn]
    shapes["model.norm.weight"] = [d]
    if not c["tieEmbeddings"]:
        shapes["lm_head.weight"] = [c["vocabSize"], d]
    return shapes


def norm(x, weight, eps):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def rotate(x, theta):
    """x [batch, heads, block, head_dim], rotate-half."""
    length, dim = x.shape[-2:]
    angles = torch.outer(torch.arange(length).double(), theta ** (-torch.arange(0, dim, 2).double() / dim))
    angles = torch.cat([angles, angles], -1)
    half = torch.cat([-x[..., dim // 2 :], x[..., : dim // 2]], -1)
    return x * angles.cos() + half * angles.sin()


def logits_of(w, c, tokens):
    """tokens [batch, block] -> [batch, block, vocab]."""
    batch, block = tokens.shape
    heads, kv_heads, dim = c["heads"], c["kvHeads"], c["dModel"] // c["heads"]
    causal = torch.full((block, block), -math.inf).double().triu(1)
    split = lambda x, n: x.view(batch, block, n, dim).transpose(1, 2)
    h = w["model.embed_tokens.weight"][tokens]
    for layer in range(c["layers"]):
        p = lambda name: w[f"model.layers.{layer}.{name}.weight"]
        x = norm(h, p("input_layernorm"), c["normEps"])
        q = rotate(split(x @ p("self_attn.q_proj").T, heads), c["ropeTheta"])
        k = rotate(split(x @ p("self_attn.k_proj").T, kv_heads), c["ropeTheta"]).repeat_interleave(heads // kv_heads, 1)
        v = split(x @ p("self_attn.v_proj").T, kv_heads).repeat_interleave(heads // kv_heads, 1)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(dim) + causal, -1) @ v
        h = h + mixed.transpose(1, 2).reshape(batch, block, -1) @ p("self_attn.o_proj").T
        x = norm(h, p("post_attention_layernorm"), c["normEps"])
        h = h + (F.silu(x @ p("mlp.gate_proj").T) * (x @ p("mlp.up_proj").T)) @ p("mlp.down_proj").T
    h = norm(h, w["model.norm.weight"], c["normEps"])
    return h @ w["model.embed_tokens.weight" if c["tieEmbeddings"] else "lm_head.weight"].T


def orthogonalized(matrix):
    """Newton-Schulz as in Keller Jordan's reference implementation of Muon."""
    x = matrix / (matrix.norm() + 1e-7)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Momentum as torch.optim.Muon (2.9) takes it, the update scaled as in Moonlight (Liu et al. 2025)."""

    def __init__(self, params, momentum, weight_decay):
        super().__init__(params, dict(lr=0.0, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalized(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * 0.2 * max(p.shape) ** 0.5 * update)


def optimizers(w, c):
    """By the configuration `c`, which names AdamW's and Muon's settings alike."""
    muon = [v for k, v in w.items() if c.get("kind") == "muon" and v.dim() == 2 and k.startswith("model.layers.")]
    taken = {id(v) for v in muon}
    decayed = [v for v in w.values() if v.dim() == 2 and id(v) not in taken]
    plain = [v for v in w.values() if v.dim() == 1]
    made = [torch.optim.AdamW(
        [dict(params=decayed, weight_decay=c["weightDecay"]), dict(params=plain, weight_decay=0.0)],
        betas=(c["beta1"], c["beta2"]),
        eps=c["eps"],
    )]
    return made + ([Muon(muon, c["momentum"], c["weightDecay"])] if muon else [])


def train(c, start, rates, batches, settings):
    """Ten clipped steps from `start`; yields what each saw before its update."""
    w = {tensor: values.clone().requires_grad_() for tensor, values in start.items()}
    made = optimizers(w, settings)
    for rate, (x, y) in zip(rates, batches):
        logits = logits_of(w, c, x)
        loss = F.cross_entropy(logits.reshape(-1, c["vocabSize"]), y.reshape(-1))
        for one in made:
            one.zero_grad()
        loss.backward()
        gradients = {tensor: values.grad.clone() for tensor, values in w.items()}
        norm = float(torch.nn.utils.clip_grad_norm_(list(w.values()), settings["gradClip"]))
        for one in made:
            for group in one.param_groups:
                group["lr"] = rate
            one.step()
        yield float(loss), norm, logits.detach(), gradients


def make(name, shape, seed):
    torch.manual_seed(seed)
    c = dict(shape, blockSize=BLOCK, ropeTheta=10000.0, normEps=1e-5)
    start = {}
    for tensor, dims in tensor_shapes(c).items():
        # Far from the usual start, so that every part of the model matters to the loss.
        values = 1 + 0.3 * torch.randn(dims) if len(dims) == 1 else 0.3 * torch.randn(dims)
        start[tensor] = values.float().double()
    rates = [0.01 * (step + 1) / 3 if step < 3 else 0.01 * 0.8 ** (step - 3) for step in range(STEPS)]
    batches = []
    for _ in rates:
        # A counting pattern with noise: something that ten steps learn.
        starts = torch.randint(0, c["vocabSize"], (BATCH, 1))
        window = (starts + 3 * torch.arange(BLOCK + 1)) % c["vocabSize"]
        window = torch.where(torch.rand(window.shape) < 0.1, torch.randint(0, c["vocabSize"], window.shape), window)
        batches.append((window[:, :-1], window[:, 1:]))
    losses, norms, logits, gradients = zip(*train(c, start, rates, batches, OPTIMIZER))
    document = dict(
        config=c, optimizer=OPTIMIZER, batch=BATCH, rates=rates,
        tokens=[x.reshape(-1).tolist() for x, _ in batches], targets=[y.reshape(-1).tolist() for _, y in batches],
        losses=losses, gradNorms=norms, tensors=[[tensor, list(v.shape)] for tensor, v in start.items()],
    )
    (HERE / f"{name}.json").write_text(json.dumps(document) + "\n")
    with open(HERE / f"{name}.bin", "wb") as out:
        for values in start.values():
            out.write(values.float().numpy().astype("<f4").tobytes())
        for values in gradients[0].values():
            out.write(values.numpy().astype("<f8").tobytes())
        out.write(logits[0].numpy().astype("<f8").tobytes())
    muon_losses, muon_norms, _, _ = zip(*train(c, start, rates, batches, MUON))
    document = dict(optimizer=MUON, losses=muon_losses, gradNorms=muon_norms)
    (HERE / f"{name}.muon.json").write_text(json.dumps(document) + "\n")
    for kind, values in [("adamw", losses), ("muon", muon_losses)]:
        print(name, kind, " ".join(f"{x:.4f}" for x in values))


for index, (name, shape) in enumerate(SHAPES.items()):
    make(name, shape, seed=index + 1)
