#!/usr/bin/env python3
"""Makes tests/golden/demo from models/demo: the reference logits a C++ forward must reproduce.

    make_golden.py --model models/demo --out tests/golden/demo

An independent forward in numpy float64, from the exported tensors and config.json alone: the
Mamba-2 state is updated token by token and nothing is shared with model.py. Writes
    tokens.txt       the fixed ids, comma separated (a conversation in the model's chat format)
    logits.npy       float32 [T, V], row t predicts token t+1
    mtp_logits.npy   float32 [T-1, V], row t predicts token t+2 from the hidden at t and token t+1
    renders.json     requests with the text jinja2 renders and the ids PyPI's tokenizers gives
"""

import argparse
import json
import os
import struct

import numpy as np

USER = "What, will you walk with me about the town,\nAnd then go to my inn and dine with me?"
ANSWER = "I am invited, sir, to certain merchants,\nOf whom I hope to make much benefit."
COUNT = 64

_TOOL = {"type": "function", "function": {
    "name": "find_play", "description": " Finds the play a line is from.\n", "parameters": {
        "type": "object", "required": ["line"], "additionalProperties": False, "properties": {
            "line": {"type": "string", "description": "some words of it"},
            "kind": {"type": ["string", "null"], "enum": ["comedy", "tragedy"], "default": None}}}}}
REQUESTS = [
    {"messages": []},
    {"messages": [{"role": "user", "content": USER}], "add_generation_prompt": True},
    {"messages": [{"role": "user", "content": USER}], "add_generation_prompt": True,
     "enable_thinking": True},
    {"messages": [{"role": "system", "content": "You are Antipholus."},
                  {"role": "user", "content": [{"type": "text", "text": "Who art "},
                                               {"type": "text", "text": "thou?"}]},
                  {"role": "assistant", "content": ANSWER, "reasoning_content": "An old thought."},
                  {"role": "user", "content": "Until when? \u00c9\U0001f600\t12"},
                  {"role": "assistant", "content": "Five.", "reasoning_content": " A new one.\n"}]},
    {"messages": [{"role": "user", "content": "Who says so?"},
                  {"role": "assistant", "content": "<think>Look it up.</think>\nA moment.",
                   "tool_calls": [{"type": "function", "function": {
                       "name": "find_play", "arguments": {
                           "line": "so foul and fair\na day", "n": 3, "all": True, "none": None,
                           "list": [1, "\u00e9"], "map": {"a": 0.5}}}},
                                  {"name": "find_play", "arguments": {}}]},
                  {"role": "tool", "content": "Macbeth"},
                  {"role": "tool", "content": "{}"}],
     "tools": [_TOOL], "add_generation_prompt": True, "enable_thinking": True},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}],
     "tools": [_TOOL["function"]]},
]


def read_safetensors(path):
    with open(path, "rb") as f:
        raw = f.read()
    size = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + o for o in t["data_offsets"])
        if t["dtype"] == "BF16":
            bits = np.frombuffer(raw[begin:end], "<u2").astype("<u4") << 16
            values = bits.view("<f4")
        else:
            assert t["dtype"] == "F32", t["dtype"]
            values = np.frombuffer(raw[begin:end], "<f4")
        out[name] = values.reshape(t["shape"]).astype(np.float64)
    return out


