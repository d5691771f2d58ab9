#!/usr/bin/env python3
"""Writes tests/golden/gguf: small random GGUF models, plain F32 and mixed quantized types, with float64 logits.

    make_gguf_fixtures.py [--only NAME] [OUT_DIR]

Per model NAME.gguf, NAME.tokens, NAME.npy (float32 [T, V], from the weights as PyPI's gguf dequantizes them) and, with
an MTP head, NAME.mtp.npy [T-1, V].
Surprising policy: types that PyPI's gguf can only decode (K-quants, IQ4) are written as random valid blocks scaled to
the wanted spread. The weights are random either way; what matters is that every field of a block is exercised.
"""
import argparse
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

from checkpoint import GGUF_BLOCK_NAMES, GGUF_MTP_NAMES, GGUF_TOP_NAMES, load_gguf
from encode import to_nvfp4
from make_fixtures import BASE, LATENT, MOE, VOCAB, choose_tokens, draw
from reference_forward import Forward
from tiny_tokenizer import FIRST_BYTE, MERGES, vocabulary

HF_TO_BLOCK = {hf: name for name, hf in GGUF_BLOCK_NAMES.items()}
HF_TO_TOP = {hf: name for name, hf in GGUF_TOP_NAMES.items()}
HF_TO_MTP = {hf: name for name, hf in GGUF_MTP_NAMES.items()}

WIDE = dict(hidden=256, q_heads=4, kv_heads=1, head_dim=64, m_heads=4, m_head_dim=64, groups=2, state=16, ffn=256)
# types: (start of the GGUF name, or of its part after a dot -> type), first match wins; vectors and the router stay F32.
MODELS = {
    "f32-dense": dict(BASE, pattern="M*-M-", hidden=40, m_heads=6, groups=3, head_dim=16, q_heads=6, ffn=56, seed=31, types=[]),
    "f32-latent-mtp": dict(LATENT, pattern="ME*E", experts=8, top_k=3, hidden=32, shared=40, seed=32, types=[]),
    "split": dict(BASE, pattern="M*-", hidden=32, m_head_dim=4, ffn=48, head_dim=8, seed=33, types=[], split=6),
    "mix-legacy": dict(BASE, **WIDE, pattern="M-*", seed=34, types=[
        ("token_embd", Q.Q8_0), ("output.", Q.Q4_0), ("ssm_in", Q.Q4_0), ("ssm_out", Q.Q4_1), ("ffn_up", Q.Q5_0), ("ffn_down", Q.Q5_1),
        ("attn_q", Q.Q8_0), ("attn_k", Q.BF16), ("attn_v", Q.F16), ("attn_output", Q.Q4_1)]),
    "mix-k": dict(BASE, **WIDE, pattern="M-*", seed=35, types=[
        ("token_embd", Q.Q4_K), ("output.", Q.Q6_K), ("ssm_in", Q.Q2_K), ("ssm_out", Q.Q3_K), ("ffn_up", Q.Q4_K), ("ffn_down", Q.Q5_K),
        ("attn_q", Q.Q6_K), ("attn_k", Q.Q3_K), ("attn_v", Q.Q2_K), ("attn_output", Q.Q5_K)]),
    "mix-4bit": dict(LATENT, **dict(WIDE, ffn=0), pattern="ME*", mtp="", experts=8, top_k=3, latent=64, expert_ffn=64, shared=256, seed=36, types=[
        ("token_embd", Q.IQ4_NL), ("output.", Q.IQ4_XS), ("ssm_in", Q.IQ4_XS), ("ssm_out", Q.IQ4_NL), ("attn_q", Q.IQ4_XS), ("attn_k", Q.MXFP4),
        ("attn_v", Q.IQ4_NL), ("attn_output", Q.NVFP4), ("ffn_up_exps", Q.MXFP4), ("ffn_down_exps", Q.NVFP4), ("ffn_up_shexp", Q.NVFP4),
        ("ffn_down_shexp", Q.MXFP4), ("ffn_latent_down", Q.IQ4_NL), ("ffn_latent_up", Q.IQ4_NL)]),
    # What a "Q4_K_M" of a MoE model looks like: three-dimensional K-quants, and Q5_0 where a row is no multiple of 256.
    "moe-k": dict(MOE, **dict(WIDE, ffn=0, q_heads=2), pattern="ME*", experts=3, top_k=2, expert_ffn=256, shared=256, seed=37, types=[
        ("token_embd", Q.Q4_K), ("output.", Q.Q6_K), ("ffn_down_exps", Q.Q6_K), ("ffn_down_shexp", Q.Q6_K), ("attn_output", Q.Q5_0), ("", Q.Q4_K)]),
}


