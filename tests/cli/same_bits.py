#!/usr/bin/env python3
"""Two programs, built for different architectures, compute the same logits, bit for bit.

Usage: same_bits.py SOURCE_DIR LODE_BINARY OTHER_COMMAND...
The other command may begin with an emulator; it runs once with each of LODE_ISA's values below.
"""
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE, LODE, *OTHER = sys.argv[1:]
GOLDEN = os.path.join(SOURCE, "tests", "golden")
MODELS = ["demo"] + [os.path.join(GOLDEN, name) for name in
                     ("moe-nano", "nvfp4-nano", "fp8-nano", "latent-super", "gguf/mix-4bit.gguf",
                      "gguf/mix-k.gguf", "gguf/mix-legacy.gguf", "gguf/moe-k.gguf")]
TOKENS = ",".join(str(token % 97 + 3) for token in range(0, 40 * 31, 31))


class SameBits(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lode-same-bits-")
        self.addCleanup(self.folder.cleanup)

    def logits(self, command, model, flags, isa=None):
        out = os.path.join(self.folder.name, "logits.npy")
        environment = dict(os.environ)
        environment.pop("LODE_ISA", None)
        if isa:
            environment["LODE_ISA"] = isa
        arguments = ["logits", model, "--tokens", TOKENS, "--out", out, "--threads", "2", *flags]
        subprocess.run([*command, *arguments], check=True, env=environment,
                       stderr=subprocess.PIPE, timeout=600)
        with open(out, "rb") as file:
            return file.read()

    def compare(self, *flags):
        for model in MODELS:
            expected = self.logits([LODE], model, flags)
            for isa in ("neon", "neon-dot"):
                with self.subTest(model=os.path.basename(model), isa=isa):
                    self.assertTrue(expected == self.logits(OTHER, model, flags, isa))

    def test_native(self):
        self.compare()

    def test_f32(self):
        self.compare("--activations", "f32")

    def test_int8_kv(self):
        self.compare("--kv", "int8")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