class Forward:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            self.c = json.load(f)
        self.w = read_safetensors(os.path.join(folder, "model.safetensors"))

    def rms(self, v, name=None):
        v = v / np.sqrt((v * v).mean(-1, keepdims=True) + self.c["layer_norm_epsilon"])
        return v if name is None else v * self.w[name + ".weight"]

    def mat(self, name, v):
        return v @ self.w[name + ".weight"].T

    def mlp(self, name, v):
        return self.mat(name + ".down_proj", np.maximum(self.mat(name + ".up_proj", v), 0)**2)

    def mamba(self, name, u):
        c, w = self.c, self.w
        heads, width, groups, n = (c["mamba_num_heads"], c["mamba_head_dim"], c["n_groups"],
                                   c["ssm_state_size"])
        inner, taps = heads * width, c["conv_kernel"]
        row = self.mat(name + ".in_proj", u)
        z, xbc, dt = row[:, :inner], row[:, inner:-heads], row[:, -heads:]
        kernel, bias = w[name + ".conv1d.weight"][:, 0], w[name + ".conv1d.bias"]
        a = -np.exp(w[name + ".A_log"])
        state = np.zeros((heads, width, n))
        out = np.zeros((len(u), inner))
        for t in range(len(u)):
            conv = bias.copy()
            for j in range(taps):
                if t - (taps - 1) + j >= 0:
                    conv += kernel[:, j] * xbc[t - (taps - 1) + j]
            conv = conv / (1 + np.exp(-conv))
            x = conv[:inner].reshape(heads, width)
            b = conv[inner:inner + groups * n].reshape(groups, n)
            cc = conv[inner + groups * n:].reshape(groups, n)
            step = np.logaddexp(0, dt[t] + w[name + ".dt_bias"])
            for h in range(heads):
                g = h // (heads // groups)
                state[h] = np.exp(step[h] * a[h]) * state[h] + np.outer(step[h] * x[h], b[g])
                y = state[h] @ cc[g] + w[name + ".D"][h] * x[h]
                out[t, h * width:(h + 1) * width] = y
        out *= z / (1 + np.exp(-z))
        out = self.rms(out.reshape(len(u), groups, -1)).reshape(len(u), inner)
        return self.mat(name + ".out_proj", out * w[name + ".norm.weight"])

    def attention(self, name, u):
        heads, kv = self.c["num_attention_heads"], self.c["num_key_value_heads"]
        width = self.c["head_dim"]
        q = self.mat(name + ".q_proj", u).reshape(len(u), heads, width)
        k = self.mat(name + ".k_proj", u).reshape(len(u), kv, width)
        v = self.mat(name + ".v_proj", u).reshape(len(u), kv, width)
        out = np.zeros_like(q)
        for t in range(len(u)):
            for h in range(heads):
                s = k[:t + 1, h // (heads // kv)] @ q[t, h] / np.sqrt(width)
                p = np.exp(s - s.max())
                out[t, h] = p @ v[:t + 1, h // (heads // kv)] / p.sum()
        return self.mat(name + ".o_proj", out.reshape(len(u), -1))

    def moe(self, name, u):
        c = self.c
        score = 1 / (1 + np.exp(-self.mat(name + ".gate", u)))
        key = score + self.w[name + ".gate.e_score_correction_bias"]
        latent = self.mat(name + ".fc1_latent_proj", u)
        routed = np.zeros_like(latent)
        for t in range(len(u)):
            pick = np.argsort(-key[t], kind="stable")[:c["num_experts_per_tok"]]
            weight = score[t, pick] / (score[t, pick].sum() + 1e-20) * c["routed_scaling_factor"]
            for e, s in zip(pick, weight):
                routed[t] += s * self.mlp(f"{name}.experts.{e}", latent[t])
        return self.mat(name + ".fc2_latent_proj", routed) + self.mlp(name + ".shared_experts", u)

    def layer(self, kind, name, r):
        mixer = {"M": self.mamba, "*": self.attention, "-": self.mlp, "E": self.moe}[kind]
        return r + mixer(name + ".mixer", self.rms(r, name + ".norm"))

    def run(self, tokens):
        """(logits [T, V], MTP logits [T-1, V])"""
        embedded = self.w["backbone.embeddings.weight"][tokens]
        r = embedded
        for i, kind in enumerate(self.c["hybrid_override_pattern"]):
            r = self.layer(kind, f"backbone.layers.{i}", r)
        hidden = self.rms(r, "backbone.norm_f")
        f = np.concatenate([self.rms(embedded[1:], "mtp.layers.0.enorm"),
                            self.rms(hidden[:-1], "mtp.layers.0.hnorm")], -1)
        f = self.mat("mtp.layers.0.eh_proj", f)
        pattern = self.c["mtp_hybrid_override_pattern"]
        for i, kind in enumerate(pattern):
            f = self.layer(kind, f"mtp.layers.{i}", f)
        f = self.rms(f, f"mtp.layers.{len(pattern) - 1}.final_layernorm")
        return self.mat("lm_head", hidden), self.mat("lm_head", f)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", default="models/demo")
    p.add_argument("--out", default="tests/golden/demo")
    args = p.parse_args()

    from tokenizers import Tokenizer
    import data
    template = data.make_template(os.path.join(args.model, "chat_template.jinja"))
    text = template.render(messages=[{"role": "user", "content": USER},
                                     {"role": "assistant", "content": ANSWER}])
    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    tokens = tokenizer.encode(text).ids[:COUNT]
    assert len(tokens) == COUNT
    renders = []
    for request in REQUESTS:
        rendered = template.render(**request)
        ids = tokenizer.encode(rendered).ids
        renders.append({"request": request, "text": rendered, "ids": ids})
    logits, drafts = Forward(args.model).run(np.array(tokens))
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "tokens.txt"), "w", encoding="utf-8") as f:
        f.write(",".join(map(str, tokens)) + "\n")
    with open(os.path.join(args.out, "renders.json"), "w", encoding="utf-8") as f:
        json.dump(renders, f, indent=1)
        f.write("\n")
    np.save(os.path.join(args.out, "logits.npy"), logits.astype("<f4"))
    np.save(os.path.join(args.out, "mtp_logits.npy"), drafts.astype("<f4"))
    nll = np.log(np.exp(logits[:-1]).sum(-1)) - logits[np.arange(COUNT - 1), tokens[1:]]
    print(f"{COUNT} tokens, {nll.mean():.4f} nats per token, draft agreement "
          f"{(drafts.argmax(-1) == logits[1:].argmax(-1)).mean():.2f}")


if __name__ == "__main__":
    main()
