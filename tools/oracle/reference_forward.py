#!/usr/bin/env python3
"""Float64 forward pass of any Nemotron-H checkpoint: the truth that the tests compare with.

    reference_forward.py MODEL --tokens 1,2,3 --out F.npy [--mtp F.npy] [--layers F.npz] [--expect F.npy] [--wrong NAME]

MODEL is a Hugging Face folder or a .gguf file (see checkpoint.py). Writes float32 [T, V]: the logits of every position.
--mtp     the first depth of the MTP head, float32 [T-1, V]: row t sees the backbone's output at t and the token t+1
--layers  float32 arrays "embed", "layer_0" ..: the residual stream after each block, "final": after the last norm
--expect  compare with stored logits and print max |d| and cosine
--wrong   make one well-known mistake on purpose (see WRONG): shows that a fixture would notice it

What it is not: chunked, cached or fast. One loop over time for the recurrence, straight from its definition.
"""
import argparse

import numpy as np

from checkpoint import load

# Mistakes that other programs really made; each must change the logits of the fixtures that contain the block.
WRONG = ("dt_clamp", "dt_floor", "conv_reversed", "group_modulo", "norm_before_gate", "norm_one_group", "skip_discretised",
         "kv_modulo", "rope", "no_router_bias", "biased_weights", "no_routed_scale", "no_renorm", "gelu",
         "mtp_swapped", "mtp_pre_norm")


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.logaddexp(0, x)


