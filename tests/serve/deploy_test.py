#!/usr/bin/env python3
"""What deploy/ says about the program is true: the dashboard's figures are served, probes and flags exist,
and the API's document lists what answers.

Usage: deploy_test.py LODE_BINARY SOURCE_FOLDER
helm, hadolint and systemd-analyze look at their files, too, where they are installed.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

LODE, SOURCE = sys.argv[1:3]
DEPLOY = os.path.join(SOURCE, "deploy")


def read(*names):
    with open(os.path.join(DEPLOY, *names), encoding="utf-8") as file:
        return file.read()


class Deploy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        script = os.path.join(cls.folder.name, "script.jsonl")
        with open(script, "w", encoding="utf-8") as file:
            file.write(json.dumps({"match": None, "text": "A short answer."}) + "\n")
        cls.server = subprocess.Popen([LODE, "serve", "script:" + script, "--port", "0", "--log", "off"],
                                      stdout=subprocess.PIPE, text=True)
        cls.address = re.search(r"http:\S+", cls.server.stdout.readline()).group(0)
        cls.ask(cls, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]})

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.wait(20)
        cls.server.stdout.close()
        cls.folder.cleanup()

    def ask(self, path, body=None):
        """(status, headers, body), with a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    def test_every_figure_of_the_dashboard_is_served(self):
        served = set(re.findall(r"^([a-z_:]+)(?:\{| )", self.ask("/metrics")[2], re.M))
        wanted = set()
        for panel in json.loads(read("grafana", "lode.json"))["panels"]:
            for target in panel["targets"]:
                wanted |= set(re.findall(r"\b((?:lode|process)_\w+)\{", target["expr"]))
        self.assertGreater(len(wanted), 15)
        # Energy is there where the machine tells it.
        self.assertEqual(wanted - served - {"lode_energy_joules_total"}, set())

    def test_the_probes_answer(self):
        template = read("helm", "lode", "templates", "statefulset.yaml")
        paths = set(re.findall(r"path: (/[a-z]+)\n", template))
        self.assertEqual(paths, {"/health", "/live", "/metrics"})
        for path in paths:
            self.assertEqual(self.ask(path)[0], 200, path)

    def test_every_flag_is_one_of_the_program(self):
        known = subprocess.run([LODE, "serve", "--help"], capture_output=True, text=True).stdout
        for text in (read("helm", "lode", "templates", "statefulset.yaml"), read("lode.service"),
                     read("Dockerfile").split("ENTRYPOINT")[1]):
            flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
            self.assertTrue(flags)
            for flag in flags:
                self.assertIn(flag + (" " if flag != "--no-keys" else ""), known + " ")

    def test_values_keep_their_schema(self):
        schema = json.loads(read("helm", "lode", "values.schema.json"))
        self.assertFalse(schema["additionalProperties"])
        values = set(re.findall(r"^([a-zA-Z]+):", read("helm", "lode", "values.yaml"), re.M))
        self.assertEqual(values, set(schema["properties"]) - {"global"})
        used = set()
        for name in os.listdir(os.path.join(DEPLOY, "helm", "lode", "templates")):
            used |= set(re.findall(r"\.Values\.([a-zA-Z]+)", read("helm", "lode", "templates", name)))
        self.assertEqual(used, values)

    def test_the_document_of_the_api_lists_what_answers(self):
        document = json.loads(self.ask("/openapi.json")[2])
        self.assertIn("/v1/chat/completions", document["paths"])
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                self.assertTrue(operation["summary"], path + " has no summary")
                name = path.replace("{name}", "page.css" if path.startswith("/ui") else "script")
                status, headers, _ = self.ask(name, None if method == "get" else {})
                self.assertIn(str(status), operation["responses"], path)
                # Contexts and responses are there when somebody has made them.
                made = any(kind in path for kind in ("/contexts", "/responses/"))
                if method == "get" and not made:
                    self.assertEqual(status, 200, path)
                    kind = headers["Content-Type"].split(";")[0]
                    if not path.startswith("/ui"):
                        self.assertIn(kind, operation["responses"]["200"]["content"], path)

    def test_the_page_is_asked_about_before_a_copy_is_used(self):
        _, headers, body = self.ask("/")
        self.assertIn("<title>Lode</title>", body)
        request = urllib.request.Request(self.address + "/", headers={"If-None-Match": headers["ETag"]})
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        with caught.exception as error:
            self.assertEqual((error.code, error.read()), (304, b""))
        for path in ("/ui/nothing.mjs", "/ui/", "/ui/../app.cc", "/ui/%2e%2e/app.cc"):
            self.assertEqual(self.ask(path)[0], 404, path)

    def run_tool(self, *command):
        if not shutil.which(command[0]):
            print(f"\n*** {command[0]} is not installed: its files were not looked at by it ***")
            return ""
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_the_tools_of_the_trade_find_nothing(self):
        self.run_tool("hadolint", os.path.join(DEPLOY, "Dockerfile"))
        chart = os.path.join(DEPLOY, "helm", "lode")
        lines = "keys.lines={alice " + "0" * 64 + "}"
        self.run_tool("helm", "lint", "--strict", chart, "--set", lines)
        for extra in ((), ("--set", "persistence.enabled=false,model.pull=true,server.context=4096")):
            text = self.run_tool("helm", "template", "x", chart, "--set", lines, *extra)
            if text:
                self.assertIn("--keys=/etc/lode/keys", text)
                self.assertIn("terminationGracePeriodSeconds: 80", text)
        self.run_tool("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager",
                      os.path.join(DEPLOY, "lode.service"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
