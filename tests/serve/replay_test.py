#!/usr/bin/env python3
"""Requests that real clients sent, as runs/openclaw recorded them, sent again: streamed as they
were, and whole. The answers must mean what they meant to the client.

Usage: replay_test.py LODE_BINARY
A transcript is JSON lines: {"path", "headers", "body", "play": what the scripted model says,
"meaning"}. Of long texts only the length was kept.
"""
import json
import os
import sys
import unittest

from client import Server
from dialects import meaning_of

LODE = sys.argv[1]
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "transcripts")


def ask(server, entry, stream):
    headers = "".join(f"{name}: {value}\r\n" for name, value in entry["headers"].items())
    status, head, body = server.post(entry["path"], {**entry["body"], "stream": stream}, headers)
    if status != 200:
        raise AssertionError(f"{entry['path']} says {status}: {body[:400]!r}")
    return meaning_of(entry["path"], head["content-type"], body.decode())


class ReplayTest(unittest.TestCase):
    def replay(self, name):
        with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        self.assertGreater(len(entries), 2)
        self.assertTrue(any(entry["meaning"]["calls"] for entry in entries))
        script = [{"text": entry["play"], "times": 2} for entry in entries]
        server = Server(LODE, script=script)
        try:
            for entry in entries:
                self.assertEqual(ask(server, entry, True), entry["meaning"])
                whole = entry["body"].keys() - {"stream_options"}
                whole = {**entry, "body": {key: entry["body"][key] for key in whole}}
                self.assertEqual(ask(server, whole, False), entry["meaning"])
            self.assertTrue(server.wait_idle())
        finally:
            self.assertEqual(server.close(), 0)


for file_name in sorted(os.listdir(FOLDER)):
    if file_name.endswith(".jsonl"):
        setattr(ReplayTest, "test_" + file_name.removesuffix(".jsonl").replace("-", "_"),
                lambda self, name=file_name: self.replay(name))


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    unittest.main(verbosity=2)
