#!/usr/bin/env python3
"""The page of lode serve: its pure modules in Node, then all of it in a real browser.

Usage: run.py LODE_BINARY FOLDER
Needs Debian's nodejs, npm and chromium; without them it says so and is skipped. playwright-core, which
drives the browser, is installed from npm into FOLDER once.
"""
import os
import shutil
import subprocess
import sys

LODE, FOLDER = sys.argv[1:3]
HERE = os.path.dirname(os.path.abspath(__file__))
DRIVER = "playwright-core@1.57.0"
SKIPPED = 77


def skip(reason):
    print(f"\n*** {reason}: NOTHING of the page was tested in a browser ***")
    print(f"{reason}\n[  SKIPPED ] serve.page_in_a_browser (0 ms)", flush=True)
    sys.exit(SKIPPED)


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    return None


def install_driver():
    module = os.path.join(FOLDER, "node_modules", "playwright-core", "index.mjs")
    if not os.path.exists(module):
        os.makedirs(FOLDER, exist_ok=True)
        done = subprocess.run(["npm", "install", "--prefix", FOLDER, "--no-audit", "--no-fund",
                               "--ignore-scripts", "--loglevel=error", DRIVER], timeout=300)
        if done.returncode != 0 or not os.path.exists(module):
            skip(f"needs the package {DRIVER}, and there is no package index")
    return module


def main():
    if not shutil.which("node"):
        skip("needs the package nodejs")
    pure = subprocess.run(["node", os.path.join(HERE, "modules_test.mjs")], timeout=120)
    if pure.returncode != 0:
        return 1
    if not shutil.which("npm"):
        skip("needs the package npm")
    browser = chromium()
    if browser is None:
        skip("needs the package chromium")
    environment = {**os.environ, "LODE": LODE, "CHROMIUM": browser, "PLAYWRIGHT": install_driver()}
    return subprocess.run(["node", os.path.join(HERE, "page_test.mjs")], env=environment,
                          timeout=280).returncode


sys.exit(main())