def balance_minima(kind, blocks, rng):
    """Makes each sub-block's minimum nearly equal to its scale, so that with dmin = d * (mean code) the decoded weights
    have no mean: squared ReLU outputs are all positive and would be blown up by one."""
    n = len(blocks)
    if kind == Q.Q2_K:
        scale = blocks[:, 0:16] & 15
        lowest = np.clip(scale.astype(int) + rng.integers(-1, 2, scale.shape), 0, 15).astype(np.uint8)
        blocks[:, 0:16] = scale | lowest << 4
    else:  # Q4_K, Q5_K: eight 6-bit scales and eight 6-bit minima in 12 bytes
        scale = rng.integers(0, 64, (n, 8)).astype(np.uint8)
        low = np.clip(scale.astype(int) + rng.integers(-2, 3, scale.shape), 0, 63).astype(np.uint8)
        blocks[:, 4:8] = scale[:, :4] | (scale[:, 4:] >> 4) << 6
        blocks[:, 8:12] = low[:, :4] | (low[:, 4:] >> 4) << 6
        blocks[:, 12:16] = (scale[:, 4:] & 15) | (low[:, 4:] & 15) << 4


# Where the f16 scale stands, and for types with minima the mean code (dmin stands right after d).
D_AT = {Q.Q2_K: 80, Q.Q3_K: 108, Q.Q4_K: 0, Q.Q5_K: 0, Q.Q6_K: 208, Q.IQ4_NL: 0, Q.IQ4_XS: 0}
MEAN_CODE = {Q.Q2_K: 1.5, Q.Q4_K: 7.5, Q.Q5_K: 15.5}


def set_scales(kind, blocks, d):
    at = D_AT[kind]
    blocks[:, at : at + 2] = d.astype(np.float16).view(np.uint8).reshape(-1, 2)
    if kind in MEAN_CODE:
        blocks[:, at + 2 : at + 4] = (d * MEAN_CODE[kind]).astype(np.float16).view(np.uint8).reshape(-1, 2)


def random_blocks(kind, shape, std, rng):
    """Random bytes in the fields of each block, f16 scales such that the decoded values have spread `std`."""
    size, bytes_ = gguf.GGML_QUANT_SIZES[kind]
    n = int(np.prod(shape)) // size
    blocks = rng.integers(0, 256, (n, bytes_), dtype=np.uint8)
    d = rng.uniform(0.5, 1.5, n)
    if kind in MEAN_CODE:
        balance_minima(kind, blocks, rng)
    else:
        d *= rng.choice([-1, 1], n)  # real encoders write negative scales too
    set_scales(kind, blocks, d)
    set_scales(kind, blocks, d * std / gguf.quants.dequantize(blocks, kind).std())
    return blocks.reshape(*shape[:-1], -1)


def nvfp4_blocks(w):
    """Row-major ModelOpt codes rearranged into GGUF's super-blocks of 64: four scales, then per 16 elements 8 bytes
    whose low nibbles are elements 0-7 and high nibbles elements 8-15. -> bytes, tensor scale."""
    packed, scale, scale2 = to_nvfp4(w)
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(len(w), -1, 4, 16)
    body = (codes[..., :8] | (codes[..., 8:] << 4)).reshape(len(w), -1, 32)
    return np.concatenate([scale.reshape(len(w), -1, 4), body], -1).reshape(len(w), -1), scale2


def encode(w, kind, rng):
    """-> list of (name suffix or None for the tensor itself, array, type)."""
    if kind == Q.NVFP4:
        parts = [nvfp4_blocks(x) for x in (w if w.ndim == 3 else w[None])]
        blocks = np.stack([p[0] for p in parts]) if w.ndim == 3 else parts[0][0]
        return [(None, blocks, kind), (".scale", np.array([p[1] for p in parts], np.float32), Q.F32)]
    if kind in (Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.MXFP4):
        return [(None, gguf.quants.quantize(w.astype(np.float32), kind), kind)]
    return [(None, random_blocks(kind, w.shape, w.std(), rng), kind)]


def gguf_tensors(f, weights, rng):
    """Names and layouts as GGUF wants them (spec/nemotron-h.md section 5), in file order."""
    trunk, merged = len(f["pattern"]), {}
    for name, w in weights.items():
        if ".mixer.experts." in name:
            head, tail = name.split(".experts.")
            merged.setdefault(f"{head}.experts.{tail.split('.')[1]}", []).append(w)
        else:
            merged[name] = w
    for name, w in merged.items():
        w = np.stack(w) if isinstance(w, list) else w
        if name in HF_TO_TOP:
            out = HF_TO_TOP[name]
        elif name in HF_TO_MTP:
            out = f"blk.{trunk}.{HF_TO_MTP[name]}"
        else:
            parts = name.split(".")
            layer, tail = (trunk, parts[3:]) if parts[0] == "mtp" else (parts[1], parts[2:])
            tail = ".".join(tail).replace("A_log", "A")
            out = f"blk.{layer}.{HF_TO_BLOCK[tail]}"
        if out.endswith("ssm_a"):
            w = -np.exp(w)
        if out.endswith(("ssm_a", "ssm_d")):
            w = w.reshape(-1, 1)
        if out.endswith("ssm_conv1d.weight"):
            w = w[:, 0]
        if out.endswith("ssm_norm.weight"):
            w = w.reshape(f["groups"], -1)
        matrix = out.endswith(".weight") and w.ndim > 1 and not any(k in out for k in ("conv1d", "ssm_norm", "gate_inp"))
        kind = next((k for part, k in f["types"] if out.startswith(part) or "." + part in out), Q.F32) if matrix else Q.F32
        for suffix, array, stored in encode(w, kind, rng):
            yield (out if suffix is None else out.removesuffix(".weight") + suffix), array, stored