class Forward:
    """One sequence through one checkpoint. `gap` becomes the smallest distance between the last expert chosen and
    the first one refused, over all routers and positions: a fixture with a small gap is a coin toss, not a test."""

    def __init__(self, checkpoint, wrong=None):
        self.c, self.d, self.wrong, self.gap = checkpoint, checkpoint.dims, wrong, np.inf

    def rms(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.d["eps"]) * weight

    def relu2(self, x):
        if self.wrong == "gelu":
            return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))
        return np.maximum(x, 0) ** 2

    def mlp(self, p, u):
        return self.relu2(u @ self.c[p + "up_proj.weight"].T) @ self.c[p + "down_proj.weight"].T

    def mamba(self, p, u):
        c, d = self.c, self.d
        heads, width, groups, state, taps = d["m_heads"], d["m_head_dim"], d["groups"], d["state"], d["conv"]
        inner, bc, T = heads * width, groups * state, len(u)
        z, xbc, dt = np.split(u @ c[p + "in_proj.weight"].T, [inner, 2 * inner + 2 * bc], axis=-1)
        w = c[p + "conv1d.weight"].reshape(-1, taps)
        if self.wrong == "conv_reversed":
            w = w[:, ::-1]
        past = np.concatenate([np.zeros((taps - 1, xbc.shape[1])), xbc])
        mixed = sum(past[j : j + T] * w[:, j] for j in range(taps))
        if p + "conv1d.bias" in c.weights:
            mixed = mixed + c[p + "conv1d.bias"]
        x, B, C = np.split(silu(mixed), [inner, inner + bc], axis=-1)
        x, B, C = x.reshape(T, heads, width), B.reshape(T, groups, state), C.reshape(T, groups, state)
        group = np.arange(heads) % groups if self.wrong == "group_modulo" else np.arange(heads) // (heads // groups)
        low, high = {"dt_clamp": (0.001, 0.1), "dt_floor": (0.001, np.inf)}.get(self.wrong, d["dt_limit"])
        step = np.clip(softplus(dt + c[p + "dt_bias"]), low, high)
        decay = np.exp(step * c[p + "A"])
        S, y = np.zeros((heads, width, state)), np.empty((T, heads, width))
        for t in range(T):
            S = decay[t][:, None, None] * S + (step[t][:, None] * x[t])[:, :, None] * B[t, group][:, None, :]
            skip = step[t][:, None] * x[t] if self.wrong == "skip_discretised" else x[t]
            y[t] = np.einsum("hpn,hn->hp", S, C[t, group]) + c[p + "D"][:, None] * skip
        y = y.reshape(T, inner)
        v = y if self.wrong == "norm_before_gate" else y * silu(z)
        v = v.reshape(T, 1 if self.wrong == "norm_one_group" else groups, -1)
        v = (v / np.sqrt((v * v).mean(-1, keepdims=True) + d["eps"])).reshape(T, inner) * c[p + "norm.weight"]
        if self.wrong == "norm_before_gate":
            v = v * silu(z)
        return v @ c[p + "out_proj.weight"].T

    def attention(self, p, u):
        c, d, T = self.c, self.d, len(u)
        q = (u @ c[p + "q_proj.weight"].T).reshape(T, -1, d["head_dim"])
        k = (u @ c[p + "k_proj.weight"].T).reshape(T, -1, d["head_dim"])
        v = (u @ c[p + "v_proj.weight"].T).reshape(T, -1, d["head_dim"])
        n_q, n_kv = q.shape[1], k.shape[1]
        if self.wrong == "rope":
            angle = np.arange(T)[:, None, None] / 10000 ** (np.arange(d["head_dim"] // 2) * 2 / d["head_dim"])
            turn = lambda a: np.concatenate([a[..., 0::2] * np.cos(angle) - a[..., 1::2] * np.sin(angle),
                                             a[..., 0::2] * np.sin(angle) + a[..., 1::2] * np.cos(angle)], -1)
            q, k = turn(q), turn(k)
        source = np.arange(n_q) % n_kv if self.wrong == "kv_modulo" else np.arange(n_q) // (n_q // n_kv)
        score = np.einsum("thd,shd->hts", q, k[:, source]) / np.sqrt(d["head_dim"])
        score = np.where(np.tri(T, dtype=bool), score, -np.inf)
        weight = np.exp(score - score.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        return np.einsum("hts,shd->thd", weight, v[:, source]).reshape(T, -1) @ c[p + "o_proj.weight"].T

    def route(self, p, u):
        """-> chosen experts [T, K], their weights [T, K]. Ties go to the lower index."""
        d = self.d
        score = sigmoid(u @ self.c[p + "gate.weight"].T)
        key = score if self.wrong == "no_router_bias" else score + self.c[p + "gate.e_score_correction_bias"]
        if d["n_group"] > 1:
            parts = key.reshape(len(u), d["n_group"], -1)
            best = np.argsort(-np.sort(parts, -1)[..., -2:].sum(-1), -1, kind="stable")[:, : d["topk_group"]]
            keep = np.zeros(parts.shape[:2], bool)
            np.put_along_axis(keep, best, True, -1)
            key = np.where(keep[..., None], parts, -np.inf).reshape(key.shape)
        order = np.argsort(-key, -1, kind="stable")
        K = d["top_k"]
        if K < key.shape[1]:
            ranked = np.take_along_axis(key, order, -1)
            self.gap = min(self.gap, (ranked[:, K - 1] - ranked[:, K]).min())
        chosen = order[:, :K]
        weight = np.take_along_axis(key if self.wrong == "biased_weights" else score, chosen, -1)
        if d["norm_topk"] and self.wrong != "no_renorm":
            weight = weight / (weight.sum(-1, keepdims=True) + 1e-20)
        return chosen, weight * (1 if self.wrong == "no_routed_scale" else d["routed_scale"])

    def moe(self, p, u):
        c = self.c
        chosen, weight = self.route(p, u)
        latent = p + "fc1_latent_proj.weight" in c.weights
        e = u @ c[p + "fc1_latent_proj.weight"].T if latent else u
        up, down = c[p + "experts.up_proj"], c[p + "experts.down_proj"]
        out = np.zeros((len(u), down.shape[1]))
        for t in range(len(u)):
            for expert, w in zip(chosen[t], weight[t]):
                out[t] += w * (down[expert] @ self.relu2(up[expert] @ e[t]))
        if latent:
            out = out @ c[p + "fc2_latent_proj.weight"].T
        return out + self.mlp(p + "shared_experts.", u)

    def block(self, letter, prefix, r):
        mixer = {"M": self.mamba, "*": self.attention, "E": self.moe, "-": self.mlp}[letter]
        return r + mixer(prefix + "mixer.", self.rms(r, self.c[prefix + "norm.weight"]))

    def run(self, tokens):
        """-> logits [T, V], MTP logits [T-1, V] or None, list of (name, residual [T, H])."""
        c, d = self.c, self.d
        r = c["embeddings.weight"][tokens]
        trail = [("embed", r)]
        for i, letter in enumerate(d["pattern"]):
            r = self.block(letter, f"layers.{i}.", r)
            trail.append((f"layer_{i}", r))
        final = self.rms(r, c["norm_f.weight"])
        trail.append(("final", final))
        mtp = None
        if d["mtp_pattern"] and len(tokens) > 1:
            hidden = r if self.wrong == "mtp_pre_norm" else final
            halves = [self.rms(c["embeddings.weight"][tokens[1:]], c["mtp.layers.0.enorm.weight"]),
                      self.rms(hidden[:-1], c["mtp.layers.0.hnorm.weight"])]
            f = np.concatenate(halves[::-1] if self.wrong == "mtp_swapped" else halves, -1) @ c["mtp.layers.0.eh_proj.weight"].T
            for i, letter in enumerate(d["mtp_pattern"]):
                f = self.block(letter, f"mtp.layers.{i}.", f)
            last = len(d["mtp_pattern"]) - 1
            mtp = self.rms(f, c[f"mtp.layers.{last}.final_layernorm.weight"]) @ c["lm_head.weight"].T
        return final @ c["lm_head.weight"].T, mtp, trail


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def parse_tokens(text):
    """Ids separated by commas, or a file that holds them."""
    if not text[:1].isdigit():
        text = open(text).read()
    return [int(x) for x in text.replace("\n", "").split(",")]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--out")
    ap.add_argument("--mtp")
    ap.add_argument("--layers")
    ap.add_argument("--expect")
    ap.add_argument("--wrong", choices=WRONG)
    a = ap.parse_args()
    forward = Forward(load(a.model), a.wrong)
    logits, mtp, trail = forward.run(parse_tokens(a.tokens))
    if a.out:
        np.save(a.out, logits.astype(np.float32))
    if a.mtp:
        if mtp is None:
            raise SystemExit(f"{a.model}: no MTP head")
        np.save(a.mtp, mtp.astype(np.float32))
    if a.layers:
        np.savez(a.layers, **{name: value.astype(np.float32) for name, value in trail})
    line = f"{a.model}: {forward.d['pattern']}{' + ' + forward.d['mtp_pattern'] if forward.d['mtp_pattern'] else ''} logits std {logits.std():.3f} router gap {forward.gap:.2g}"
    if a.expect:
        want = np.load(a.expect).astype(np.float64)
        line += f" | max|d| {np.abs(logits - want).max():.3g} min cosine {cosines(logits, want).min():.9f} argmax {(logits.argmax(-1) == want.argmax(-1)).mean():.3f}"
    print(line)


if __name__ == "__main__":
    main()
