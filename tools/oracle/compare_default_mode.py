#!/usr/bin/env python3
"""Is Lode's default mode no farther from the truth than llama.cpp is on the same file?

    compare_default_mode.py [--lode BINARY] [--json OUT] MODEL.gguf=TOKENS_FILE ...

The truth is the float64 forward of the decoded weights. Per model, the median over positions of 1 - cosine between the
logits of each program (both with their default settings) and the truth; also the largest difference of
`lode logits --activations f32`, which has no rounding to hide behind. Exit code 1 if Lode is farther anywhere.
Without --lode only llama.cpp is measured. See llama_logits.py for what it needs; --reuse takes its figures from an
earlier --json file instead.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np

from checkpoint import load
from reference_forward import Forward, cosines, parse_tokens


def distance(logits, truth):
    return float(np.median(1 - cosines(np.asarray(logits, np.float64), truth)))


def lode_logits(binary, model, tokens, activations=None):
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/logits.npy"
        command = [binary, "logits", str(model), "--tokens", ",".join(map(str, tokens)), "--out", out]
        subprocess.run(command + (["--activations", activations] if activations else []), check=True, stdout=subprocess.DEVNULL)
        return np.load(out)


def measure(a, model, tokens, earlier):
    ids = parse_tokens(tokens)
    truth = Forward(load(model)).run(ids)[0]
    row = {"model": str(model), "positions": len(ids)}
    if model.name in earlier:
        row["llama_cpp"] = earlier[model.name]["llama_cpp"]
    else:
        from llama_logits import llama_logits

        row["llama_cpp"] = distance(llama_logits(model, ids), truth)
    if a.lode:
        row["lode"] = distance(lode_logits(a.lode, model, ids), truth)
        row["lode_f32_max_abs_d"] = float(np.abs(lode_logits(a.lode, model, ids, "f32") - truth).max())
    return row


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lode")
    ap.add_argument("--json")
    ap.add_argument("--reuse")
    ap.add_argument("models", nargs="+", metavar="MODEL.gguf=TOKENS_FILE")
    a = ap.parse_args()
    earlier = {pathlib.Path(r["model"]).name: r for r in json.loads(pathlib.Path(a.reuse).read_text())} if a.reuse else {}
    rows, farther = [], []
    print("| model | llama.cpp median 1-cos | lode | lode f32 max abs d |\n|---|---|---|---|")
    for pair in a.models:
        model, tokens = pair.split("=")
        row = measure(a, pathlib.Path(model), tokens, earlier)
        rows.append(row)
        show = lambda key: f"{row[key]:.3g}" if key in row else "-"
        print(f"| {pathlib.Path(model).name} | {show('llama_cpp')} | {show('lode')} | {show('lode_f32_max_abs_d')} |", flush=True)
        if row.get("lode", 0) > row["llama_cpp"]:
            farther.append(pathlib.Path(model).name)
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps(rows, indent=1) + "\n")
    if farther:
        raise SystemExit("farther from the truth than llama.cpp: " + ", ".join(farther))


if __name__ == "__main__":
    main()
