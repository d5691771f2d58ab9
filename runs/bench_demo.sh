#!/bin/sh
# Speed of the embedded demo model and of a model given as argument: median of 5 runs of a prompt and an
# answer. `./dev bench` calls it.  Usage: bench_demo.sh [MODEL [PROMPT_TOKENS [NEW_TOKENS]]]
set -eu
cd "$(dirname "$0")/.."
exec python3 - "${1:-demo}" "${2:-256}" "${3:-64}" <<'PYTHON'
import json, os, statistics, subprocess, sys
model, prompt, new = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lode = os.path.join("build", "release", "lode")
text = "the quick brown fox jumps over the lazy dog. " * prompt
rows = []
for threads in sorted({1, os.cpu_count() or 1}):
    prompts, answers, tokens = [], [], 0
    for run in range(5):
        ids = json.loads(subprocess.run([lode, "tokenize", model, text, "--json"], capture_output=True, check=True).stdout)
        cut = subprocess.run([lode, "detokenize", model, ",".join(map(str, ids[:prompt]))], capture_output=True, check=True).stdout.decode().rstrip("\n")
        out = subprocess.run([lode, "generate", model, "-p", cut, "-n", str(new), "--temp", "0", "--ignore-eos", "--json",
                              "--threads", str(threads)], capture_output=True, check=True, text=True).stdout
        r = json.loads(out)
        prompts.append(r["prompt_tokens"] / r["prompt_seconds"])
        answers.append(len(r["tokens"]) / r["generate_seconds"])
        tokens = r["prompt_tokens"]
    rows.append((threads, tokens, statistics.median(prompts), statistics.median(answers)))
load = os.getloadavg()[0]
print(f"{model}: median of 5; load of the machine {load:.1f}" + ("  (busy: these figures are spoiled)" if load > 3 else ""))
print("threads  prompt tokens  prompt tok/s  answer tok/s")
for threads, tokens, a, b in rows:
    print(f"{threads:7d}  {tokens:13d}  {a:12.1f}  {b:12.1f}")
PYTHON
