#!/usr/bin/env python3
"""lode train from outside: what it writes, what it says of bad input, and that neither kill -9 at
any moment, nor a signal, nor a full disk costs more than the steps since the last checkpoint.

Usage: train_test.py LODE_BINARY
"""
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

LODE = sys.argv[1]
KILLS = 50

SETTINGS = """
[model]
model_type = "nemotron_h"
hybrid_override_pattern = "ME*"
hidden_size = 16
mamba_num_heads = 2
mamba_head_dim = 8
n_groups = 1
ssm_state_size = 8
conv_kernel = 4
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 8
n_routed_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 8

[data]
training = "text.txt"

[train]
steps = 60
batch = 2
sequence = 16
threads = 1
evaluate_every = 20
evaluate_sequences = 8
sample_every = 0
checkpoint_every = 2
"""
TEXT = "".join(f"{n} sheep and {n * 7919 % 100} dogs.\n" for n in range(200))
TIMES = ("seconds", "tokens_per_second")


class TrainTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lode-train-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.write("text.txt", TEXT)
        self.settings = self.write("run.toml", SETTINGS)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read()

    def start(self, *args, **more):
        return subprocess.Popen([LODE, "train", self.settings, *args], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)

    def run_lode(self, *args, **more):
        process = self.start(*args, **more)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def train(self, *args):
        code, output = self.run_lode(*args)
        self.assertEqual(code, 0, output)
        return output

    def losses(self, run):
        lines = [json.loads(line) for line in self.read(run, "metrics.jsonl").splitlines()]
        return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]

    def assert_same(self, run, other, step):
        for file in ("model.safetensors", "optimizer.safetensors"):
            self.assertEqual(self.read(run, "checkpoints", step, file),
                             self.read(other, "checkpoints", step, file), file)
        self.assertEqual(self.read(run, "model", "model.safetensors"),
                         self.read(other, "model", "model.safetensors"))
        self.assertEqual(self.losses(run), self.losses(other))

    def begun(self, run):
        """`--out` for a run that is not there yet, `--resume` for one that is."""
        there = os.path.exists(self.path(run, "metrics.jsonl"))
        return ["--resume" if there else "--out", self.path(run)]

    def test_kill_9_at_any_moment_loses_at_most_the_steps_since_the_last_checkpoint(self):
        started = time.monotonic()
        self.train("--out", self.path("whole"))
        span = time.monotonic() - started
        draw = random.Random(int(os.environ.get("LODE_SEED", "1")))
        kills, runs = 0, 0
        while kills < KILLS:
            run = f"run{runs}"
            while True:
                process = self.start(*self.begun(run))
                try:
                    output, _ = process.communicate(timeout=draw.uniform(0.0, 0.6 * span))
                    self.assertEqual(process.returncode, 0, output)
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    output, _ = process.communicate()
                    kills += process.returncode == -signal.SIGKILL
                    self.assertNotIn("left out", output)
                if kills >= KILLS:
                    self.train(*self.begun(run))
                    break
            self.assert_same("whole", run, "step-60")
            left = os.listdir(self.path(run)) + os.listdir(self.path(run, "checkpoints"))
            self.assertEqual([name for name in left if name.startswith(".") or ".part-" in name],
                             [".lock"])
            runs += 1

    def test_signals_save_and_exit(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130)):
            run = f"stopped{int(number)}"
            # Nothing but the signal makes a checkpoint: no evaluation that is the best so far, either.
            process = self.start("--out", self.path(run), "--set", "train.steps=1000000",
                                 "--set", "train.checkpoint_every=0",
                                 "--set", "train.evaluate_every=0")
            while not os.path.exists(self.path(run, "metrics.jsonl")) or \
                    not self.read(run, "metrics.jsonl"):
                time.sleep(0.01)
            process.send_signal(number)
            output, _ = process.communicate(timeout=60)
            self.assertEqual(process.returncode, code, output)
            self.assertIn("--resume", output)
            steps = os.listdir(self.path(run, "checkpoints"))
            self.assertEqual(len(steps), 1, steps)
            self.assertFalse(os.path.exists(self.path(run, "model")))

    def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stays(self):
        self.train("--out", self.path("whole"))
        size = len(self.read("whole", "checkpoints", "step-60", "optimizer.safetensors"))

        def limit():  # files can grow to so many bytes
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, size - 1000))
        self.train("--out", self.path("a"), "--set", "train.steps=60", "--set",
                   "train.evaluate_every=0")
        shutil.rmtree(self.path("a"))
        process = self.start("--out", self.path("a"))
        while not os.path.exists(self.path("a", "checkpoints", "step-2")):
            time.sleep(0.002)
        process.kill()
        process.communicate()
        code, output = self.run_lode("--resume", self.path("a"), preexec_fn=limit,
                                     restore_signals=False)
        self.assertEqual(code, 2, output)
        self.assertIn("lode: the checkpoint of step", output)
        self.assertIn("optimizer.safetensors", output)
        self.train("--resume", self.path("a"))
        self.assert_same("whole", "a", "step-60")

    def test_check_says_what_it_takes_and_writes_nothing(self):
        before = sorted(os.listdir(self.folder))
        output = self.train("--check", "--out", self.path("none"))
        for word in ("ME*", "parameters", "moments of the optimizer", "tok/s", "nothing was written"):
            self.assertIn(word, output)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_bad_input_is_one_sentence_before_anything_is_written(self):
        out = ["--out", self.path("a")]
        for args, words in (
                (["--set", "train.stepps=3"], "did you mean 'train.steps'?"),
                (["--set", "data.training=none.txt"], "none.txt"),
                (["--set", "model.hybrid_override_pattern='MX'"], "'X'"),
                (["--set", "train.sequence=1000000"], "less than one sequence"),
                (["--set", "train.batch=3", "--set", "train.accumulate=2"], "does not divide"),
        ):
            code, output = self.run_lode(*out, *args)
            self.assertEqual(code, 2, output)
            self.assertEqual(output.count("\n"), 1, output)
            self.assertIn(words, output)
        self.assertFalse(os.path.exists(self.path("a")))

    def test_the_model_answers_and_becomes_a_gguf(self):
        self.train(*["--out", self.path("a")])
        for verb in (["generate", self.path("a", "model"), "-p", "3 sheep", "-n", "5"],
                     ["perplexity", self.path("a", "checkpoints", "step-60"), "--file",
                      self.path("text.txt"), "--context", "64"],
                     ["convert", self.path("a", "model"), self.path("a.gguf")],
                     ["generate", self.path("a.gguf"), "-p", "3 sheep", "-n", "5"],
                     ["chat", self.path("a", "model"), "-m", "3 sheep", "-n", "5"]):
            result = subprocess.run([LODE, *verb], stdin=subprocess.DEVNULL, timeout=60,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
