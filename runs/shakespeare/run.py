#!/usr/bin/env python3
"""Trains the settings of this folder on tiny Shakespeare and says when the held-out loss fell how far.

    run.py LODE tinyshakespeare.txt OUT [--only NAME] [--threads N] [--set KEY=VALUE ...]

Each NAME.toml becomes OUT/NAME: a run of `lode train` with its curves and its model. At the end a
table: minutes of training until the held-out loss was below 1.88 and 1.60 nats a character, and
where it ended. Seconds are of training steps alone, without evaluations.
"""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MARKS = (1.88, 1.60)


def read(path):
    """[(minutes of training, held-out loss)] and the tokens a second over all."""
    seconds, curve, steps = 0.0, [], []
    with open(path, encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "held_out_loss" in line:
                curve.append((seconds / 60, line["held_out_loss"]))
            else:
                seconds += line["seconds"]
                steps.append(line["tokens_per_second"])
    return curve, sorted(steps)[len(steps) // 2]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lode")
    parser.add_argument("text")
    parser.add_argument("out")
    parser.add_argument("--only", help="hybrid or attention")
    parser.add_argument("--threads", default="0")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    names = [args.only] if args.only else ["hybrid", "attention"]
    rows = []
    for name in names:
        out = os.path.join(args.out, name)
        command = [args.lode, "train", os.path.join(HERE, name + ".toml"), "--out", out,
                   "--set", "data.training=" + os.path.abspath(args.text),
                   "--set", "train.threads=" + args.threads]
        for setting in args.set:
            command += ["--set", setting]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit(1)
        curve, speed = read(os.path.join(out, "metrics.jsonl"))
        below = [next((f"{minutes:.1f}" for minutes, loss in curve if loss < mark), "-")
                 for mark in MARKS]
        rows.append([name, f"{speed:.0f}", *below, f"{curve[-1][0]:.1f}", f"{curve[-1][1]:.4f}"])
    print("| run | tok/s | min to < 1.88 | min to < 1.60 | min in all | nats a character |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
