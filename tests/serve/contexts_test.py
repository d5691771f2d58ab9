#!/usr/bin/env python3
"""Contexts over HTTP with the demo model: forks, turns, files, restarts, tenants, explanations.

Usage: contexts_test.py LODE_BINARY
"""
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import unittest

from client import Server, read_response, run_together

LODE = sys.argv[1]
SYSTEM = ("You are a careful assistant who answers questions about the town of Lindau. "
          "It lies on an island in a lake, has a lighthouse, a harbour and an old town hall. " * 6)


def user(text):
    return [{"role": "user", "content": text}]


def call(server, method, path, body=None, key=None, headers=""):
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n{headers}"
    if body is not None:
        head += "Content-Type: application/json\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    with server.connect(60) as connection:
        connection.sendall((head + "Connection: close\r\n\r\n").encode() + data)
        status, _, reply = read_response(connection)
    return status, json.loads(reply) if reply else None


class Case(unittest.TestCase):
    flags = ()

    def start(self, *more):
        server = Server(LODE, "--threads", "1", "--agents", "4", "--states", "64", "--log", "off",
                        "--contexts", self.folder, *self.flags, *more)
        self.addCleanup(server.close)
        return server

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lode-contexts-test-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def ok(self, server, method, path, body=None, key=None, status=None):
        got, reply = call(server, method, path, body, key)
        self.assertTrue(200 <= got < 300 if status is None else got == status, (got, reply))
        return reply

    def chat(self, server, context, text, key=None, **more):
        body = {"messages": user(text), "context": context, "temperature": 0, "max_tokens": 24,
                **more}
        return self.ok(server, "POST", "/v1/chat/completions", body, key)

    def new(self, server, key=None, **more):
        body = {"messages": [{"role": "system", "content": SYSTEM}], **more}
        return self.ok(server, "POST", "/v1/contexts", body, key, status=201)


def text_of(reply):
    return reply["choices"][0]["message"]["content"]


