#!/usr/bin/env python3
"""lode serve as users of Node meet it: runs node_sdk_test.mjs, the unmodified SDKs of OpenAI and
Anthropic, against a scripted model and the demo model.

Usage: node_sdk_test.py LODE_BINARY FOLDER
Node and the packages are installed into FOLDER once. Without a package index the test says so and
is skipped.
"""

import os
import subprocess
import sys

from client import Server
from node_packages import NoPackages, install

LODE, FOLDER = sys.argv[1:3]
HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ["openai@7.57.0", "@anthropic-ai/sdk@1.12.0", "zod@4.6.7"]
SKIPPED = 77

CALL = ("<tool_call>\n<function=weather>\n<parameter=city>\n{}\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n")
PARIS = CALL.format("Paris")
SCRIPT = [
    {"match": "two calls", "text": "Both.\n" + PARIS + CALL.format("Köln ☂")},
    {"match": "weather", "text": "Let me see.\n" + PARIS},
    {"match": "think first", "text": "Hm, Paris?\nYes.</think>\n" + PARIS},
    {"match": "sunny", "text": "It is sunny in Paris. END of it."},
    {"match": "break", "text": "So far", "fail": "the engine lost a wheel"},
    {"match": "json", "text": '{"city": "Paris", "days": 3}'},
    {"match": "slowly", "text": "word " * 500, "delay_ms": 20},
    {"match": None, "text": "Hello there, ☃ friend."},
]


def main():
    try:
        node, folder = install(FOLDER, PACKAGES)
    except NoPackages as error:
        print(f"\n*** {error}: NOTHING of the SDKs for Node was tested ***\n"
              "[  SKIPPED ] serve.node_sdk_test (0 ms)", flush=True)
        return SKIPPED
    script, demo = Server(LODE, script=SCRIPT), Server(LODE, "--context", "2048", "--agents", "4")
    try:
        addresses = {"SCRIPT_URL": script.url, "DEMO_URL": demo.url, "PACKAGES": folder}
        result = subprocess.run([node, os.path.join(HERE, "node_sdk_test.mjs")],
                                env={**os.environ, **addresses}, timeout=240).returncode
        if not (script.wait_idle() and demo.wait_idle()):
            print("a sequence is stuck")
            result = 1
    finally:
        codes = [script.close(), demo.close()]
    return result or int(codes != [0, 0])


sys.exit(main())
