#!/usr/bin/env python3
"""Sums of two numbers below 100, as data for `lode train`.

Usage: make_tasks.py FOLDER
Writes completions.jsonl and tasks.jsonl to learn from, completions_held_out.jsonl and
tasks_held_out.jsonl with the tenth of all pairs that no training sees (chosen by a hash of the pair).
Answers are written with the last digit first, as one adds on paper.
"""
import hashlib
import json
import os
import sys


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    files = {}
    for kind in ("completions", "tasks"):
        for part in ("", "_held_out"):
            files[kind, part] = open(os.path.join(folder, kind + part + ".jsonl"), "w")
    for a in range(100):
        for b in range(100):
            prompt, answer = f"{a:02}+{b:02}=", str(a + b)[::-1]
            held_out = hashlib.sha256(prompt.encode()).digest()[0] * 10 // 256 == 0
            part = "_held_out" if held_out else ""
            line = {"prompt": prompt, "completion": answer}
            files["completions", part].write(json.dumps(line) + "\n")
            line = {"prompt": prompt, "environment": "exact", "expected_answer": answer}
            files["tasks", part].write(json.dumps(line) + "\n")
    for file in files.values():
        file.close()


if __name__ == "__main__":
    main()