class TurnsTest(Case):
    def test_forks_are_asked_saved_and_go_on_after_a_restart_as_without_one(self):
        server = self.start()
        first = self.new(server, name="town")
        self.assertEqual(first["reuse"]["reason"], "new_prefix")
        self.assertEqual(first["reuse"]["computed"], first["tokens"])
        forks = self.ok(server, "POST", f"/v1/contexts/{first['id']}/fork", {"n": 8})["contexts"]
        ids = [fork["id"] for fork in forks]
        self.assertEqual({fork["parent"] for fork in forks}, {first["id"]})
        questions = [f"Question number {i}: where is the lighthouse?" for i in range(8)]
        replies = run_together(8, lambda i: self.chat(server, ids[i], questions[i]))
        for reply in replies:  # the beginning was computed once
            reuse = reply["lode"]["reuse"]
            self.assertGreaterEqual(reuse["cached"], first["tokens"], reuse)
            self.assertEqual(reuse["cached"] + reuse["computed"], reuse["prompt"])
            self.assertEqual(reuse["lost"], reuse["matched_known"] - reuse["cached"])
            self.assertEqual(reuse["reason"],
                             "no_point_before_divergence" if reuse["lost"] else "complete")
            self.assertEqual(reply["usage"]["prompt_tokens_details"]["cached_tokens"],
                             reuse["cached"])
        for i, context in enumerate(ids):
            saved = self.ok(server, "POST", f"/v1/contexts/{context}/save", {"name": f"fork-{i}"})
            self.assertEqual(saved["state"], saved["tokens"])
        second = [text_of(self.chat(server, context, "And who lives there?"))
                  for context in ids]
        again = self.ok(server, "GET", f"/v1/contexts/{ids[0]}")
        self.assertEqual(again["messages"], 5)
        self.assertEqual(server.close(), 0)

        server = self.start()
        listed = self.ok(server, "GET", "/v1/contexts")
        self.assertEqual((listed["data"], {one["name"] for one in listed["saved"]}),
                         ([], {f"fork-{i}" for i in range(8)}))
        for i in range(8):
            restored = self.ok(server, "POST", "/v1/contexts/restore", {"name": f"fork-{i}"})
            self.assertTrue(restored["restored"]["exact"])
            self.assertEqual(restored["restored"]["state"], restored["tokens"])
            reply = self.chat(server, restored["id"], "And who lives there?")
            self.assertEqual(text_of(reply), second[i])
            self.assertEqual(reply["lode"]["reuse"]["cached"], restored["tokens"])

    def test_the_same_dialogue_without_a_context_gives_the_same_text(self):
        server = self.start()
        first = self.new(server)
        told = text_of(self.chat(server, first["id"], "Where is the harbour?"))
        body = {"messages": [{"role": "system", "content": SYSTEM}, *user("Where is the harbour?")],
                "temperature": 0, "max_tokens": 24, "lode": {"explain": True}}
        plain = self.ok(server, "POST", "/v1/chat/completions", body)
        self.assertEqual(text_of(plain), told)
        reuse = plain["lode"]["reuse"]
        self.assertEqual((reuse["cached"], reuse["computed"], reuse["reason"]),
                         (plain["usage"]["prompt_tokens"], 0, "complete"))
        fork = self.ok(server, "POST", "/v1/contexts", {"from": first["id"], "at": {"message": 1}})
        self.assertEqual((fork["messages"], fork["tokens"]), (1, first["tokens"]))
        again = self.chat(server, fork["id"], "Where is the harbour?",
                          lode={"continue": "rerender"})
        self.assertEqual(text_of(again), told)

    def test_messages_go_on_from_a_context_by_its_header(self):
        server = self.start()
        first = self.new(server)
        status, reply = call(server, "POST", "/v1/messages",
                             {"messages": user("Where is the harbour?"), "max_tokens": 24,
                              "temperature": 0},
                             headers=f"X-Lode-Context: {first['id']}\r\n")
        self.assertEqual(status, 200, reply)
        self.assertEqual(reply["usage"]["cache_read_input_tokens"], first["tokens"])
        now = self.ok(server, "GET", f"/v1/contexts/{first['id']}")
        self.assertEqual(now["messages"], 3)

    def test_streams_tell_the_context_before_their_end(self):
        server = self.start()
        first = self.new(server)
        body = {"messages": user("Where?"), "context": first["id"], "max_tokens": 8, "stream": True}
        connection = server.connect()
        data = json.dumps(body).encode()
        connection.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                            "\r\n").encode() + data)
        _, _, stream = read_response(connection)
        connection.close()
        events = [json.loads(line[6:]) for line in stream.decode().splitlines()
                  if line.startswith("data: {")]
        self.assertEqual(events[-1]["lode"]["context"], first["id"])
        self.assertEqual(events[-1]["choices"], [])
        self.assertIn("data: [DONE]", stream.decode())

    def test_explain_names_a_reason_for_every_token_that_is_computed_again(self):
        server = self.start()
        first = self.new(server)
        explained = self.ok(server, "GET", f"/v1/contexts/{first['id']}/explain")
        self.assertEqual(explained["reuse"]["reason"], "complete")
        self.assertTrue(explained["tree"])
        self.assertIn("prompt", explained["text"])
        other = SYSTEM.replace("a harbour", "a theatre", 1)
        dry = self.ok(server, "POST", "/v1/contexts/explain", {
            "messages": [{"role": "system", "content": other}, *user("Where?")]})
        reuse = dry["reuse"]
        self.assertEqual((reuse["cached"], reuse["reason"]), (0, "no_point_before_divergence"))
        self.assertGreater(reuse["divergence"]["token"], 0)
        self.assertEqual((reuse["matched_known"], reuse["lost"]),
                         (reuse["divergence"]["token"], reuse["divergence"]["token"]))
        self.assertEqual(reuse["cached"] + reuse["computed"], reuse["prompt"])
        known = server.health()
        asked = self.ok(server, "POST", "/v1/chat/completions", {
            "messages": [{"role": "system", "content": other}, *user("Where?")],
            "max_tokens": 4, "lode": {"explain": True}})["lode"]["reuse"]
        self.assertEqual({key: asked[key] for key in ("prompt", "cached", "lost", "reason")},
                         {key: reuse[key] for key in ("prompt", "cached", "lost", "reason")}, known)

    def test_a_trace_has_a_line_for_each_answer_and_no_text(self):
        path = os.path.join(self.folder, "trace.jsonl")
        server = self.start("--trace", path)
        first = self.new(server)
        self.chat(server, first["id"], "Where is the xyzzy?")
        self.chat(server, first["id"], "And the harbour?")
        self.assertEqual(server.close(), 0)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertNotIn("xyzzy", text)
        self.assertEqual(len(lines), 2)  # beginnings that are only kept are no answers
        self.assertEqual(lines[0]["cached"], first["tokens"])
        self.assertGreater(lines[1]["cached"], lines[0]["cached"])
        shared = len(lines[0]["hash_ids"]) - 1
        self.assertEqual(lines[1]["hash_ids"][:shared], lines[0]["hash_ids"][:shared])

    def test_a_context_that_runs_refuses_a_second_writer(self):
        server = self.start()
        first = self.new(server)
        body = {"messages": user("Tell me all."), "context": first["id"], "stream": True,
                "max_tokens": 2000, "ignore_eos": True}
        data = json.dumps(body).encode()
        held = server.connect()
        held.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                      f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                      "\r\n").encode() + data)
        held.recv(10)
        status, reply = call(server, "POST", "/v1/chat/completions",
                             {"messages": user("Me, too"), "context": first["id"]})
        self.assertEqual((status, reply["error"]["code"]), (409, "context_busy"))
        status, _ = call(server, "POST", f"/v1/contexts/{first['id']}/truncate",
                         {"at": {"token": 5}})
        self.assertEqual(status, 409)
        forked = self.chat(server, first["id"], "Me, too", lode={"fork_if_busy": True})
        self.assertNotEqual(forked["lode"]["context"], first["id"])
        held.close()  # whoever goes away leaves it as it was
        end = time.time() + 10
        while time.time() < end:
            now = self.ok(server, "GET", f"/v1/contexts/{first['id']}")
            if not now["running"]:
                break
            time.sleep(0.02)
        self.assertEqual((now["running"], now["tokens"]), (False, first["tokens"]))


