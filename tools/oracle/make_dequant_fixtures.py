#!/usr/bin/env python3
"""Writes tests/golden/dequant: encoded blocks and the float32 values they stand for, bit for bit.

    make_dequant_fixtures.py [OUT_DIR]

TYPE.blocks.bin        the encoded bytes, block after block
TYPE.f32.bin           little-endian float32, as PyPI's gguf decodes them (multiply and subtract are separate roundings: no FMA)
fp8_e4m3.*             all 256 codes; NaN is written as 0x7fc00000 (compare NaN with NaN, not its payload)
nvfp4_modelopt.*       8 rows of 64: .weight.bin U8 [8,32], .scale.bin E4M3 [8,4], .scale2.bin float32, .f32.bin [8,64] = float32(e2m1 * e4m3 * scale2),
                       rounded once (the product of the two small factors is exact)

In MXFP4 and GGUF's NVFP4 code 8 decodes to +0 (the reference multiplies by an integer zero); in ModelOpt's NVFP4 it is -0.
The blocks: random bytes with ordinary scales, then edges: all bytes 0, all quants set, scale zero, -0, the smallest and the
largest subnormal and normal f16, negative scales, largest finite. No infinite or NaN f16 scales.
"""
import argparse
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

from checkpoint import E2M1, E4M3

# type -> offsets of the f16 fields of a block
F16_FIELDS = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2],
              Q.Q6_K: [208], Q.IQ4_NL: [0], Q.IQ4_XS: [0]}
EDGE_SCALES = np.array([0, -0.0, 2**-24, -(2**-24), 1023 * 2**-24, 2**-14, 1, -1, 65504, -65504, 0.1, -0.333], dtype=np.float16)
RANDOM_BLOCKS = 24


def put_f16(blocks, at, values):
    blocks[:, at : at + 2] = np.ascontiguousarray(values, dtype=np.float16).view(np.uint8).reshape(-1, 2)


def f16_scaled(kind, rng):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    n = RANDOM_BLOCKS if gguf.GGML_QUANT_SIZES[kind][0] < 256 else RANDOM_BLOCKS // 3
    plain = rng.integers(0, 256, (n, size), dtype=np.uint8)
    edge = rng.integers(0, 256, (len(EDGE_SCALES), size), dtype=np.uint8)
    edge[1], edge[6] = 0, 255
    for i, at in enumerate(F16_FIELDS[kind]):
        put_f16(plain, at, rng.standard_normal(n) * 0.1)
        put_f16(edge, at, np.roll(EDGE_SCALES, 5 * i))
    return np.concatenate([np.zeros((1, size), np.uint8), plain, edge])


def mxfp4(rng):
    exponents = np.concatenate([np.arange(0, 8), np.arange(100, 140), [250, 251, 252]]).astype(np.uint8)
    blocks = rng.integers(0, 256, (len(exponents), 17), dtype=np.uint8)
    blocks[:, 0] = exponents
    return blocks


def nvfp4(rng):
    """All 128 scale codes, four per block (0x7f decodes to zero in this format)."""
    blocks = rng.integers(0, 256, (32, 36), dtype=np.uint8)
    blocks[:, :4] = np.arange(128, dtype=np.uint8).reshape(32, 4)
    return blocks


def halves():
    """f16: every exponent with the corner mantissas, both signs; no NaN."""
    e, m = np.meshgrid(np.arange(31), [0, 1, 2, 0x1FF, 0x200, 0x3FE, 0x3FF])
    codes = (e << 10 | m).reshape(-1).astype(np.uint16)
    return np.concatenate([codes, codes | 0x8000, np.array([0x7C00, 0xFC00], np.uint16)])


def brains():
    """bf16: every 37th code, and the corners; no NaN."""
    codes = np.concatenate([np.arange(0, 0x7F80, 37), [0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80]]).astype(np.uint16)
    return np.concatenate([codes, codes | 0x8000])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", nargs="?", default=str(pathlib.Path(__file__).resolve().parents[2] / "tests/golden/dequant"))
    folder = pathlib.Path(ap.parse_args().out)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(41)
    cases = {kind: f16_scaled(kind, rng) for kind in F16_FIELDS} | {Q.MXFP4: mxfp4(rng), Q.NVFP4: nvfp4(rng)}
    cases |= {Q.F16: halves().view(np.uint8), Q.BF16: brains().view(np.uint8)}
    with np.errstate(over="ignore"):
        for kind, blocks in cases.items():
            values = gguf.quants.dequantize(blocks, kind)
            assert not np.isnan(values).any(), kind
            name = folder / kind.name.lower()
            name.with_suffix(".blocks.bin").write_bytes(blocks.tobytes())
            name.with_suffix(".f32.bin").write_bytes(values.astype("<f4").tobytes())
            print(f"{kind.name}: {values.size} values, {np.isinf(values).sum()} infinite")
    (folder / "fp8_e4m3.blocks.bin").write_bytes(bytes(range(256)))
    eights = E4M3.astype("<f4")
    eights.view(np.uint32)[np.isnan(eights)] = 0x7FC00000
    (folder / "fp8_e4m3.f32.bin").write_bytes(eights.tobytes())
    packed = rng.integers(0, 256, (8, 32), dtype=np.uint8)
    scale = rng.integers(0, 127, (8, 4), dtype=np.uint8)
    scale[0] = [0, 1, 7, 8]  # zero, subnormals, the smallest normal
    scale[1] = [126, 127 - 8, 0x38, 0x39]
    scale2 = np.float32(0.0123456)
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(8, 64)
    exact = (E2M1[codes] * np.repeat(E4M3[scale], 16, -1)).astype(np.float32)
    (folder / "nvfp4_modelopt.weight.bin").write_bytes(packed.tobytes())
    (folder / "nvfp4_modelopt.scale.bin").write_bytes(scale.tobytes())
    (folder / "nvfp4_modelopt.scale2.bin").write_bytes(scale2.astype("<f4").tobytes())
    (folder / "nvfp4_modelopt.f32.bin").write_bytes((exact * scale2).astype("<f4").tobytes())


if __name__ == "__main__":
    main()
