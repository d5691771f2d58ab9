#!/usr/bin/env python3
"""Runs MLX-LM's own nemotron_h on the fixtures (float32, CPU) and compares with the stored logits.

    mlx_logits.py FOLDER...        prints a table row per folder: max |d| of the logits, and of the MTP head

For BF16/F16/F32 checkpoints MLX reads the file itself (its loader, its `sanitize`). Formats that MLX does not know
(ModelOpt FP8 and NVFP4), stacked experts and tied heads are given to it as weights decoded by checkpoint.py, so
there MLX confirms the network and not the decoding.
MLX-LM drops the MTP head; here it is put together from MLX-LM's own attention and MoE blocks, and only the joining
(embedding half first, post-final-norm hidden, RMS norms) is ours.
Whether this MLX-LM clamps the time step is checked first (`dt_is_free`); some versions did, and would disagree.
"""
import argparse
import json
import pathlib

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx_lm.models import nemotron_h, ssm

from checkpoint import LETTERS, load_hf, read_safetensors
from reference_forward import parse_tokens

ALIASES = {"mamba_n_groups": "n_groups", "mamba_d_conv": "conv_kernel", "mamba_conv_bias": "use_conv_bias"}


def dt_is_free(args):
    """Does softplus(-12) stay below every published time_step_min with the limits that this model would run with?"""
    return float(ssm.compute_dt(mx.array([-12.0]), mx.array([0.0]), args.time_step_limit)[0]) < 1e-4


def arguments(folder):
    config = json.loads((folder / "config.json").read_text())
    for alias, name in ALIASES.items():
        if alias in config:
            config[name] = config[alias]
    config.setdefault("num_hidden_layers", len(config.get("layers_block_type") or ()))
    return nemotron_h.ModelArgs.from_dict(config)


def weights(folder):
    """-> MLX parameter names and float32 arrays, whether MLX read the file itself."""
    files = sorted(folder.glob("*.safetensors"))
    kinds = {dtype for file in files for dtype, _ in read_safetensors(file).values()}
    names = {name for file in files for name in read_safetensors(file)}
    own = kinds <= {"F32", "F16", "BF16"} and "backbone.embeddings.weight" in names and "lm_head.weight" in names
    if own:
        out = {}
        for file in files:
            out.update({k: v.astype(mx.float32) for k, v in mx.load(str(file)).items()})
        return out, True
    out = {}
    for name, value in load_hf(folder).weights.items():
        if name.endswith(".A"):
            name, value = name + "_log", np.log(-value)
        name = name if name.startswith(("lm_head", "mtp.")) else "backbone." + name
        for ours, theirs in ((".experts.up_proj", ".switch_mlp.fc1.weight"), (".experts.down_proj", ".switch_mlp.fc2.weight")):
            name = name.replace(ours, theirs)
        out[name] = mx.array(value.astype(np.float32))
    return out, False


def mtp_logits(args, model, params, tokens, pattern, own):
    """The first draft depth, from MLX-LM's blocks."""
    blocks = []
    for i, letter in enumerate(pattern):
        block = nemotron_h.NemotronHBlock(args, letter)
        p = f"mtp.layers.{i}."
        mine = {k[len(p):]: v for k, v in params.items() if k.startswith(p)}
        if own:
            for kind, layer in (("up_proj", "fc1"), ("down_proj", "fc2")):
                if f"mixer.experts.0.{kind}.weight" in mine:
                    mine[f"mixer.switch_mlp.{layer}.weight"] = mx.stack([mine.pop(f"mixer.experts.{e}.{kind}.weight") for e in range(args.n_routed_experts)])
        mine = {k: v for k, v in mine.items() if not k.startswith(("enorm", "hnorm", "eh_proj", "final_layernorm"))}
        block.load_weights(list(mine.items()), strict=True)
        blocks.append(block)
    norm = lambda x, name: mx.fast.rms_norm(x, params[name], args.layer_norm_epsilon)
    hidden = model.backbone(tokens)  # after norm_f
    fused = mx.concatenate([norm(model.backbone.embeddings(tokens[:, 1:]), "mtp.layers.0.enorm.weight"),
                            norm(hidden[:, :-1], "mtp.layers.0.hnorm.weight")], axis=-1) @ params["mtp.layers.0.eh_proj.weight"].T
    for block in blocks:
        fused = block(fused, mask="causal" if block.block_type == "*" else None)
    return model.lm_head(norm(fused, f"mtp.layers.{len(pattern) - 1}.final_layernorm.weight"))


def row(folder):
    folder = pathlib.Path(folder)
    args = arguments(folder)
    if not dt_is_free(args):
        raise SystemExit("this MLX-LM clamps the time step by default; it cannot be compared with")
    model = nemotron_h.Model(args)
    params, own = weights(folder)
    clean = model.sanitize(dict(params))
    model.load_weights(list(clean.items()), strict=True)
    tokens = mx.array([parse_tokens(str(folder / "tokens.txt"))])
    want = np.load(folder / "logits.npy")
    worst = np.abs(np.array(model(tokens))[0] - want).max()
    mtp = "-"
    if (folder / "mtp.npy").exists():
        config = json.loads((folder / "config.json").read_text())
        pattern = config.get("mtp_hybrid_override_pattern") or "".join(LETTERS[k] for k in config["mtp_layers_block_type"])
        got = np.array(mtp_logits(args, model, params, tokens, pattern, own))[0]
        mtp = f"{np.abs(got - np.load(folder / 'mtp.npy')).max():.1e}"
    return f"| {folder.name} | {'its own' if own else 'decoded by us'} | {worst:.1e} | {mtp} |"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folders", nargs="+")
    a = ap.parse_args()
    mx.set_default_device(mx.cpu)
    print(f"mlx {mx.__version__}, mlx-lm {mlx_lm.__version__}, CPU, float32\n")
    print("| fixture | weights read by | logits max abs d | MTP max abs d |\n|---|---|---|---|")
    for folder in a.folders:
        print(row(folder))


if __name__ == "__main__":
    main()