class KeepingTest(Case):
    def test_plain_text_goes_on_by_completions(self):
        server = self.start()
        made = self.ok(server, "POST", "/v1/contexts", {"prompt": SYSTEM}, status=201)
        self.assertIsNone(made["messages"])
        body = {"prompt": " The lake is", "context": made["id"], "temperature": 0, "max_tokens": 8}
        reply = self.ok(server, "POST", "/v1/completions", body)
        self.assertEqual(reply["lode"]["reuse"]["cached"], made["tokens"])
        self.assertGreater(self.ok(server, "GET", f"/v1/contexts/{made['id']}")["tokens"],
                           made["tokens"])
        status, reply = call(server, "POST", "/v1/chat/completions",
                             {"messages": user("x"), "context": made["id"]})
        self.assertEqual((status, reply["error"]["param"]), (400, "context"))

    def test_pins_marks_names_and_ttls(self):
        server = self.start()
        made = self.new(server, pin="memory", name="a")
        self.assertEqual(made["pin"], "memory")
        path = f"/v1/contexts/{made['id']}"
        self.assertTrue(any(node["pinned"] for node in
                            self.ok(server, "GET", path + "/explain")["tree"]))
        changed = self.ok(server, "PATCH", path, {"name": "b", "mark": "here", "pin": "none"})
        self.assertEqual((changed["name"], changed["pin"], changed["marks"]),
                         ("b", "none", {"here": made["tokens"]}))
        self.chat(server, made["id"], "Where?")
        cut = self.ok(server, "POST", path + "/truncate", {"at": {"mark": "here"}})
        self.assertEqual((cut["tokens"], cut["messages"]), (made["tokens"], 1))
        self.ok(server, "PATCH", path, {"ttl_s": 0.05})
        time.sleep(0.2)
        status, reply = call(server, "GET", path)
        self.assertEqual((status, reply["error"]["code"]), (404, "context_not_found"))
        other = self.new(server)
        self.ok(server, "DELETE", f"/v1/contexts/{other['id']}")
        self.assertEqual(self.ok(server, "GET", "/v1/contexts")["data"], [])

    def test_bad_requests_are_named(self):
        server = self.start()
        made = self.new(server)
        path = f"/v1/contexts/{made['id']}"
        for method, where, body, status, code in (
                ("GET", "/v1/contexts/ctx_nobody", None, 404, "context_not_found"),
                ("POST", "/v1/contexts/ctx_nobody/fork", {}, 404, "context_not_found"),
                ("POST", "/v1/contexts", {}, 400, "invalid_value"),
                ("POST", "/v1/contexts", {"prompt": "x", "pin": "disk"}, 400, "unsupported_value"),
                ("POST", path + "/fork", {"n": 5000}, 400, "invalid_value"),
                ("POST", path + "/fork", {"at": {"token": 10 ** 9}}, 400, "invalid_value"),
                ("POST", path + "/fork", {"at": {"message": 77}}, 400, "invalid_value"),
                ("POST", path + "/save", {"name": "../escape"}, 400, "invalid_value"),
                ("POST", path + "/save", {}, 400, "invalid_value"),
                ("POST", "/v1/contexts/restore", {"name": "nothing"}, 404, "context_not_found"),
                ("POST", path, {}, 405, "method_not_allowed"),
                ("GET", path + "/nowhere", None, 404, "not_found"),
                ("POST", "/v1/chat/completions", {"messages": user("x"), "context": "ctx_1"}, 404,
                 "context_not_found"),
                ("POST", "/v1/chat/completions",
                 {"messages": user("x"), "context": made["id"], "n": 2}, 400, "invalid_value")):
            got, reply = call(server, method, where, body)
            self.assertEqual((got, reply["error"]["code"]), (status, code), (where, body, reply))

    def test_a_kill_in_a_save_leaves_the_old_file_or_the_new_one(self):
        for round_ in range(4):
            server = self.start()
            made = self.new(server)
            forks = self.ok(server, "POST", f"/v1/contexts/{made['id']}/fork", {"n": 4})
            threads = []
            for i, fork in enumerate(forks["contexts"]):
                body = {"name": f"r{round_}-{i}", "delta": False}
                thread = threading.Thread(target=lambda f=fork, b=body: self.try_save(server, f, b))
                thread.start()
                threads.append(thread)
            time.sleep(0.004 * round_)
            server.close(signal.SIGKILL)
            for thread in threads:
                thread.join()
        server = self.start()
        for one in self.ok(server, "GET", "/v1/contexts")["saved"]:
            self.assertNotIn("trouble", one)
            restored = self.ok(server, "POST", "/v1/contexts/restore",
                               {"name": one["name"], "verify": True})
            self.assertEqual(restored["restored"]["damage"], [])
        self.assertEqual([name for name in os.listdir(self.folder) if name.endswith(".part")], [])

    @staticmethod
    def try_save(server, fork, body):
        try:
            call(server, "POST", f"/v1/contexts/{fork['id']}/save", body)
        except (ConnectionError, OSError):
            pass


