#!/usr/bin/env python3
"""The program from outside, as a user or a script meets it: outputs, exit codes, sentences, signals.

Usage: cli_test.py LODE_BINARY SOURCE_DIR NO_NETWORK_LIBRARY
"""
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

LODE, SOURCE, NO_NETWORK = sys.argv[1:4]
GOLDEN = os.path.join(SOURCE, "tests", "golden")
DENSE = os.path.join(GOLDEN, "dense-head80")
GGUF = os.path.join(GOLDEN, "gguf", "f32-dense.gguf")


def run(*args, stdin="", timeout=120, env=None, stdout=subprocess.PIPE):
    return subprocess.run([LODE, *args], input=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def read_npy(path):
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + size])  # a dict of literals, written by NumPy or by us
    rows, cols = header["shape"]
    assert header["descr"] == "<f4" and not header["fortran_order"]
    return rows, cols, struct.unpack(f"<{rows * cols}f", data[10 + size:])


class CliTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lode-cli-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(content)
        return self.path(name)

    def assert_bad(self, result, *words, code=2):
        """Exit code 2, nothing on standard output, one sentence that has the words."""
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout or "", "")
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertTrue(result.stderr.startswith("lode: "), result.stderr)

    # --- help and version ---

    def test_version_and_help_teach(self):
        self.assertRegex(run("--version").stdout, r"^lode \d+\.\d+\.\d+")
        text = run("--help").stdout
        for verb in ("chat", "ctx", "generate", "logits", "tokenize", "detokenize", "render", "inspect", "convert", "pull", "bench",
                     "selftest"):
            self.assertIn(verb, text)
            self.assertEqual(run(verb, "--help").returncode, 0)
        self.assertEqual(run().returncode, 0)

    def test_a_misspelt_verb_gets_a_guess(self):
        self.assert_bad(run("generat", "demo"), "did you mean 'generate'")
        self.assert_bad(run("chat", "demo", "--tempp", "1"), "--tempp")

    # --- generate, chat ---

    def test_generate_repeats_itself_with_the_same_seed(self):
        args = ["generate", "demo", "-p", "ROMEO:", "-n", "24", "--temp", "1", "--seed", "7", "--json"]
        first, second = (json.loads(run(*args).stdout) for _ in range(2))
        self.assertEqual(first["text"], second["text"])
        self.assertEqual(first["seed"], 7)
        other = json.loads(run(*args[:-2], "8", "--json").stdout)
        self.assertNotEqual(first["text"], other["text"])
        whole = json.loads(run(*args, "--threads", "1", "--chunk", "1").stdout)
        self.assertEqual(first["tokens"], whole["tokens"])

    def test_chat_answers_lines_of_standard_input(self):
        result = run("chat", "demo", "--seed", "1", "-n", "20", stdin="Good morrow.\nWho art thou?\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertGreater(len(result.stdout.strip()), 3)
        self.assertIn("tok/s", result.stderr)
        # The second prompt continues the first dialogue, so a part of it is not computed again.
        self.assertIn("reused", result.stderr)

    def test_chat_at_a_terminal_has_commands_and_survives_ctrl_c(self):
        child, terminal = pty.fork()
        if child == 0:
            os.execv(LODE, [LODE, "chat", "demo", "--seed", "1", "-n", "4000", "--context", "8000"])
        output = b""

        def expect(text, seconds=60):
            nonlocal output
            end = time.time() + seconds
            while text not in output:
                ready, _, _ = select.select([terminal], [], [], max(0, end - time.time()))
                self.assertTrue(ready, f"no {text!r} in {output[-500:]!r}")
                output += os.read(terminal, 4096)
            output = output.split(text, 1)[1]

        expect(b"> ")
        os.write(terminal, b"/help\n")
        expect(b"/reset")
        expect(b"> ")
        os.write(terminal, b"/hlp\n")
        expect(b"did you mean /help")
        expect(b"> ")
        os.write(terminal, b"Speak, and do not stop.\n")
        time.sleep(0.3)
        os.kill(child, signal.SIGINT)
        expect(b"tok/s")
        expect(b"> ")
        os.write(terminal, b"/quit\n")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        os.close(terminal)

    def test_ctrl_c_ends_generate_with_130(self):
        child = subprocess.Popen([LODE, "generate", "demo", "-p", "x", "-n", "1000000", "--ignore-eos", "--context",
                                  "2000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130)

    def test_a_kept_dialogue_is_there_again_and_goes_on_with_the_same_words(self):
        home = {"LODE_HOME": self.path("home")}
        say = ["Good morrow, my lord.", "And what news?", "From Rome?"]
        options = ("--seed", "1", "--temp", "1", "-n", "40")
        at_once = run("chat", "demo", *options, stdin="\n".join(say) + "\n", env=home)
        words = ""
        for i, message in enumerate(say):
            result = run("chat", "demo", "--context", "monday", *options, "-m", message, env=home)
            self.assertEqual(result.returncode, 0, result.stderr)
            words += result.stdout
            if i > 0:
                self.assertIn("here again", result.stderr)
                self.assertIn("reused", result.stderr)
        self.assertEqual(words, at_once.stdout)
        listed = json.loads(run("ctx", "ls", "--json", env=home).stdout)
        self.assertEqual([entry["name"] for entry in listed], ["monday"])
        self.assertEqual(run("ctx", "verify", "monday", env=home).returncode, 0)
        shown = json.loads(run("ctx", "show", "monday", "--json", env=home).stdout)
        self.assertEqual(len(shown["meta"]["messages"]), 2 * len(say))
        self.assert_bad(run("chat", "demo", "--activations", "f32", "--context", "monday", "-m", "x", env=home),
                        "numerics")
        self.assert_bad(run("chat", "demo", "--context", "../up", "-m", "x", env=home), "'../up'")
        path = os.path.join(home["LODE_HOME"], "contexts", "monday.lctx")
        with open(path, "r+b") as file:
            file.truncate(5000)
        self.assert_bad(run("ctx", "show", "monday", env=home), "monday")
        self.assertEqual(run("ctx", "rm", "monday", env=home).returncode, 0)
        self.assert_bad(run("ctx", "rm", "monday", env=home), "no saved context")

    def test_the_prompt_must_be_given_and_fit(self):
        self.assert_bad(run("generate", "demo"), "-p TEXT")
        self.assert_bad(run("generate", "demo", "-p", "a b c d e f g h i j k l m n", "--context", "4"), "context is full")

    # --- logits ---

    def test_logits_are_float32_rows_of_every_position_in_any_chunks(self):
        for model, extra in ((DENSE, []), (GGUF, []), ("demo", ["--activations", "bf16"])):
            files = []
            for chunk in ("1", "7", "200"):
                out = self.path(f"{chunk}.npy")
                result = run("logits", model, "--tokens", "1,2,3,4,5,6,7,8,9", "--out", out, "--chunk", chunk, *extra)
                self.assertEqual(result.returncode, 0, result.stderr)
                files.append(open(out, "rb").read())
                rows, cols, values = read_npy(out)
                self.assertEqual(rows, 9)
                self.assertTrue(all(v == v for v in values))
            self.assertEqual(files[0], files[1])
            self.assertEqual(files[0], files[2])

    def test_logits_refuse_what_cannot_be(self):
        out = self.path("x.npy")
        self.assert_bad(run("logits", "demo", "--tokens", "1,99999999", "--out", out), "99999999")
        self.assert_bad(run("logits", "demo", "--tokens", "1,x", "--out", out), "'x'")
        self.assert_bad(run("logits", "demo", "--tokens", "-1", "--out", out), "-1")
        self.assert_bad(run("logits", "demo", "--tokens", "1", "--out", out, "--activations", "int4"), "int4", "bf16")
        self.assert_bad(run("logits", "demo", "--tokens", "1", "--out", self.path("no/such/x.npy")), "no/such")
        self.assertEqual(os.listdir(self.folder), [])

    # --- text ---

    def test_tokenize_round_trips_and_knows_special_tokens(self):
        text = "Hello <|im_end|> wörld 🦙\n\n"
        file = self.write("t.txt", text)
        ids = json.loads(run("tokenize", "demo", "--file", file, "--json").stdout)
        plain = json.loads(run("tokenize", "demo", "--file", file, "--json", "--no-special").stdout)
        self.assertIn(11, ids)
        self.assertNotIn(11, plain)
        for these in (ids, plain):
            back = run("detokenize", "demo", ",".join(map(str, these)), "--json").stdout
            self.assertEqual(json.loads(back), text)
        self.assert_bad(run("detokenize", "demo", "1,123456789"), "123456789")
        self.assert_bad(run("tokenize", "demo"), "--file")

    def test_invalid_utf8_is_replaced(self):
        with open(self.path("bad.txt"), "wb") as file:
            file.write(b"a\xff\xc3b")
        ids = json.loads(run("tokenize", "demo", "--file", self.path("bad.txt"), "--json").stdout)
        back = run("detokenize", "demo", ",".join(map(str, ids)), "--json").stdout
        self.assertEqual(json.loads(back), "a\ufffd\ufffdb")

    def test_render_prints_the_text_and_nothing_else(self):
        template = self.write("t.jinja", "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
                              "{{ strftime_now('%Y') }}{{ eos_token }}")
        request = self.write("r.json", json.dumps({"messages": [{"role": "user", "content": "Hi ✓"}]}))
        result = run("render", "--template", template, "--request", request, "--bos", "<B>", "--eos", "<E>", "--now",
                     "2025-06-28T12:00:00")
        self.assertEqual(result.stdout, "<B>[user]Hi ✓2025<E>")

    def test_hostile_templates_end_with_a_sentence(self):
        request = self.write("r.json", '{"messages": []}')
        for name, source in {
            "loop": "{% for a in range(1000000000000) %}x{% endfor %}",
            "nest": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "blowup": "{% set ns = namespace(s='x' * 1000) %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
            "syntax": "{% if %}",
            "depth": "{{ " + "(" * 100000 + " }}",
            "raise": "{{ raise_exception('no such role') }}",
        }.items():
            with self.subTest(name):
                self.assert_bad(run("render", "--template", self.write("t.jinja", source), "--request", request, timeout=60))
        self.assert_bad(run("render", "demo", "--request", self.write("bad.json", "{")), "bad.json")

    # --- models that are wrong ---

    def test_models_that_are_not_there_or_not_models(self):
        self.assert_bad(run("generate", self.path("none.gguf"), "-p", "x"), "none.gguf")
        self.assert_bad(run("generate", "someone/something", "-p", "x", env={"LODE_HOME": self.folder}), "lode pull")
        self.assert_bad(run("generate", self.write("x.gguf", "not a model at all"), "-p", "x"), "x.gguf")
        self.assert_bad(run("generate", self.folder, "-p", "x"))

    def test_truncated_and_damaged_files_name_file_and_tensor(self):
        data = open(GGUF, "rb").read()
        for size in (0, 3, 4, 100, len(data) // 3, len(data) - 1):
            with open(self.path("cut.gguf"), "wb") as file:
                file.write(data[:size])
            self.assert_bad(run("logits", self.path("cut.gguf"), "--tokens", "1", "--out", self.path("o.npy")), "cut.gguf")
        copy = self.path("hf")
        shutil.copytree(DENSE, copy)
        weights = os.path.join(copy, "model.safetensors")
        with open(weights, "r+b") as file:
            file.truncate(os.path.getsize(weights) - 5)
        self.assert_bad(run("logits", copy, "--tokens", "1", "--out", self.path("o.npy")), "model.safetensors")

    def test_a_config_that_lode_cannot_compute_is_named_before_weights_are_read(self):
        copy = self.path("hf")
        shutil.copytree(DENSE, copy)
        config = json.load(open(os.path.join(copy, "config.json")))
        pattern = config["hybrid_override_pattern"]
        for change, words in (({"hybrid_override_pattern": "X" + pattern[1:]}, ["hybrid_override_pattern", "'X'"]),
                              ({"time_step_limit": [0.001, 0.1]}, ["time_step_limit"]),
                              ({"mlp_hidden_act": "gelu"}, ["mlp_hidden_act"]),
                              ({"model_type": "mamba9"}, ["mamba9"]),
                              ({"hidden_size": -4}, ["hidden_size"]),
                              ({"hidden_size": 10**12}, ["hidden_size"]),
                              ({"hidden_size": "80"}, ["hidden_size"])):
            with self.subTest(change):
                json.dump({**config, **change}, open(os.path.join(copy, "config.json"), "w"))
                self.assert_bad(run("logits", copy, "--tokens", "1", "--out", self.path("o.npy")), *words)

    def test_inspect_finds_numbers_that_are_none_and_plans_memory(self):
        copy = self.path("hf")
        shutil.copytree(DENSE, copy)
        self.assertEqual(run("inspect", copy, "--check").returncode, 0)
        weights = os.path.join(copy, "model.safetensors")
        with open(weights, "r+b") as file:  # the last number of the last tensor, a BF16
            file.seek(-2, os.SEEK_END)
            file.write(b"\xff\x7f")
        result = run("inspect", copy, "--check")
        self.assertEqual(result.returncode, 2)
        self.assertIn("1 NaN", result.stdout + result.stderr)
        one, four = (json.loads(run("inspect", "demo", "--plan", "--context", "2048", "--agents", n, "--json").stdout)["plan"]
                     for n in ("1", "4"))
        self.assertGreater(four["total"], one["total"])

    def test_convert_goes_to_gguf_and_back_to_the_same_bytes(self):
        gguf, back = self.path("m.gguf"), self.path("back")
        self.assertEqual(run("convert", DENSE, gguf).returncode, 0)
        self.assertEqual(run("convert", gguf, back).returncode, 0)
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            with open(os.path.join(DENSE, name), "rb") as a, open(os.path.join(back, name), "rb") as b:
                self.assertEqual(a.read(), b.read(), name)
        self.assert_bad(run("convert", DENSE, gguf), "--force")
        self.assert_bad(run("convert", DENSE, self.path("n.gguf"), "--type", "q3_x"), "q3_x")

    # --- the world ---

    def text_for_models(self):
        """Some thousand tokens that are in the repository: its own documents."""
        parts = []
        for name in ("ARCHITECTURE", "HACKING", "SHAPES", "JOURNEYS"):
            with open(os.path.join(SOURCE, "docs", name + ".md"), encoding="utf-8") as file:
                parts.append(file.read())
        return self.write("text.txt", "\n".join(parts))

    def test_quantize_then_perplexity_stays_near_the_source(self):
        text = self.text_for_models()
        base = json.loads(run("perplexity", "demo", "--file", text, "--json", "--context", "256", "--chunks", "8",
                              "--activations", "f32").stdout)
        self.assertEqual(base["chunks"], 8)
        self.assertEqual(base["predictions"], 8 * 127)
        self.assertGreater(base["perplexity"], 1)
        # The largest mean KL in nats, and share of ln(perplexity); measured and rounded up.
        bounds = {"q8_0": 0.0003, "q6_k": 0.002, "q5_0": 0.008, "q5_k_m": 0.006, "q4_k_m": 0.022, "iq4_nl": 0.022,
                  "q4_0": 0.026, "nvfp4": 0.02, "4bit": 0.026, "mxfp4": 0.05, "q3_k_m": 0.08, "q2_k": 0.27}
        for kind, bound in bounds.items():
            out = self.path(kind + ".gguf")
            report = run("quantize", "demo", out, kind, "--report-on", text, "--chunk", "256", "--chunks", "8",
                         "--json")
            self.assertEqual(report.returncode, 0, report.stderr)
            found = json.loads(report.stdout)["evaluation"]
            self.assertLess(found["kl"]["mean"], bound, kind)
            self.assertGreater(found["kl"]["mean"], 0, kind)
            self.assertAlmostEqual(found["base_perplexity"], base["perplexity"], places=3)
            self.assertLess(abs(found["ln_perplexity_ratio"]), 0.01 + bound, kind)
            self.assertGreater(found["same_top"], 1 - 2 * bound ** 0.5, kind)

    def test_perplexity_of_a_model_against_itself_is_no_divergence(self):
        text = self.text_for_models()
        result = run("perplexity", "demo", "--file", text, "--kl", "demo", "--context", "128", "--chunks", "3")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("KL         mean 0.000000", result.stdout)
        self.assertIn("same top   100.00 %", result.stdout)
        stride = json.loads(run("perplexity", "demo", "--file", text, "--context", "128", "--stride", "32",
                                "--chunks", "4", "--json").stdout)
        self.assertEqual(stride["predictions"], 4 * 32)
        short = self.write("short.txt", "too short")
        self.assert_bad(run("perplexity", "demo", "--file", short), "tokens", "--context")
        self.assert_bad(run("perplexity", "demo", "--file", text, "--kl", DENSE), "token")

    def test_quantize_calibrates_and_remembers_what_it_measured(self):
        text = self.text_for_models()
        kept, out = self.path("kept.gguf"), self.path("out.gguf")
        common = ["--chunk", "128", "--chunks", "6", "--json"]
        first = run("quantize", "demo", out, "q4_0", "--calibrate", text, "--save-imatrix", kept, *common)
        self.assertEqual(first.returncode, 0, first.stderr)
        report = json.loads(first.stdout)
        self.assertIn("evaluation", report)
        weighted = {m["name"]: m["weighted_error"] for m in report["matrices"] if "weighted_error" in m}
        self.assertIn("blk.5.ffn_up_exps.weight", weighted)
        self.assertIn("output.weight", weighted)
        again = self.path("again.gguf")
        second = run("quantize", "demo", again, "q4_0", "--imatrix", kept, "--json")
        self.assertEqual(second.returncode, 0, second.stderr)
        repeated = {m["name"]: m["weighted_error"] for m in json.loads(second.stdout)["matrices"]
                    if "weighted_error" in m}
        self.assertEqual(weighted, repeated)
        short = self.write("short.txt", "too short")
        self.assert_bad(run("quantize", "demo", self.path("x.gguf"), "q4_0", "--calibrate", short), "calibration text")
        self.assert_bad(run("quantize", "demo", self.path("x.gguf"), "q4_0", "--imatrix", text), "importance matrix")

    def test_quantize_refuses_in_a_sentence_and_leaves_nothing(self):
        out = self.path("out.gguf")
        self.assert_bad(run("quantize", "demo", out, "q9"), "q9", "q4_k_m")
        self.assert_bad(run("quantize", "demo", out, "q4_0", "--tensor", "blk.0.ssm_inn.weight=q8_0"),
                        "blk.0.ssm_in.weight")
        self.assert_bad(run("quantize", "demo", out, "q4_0", "--tensor", "nothing"), "NAME=TYPE")
        self.assert_bad(run("quantize", DENSE, out, "q4_0", "--experts", "q8_0"), "experts")
        policy = self.write("policy.json", '{"haed": "q4_0"}')
        self.assert_bad(run("quantize", "demo", out, "q4_0", "--policy", policy), "haed", "head")
        self.assert_bad(run("quantize", "demo", "/dev/full/out.gguf", "q4_0"), "out.gguf")
        self.assertEqual([name for name in os.listdir(self.folder) if "gguf" in name], [])
        good = run("quantize", DENSE, out, "q4_k_m")
        self.assertEqual(good.returncode, 0, good.stderr)
        self.assertIn("instead of q4_k", good.stdout)
        self.assert_bad(run("quantize", DENSE, out, "q4_0"), "--force")

    def test_a_full_disk_is_a_sentence(self):
        if not os.path.exists("/dev/full"):
            self.fail("/dev/full is needed")
        with open("/dev/full", "w") as full:
            result = run("tokenize", "demo", "x", "--json", stdout=full)
        self.assertEqual(result.returncode, 2)
        self.assertIn("No space left", result.stderr)

    def test_selftest_shows_the_grid(self):
        grid = json.loads(run("selftest", "-n", "70", "--json").stdout)
        self.assertTrue(grid["equal"])
        self.assertGreaterEqual(len(grid["ways"]), 10)

    # --- bench ---

    def test_bench_prints_a_row_of_every_combination_as_json(self):
        result = run("bench", "demo", "-p", "16", "-n", "4", "-d", "0,32", "-t", "1", "-b", "1,2", "-r", "2", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)
        self.assertEqual(len(rows), 8)
        self.assertEqual({(r["n_prompt"], r["n_gen"], r["n_depth"], r["batch"]) for r in rows},
                         {(p, n, d, b) for p, n in ((16, 0), (0, 4)) for d in (0, 32) for b in (1, 2)})
        for row in rows:
            for name in ("tokens_per_second", "gb_per_second", "gflop_per_second", "bandwidth_share", "compute_share",
                         "tokens_per_second_min", "tokens_per_second_max"):
                self.assertTrue(0 < row[name] < float("inf"), (name, row))
            for name in ("model", "model_type", "isa", "cpu", "date", "pinning"):
                self.assertTrue(row[name], name)
            for value in row["machine"].values():
                self.assertGreater(value, 0)
            self.assertEqual(row["threads"], 1)
            self.assertEqual(len(row["samples"]), 2)
            self.assertIs(row["spoiled"], (row["foreign_cpu_share"] or 0) > 0.08)
            self.assertTrue(row["joules_per_token"] is None or row["joules_per_token"] >= 0)

    def test_bench_prints_a_table_for_people(self):
        result = run("bench", "demo", "-p", "8", "-n", "0", "-r", "1", "--pin", "off")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"tok/s.*of read.*of peak.*J/tok")
        self.assertRegex(result.stdout, r"\npp8 +0 +- +\d+ +1 +\d")

    def test_bench_measures_the_machine_without_a_model(self):
        machine = json.loads(run("bench", "--machine", "-t", "1", "--json").stdout)
        self.assertGreater(machine["read_gb_per_second"][0]["value"], 0)
        self.assertGreaterEqual(len(machine["peaks"]), 3)
        for peak in machine["peaks"]:
            self.assertTrue(0.1 < peak["gflop_per_second"] < 1e4, peak)

    def test_bench_refuses_lists_that_are_none(self):
        for args, words in ((["demo", "-p", "1,x"], ["-p", "'x'"]), (["demo", "-b", "0"], ["-b", "'0'"]),
                            (["demo", "-d", "-5"], ["-5"]), (["demo", "-t", "1,,2"], ["-t"]),
                            (["demo", "-p", "0", "-n", "0"], ["nothing to measure"]), (["demo", "-r", "0"], ["0"]),
                            ([], ["MODEL", "--machine"]), (["demo", "--pin", "hard"], ["--pin", "hard"]),
                            (["nothing.gguf"], ["nothing.gguf"])):
            with self.subTest(args):
                self.assert_bad(run("bench", *args), *words)

    def test_generate_counts_energy_or_says_that_it_cannot(self):
        answer = json.loads(run("generate", "demo", "-p", "x", "-n", "4", "--ignore-eos", "--json").stdout)
        for name in ("joules", "joules_per_token"):
            self.assertTrue(answer[name] is None or answer[name] >= 0, name)

    def test_no_verb_but_pull_opens_a_connection(self):
        log = self.path("network.log")
        env = {"LD_PRELOAD": NO_NETWORK, "LODE_NETWORK_LOG": log, "LODE_HOME": self.folder}
        request = self.write("r.json", '{"messages": [{"role": "user", "content": "x"}]}')
        for args in (["chat", "demo", "-m", "x", "-n", "4"], ["generate", "demo", "-p", "x", "-n", "4"],
                     ["logits", "demo", "--tokens", "1", "--out", self.path("o.npy")], ["tokenize", "demo", "x"],
                     ["detokenize", "demo", "1"], ["render", "demo", "--request", request], ["inspect", "demo"],
                     ["convert", DENSE, self.path("o.gguf")], ["selftest", "-n", "8"], ["completion", "bash"],
                     ["chat", "someone/something", "-m", "x"]):
            run(*args, env=env)
            self.assertFalse(os.path.exists(log), args)
        result = run("pull", "someone/something", "--endpoint", "http://127.0.0.1:9", env=env)
        self.assertEqual(result.returncode, 2)
        self.assertTrue(os.path.exists(log), "the guard itself does not work")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"], verbosity=1)
