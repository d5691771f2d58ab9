#!/usr/bin/env python3
"""Would the fixtures notice a mistake? Makes each well-known mistake (reference_forward.WRONG) on purpose.

    sensitivity.py FOLDER|FILE.gguf...

Prints, per mistake, the fixture where it changes the outputs least among those where it changes them at all, and by how
much (max |d| over logits and MTP logits). It must stand well above the tests' tolerance; exit code 1 if a mistake is
never seen or nowhere exceeds 0.1.
"""
import pathlib
import sys

import numpy as np

from checkpoint import load
from reference_forward import WRONG, Forward, parse_tokens


def outputs(checkpoint, tokens, wrong=None):
    logits, mtp, _ = Forward(checkpoint, wrong).run(tokens)
    return logits if mtp is None else np.concatenate([logits, mtp])


def main():
    models = []
    for path in map(pathlib.Path, sys.argv[1:]):
        tokens = path / "tokens.txt" if path.is_dir() else path.with_suffix(".tokens")
        checkpoint, ids = load(path), parse_tokens(str(tokens))
        models.append((path.stem, checkpoint, ids, outputs(checkpoint, ids)))
    print("| mistake | seen by | weakest fixture | max abs d there | strongest |\n|---|---|---|---|---|")
    blind = []
    for wrong in WRONG:
        seen = []
        for name, checkpoint, ids, truth in models:
            d = float(np.abs(outputs(checkpoint, ids, wrong) - truth).max())
            if d > 1e-9:
                seen.append((d, name))
        if not seen or max(seen)[0] < 0.1:
            blind.append(wrong)
        if seen:
            print(f"| {wrong} | {len(seen)} of {len(models)} | {min(seen)[1]} | {min(seen)[0]:.2g} | {max(seen)[0]:.2g} |")
    if blind:
        raise SystemExit("not noticed: " + ", ".join(blind))


if __name__ == "__main__":
    main()
