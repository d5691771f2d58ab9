#!/usr/bin/env python3
"""lode ctx, generate --save and --context from outside: what is kept, shared, refused and explained.

Usage: ctx_test.py LODE_BINARY SOURCE_DIR
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

LODE, SOURCE = sys.argv[1:3]
TEXT = "".join(f"ACT {n}. Enter a messenger with letter {n * 7919 % 1000}.\n" for n in range(60))


class CtxTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lode-ctx-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def run_lode(self, *args):
        env = {**os.environ, "LODE_HOME": self.path("home")}
        return subprocess.run([LODE, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=120, env=env)

    def lode(self, *args):
        result = self.run_lode(*args)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def json(self, *args):
        return json.loads(self.lode(*args, "--json"))

    def assert_bad(self, result, *words):
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertTrue(result.stderr.startswith("lode: "), result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def make(self, name="play", text=TEXT):
        return self.json("ctx", "new", "demo", name, "--file", self.write(name + ".txt", text), "--every", "128")

    def test_going_on_from_a_kept_context_gives_the_words_of_reading_it_all(self):
        made = self.make()
        self.assertGreater(made["tokens"], 500)
        self.assert_bad(self.run_lode("ctx", "new", "demo", "play", "-p", "x"), "already", "--force")
        options = ["-n", "24", "--temp", "0.8", "--seed", "3"]
        went_on = self.json("generate", "demo", "--context", "play", "-p", "ROMEO:", *options)
        self.assertEqual(went_on["restored_tokens"], made["tokens"])
        self.assertLess(went_on["computed_tokens"], 10)
        ids = self.json("tokenize", "demo", "--file", self.path("play.txt"), "--add-bos")
        more = self.json("tokenize", "demo", "ROMEO:")
        # The ids are those of the two texts, one behind the other.
        self.assertEqual(went_on["context_tokens"], len(self.ids(ids)) + len(self.ids(more)) + 24)
        # And those of a third process that kept both steps are the same.
        self.json("generate", "demo", "--context", "play", "-p", "ROMEO:", "-n", "10", "--temp", "0.8",
                  "--seed", "3", "--save", "scene")
        rest = self.json("generate", "demo", "--context", "scene", "-n", "14", "--temp", "0.8", "--seed", "3")
        self.assertEqual(went_on["tokens"][10:], rest["tokens"])
        self.assertEqual(rest["computed_tokens"], 1)

    @staticmethod
    def ids(answer):
        return answer["tokens"] if isinstance(answer, dict) else answer

    def test_a_fork_shares_the_disk_and_goes_its_own_way(self):
        made = self.make()
        fork = self.json("ctx", "fork", "play", "other", "--at", "400")
        self.assertTrue(fork["delta"])
        self.assertEqual(fork["pages_written"], 0)
        self.assertLess(fork["file_bytes"], made["file_bytes"])
        self.assertEqual(self.json("ctx", "show", "other")["tokens"], 400)
        self.assert_bad(self.run_lode("ctx", "fork", "play", "other"), "already")
        self.assert_bad(self.run_lode("ctx", "fork", "play", "third", "--at", "100000"), "100000")
        diff = self.json("ctx", "diff", "play", "other", "--model", "demo")
        self.assertEqual((diff["same"], diff["equal"], diff["b_text"]), (400, False, ""))
        # What it says does not change when the one it came from is gone.
        options = ["-n", "8", "--temp", "0.8", "--seed", "5", "-p", "JULIET:"]
        before = self.json("generate", "demo", "--context", "other", *options)["tokens"]
        self.lode("ctx", "rm", "play")
        self.assertEqual(self.json("generate", "demo", "--context", "other", *options)["tokens"], before)
        self.assertEqual(self.json("ctx", "verify", "other", "--recompute", "demo")["damage"], [])
        self.assertEqual([each["name"] for each in self.json("ctx", "ls")], ["other"])

    def test_truncation_gives_the_bytes_back(self):
        made = self.make()
        self.lode("generate", "demo", "--context", "play", "-p", "x" * 400, "-n", "1", "--save", "play")
        cut = self.json("ctx", "truncate", "play", "300")
        self.assertEqual(self.json("ctx", "show", "play")["tokens"], 300)
        self.assertLess(cut["file_bytes"], made["file_bytes"])
        self.assert_bad(self.run_lode("ctx", "truncate", "play", "301"), "301")
        self.lode("ctx", "verify", "play")

    def test_a_recomputed_context_has_the_same_bits(self):
        self.make()
        verified = self.json("ctx", "verify", "play", "--recompute", "demo")
        self.assertTrue(verified["same_bits"])
        self.assertGreater(verified["compared_bytes"], 1000)

    def test_files_move_between_stores_sealed_and_compressed(self):
        self.make()
        self.lode("ctx", "fork", "play", "branch")
        key = self.write("key", "ab" * 32 + "\n")
        for name, flags in (("plain", []), ("small", ["--zstd", "3"]), ("sealed", ["--seal", "--key-file", key])):
            file = self.path(name + ".lctx")
            self.assertFalse(self.json("ctx", "save", "branch", file, *flags)["delta"])
            self.assert_bad(self.run_lode("ctx", "save", "branch", file, *flags), "exists")
        sealed = self.path("sealed.lctx")
        self.assert_bad(self.run_lode("ctx", "restore", sealed, "mine"), "key")
        self.lode("ctx", "rm", "play", "branch")
        self.lode("ctx", "restore", sealed, "mine", "--key-file", key)
        self.lode("ctx", "restore", self.path("small.lctx"))
        self.assert_bad(self.run_lode("ctx", "restore", self.path("plain.lctx"), "small"), "already")
        self.assertEqual(self.json("ctx", "diff", "small", self.path("plain.lctx"))["equal"], True)
        self.assertEqual(len(self.json("ctx", "ls")), 2)
        with open(self.path("plain.lctx"), "r+b") as file:
            file.seek(os.path.getsize(file.name) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        broken = self.run_lode("ctx", "restore", self.path("plain.lctx"), "again")
        self.assert_bad(broken, "damaged")
        self.assertEqual(len(self.json("ctx", "ls")), 2)

    def test_garbage_is_what_was_not_used_and_not_pinned(self):
        for number, name in enumerate(("old", "pinned", "new")):
            self.make(name, TEXT + str(number))
            os.utime(self.path(f"home/contexts/{name}.lctx"), (1e9 + number, 1e9 + number))
        self.lode("ctx", "pin", "pinned")
        # Going on from it is a use.
        self.lode("generate", "demo", "--context", "old", "-p", "x", "-n", "1")
        size = os.path.getsize(self.path("home/contexts/old.lctx"))
        planned = self.json("ctx", "gc", "--keep", str(size * 5 // 2), "--dry-run")
        self.assertEqual([each["name"] for each in planned["removed"]], ["new"])
        self.assertEqual(len(self.json("ctx", "ls")), 3)
        done = self.json("ctx", "gc", "--keep", str(size * 5 // 2))
        self.assertEqual([each["name"] for each in done["removed"]], ["new"])
        self.assertEqual([each["name"] for each in self.json("ctx", "ls")], ["old", "pinned"])
        self.assert_bad(self.run_lode("ctx", "gc", "--keep", "1"), "pinned")
        self.assertEqual([each["name"] for each in self.json("ctx", "ls")], ["pinned"])
        self.assert_bad(self.run_lode("ctx", "gc", "--keep", "many"), "'many'")

    def test_what_expired_goes_first_unless_it_is_pinned(self):
        for name in ("fresh", "stale", "pinned"):
            self.json("ctx", "new", "demo", name, "-p", "Enter " + name, "--ttl", "2h")
        self.json("ctx", "new", "demo", "for-ever", "-p", "Enter")
        self.assertIn("7200", self.lode("ctx", "show", "fresh"))
        self.lode("ctx", "pin", "pinned")
        for name in ("stale", "pinned", "for-ever"):
            long_ago = time.time() - 7300
            os.utime(self.path(f"home/contexts/{name}.lctx"), (long_ago, long_ago))
        self.assertEqual([each["name"] for each in self.json("ctx", "gc", "--dry-run")["removed"]], ["stale"])
        done = self.json("ctx", "gc")["removed"]
        self.assertEqual([(each["name"], each["expired"]) for each in done], [("stale", True)])
        self.assertEqual(len(self.json("ctx", "ls")), 3)
        # What goes on from it keeps its ttl.
        self.lode("generate", "demo", "--context", "fresh", "-n", "2", "--save", "fresh")
        self.assertEqual(self.json("ctx", "show", "fresh")["meta"]["ttl_seconds"], 7200)
        self.assert_bad(self.run_lode("ctx", "new", "demo", "x", "-p", "x", "--ttl", "soon"), "'soon'")

    def test_a_trace_shows_who_shares_what_and_says_nothing(self):
        file = self.path("load.jsonl")
        self.chat("My secret is Rosebud, and nobody knows it but you.", "What is it?", flags=["--trace", file])
        self.chat("Tell me once more, what is it?", flags=["--trace", file])
        self.lode("generate", "demo", "-p", "Rosebud is a word that nobody knows.", "-n", "8", "--trace", file)
        self.lode("generate", "demo", "-p", "ROMEO:", "-n", "4", "--save", "scene", "--trace", file)
        self.lode("generate", "demo", "--context", "scene", "-p", "JULIET:", "-n", "4", "--trace", file)
        with open(file, encoding="utf-8") as text:
            lines = [json.loads(line) for line in text]
        self.assertEqual(len(lines), 6)
        for line in lines:
            self.assertEqual(len(line["hash_ids"]), -(-line["input_length"] // 16))
            self.assertNotIn("prompt", line)
        # What was read and answered stands at the beginning of the next prompt, in another process too.
        for before, after in zip(lines[:2], lines[1:3]):
            full = (before["input_length"] + before["output_length"]) // 16
            whole = before["hash_ids"][:before["input_length"] // 16] + before["output_hash_ids"]
            self.assertEqual(after["hash_ids"][:full], whole[:full])
            self.assertGreater(after["cached"], 0)
        self.assertNotEqual(lines[3]["hash_ids"][0], lines[0]["hash_ids"][0])
        self.assertEqual(lines[5]["cached"], lines[4]["input_length"] + lines[4]["output_length"] - 1)
        self.lode("generate", "demo", "-p", "ROMEO:", "-n", "4", "--trace", file, "--trace-ids")
        with open(file, encoding="utf-8") as text:
            last = json.loads(text.readlines()[-1])
        self.assertEqual(last["prompt"], self.ids(self.json("tokenize", "demo", "ROMEO:", "--add-bos")))

    def test_explain_names_the_first_difference(self):
        self.make()
        edited = self.write("edited.txt", TEXT.replace("ACT 30.", "ACT thirty."))
        found = self.json("ctx", "explain", "demo", "play", "--file", edited)
        self.assertGreater(found["divergence"], 100)
        # A state is kept every 128 tokens.
        self.assertGreater(found["cached"], found["divergence"] - 130)
        self.assertEqual(found["reason"], "no_point_before_divergence")
        whole = self.json("ctx", "explain", "demo", "play")
        self.assertEqual(whole["cached"] + whole["computed"], whole["prompt"])
        self.assertLessEqual(whole["computed"], 1)
        self.assertIn("first difference", self.lode("ctx", "explain", "demo", "play", "--file", edited))

    def test_another_model_is_refused_by_name_of_the_field(self):
        self.make()
        other = os.path.join(SOURCE, "tests", "golden", "moe-nano")
        refused = self.run_lode("generate", other, "--context", "play", "-p", "x", "-n", "1")
        self.assert_bad(refused, "model")
        numerics = self.run_lode("generate", "demo", "--activations", "f32", "--context", "play", "-p", "x", "-n", "1")
        self.assert_bad(numerics, "numerics")

    def chat(self, *messages, context="talk", flags=()):
        """Answers, and of each the tokens of the prompt, those reused, those of the answer."""
        env = {**os.environ, "LODE_HOME": self.path("home")}
        named = ["--context", context] if context else []
        result = subprocess.run([LODE, "chat", "demo", *named, "-n", "24", "--seed", "3", *flags],
                                input="".join(m + "\n" for m in messages), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, timeout=120, env=env)
        self.assertEqual(result.returncode, 0, result.stderr)
        turns = []
        for line in result.stderr.splitlines():
            prompt = re.search(r"prompt (\d+) tokens(?: \((\d+) reused)?", line)
            if prompt:
                answer = re.search(r"answer (\d+) tokens", line)
                turns.append((int(prompt[1]), int(prompt[2] or 0), int(answer[1]) if answer else 0))
        return result.stdout, turns

    def test_a_dialogue_is_there_tomorrow_with_every_token(self):
        said = ["To be, or not to be?", "And who are you?", "Speak again, " + "sweet " * 40 + "lord."]
        texts, whole = self.chat(*said, context=None)
        apart, turns = "", []
        for message in said:
            text, turn = self.chat(message)
            apart += text
            turns += turn
            prompt, _, answer = turn[0]
            self.assertEqual(self.json("ctx", "show", "talk")["tokens"], prompt + answer)
        self.assertEqual(apart, texts)
        self.assertEqual(turns, whole)  # what is reused, too: nothing more is computed
        self.assertGreater(turns[2][1], 40)
        self.assertEqual(self.json("ctx", "verify", "talk", "--recompute", "demo")["damage"], [])
        # Another answer to the last message goes on from the state before it.
        _, again = self.chat("/regen")
        self.assertGreater(again[0][1], turns[2][0] - 40)

    def test_a_kept_dialogue_may_outgrow_the_room_of_a_new_one(self):
        said = "Enter a messenger with letters. " * 200
        _, first = self.chat("First. " + said)
        prompt, _, answer = first[0]
        self.assertGreater(prompt, 2048)  # two of them need more than the 4,096 that the model claims
        _, second = self.chat("Then. " + said)
        self.assertGreater(second[0][0], 4096)
        self.assertGreater(second[0][1], prompt - 2)
        self.assertGreater(second[0][2], 0)

    def test_a_killed_chat_loses_the_running_turn_at_most(self):
        self.chat("One.", "Two.")
        env = {**os.environ, "LODE_HOME": self.path("home")}
        lost = 0
        for delay in (0.0, 0.01, 0.03, 0.1, 0.3):
            before = self.json("ctx", "show", "talk")
            with subprocess.Popen([LODE, "chat", "demo", "--context", "talk", "-n", "2000", "--temp", "9",
                                   "-m", "Three."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env=env) as running:
                self.assertNotEqual(running.stdout.read(1), b"")  # it answers
                time.sleep(delay)
                running.kill()
            after = self.json("ctx", "verify", "talk")
            self.assertEqual(after["damage"], [])
            if after["chain"] == before["chain"]:
                lost += 1
            else:  # it was done before
                self.assertEqual(len(after["meta"]["messages"]), len(before["meta"]["messages"]) + 2)
        self.assertGreater(lost, 0)
        said = len(self.json("ctx", "show", "talk")["meta"]["messages"])
        _, turns = self.chat("Four.")
        self.assertGreater(turns[0][1], 0)
        self.assertEqual(len(self.json("ctx", "show", "talk")["meta"]["messages"]), said + 2)

    def test_a_sealed_dialogue_needs_its_key(self):
        key, other = self.write("key", "ab" * 32), self.write("other", "cd" * 32)
        open_text, open_turns = self.chat("My secret is Rosebud.", "What is it?", context="open")
        first, turns = self.chat("My secret is Rosebud.", flags=["--key-file", key])
        for flags in ([], ["--key-file", other]):
            refused = self.run_lode("chat", "demo", "--context", "talk", "-m", "What is it?", *flags)
            self.assert_bad(refused, "key")
        second, more = self.chat("What is it?", flags=["--key-file", key])
        self.assertEqual((first + second, turns + more), (open_text, open_turns))
        told = lambda: [file for file in os.listdir(self.path("home/contexts"))
                        if b"Rosebud" in open(self.path("home/contexts/" + file), "rb").read()]
        self.assertIn("open.lctx", told())
        self.lode("ctx", "rm", "open")
        self.assertEqual(told(), [])
        # A text, too.
        self.lode("generate", "demo", "-p", "Rosebud is", "-n", "4", "--save", "told", "--key-file", key)
        self.assert_bad(self.run_lode("generate", "demo", "--context", "told", "-n", "4"), "key")
        went_on = self.json("generate", "demo", "--context", "told", "-n", "4", "--key-file", key)
        self.assertEqual(went_on["computed_tokens"], 1)

    def test_what_another_precision_made_is_computed_anew_when_asked_to(self):
        self.chat("To be?")
        self.make()
        f32 = ["--activations", "f32"]
        refused = self.run_lode("chat", "demo", *f32, "--context", "talk", "-m", "x", "-n", "1")
        self.assert_bad(refused, "numerics", "--recompute")
        _, turns = self.chat("Or not?", flags=[*f32, "--recompute"])
        self.assertEqual(turns[0][1], 0)
        self.assertEqual(len(self.json("ctx", "show", "talk")["meta"]["messages"]), 4)
        refused = self.run_lode("generate", "demo", *f32, "--context", "play", "-n", "1")
        self.assert_bad(refused, "numerics", "--recompute")
        went_on = self.json("generate", "demo", *f32, "--context", "play", "-n", "2", "--recompute")
        self.assertGreater(went_on["computed_tokens"], 500)
        # A dialogue does not begin in the middle of a text.
        self.assert_bad(self.run_lode("chat", "demo", "--context", "play", "-m", "x"), "no dialogue")

    def test_wrong_names_are_sentences(self):
        self.assert_bad(self.run_lode("ctx", "show", "nothing"), "no saved context")
        self.assert_bad(self.run_lode("ctx", "pin", "nothing"), "no saved context")
        self.assert_bad(self.run_lode("ctx", "fork", "nothing", "x"), "no saved context")
        self.assert_bad(self.run_lode("ctx", "new", "demo", "../up", "-p", "x"), "'../up'")
        self.assert_bad(self.run_lode("generate", "demo", "--context", "nothing", "-p", "x"), "no saved context")
        self.assertIn("ctx new", self.lode("ctx", "ls"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
