#!/bin/sh
# The same GGUF in both engines, interleaved, three rounds each: prompt of 512 tokens, answer of 32.
# Usage: vs_llamacpp.sh MODEL.gguf LLAMA_BENCH   (the path of llama.cpp's llama-bench)
set -eu
cd "$(dirname "$0")/.."
exec python3 - "$1" "$2" <<'PYTHON'
import json, os, statistics, subprocess, sys
model, llama_bench = sys.argv[1:3]
lode = os.path.join("build", "release", "lode")
threads = os.cpu_count() or 1

def run(*command):
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout

ids = json.loads(run(lode, "tokenize", model, "the quick brown fox jumps over the lazy dog. " * 200, "--json"))[:512]
prompt = run(lode, "detokenize", model, ",".join(map(str, ids)))[:-1]
ours, theirs = {"prompt": [], "answer": []}, {"prompt": [], "answer": []}
for _ in range(3):
    r = json.loads(run(lode, "generate", model, "-p", prompt, "-n", "32", "--temp", "0", "--ignore-eos", "--json"))
    ours["prompt"].append(r["prompt_tokens"] / r["prompt_seconds"])
    ours["answer"].append(len(r["tokens"]) / r["generate_seconds"])
    for test in json.loads(run(llama_bench, "-m", model, "-p", "512", "-n", "32", "-r", "1", "-t", str(threads), "-o", "json")):
        theirs["prompt" if test["n_prompt"] else "answer"].append(test["avg_ts"])
print(f"{os.path.basename(model)}, {threads} threads, median of 3, load {os.getloadavg()[0]:.1f}")
for name in ("prompt", "answer"):
    a, b = statistics.median(ours[name]), statistics.median(theirs[name])
    print(f"{name}: lode {a:.1f} tok/s, llama.cpp {b:.1f} tok/s, ratio {a / b:.2f}")
PYTHON