class TenantsTest(Case):
    def setUp(self):
        super().setUp()
        self.keys = os.path.join(self.folder, "keys")
        rights = {"alice": "publish=yes", "bob": "contexts=2 pinned_mb=0"}
        with open(self.keys, "w", encoding="utf-8") as file:
            for name, more in rights.items():
                digest = hashlib.sha256(f"key-{name}".encode()).hexdigest()
                file.write(f"{name} {digest} {more}\n")
        self.flags = ("--keys", self.keys)

    def test_one_tenant_neither_sees_nor_reuses_anothers(self):
        server = self.start()
        alice, bob = "key-alice", "key-bob"
        made = self.new(server, key=alice, name="mine")
        for method, path, body in (
                ("GET", f"/v1/contexts/{made['id']}", None),
                ("DELETE", f"/v1/contexts/{made['id']}", None),
                ("GET", f"/v1/contexts/{made['id']}/explain", None),
                ("POST", f"/v1/contexts/{made['id']}/fork", {}),
                ("POST", f"/v1/contexts/{made['id']}/save", {"name": "x"}),
                ("POST", "/v1/chat/completions",
                 {"messages": user("x"), "context": made["id"]})):
            status, reply = call(server, method, path, body, bob)
            self.assertEqual((status, reply["error"]["code"]), (404, "context_not_found"), path)
        self.assertEqual(self.ok(server, "GET", "/v1/contexts", key=bob)["data"], [])
        own = self.new(server, key=bob)
        self.assertEqual((own["reuse"]["cached"], own["reuse"]["reason"]), (0, "new_prefix"))
        self.ok(server, "POST", f"/v1/contexts/{made['id']}/save", {}, alice)
        status, reply = call(server, "POST", "/v1/contexts/restore", {"name": "mine"}, bob)
        self.assertEqual(status, 404, reply)
        self.assertEqual(self.ok(server, "GET", "/v1/contexts", key=bob)["saved"], [])

    def test_quotas_and_what_is_published(self):
        server = self.start()
        alice, bob = "key-alice", "key-bob"
        status, reply = call(server, "POST", "/v1/contexts",
                             {"prompt": SYSTEM, "pin": "memory"}, bob)
        self.assertEqual((status, reply["error"]["code"]), (507, "no_room"))
        status, _ = call(server, "POST", "/v1/contexts", {"prompt": "x y", "publish": True}, bob)
        self.assertEqual(status, 400)
        published = self.new(server, key=alice, publish=True)
        self.assertTrue(published["published"])
        own = self.new(server, key=bob)
        self.assertEqual((own["reuse"]["cached"], own["reuse"]["computed"]), (own["tokens"], 0))
        self.new(server, key=bob)
        status, reply = call(server, "POST", "/v1/contexts", {"prompt": "x"}, bob)
        self.assertEqual((status, reply["error"]["code"]), (507, "no_room"))
        self.ok(server, "DELETE", f"/v1/contexts/{published['id']}", key=alice)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
