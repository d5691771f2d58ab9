#!/usr/bin/env python3
"""The error of every matrix after `lode quantize` and after llama-quantize, from the same file.

Usage: quantize_vs_llamacpp.py LODE LLAMA_QUANTIZE SOURCE.gguf [TYPE ...]     (needs PyPI's gguf and numpy)
Prints for each type how many matrices there are, whether the two chose the same types, and the ratio of
the relative errors, ours over theirs: the worst and the median.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader, dequantize

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS".split()


def load(path):
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def numbers(tensor):
    return dequantize(tensor.data, tensor.tensor_type).astype(np.float64).ravel()


def compare(source, ours, theirs):
    rows, differences = [], []
    for name, tensor in source.items():
        if name not in ours or name not in theirs or ours[name].tensor_type.name == "F32":
            continue
        x = numbers(tensor)
        errors = [np.sqrt(((numbers(other[name]) - x) ** 2).sum()) for other in (ours, theirs)]
        rows.append((errors[0] / max(errors[1], 1e-30), name))
        if ours[name].tensor_type != theirs[name].tensor_type:
            differences.append(f"{name}: {ours[name].tensor_type.name}, not {theirs[name].tensor_type.name}")
    return sorted(rows, reverse=True), differences


def main():
    lode, llama, path = sys.argv[1:4]
    source = load(path)
    for kind in sys.argv[4:] or TYPES:
        with tempfile.TemporaryDirectory() as folder:
            a, b = os.path.join(folder, "a.gguf"), os.path.join(folder, "b.gguf")
            subprocess.run([lode, "quantize", path, a, kind], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([llama, path, b, kind], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            rows, differences = compare(source, load(a), load(b))
        print(f"{kind:8} {len(rows)} matrices, worst {rows[0][0]:.4f} ({rows[0][1]}), "
              f"median {np.median([row[0] for row in rows]):.4f}", *differences, sep="\n  ")


if __name__ == "__main__":
    main()
