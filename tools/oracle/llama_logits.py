#!/usr/bin/env python3
"""Logits of every position as llama.cpp computes them, with its default settings on CPU.

    PYTHONPATH=<llama-cpp-python source> LLAMA_CPP_LIB_PATH=<folder with libllama.so> \\
        llama_logits.py MODEL.gguf --tokens 1,2,3 [--out F.npy] [--expect F.npy] [--threads N] [--exact]

Needs the `llama_cpp` Python package: its source distribution carries llama.cpp, and only its ctypes layer is used.
The whole prompt is one batch; KV cache F16, flash attention "auto", repacked weights: what a user gets who sets nothing.
--exact keeps the KV cache in F32 and attention unfused: with F32 weights that is llama.cpp's most precise answer.
"""
import argparse
import ctypes
import sys

import numpy as np

from reference_forward import cosines, parse_tokens


def llama_logits(path, tokens, threads=2, exact=False):
    import llama_cpp as L

    L.llama_log_set(_quiet(L), ctypes.c_void_p(0))
    L.llama_backend_init()
    model = L.llama_model_load_from_file(str(path).encode(), L.llama_model_default_params())
    if not model:
        raise SystemExit(f"{path}: llama.cpp does not load it")
    n = len(tokens)
    p = L.llama_context_default_params()
    p.n_ctx, p.n_threads, p.n_threads_batch = max(256, n), threads, threads
    if exact:
        p.type_k = p.type_v = L.GGML_TYPE_F32
        p.flash_attn_type = 0
    for field in ("n_outputs_max", "n_outputs_max_per_seq"):  # only newer versions have them
        if hasattr(p, field):
            setattr(p, field, n)
    context = L.llama_init_from_model(model, p)
    if not context:
        raise SystemExit(f"{path}: llama.cpp makes no context")
    batch = L.llama_batch_init(n, 0, 1)
    batch.n_tokens = n
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    if L.llama_decode(context, batch) != 0:
        raise SystemExit(f"{path}: llama_decode failed")
    vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    out = np.stack([np.ctypeslib.as_array(L.llama_get_logits_ith(context, i), shape=(vocab,)).copy() for i in range(n)])
    L.llama_batch_free(batch)
    L.llama_free(context)
    L.llama_model_free(model)
    return out


_kept = []


def _quiet(L):
    """Only llama.cpp's errors are shown; the callback must outlive the call, hence _kept."""
    @L.llama_log_callback
    def show(level, text, _):
        if level == 4:
            sys.stderr.write(text.decode(errors="replace"))

    _kept.append(show)
    return show


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--out")
    ap.add_argument("--expect")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--exact", action="store_true")
    a = ap.parse_args()
    got = llama_logits(a.model, parse_tokens(a.tokens), a.threads, a.exact)
    if a.out:
        np.save(a.out, got.astype(np.float32))
    if a.expect:
        want = np.load(a.expect).astype(np.float64)
        cos = cosines(got.astype(np.float64), want)
        print(f"{a.model}: max|d| {np.abs(got - want).max():.3g} median 1-cosine {np.median(1 - cos):.3g} argmax {(got.argmax(-1) == want.argmax(-1)).mean():.3f}")


if __name__ == "__main__":
    main()
