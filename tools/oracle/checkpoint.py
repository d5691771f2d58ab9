"""Reads a Nemotron-H checkpoint into float64 numpy arrays under one set of names.

What it is: the input side of the oracle. A Hugging Face folder (safetensors, sharded or not, plain or
ModelOpt-quantized, experts one by one or stacked) and a GGUF file end as the same `Checkpoint`: a dict of
sizes and a dict of decoded weights named like the Hugging Face tensors without their prefix
("layers.3.mixer.in_proj.weight", experts stacked as "layers.3.mixer.experts.up_proj" [E, out, in]).
What it is not: fast, lazy or forgiving. It is written to be read beside the format description.
Surprising policy: the matrix "A" is stored as the *negative* continuous-time decay (-exp(A_log)), because
GGUF files only have that form.
"""
import json
import pathlib
import struct

import numpy as np

LETTERS = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "moe": "E", "mlp": "-"}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def e4m3_table():
    """The 256 values of FP8 E4M3 'fn': bias 7, subnormals m/8 * 2^-6, 0x7f and 0xff are NaN, no infinity."""
    table = np.empty(256)
    for code in range(256):
        sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, code >> 3 & 15, code & 7
        if exponent == 15 and mantissa == 7:
            table[code] = np.nan
        elif exponent == 0:
            table[code] = sign * mantissa / 8 * 2.0**-6
        else:
            table[code] = sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return table


E4M3 = e4m3_table()


def bf16_to_f32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def decode_nvfp4(packed, block_scale, tensor_scale):
    """ModelOpt layout: byte j holds element 2j in its low nibble; one E4M3 scale per 16 elements of a row."""
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
    scale = np.repeat(E4M3[block_scale], 16, axis=-1)
    return E2M1[codes] * scale * float(tensor_scale)


class Checkpoint:
    """Sizes (`dims`), decoded weights (`weights`, float64) and, for reports, the stored type of each weight."""

    def __init__(self):
        self.dims, self.weights, self.types = {}, {}, {}

    def __getitem__(self, name):
        return self.weights[name]


# ---------------------------------------------------------------------------------------------- safetensors


