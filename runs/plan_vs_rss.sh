#!/bin/sh
# The memory plan against the truth: `lode inspect --plan` says what a run will take, then that run is
# made, with a prompt that fills its context, and its peak resident set is compared. They must agree
# within 2 % for models of 1 GiB and more.
#
#   runs/plan_vs_rss.sh MODEL [PROMPT_WORDS [NEW_TOKENS]]
#
# A random model will do, if no real one is at hand:
#   python3 ../shared/bench/make_random_nemotron_gguf.py mini mini.gguf       (1.2 GB)
# LODE names the program, else build/release/lode.
set -eu
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }
exec python3 - "${LODE:-build/release/lode}" "$@" <<'PYTHON'
import json
import resource
import subprocess
import sys
import time

lode, model = sys.argv[1:3]
words = int(sys.argv[3]) if len(sys.argv) > 3 else 300
new_tokens = int(sys.argv[4]) if len(sys.argv) > 4 else 16
prompt = "ab " * words


def run(*arguments):
    done = subprocess.run([lode, *arguments], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


count = len(run("tokenize", model, prompt, "--json")) + 1  # generate may add a BOS
context = str(count + new_tokens)
plan = run("inspect", model, "--plan", "--context", context, "--json")["plan"]
# The children before this one are small, so the peak is that of the run.
start = time.time()
answer = run("generate", model, "-p", prompt, "-n", str(new_tokens), "--context", context,
             "--temp", "1", "--seed", "1", "--ignore-eos", "--json")
wall = time.time() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
error = plan["total"] / peak - 1
for name in ("weights", "other_tensors", "headers", "vectors", "workspace", "states", "logits", "text",
             "program", "total"):
    print(f"{name:14} {plan[name]:15,}")
print(f"{'peak RSS':14} {peak:15,}")
print(f"plan is {error:+.2%} off; context {context}, {len(answer['tokens'])} new tokens, {wall:.1f} s")
startup = wall - answer["prompt_seconds"] - answer["generate_seconds"]
print(f"start to first step: {startup:.2f} s (opening, tokenizer, mapping every page)")
sys.exit(0 if abs(error) <= 0.02 or peak < 1 << 30 else 1)
PYTHON
