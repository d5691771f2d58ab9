#!/usr/bin/env python3
"""Gradients of a Nemotron-H checkpoint by PyTorch's automatic differentiation, in float64: what tests of ours compare with.

    reference_gradients.py MODEL --tokens 1,2,3 --out F.json

The loss is the mean cross-entropy of every next token. The forward pass is written again here, straight from the definition
and apart from reference_forward.py, whose logits it must give (checked on every run). Of each tensor's gradient F.json has
the norm and the products with three fixed vectors (cosines of 1, 2, 3 radians a place), which together miss nothing that
happens by accident and stay small enough to be stored.
"""
import argparse
import json
import math

import numpy as np
import torch
from torch.nn.functional import softplus

from checkpoint import load
from reference_forward import Forward, parse_tokens

PROBES = (1.0, 2.0, 3.0)


def silu(x):
    return x * torch.sigmoid(x)


class Model:
    def __init__(self, checkpoint):
        self.d = checkpoint.dims
        tied = checkpoint["lm_head.weight"] is checkpoint["embeddings.weight"]
        self.head = "embeddings.weight" if tied else "lm_head.weight"
        trunk = {name: value for name, value in checkpoint.weights.items()
                 if not name.startswith("mtp.") and not (tied and name == "lm_head.weight")}
        self.w = {name: torch.tensor(np.asarray(value, dtype=np.float64), requires_grad=True) for name, value in trunk.items()}

    def norm(self, x, weight, groups=1):
        parts = x.reshape(*x.shape[:-1], groups, -1)
        return (parts * torch.rsqrt((parts ** 2).mean(-1, keepdim=True) + self.d["eps"])).reshape(x.shape) * weight

    def mamba(self, p, u):
        d, w = self.d, self.w
        heads, width, groups, state, taps = d["m_heads"], d["m_head_dim"], d["groups"], d["state"], d["conv"]
        inner, shared, rows = heads * width, groups * state, u.shape[0]
        z, xbc, dt = torch.split(u @ w[p + "in_proj.weight"].T, [inner, inner + 2 * shared, heads], dim=-1)
        padded = torch.cat([xbc.new_zeros(taps - 1, xbc.shape[1]), xbc])
        kernel = w[p + "conv1d.weight"].reshape(-1, taps)
        xbc = silu(sum(padded[j : j + rows] * kernel[:, j] for j in range(taps)) + w[p + "conv1d.bias"])
        x, b, c = torch.split(xbc, [inner, shared, shared], dim=-1)
        step = softplus(dt + w[p + "dt_bias"], threshold=1e6)
        each = heads // groups
        h = u.new_zeros(heads, width, state)
        out = []
        for t in range(rows):
            xt = x[t].reshape(heads, width)
            bt = b[t].reshape(groups, state).repeat_interleave(each, 0)
            ct = c[t].reshape(groups, state).repeat_interleave(each, 0)
            h = torch.exp(step[t] * w[p + "A"])[:, None, None] * h + (step[t][:, None] * xt)[:, :, None] * bt[:, None, :]
            out.append(((h * ct[:, None, :]).sum(-1) + w[p + "D"][:, None] * xt).reshape(-1))
        return self.norm(torch.stack(out) * silu(z), w[p + "norm.weight"], groups) @ w[p + "out_proj.weight"].T

    def attention(self, p, u):
        w, rows, width = self.w, u.shape[0], self.d["head_dim"]
        q, k, v = ((u @ w[p + name].T).reshape(rows, -1, width).transpose(0, 1) for name in ("q_proj.weight", "k_proj.weight", "v_proj.weight"))
        k, v = (a.repeat_interleave(q.shape[0] // k.shape[0], 0) for a in (k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(width)
        scores = scores.masked_fill(torch.ones(rows, rows, dtype=torch.bool).triu(1), -math.inf)
        return (torch.softmax(scores, -1) @ v).transpose(0, 1).reshape(rows, -1) @ w[p + "o_proj.weight"].T

    def mlp(self, p, u):
        return torch.relu(u @ self.w[p + "up_proj.weight"].T) ** 2 @ self.w[p + "down_proj.weight"].T

    def moe(self, p, u):
        w, d = self.w, self.d
        scores = torch.sigmoid(u @ w[p + "gate.weight"].T)
        chosen = torch.topk((scores + w[p + "gate.e_score_correction_bias"]).detach(), d["top_k"], dim=-1).indices
        weights = scores.gather(-1, chosen)
        if d["norm_topk"]:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        weights = weights * d["routed_scale"]
        latent = p + "fc1_latent_proj.weight" in w
        e = u @ w[p + "fc1_latent_proj.weight"].T if latent else u
        out = torch.zeros_like(e)
        for slot in range(d["top_k"]):
            up, down = w[p + "experts.up_proj"][chosen[:, slot]], w[p + "experts.down_proj"][chosen[:, slot]]
            mid = torch.relu(torch.einsum("tfd,td->tf", up, e)) ** 2
            out = out + weights[:, slot, None] * torch.einsum("tdf,tf->td", down, mid)
        if latent:
            out = out @ w[p + "fc2_latent_proj.weight"].T
        return out + self.mlp(p + "shared_experts.", u)

    def logits(self, tokens):
        r = self.w["embeddings.weight"][tokens]
        block = {"M": self.mamba, "*": self.attention, "E": self.moe, "-": self.mlp}
        for i, letter in enumerate(self.d["pattern"]):
            p = f"layers.{i}."
            r = r + block[letter](p + "mixer.", self.norm(r, self.w[p + "norm.weight"]))
        return self.norm(r, self.w["norm_f.weight"]) @ self.w[self.head].T


def summary(gradient):
    flat = gradient.reshape(-1)
    at = torch.arange(flat.numel(), dtype=torch.float64)
    return [float(flat.norm())] + [float((flat * torch.cos(step * at)).sum()) for step in PROBES]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    tokens = parse_tokens(a.tokens)
    checkpoint = load(a.model)
    model = Model(checkpoint)
    logits = model.logits(torch.tensor(tokens))
    apart = abs(logits.detach().numpy() - Forward(checkpoint).run(tokens)[0]).max()
    if apart > 1e-9:
        raise SystemExit(f"{a.model}: the two forward passes are {apart:.2g} apart")
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens[1:]))
    loss.backward()
    gradients = {}
    for name, weight in model.w.items():
        if weight.grad is None:
            continue
        gradient = weight.grad
        if name.endswith(".A"):  # checkpoints have its logarithm: A = -exp(A_log)
            name, gradient = name + "_log", gradient * weight.detach()
        if name.endswith("experts.up_proj") or name.endswith("experts.down_proj"):
            for e in range(gradient.shape[0]):
                part = name.replace("experts.", f"experts.{e}.")
                gradients[part + ".weight"] = summary(gradient[e])
            continue
        gradients[name] = summary(gradient)
    with open(a.out, "w") as f:
        rows = ",\n".join(f' {json.dumps(name)}: {json.dumps([float(f"{x:.9g}") for x in values])}' for name, values in gradients.items())
        f.write('{"loss": %.12g,\n "gradients": {\n%s\n}}\n' % (float(loss), rows))
    print(f"{a.model}: loss {float(loss):.6f}, {len(gradients)} tensors")


if __name__ == "__main__":
    main()