def read_safetensors(path):
    """name -> (dtype string, numpy array of raw codes in the tensor's shape)."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    size = struct.unpack("<Q", raw[:8].tobytes())[0]
    header = json.loads(raw[8 : 8 + size].tobytes())
    header.pop("__metadata__", None)
    codes = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F8_E4M3": np.uint8, "U8": np.uint8, "F64": np.float64}
    out = {}
    for name, info in header.items():
        begin, end = info["data_offsets"]
        data = raw[8 + size + begin : 8 + size + end].tobytes()
        out[name] = info["dtype"], np.frombuffer(data, dtype=codes[info["dtype"]]).reshape(info["shape"])
    return out


def _plain(dtype, codes):
    if dtype == "BF16":
        return bf16_to_f32(codes).astype(np.float64)
    if dtype == "F8_E4M3":
        return E4M3[codes]
    return codes.astype(np.float64)


def _decode_modules(tensors):
    """Applies the scales that stand beside a weight; the format is decided per weight from what is present."""
    weights, types = {}, {}
    for name, (dtype, codes) in tensors.items():
        if name.endswith(("_scale", "_scale_2")):
            continue
        stem = name[: -len(".weight")] + ".weight" if name.endswith(".weight") else name
        scale, scale2 = tensors.get(stem + "_scale"), tensors.get(stem + "_scale_2")
        if dtype == "U8":
            weights[name] = decode_nvfp4(codes, scale[1], scale2[1].reshape(-1)[0])
            types[name] = "NVFP4"
        elif dtype == "F8_E4M3":
            weights[name] = _plain(dtype, codes) * _plain(*scale).reshape(-1)[0]
            types[name] = "FP8"
        else:
            weights[name], types[name] = _plain(dtype, codes), dtype
    return weights, types


def _stack_experts(weights):
    stacked = {}
    for name in list(weights):
        if ".mixer.experts." not in name:
            continue
        head, tail = name.split(".mixer.experts.")
        parts = tail.split(".")
        if parts[0].isdigit():
            stacked.setdefault((head, parts[1]), {})[int(parts[0])] = weights.pop(name)
        elif name.endswith(".weight"):
            weights[name[: -len(".weight")]] = weights.pop(name)
    for (head, kind), experts in stacked.items():
        weights[f"{head}.mixer.experts.{kind}"] = np.stack([experts[e] for e in range(len(experts))])


def _pattern(config, text, listed):
    if config.get(listed) is not None:
        return "".join(LETTERS[kind] for kind in config[listed])
    return config.get(text) or ""


def dims_from_config(config):
    config = config.get("llm_config", config)
    pick = lambda *names: next((config[n] for n in names if config.get(n) is not None), None)
    limit = pick("time_step_limit", "mamba_dt_limit") or (0.0, np.inf)
    heads = config["num_attention_heads"]
    return dict(
        pattern=_pattern(config, "hybrid_override_pattern", "layers_block_type"),
        mtp_pattern=_pattern(config, "mtp_hybrid_override_pattern", "mtp_layers_block_type")
        if config.get("num_nextn_predict_layers") else "",
        hidden=config["hidden_size"], vocab=config["vocab_size"],
        q_heads=heads, kv_heads=config["num_key_value_heads"], head_dim=pick("head_dim") or config["hidden_size"] // heads,
        m_heads=config["mamba_num_heads"], m_head_dim=config["mamba_head_dim"], state=config["ssm_state_size"],
        groups=pick("n_groups", "mamba_n_groups"), conv=pick("conv_kernel", "mamba_d_conv"),
        eps=pick("layer_norm_epsilon", "norm_eps", "rms_norm_eps"),
        top_k=pick("num_experts_per_tok"), routed_scale=pick("routed_scaling_factor") or 1.0,
        norm_topk=config.get("norm_topk_prob", True), n_group=pick("n_group") or 1, topk_group=pick("topk_group") or 1,
        dt_limit=tuple(float(x) for x in limit),
    )


def load_hf(folder):
    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors = {}
    for file in files:
        tensors.update(read_safetensors(folder / file))
    weights, types = _decode_modules(tensors)
    out = Checkpoint()
    out.dims = dims_from_config(json.loads((folder / "config.json").read_text()))
    for name, value in weights.items():
        short = name.removeprefix("language_model.").removeprefix("backbone.").removeprefix("model.")
        out.weights[short], out.types[short] = value, types[name]
    _stack_experts(out.weights)
    for name in [n for n in out.weights if n.endswith(".A_log")]:
        out.weights[name[: -len("A_log")] + "A"] = -np.exp(out.weights.pop(name))
    if "lm_head.weight" not in out.weights:
        out.weights["lm_head.weight"] = out.weights["embeddings.weight"]
    return out


# ----------------------------------------------------------------------------------------------------- GGUF

GGUF_BLOCK_NAMES = {
    "attn_norm.weight": "norm.weight", "ssm_in.weight": "mixer.in_proj.weight", "ssm_out.weight": "mixer.out_proj.weight",
    "ssm_conv1d.weight": "mixer.conv1d.weight", "ssm_conv1d.bias": "mixer.conv1d.bias", "ssm_a": "mixer.A", "ssm_d": "mixer.D",
    "ssm_dt.bias": "mixer.dt_bias", "ssm_norm.weight": "mixer.norm.weight", "attn_q.weight": "mixer.q_proj.weight",
    "attn_k.weight": "mixer.k_proj.weight", "attn_v.weight": "mixer.v_proj.weight", "attn_output.weight": "mixer.o_proj.weight",
    "ffn_up.weight": "mixer.up_proj.weight", "ffn_down.weight": "mixer.down_proj.weight", "ffn_gate_inp.weight": "mixer.gate.weight",
    "exp_probs_b.bias": "mixer.gate.e_score_correction_bias", "ffn_up_exps.weight": "mixer.experts.up_proj",
    "ffn_down_exps.weight": "mixer.experts.down_proj", "ffn_up_shexp.weight": "mixer.shared_experts.up_proj.weight",
    "ffn_down_shexp.weight": "mixer.shared_experts.down_proj.weight", "ffn_latent_down.weight": "mixer.fc1_latent_proj.weight",
    "ffn_latent_up.weight": "mixer.fc2_latent_proj.weight",
}
GGUF_MTP_NAMES = {
    "nextn.enorm.weight": "mtp.layers.0.enorm.weight", "nextn.hnorm.weight": "mtp.layers.0.hnorm.weight",
    "nextn.eh_proj.weight": "mtp.layers.0.eh_proj.weight", "attn_norm.weight": "mtp.layers.0.norm.weight",
    "post_attention_norm.weight": "mtp.layers.1.norm.weight", "nextn.shared_head_norm.weight": "mtp.layers.1.final_layernorm.weight",
}
GGUF_TOP_NAMES = {"token_embd.weight": "embeddings.weight", "output_norm.weight": "norm_f.weight", "output.weight": "lm_head.weight"}


def _gguf_name(name, trunk_layers):
    if not name.startswith("blk."):
        return GGUF_TOP_NAMES[name]
    _, layer, tail = name.split(".", 2)
    if int(layer) < trunk_layers:
        return f"layers.{layer}.{GGUF_BLOCK_NAMES[tail]}"
    if tail in GGUF_MTP_NAMES:
        return GGUF_MTP_NAMES[tail]
    return f"mtp.layers.{0 if tail.startswith('attn') else 1}.{GGUF_BLOCK_NAMES[tail]}"


def load_gguf(path):
    import gguf  # PyPI's reader and dequantizer: this project's own are what is being tested

    reader = gguf.GGUFReader(str(path))
    arch = reader.fields["general.architecture"].contents()
    get = lambda key, default=None: reader.fields[f"{arch}.{key}"].contents() if f"{arch}.{key}" in reader.fields else default
    blocks, nextn = get("block_count"), get("nextn_predict_layers", 0)
    per_layer = lambda v: v if isinstance(v, list) else [v] * blocks
    kv_heads, ffn = per_layer(get("attention.head_count_kv")), per_layer(get("feed_forward_length"))
    experts = get("expert_count", 0)
    letters = ["M" if not k and not f else "*" if not f else "E" if experts else "-" for k, f in zip(kv_heads, ffn)]
    out, scales = Checkpoint(), {}
    trunk = blocks - nextn
    for tensor in reader.tensors:
        shape = [int(x) for x in reversed(tensor.shape)]
        value = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64).reshape(shape)
        if tensor.name.endswith(".scale"):
            scales[tensor.name[: -len("scale")] + "weight"] = value.reshape(-1)
        elif not tensor.name.endswith(".input_scale"):
            name = _gguf_name(tensor.name, trunk)
            out.weights[name], out.types[name] = value, tensor.tensor_type.name
    for name, scale in scales.items():
        w = out.weights[_gguf_name(name, trunk)]
        w *= scale.reshape(-1, *[1] * (w.ndim - 1)) if scale.size > 1 else scale[0]
    for name in out.weights:
        if name.endswith((".mixer.A", ".mixer.D", "mixer.norm.weight")):
            out.weights[name] = out.weights[name].reshape(-1)
    out.weights.setdefault("lm_head.weight", out.weights["embeddings.weight"])
    vocab, hidden = out["embeddings.weight"].shape
    inner = get("ssm.inner_size")
    q_heads = get("attention.head_count")
    q_heads = max(q_heads) if isinstance(q_heads, list) else q_heads
    out.dims = dict(
        pattern="".join(letters[:trunk]), mtp_pattern="*E" if nextn else "", hidden=hidden, vocab=vocab,
        q_heads=q_heads, kv_heads=max(kv_heads), head_dim=get("attention.key_length"),
        m_heads=get("ssm.time_step_rank"), m_head_dim=inner // get("ssm.time_step_rank"), state=get("ssm.state_size"),
        groups=get("ssm.group_count"), conv=get("ssm.conv_kernel"), eps=get("attention.layer_norm_rms_epsilon"),
        top_k=get("expert_used_count"), routed_scale=get("expert_weights_scale", 1.0), norm_topk=get("expert_weights_norm", True),
        n_group=get("expert_group_count", 1), topk_group=get("expert_group_used_count", 1), dt_limit=(0.0, np.inf),
    )
    return out


def load(path):
    return load_hf(path) if pathlib.Path(path).is_dir() else load_gguf(path)
