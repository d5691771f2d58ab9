#!/usr/bin/env python3
"""Writes the small random Hugging Face checkpoints of tests/golden, one per family and storage form.

    make_fixtures.py [--only NAME] [OUT_DIR]

Each folder is a complete checkpoint (config, weights, tokenizer, chat template, generation config) plus
tokens.txt, logits.npy (float64 reference, stored as float32 [T, V]) and, where there is an MTP head, mtp.npy [T-1, V].
Surprising policy: the tokens are not free. They are drawn one by one, and a token is kept only if every router is
decided by at least MIN_GAP at the new position; otherwise a fixture would test the rounding of its own reference.
"""
import argparse
import json
import math
import pathlib

import numpy as np

from checkpoint import load_hf
from encode import store, write_safetensors
from reference_forward import Forward
from tiny_tokenizer import VOCAB, write_tokenizer

TOKENS = 36
MIN_GAP = 0.01
SPELLING_OLD = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
SPELLING_NEW = {"M": "linear_attention", "*": "full_attention", "E": "moe", "-": "mlp"}

BASE = dict(hidden=48, q_heads=4, kv_heads=2, head_dim=24, m_heads=8, m_head_dim=8, groups=4, state=16, ffn=128, mtp="",
            storage="BF16", small="F32", gate="BF16", scale=1.0, prefix="backbone.")
MOE = dict(BASE, experts=8, top_k=3, expert_ffn=24, shared=80, scale=2.5, gate="F32")
LATENT = dict(MOE, experts=10, top_k=4, expert_ffn=32, latent=16, shared=64, scale=5.0, gate="BF16", mtp="*E")

# storage: format of the matrices; small: of A_log, D and dt_bias; keep: (name part -> format) exceptions, first match wins.
FIXTURES = {
    # Nano 4B, 9B v2 and 12B v2 have Mamba heads of 80, which no power-of-two tile divides.
    "dense-head80": dict(BASE, pattern="M-M*-", m_heads=4, m_head_dim=80, groups=2, hidden=32, ffn=72, seed=11),
    # H-47B and H-56B have a state of 256; one group; multi-query attention.
    "dense-state256": dict(BASE, pattern="M*-M", m_heads=4, m_head_dim=16, groups=1, state=256, kv_heads=1, hidden=32,
                           storage="F16", small="F16", seed=12),
    "moe-nano": dict(MOE, pattern="MEM*E", small="BF16", seed=13),
    "latent-super": dict(LATENT, pattern="MEM*E", seed=14),
    # Lightning: the schedule is a list, there is no num_hidden_layers, and an MTP head without latent projections.
    "moe-lightning": dict(MOE, pattern="MEM*", mtp="*E", config="list", gate="BF16", seed=15),
    "sharded-tied": dict(BASE, pattern="M*-", hidden=40, head_dim=16, m_heads=6, groups=3, storage="F32", shards=3, tied=True, seed=16),
    # What the native class of transformers saves: experts as one tensor, "model." prefix, the newer spellings.
    "experts-stacked": dict(MOE, pattern="ME*", experts=6, top_k=2, config="new", stacked=True, prefix="model.", seed=17),
    # Nano FP8: everything but attention, the Mamba layer before it, router, convolution, embedding and head.
    "fp8-nano": dict(MOE, pattern="MEM*E", hidden=64, storage="FP8", quant="FP8", seed=18,
                     keep=[("layers.2.mixer", "BF16"), ("layers.3.mixer", "BF16"), ("lm_head", "BF16")]),
    "nvfp4-nano": dict(MOE, pattern="MEM*E", expert_ffn=48, hidden=64, storage="NVFP4", quant="NVFP4", seed=19,
                       keep=[("layers.2.mixer", "BF16"), ("layers.3.mixer", "BF16"), ("lm_head", "BF16")]),
    # Super and Lightning mix formats layer by layer; the head is weight-only NVFP4, the MTP head stays BF16.
    "modelopt-mixed": dict(LATENT, pattern="MEM*E", quant="MIXED_PRECISION", seed=20, keep=[
        ("mtp.", "BF16"), ("lm_head", "W4A16_NVFP4"), (".experts.", "NVFP4"), ("layers.0.mixer.in_proj", "FP8"),
        ("layers.2.mixer.out_proj", "FP8"), ("layers.1.mixer.shared_experts.up_proj", "FP8"), ("layers.4.mixer.shared_experts.down_proj", "NVFP4"),
        ("layers.4.mixer.fc1_latent", "FP8"), ("layers.3.mixer.o_proj", "FP8"), ("", "BF16")]),
}


