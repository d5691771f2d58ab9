#!/bin/sh
# How far is the default mode from the exact answer, beside llama.cpp on the same file?
# Needs Python (PYTHON names one) with numpy, gguf and a llama.cpp that tools/oracle/llama_logits.py finds (see there), or the
# stored figures of tests/golden/gguf/llama_cosine.json (default).
set -eu
cd "$(dirname "$0")/.."
models=""
for file in tests/golden/gguf/*.gguf; do
  case $file in *-of-*) continue ;; esac
  models="$models $file=${file%.gguf}.tokens"
done
# shellcheck disable=SC2086
exec "${PYTHON:-python3}" tools/oracle/compare_default_mode.py --lode build/release/lode \
  --reuse tests/golden/gguf/llama_cosine.json $models
