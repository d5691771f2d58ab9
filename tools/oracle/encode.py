"""Writes what checkpoint.py reads: safetensors files and the number formats inside them.

The encoders follow ModelOpt's published rules (scales from the largest magnitude); nothing here is tuned.
"""
import json
import struct

import numpy as np

from checkpoint import E2M1, E4M3

POSITIVE = E4M3[:127]  # 0 .. 448 in increasing order: the code is the index


def to_bf16(x):
    """Round to nearest even; returns the 16-bit codes."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_e4m3(x):
    """Nearest E4M3 code, ties to the even code, saturating at 448."""
    size = np.minimum(np.abs(np.asarray(x, dtype=np.float64)), 448)
    above = np.clip(np.searchsorted(POSITIVE, size), 1, 126)
    below = above - 1
    middle = (POSITIVE[below] + POSITIVE[above]) / 2
    up = (size > middle) | ((size == middle) & (above % 2 == 0))
    return (np.where(up, above, below) | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def to_fp8(w):
    """-> codes, per-tensor scale (float32)."""
    scale = np.float32(np.abs(w).max() / 448)
    return to_e4m3(w / np.float64(scale)), scale


def to_nvfp4(w):
    """-> packed codes [N, K/2], block scales [N, K/16] as E4M3 codes, tensor scale (float32)."""
    scale2 = np.float32(np.abs(w).max() / (6 * 448))
    blocks = w.reshape(w.shape[0], -1, 16)
    peak = np.abs(blocks).max(-1)
    block_codes = to_e4m3(np.where(peak == 0, 1.0, np.clip(peak / (6 * np.float64(scale2)), 2.0**-9, 448)))
    ratio = blocks / (E4M3[block_codes] * np.float64(scale2))[..., None]
    size = np.abs(ratio)
    code = np.searchsorted([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], size, side="left")
    code += np.isin(size, [0.75, 1.75, 3.5])  # ties that go up, to the even code
    code = (code | np.where(ratio < 0, 8, 0)).astype(np.uint8).reshape(w.shape[0], -1)
    return code[:, 0::2] | (code[:, 1::2] << 4), block_codes, scale2


def store(name, w, kind, tensors):
    """Adds weight `name` to `tensors` in the format `kind`, with the scales that ModelOpt puts beside it."""
    if kind == "BF16":
        tensors[name] = "BF16", to_bf16(w)
    elif kind == "F16":
        tensors[name] = "F16", w.astype(np.float16)
    elif kind == "F32":
        tensors[name] = "F32", w.astype(np.float32)
    elif kind == "FP8":
        codes, scale = to_fp8(w)
        tensors[name] = "F8_E4M3", codes
        tensors[name + "_scale"] = "F32", np.array(scale)
        tensors[name[: -len("weight")] + "input_scale"] = "F32", np.array(np.float32(4 / 448))
    elif kind in ("NVFP4", "W4A16_NVFP4"):
        codes, block_scale, scale2 = to_nvfp4(w)
        tensors[name] = "U8", codes
        tensors[name + "_scale"] = "F8_E4M3", block_scale
        tensors[name + "_scale_2"] = "F32", np.array(scale2)
        if kind == "NVFP4":  # the weight-only recipe has no activation scale
            tensors[name[: -len("weight")] + "input_scale"] = "F32", np.array(np.float32(4 / (6 * 448)))
    else:
        raise ValueError(kind)


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, codes) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(codes.shape), "data_offsets": [at, at + codes.nbytes]}
        at += codes.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, codes in tensors.values():
            f.write(np.ascontiguousarray(codes).tobytes())
    return at