def draw(f):
    """name -> float64 weights with gains that keep activations near 1; names without the checkpoint's prefix."""
    rng = np.random.default_rng(f["seed"])
    H, out = f["hidden"], {}

    def matrix(name, rows, cols, gain=1.0):
        out[name] = rng.standard_normal((rows, cols)) * gain / math.sqrt(cols)

    def vector(name, n, mean=0.0, std=0.0):
        out[name] = mean + std * rng.standard_normal(n)

    def mamba(p):
        heads, inner, bc = f["m_heads"], f["m_heads"] * f["m_head_dim"], f["groups"] * f["state"]
        matrix(p + "in_proj.weight", 2 * inner + 2 * bc + heads, H)
        out[p + "conv1d.weight"] = rng.standard_normal((inner + 2 * bc, 1, 4)) * 0.5
        vector(p + "conv1d.bias", inner + 2 * bc, std=0.1)
        out[p + "A_log"] = np.log(rng.uniform(1, 16, heads))
        vector(p + "D", heads, 1, 0.3)
        step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), heads))
        step[0], step[-1] = 3e-4, 0.6  # outside time_step_min .. time_step_max: a clamp would show
        out[p + "dt_bias"] = step + np.log(-np.expm1(-step))
        vector(p + "norm.weight", inner, 1, 0.1)
        matrix(p + "out_proj.weight", H, inner, 0.6)

    def attention(p):
        q, kv = f["q_heads"] * f["head_dim"], f["kv_heads"] * f["head_dim"]
        matrix(p + "q_proj.weight", q, H, 1.5)
        matrix(p + "k_proj.weight", kv, H, 1.5)
        matrix(p + "v_proj.weight", kv, H)
        matrix(p + "o_proj.weight", H, q)

    def mlp(p, width, inputs=H, gain=0.5):
        matrix(p + "up_proj.weight", width, inputs)
        matrix(p + "down_proj.weight", inputs, width, gain)

    def moe(p):
        latent = f.get("latent")
        matrix(p + "gate.weight", f["experts"], H, 1.5)
        vector(p + "gate.e_score_correction_bias", f["experts"], std=0.15)
        for e in range(f["experts"]):
            mlp(f"{p}experts.{e}.", f["expert_ffn"], latent or H, 0.4)
        mlp(p + "shared_experts.", f["shared"])
        if latent:
            matrix(p + "fc1_latent_proj.weight", latent, H)
            matrix(p + "fc2_latent_proj.weight", H, latent, 0.5)

    mixers = {"M": mamba, "*": attention, "-": lambda p: mlp(p, f["ffn"]), "E": moe}
    out["embeddings.weight"] = rng.standard_normal((VOCAB, H))
    for i, letter in enumerate(f["pattern"]):
        vector(f"layers.{i}.norm.weight", H, 1, 0.1)
        mixers[letter](f"layers.{i}.mixer.")
    vector("norm_f.weight", H, 1, 0.1)
    if not f.get("tied"):
        matrix("lm_head.weight", VOCAB, H, 2.0)
    for i, letter in enumerate(f["mtp"]):
        p = f"mtp.layers.{i}."
        if i == 0:
            vector(p + "enorm.weight", H, 1, 0.1)
            vector(p + "hnorm.weight", H, 1, 0.1)
            matrix(p + "eh_proj.weight", H, 2 * H)
        vector(p + "norm.weight", H, 1, 0.1)
        mixers[letter](p + "mixer.")
        if i == len(f["mtp"]) - 1:
            vector(p + "final_layernorm.weight", H, 1, 0.1)
    return out


def full_name(f, name):
    return name if name.startswith(("lm_head", "mtp.")) else f["prefix"] + name