def write_gguf(path, f, weights, rng):
    moe = "experts" in f
    w = gguf.GGUFWriter(str(path), "nemotron_h_moe" if moe else "nemotron_h", split_max_tensors=f.get("split", 0))
    letters = f["pattern"] + ("m" if f["mtp"] else "")
    w.add_name(path.stem)
    w.add_block_count(len(letters))
    w.add_context_length(1 << 20)
    w.add_embedding_length(f["hidden"])
    w.add_feed_forward_length([{"-": f["ffn"], "E": f.get("expert_ffn"), "m": f.get("expert_ffn")}.get(x, 0) for x in letters])
    w.add_head_count(f["q_heads"])
    w.add_head_count_kv([f["kv_heads"] if x in "*m" else 0 for x in letters])
    w.add_key_length(f["head_dim"])
    w.add_value_length(f["head_dim"])
    w.add_rope_dimension_count(f["head_dim"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_layer_norm_eps(1e-5)
    w.add_vocab_size(VOCAB)
    w.add_ssm_conv_kernel(4)
    w.add_ssm_inner_size(f["m_heads"] * f["m_head_dim"])
    w.add_ssm_state_size(f["state"])
    w.add_ssm_time_step_rank(f["m_heads"])
    w.add_ssm_group_count(f["groups"])
    if moe:
        w.add_expert_count(f["experts"])
        w.add_expert_used_count(f["top_k"])
        w.add_expert_feed_forward_length(f["expert_ffn"])
        w.add_expert_shared_feed_forward_length(f["shared"])
        w.add_expert_shared_count(1)
        w.add_expert_weights_norm(True)
        w.add_expert_weights_scale(f["scale"])
        w.add_expert_group_count(1)
        w.add_expert_group_used_count(1)
        if f.get("latent"):
            w.add_moe_latent_size(f["latent"])
    if f["mtp"]:
        w.add_nextn_predict_layers(1)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("pixtral")
    w.add_token_list(vocabulary())
    w.add_token_types([gguf.TokenType.CONTROL] * FIRST_BYTE + [gguf.TokenType.NORMAL] * (VOCAB - FIRST_BYTE))
    w.add_token_merges(MERGES)
    w.add_unk_token_id(0)
    w.add_bos_token_id(1)
    w.add_eos_token_id(11)
    w.add_add_bos_token(False)
    for name, array, kind in gguf_tensors(f, weights, rng):
        w.add_tensor(name, np.ascontiguousarray(array), raw_dtype=kind)
    w.write_header_to_file(path)
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make(name, folder):
    f, path = MODELS[name], folder / f"{name}.gguf"
    weights = draw(f)
    write_gguf(path, f, weights, np.random.default_rng(f["seed"] + 2000))
    if f.get("split"):  # the reference reads the whole; the same tensors in one file give it
        whole = folder / f"{name}-whole.tmp"
        write_gguf(whole, dict(f, split=0), weights, np.random.default_rng(f["seed"] + 2000))
        checkpoint = load_gguf(whole)
        whole.unlink()
    else:
        checkpoint = load_gguf(path)
    tokens = choose_tokens(checkpoint, f["seed"])
    (folder / f"{name}.tokens").write_text(",".join(map(str, tokens)) + "\n")
    forward = Forward(checkpoint)
    logits, mtp, trail = forward.run(tokens)
    np.save(folder / f"{name}.npy", logits.astype(np.float32))
    if mtp is not None:
        np.save(folder / f"{name}.mtp.npy", mtp.astype(np.float32))
    size = sum(p.stat().st_size for p in folder.glob(f"{name}*"))
    print(f"{name}: {size / 1000:.0f} kB, logits std {logits.std():.2f}, residual std {[round(float(r.std()), 2) for _, r in trail]}, gap {forward.gap:.3f}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", choices=MODELS)
    ap.add_argument("out", nargs="?", default=str(pathlib.Path(__file__).resolve().parents[2] / "tests/golden/gguf"))
    a = ap.parse_args()
    folder = pathlib.Path(a.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in [a.only] if a.only else MODELS:
        make(name, folder)


if __name__ == "__main__":
    main()
