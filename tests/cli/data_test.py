#!/usr/bin/env python3
"""lode data from outside: what is shown, counted, refused and written.

Usage: data_test.py LODE_BINARY SOURCE_DIR
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

LODE, SOURCE = sys.argv[1:3]
CHAT = {"messages": [{"role": "user", "content": "What is 2+2?"},
                     {"role": "assistant", "reasoning_content": "Easy.", "content": "Four."},
                     {"role": "user", "content": "And 3+3?"},
                     {"role": "assistant", "content": "Six."}]}


class DataTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lode-data-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, *records):
        with open(self.path(name), "w", encoding="utf-8") as file:
            for record in records:
                file.write((record if isinstance(record, str) else json.dumps(record)) + "\n")
        return self.path(name)

    def run_lode(self, *args):
        return subprocess.run([LODE, "data", *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)

    def lode(self, *args):
        result = self.run_lode(*args)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def refused(self, *args):
        result = self.run_lode(*args)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertTrue(result.stderr.startswith("lode: "), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        return result.stderr

    def test_inspect_marks_what_is_taught_and_counts(self):
        chats = self.write("chats.jsonl", CHAT)
        shown = self.lode("inspect", chats, "--model", "demo")
        self.assertIn("<think>\n⟦Easy.\n</think>\nFour.<|im_end|>⟧", shown)
        self.assertIn("<think></think>⟦Six.<|im_end|>⟧", shown)
        found = json.loads(self.lode("inspect", chats, "--model", "demo", "--json"))
        self.assertEqual(found["records"], {"chat": 1})
        self.assertEqual(found["sequences"], 2)
        first = found["examples"][0]["sequences"][0]
        taught = "".join(p for p, w in zip(first["pieces"], first["weights"]) if w)
        self.assertEqual(taught, "Easy.\n</think>\nFour.<|im_end|>")
        last = self.lode("inspect", chats, "--model", "demo", "--supervise", "last-assistant",
                         "--json")
        self.assertEqual(json.loads(last)["sequences"], 1)

    def test_a_terminal_is_not_steered_by_data(self):
        shown = self.lode("inspect", self.write("t.jsonl", {"text": "a\x1b[31mb"}), "--model", "demo")
        self.assertNotIn("\x1b", shown)
        self.assertIn("\\x1b[31m", shown)

    def test_bad_records_are_named_and_refuse(self):
        path = self.write("bad.jsonl", CHAT, "{oops", {"text": "a", "messages": []}, {"text": "b"})
        why = self.refused("inspect", path, "--model", "demo")
        self.assertIn("2 records", why)
        self.assertIn("bad.jsonl:2", why)
        self.refused("tokenize", path, "--model", "demo", "--out", self.path("s.tokens"))
        self.assertEqual(os.listdir(self.folder), ["bad.jsonl"])
        odd = self.write("odd.jsonl", {"instruction": "say a", "output": "a"})
        self.lode("inspect", odd, "--model", "demo")
        self.assertIn("--strict", self.refused("inspect", odd, "--model", "demo", "--strict"))
        self.assertIn("parquet_to_jsonl", self.refused(
            "inspect", self.write("x.parquet"), "--model", "demo"))

    def test_a_shard_is_written_and_packing_is_reported(self):
        texts = self.write("texts.jsonl", *[{"text": "word " * n} for n in range(1, 40)])
        shard = self.path("texts.tokens")
        said = json.loads(self.lode("tokenize", texts, "--model", "demo", "--out", shard, "--json"))
        self.assertEqual(said["documents"], 39)
        with open(shard, "rb") as file:
            self.assertEqual(file.read(8), b"LODETOKS")
        self.assertEqual(os.path.getsize(shard) % 8, 0)
        seen = json.loads(self.lode("inspect", shard, "--model", "demo", "--json"))
        self.assertEqual(seen["tokens"], said["tokens"])
        self.assertEqual(seen["examples"][1]["sequences"][0]["pieces"][-1], "<|im_end|>")
        packed = json.loads(self.lode("pack", texts, "--model", "demo", "--length", "64", "--json"))
        self.assertGreater(packed["packing"]["efficiency"], 0.8)
        self.refused("tokenize", self.write("p.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"}),
                     "--model", "demo", "--out", shard)

    def test_a_tokenizer_is_learnt_and_not_replaced_unasked(self):
        text = self.write("text.txt", "the cat sat on the mat, the cat sat\n" * 20)
        folder = self.path("tokenizer")
        self.lode("bpe", text, "--vocab", "266", "--out", folder, "--special", "<|im_end|>")
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            made = json.load(file)
        self.assertEqual(made["added_tokens"][0]["content"], "<|im_end|>")
        self.assertEqual(len(made["model"]["vocab"]), 266)
        self.assertIn("--force", self.refused("bpe", text, "--vocab", "280", "--out", folder))
        self.assertIn("no room", self.refused("bpe", text, "--vocab", "257", "--out",
                                              self.path("other"), "--special", "a", "--eos", "b"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