def format_of(f, name, w):
    if name.endswith((".A_log", ".D", ".dt_bias")):
        return f["small"]
    if name.endswith("e_score_correction_bias"):
        return "F32"
    if name.endswith("gate.weight"):
        return f["gate"]
    plain = f["storage"] if f["storage"] in ("BF16", "F16", "F32") else "BF16"
    if w.ndim != 2 or name.startswith("embeddings"):
        return plain
    return next((kind for part, kind in f.get("keep", []) if part in name), f["storage"])


def config_of(f):
    p = f["pattern"]
    c = {
        "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "torch_dtype": "float32" if f["storage"] == "F32" else "bfloat16",
        "vocab_size": VOCAB, "hidden_size": f["hidden"], "intermediate_size": f["ffn"], "num_hidden_layers": len(p),
        "num_attention_heads": f["q_heads"], "num_key_value_heads": f["kv_heads"], "head_dim": f["head_dim"],
        "attention_bias": False, "attention_dropout": 0.0, "max_position_embeddings": 4096, "sliding_window": None,
        "rope_theta": 10000, "partial_rotary_factor": 1.0,  # present in published configs, and unused
        "mamba_num_heads": f["m_heads"], "mamba_head_dim": f["m_head_dim"], "ssm_state_size": f["state"], "n_groups": f["groups"],
        "conv_kernel": 4, "expand": 2, "chunk_size": 16, "mamba_hidden_act": "silu", "mamba_proj_bias": False, "use_conv_bias": True,
        "use_bias": False, "mamba_ssm_cache_dtype": "float32",
        "time_step_min": 0.001, "time_step_max": 0.1, "time_step_floor": 0.0001,
        "mlp_hidden_act": "relu2", "mlp_bias": False, "layer_norm_epsilon": 1e-05, "norm_eps": 1e-05, "residual_in_fp32": False,
        "rescale_prenorm_residual": True, "initializer_range": 0.02, "tie_word_embeddings": bool(f.get("tied")), "num_logits_to_keep": 1,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "use_cache": True,
    }
    if "experts" in f:
        c.update({
            "n_routed_experts": f["experts"], "num_experts_per_tok": f["top_k"], "moe_intermediate_size": f["expert_ffn"],
            "n_shared_experts": 1, "moe_shared_expert_intermediate_size": f["shared"], "norm_topk_prob": True,
            "routed_scaling_factor": f["scale"], "n_group": 1, "topk_group": 1, "moe_latent_size": f.get("latent"),
            "num_nextn_predict_layers": 1 if f["mtp"] else 0,
        })
    style = f.get("config", "pattern")
    if style == "pattern":
        c["hybrid_override_pattern"] = p
        if f["mtp"]:
            c["mtp_hybrid_override_pattern"] = f["mtp"]
    else:
        spell = SPELLING_OLD if style == "list" else SPELLING_NEW
        del c["num_hidden_layers"]
        c["layers_block_type"] = [spell[x] for x in p]
        if f["mtp"]:
            c["mtp_layers_block_type"] = [spell[x] for x in f["mtp"]]
    if style == "new":  # the other spellings that configs in the wild use
        for old, new in (("n_groups", "mamba_n_groups"), ("conv_kernel", "mamba_d_conv"), ("expand", "mamba_expand"), ("use_conv_bias", "mamba_conv_bias"),
                         ("chunk_size", "mamba_chunk_size"), ("time_step_min", "mamba_dt_min"), ("time_step_max", "mamba_dt_max"),
                         ("time_step_floor", "mamba_dt_init_floor")):
            c[new] = c.pop(old)
    return c


def quant_config(f, formats):
    """hf_quant_config.json, and what newer exports repeat in config.json (None where the recipe predates that)."""
    quantized = {n[: -len(".weight")]: k for n, k in formats.items() if k in ("FP8", "NVFP4", "W4A16_NVFP4")}
    plain = [n[: -len(".weight")] for n, k in formats.items() if n.endswith("proj.weight") and k == "BF16"] + ["lm_head"]
    q = {"quant_algo": f["quant"], "kv_cache_quant_algo": "FP8"}
    if f["quant"] == "MIXED_PRECISION":
        q["quantized_layers"] = {n: {"quant_algo": k} | ({"group_size": 16} if "NVFP4" in k else {}) for n, k in quantized.items()}
    else:
        if f["quant"] == "NVFP4":
            q["group_size"] = 16
        q["exclude_modules"] = plain
    head = {"producer": {"name": "modelopt", "version": "0.29.0"}, "quantization": q}
    if f["quant"] == "NVFP4":
        return head, None
    eight = {"dynamic": False, "num_bits": 8, "type": "float"}
    four = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    groups = {}
    for i, (kind, number) in enumerate((("FP8", eight), ("NVFP4", four), ("W4A16_NVFP4", four))):
        targets = [n for n, k in quantized.items() if k == kind]
        if targets:
            groups[f"group_{i}"] = {"weights": number, "targets": targets} | ({} if kind == "W4A16_NVFP4" else {"input_activations": number})
    return head, {"quant_method": "modelopt", "quant_algo": f["quant"], "config_groups": groups, "ignore": ["mtp.layers.0*", "mtp.layers.1*"] if f["mtp"] else plain,
                  "kv_cache_scheme": eight, "producer": head["producer"]} | ({"quantized_layers": q["quantized_layers"]} if "quantized_layers" in q else {})


def write_weights(f, folder, weights):
    tensors, formats = {}, {}
    if f.get("stacked"):
        for head in sorted({n.split(".experts.")[0] for n in weights if ".mixer.experts." in n}):
            for kind in ("up_proj", "down_proj"):
                parts = [weights.pop(f"{head}.experts.{e}.{kind}.weight") for e in range(f["experts"])]
                weights[f"{head}.experts.{kind}"] = np.stack(parts)
    for name, w in weights.items():
        formats[full_name(f, name)] = kind = format_of(f, name, w)
        store(full_name(f, name), w, kind, tensors)
    if f.get("quant") and f["quant"] != "NVFP4":
        for i in [i for i, letter in enumerate(f["pattern"]) if letter == "*"]:
            for part in "kv":
                tensors[f"backbone.layers.{i}.mixer.{part}_proj.{part}_scale"] = "F32", np.array(np.float32(0.02))
    n = f.get("shards", 1)
    if n == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return formats
    names, weight_map, total = list(tensors), {}, 0
    for i in range(n):
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        part = names[i * len(names) // n : (i + 1) * len(names) // n]
        total += write_safetensors(folder / file, {name: tensors[name] for name in part})
        weight_map.update({name: file for name in part})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1) + "\n")
    return formats


def choose_tokens(checkpoint, seed):
    rng, tokens = np.random.default_rng(seed + 1000), []
    for _ in range(TOKENS):
        for _ in range(400):
            candidate = tokens + [int(rng.integers(0, VOCAB))]
            forward = Forward(checkpoint)
            forward.run(candidate)
            if forward.gap >= MIN_GAP:
                tokens = candidate
                break
        else:
            raise SystemExit(f"no token keeps the routers {MIN_GAP} apart at position {len(tokens)}: take another seed")
    return tokens


def make(name, root):
    f, folder = FIXTURES[name], root / name
    folder.mkdir(parents=True, exist_ok=True)
    formats = write_weights(f, folder, draw(f))
    config = config_of(f)
    if f.get("quant"):
        head, repeated = quant_config(f, formats)
        (folder / "hf_quant_config.json").write_text(json.dumps(head, indent=1) + "\n")
        if repeated:
            config["quantization_config"] = repeated
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write_tokenizer(folder)
    checkpoint = load_hf(folder)
    tokens = choose_tokens(checkpoint, f["seed"])
    (folder / "tokens.txt").write_text(",".join(map(str, tokens)) + "\n")
    forward = Forward(checkpoint)
    logits, mtp, trail = forward.run(tokens)
    np.save(folder / "logits.npy", logits.astype(np.float32))
    if mtp is not None:
        np.save(folder / "mtp.npy", mtp.astype(np.float32))
    size = sum(p.stat().st_size for p in folder.iterdir())
    print(f"{name}: {size / 1000:.0f} kB, logits std {logits.std():.2f}, residual std {[round(float(r.std()), 2) for _, r in trail]}, gap {forward.gap:.3f}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", choices=FIXTURES)
    ap.add_argument("out", nargs="?", default=str(pathlib.Path(__file__).resolve().parents[2] / "tests/golden"))
    a = ap.parse_args()
    for name in [a.only] if a.only else FIXTURES:
        make(name, pathlib.Path(a.out))


if __name__ == "__main__":
    main()
