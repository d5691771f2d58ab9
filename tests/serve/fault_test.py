#!/usr/bin/env python3
"""lode serve under clients that misbehave, go away or send nonsense, and when it is told to end.

Usage: fault_test.py LODE_BINARY
"""
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from client import Server, read_chunked, read_head, read_response, run_together

LODE = sys.argv[1]
CALL = ("<tool_call>\n<function=weather>\n<parameter=city>\n" + "Paris " * 200 +
        "\n</parameter>\n</function>\n</tool_call>\n")
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}]
SLOW = [
    {"running_max": 2, "queue_max": 4},
    {"match": "prefill", "text": "late", "start_ms": 60000},
    {"match": "decode", "text": "word " * 2000, "delay_ms": 20},
    {"match": "tool", "text": CALL, "delay_ms": 20},
    {"match": "short", "text": "one two three four five six", "delay_ms": 60},
    {"match": "flood", "text": "flood of words " * 200000},
    {"match": None, "text": "quick"},
]


def chat(text, **more):
    return {"model": "script", "messages": [{"role": "user", "content": text}], **more}


def head_of(body, path="/v1/chat/completions"):
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


class LeavingTest(unittest.TestCase):
    """Whoever goes away, in whatever phase, leaves nothing running."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(LODE, script=SLOW)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.close() == 0

    def leave(self, body, wait_for_head, path="/v1/chat/completions", abort=False):
        connection = self.server.connect()
        connection.sendall(head_of(body, path))
        if wait_for_head:
            read_head(connection)
            time.sleep(0.1)
        else:
            self.assertTrue(self.server.wait_busy())
        if abort:  # a reset instead of an end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        self.assertTrue(self.server.wait_idle(5), body)

    def test_before_the_first_token(self):
        for stream in (True, False):
            for abort in (True, False):
                self.leave(chat("prefill", stream=stream), wait_for_head=stream, abort=abort)

    def test_while_tokens_come(self):
        for abort in (True, False):
            self.leave(chat("decode", stream=True), wait_for_head=True, abort=abort)
            self.leave(chat("decode"), wait_for_head=False, abort=abort)
        self.leave(chat("decode", stream=True, n=2), wait_for_head=True)
        self.leave({"model": "script", "prompt": "decode", "stream": True, "max_tokens": 999}, True, "/v1/completions")
        self.leave({**chat("decode", stream=True), "max_tokens": 999}, True, "/v1/messages")

    def test_in_the_middle_of_a_tool_call(self):
        self.leave(chat("tool", stream=True, tools=TOOLS), wait_for_head=True)

    def test_in_the_queue(self):
        runners = [self.server.connect() for _ in range(2)]
        for runner in runners:
            runner.sendall(head_of(chat("decode", stream=True)))
            read_head(runner)
        waiting = self.server.connect()
        waiting.sendall(head_of(chat("decode", stream=True)))
        while self.server.health()[1]["waiting"] == 0:
            time.sleep(0.01)
        waiting.close()
        end = time.time() + 5
        while self.server.health()[1]["waiting"] > 0 and time.time() < end:
            time.sleep(0.01)
        self.assertEqual(self.server.health()[1], {"status": "ok", "running": 2, "waiting": 0})
        for runner in runners:
            runner.close()
        self.assertTrue(self.server.wait_idle(5))

    def test_a_full_queue_says_when_to_come_again(self):
        held = []
        try:
            for _ in range(6):
                connection = self.server.connect()
                connection.sendall(head_of(chat("decode", stream=True)))
                held.append(connection)
            end = time.time() + 5
            while self.server.health()[1]["waiting"] < 4 and time.time() < end:
                time.sleep(0.01)
            status, headers, body = self.server.post("/v1/chat/completions", chat("x"))
            self.assertEqual(status, 429, body)
            self.assertTrue(1 <= int(headers["retry-after"]) <= 60)
            self.assertEqual(json.loads(body)["error"]["code"], "queue_full")
            status, _, body = self.server.post("/v1/messages", {**chat("x"), "max_tokens": 5})
            self.assertEqual((status, json.loads(body)["error"]["type"]), (429, "rate_limit_error"))
        finally:
            for connection in held:
                connection.close()
        self.assertTrue(self.server.wait_idle(5))

    def test_who_does_not_read_takes_no_memory_and_stalls_nobody(self):
        slow = self.server.connect()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(head_of(chat("flood", stream=True)))
        time.sleep(0.5)
        status, _, body = self.server.post("/v1/chat/completions", chat("quick"))
        self.assertEqual((status, json.loads(body)["choices"][0]["message"]["content"]), (200, "quick"))
        with open(f"/proc/{self.server.process.pid}/status", encoding="ascii") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        self.assertLess(resident, 400_000)  # of them the script's own million tokens
        slow.close()
        self.assertTrue(self.server.wait_idle(5))

    def test_connections_that_left_are_forgotten(self):
        def descriptors():
            return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))
        before = descriptors()
        for _ in range(3):
            run_together(40, lambda _: self.server.connect().close())
        time.sleep(0.3)
        self.assertLessEqual(descriptors(), before + 2)


class CrowdTest(unittest.TestCase):
    def test_a_thousand_idle_streams_take_less_than_fifty_megabytes(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2100:
            self.skipTest("too few descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2100), hard))
        server = Server(LODE, "--log", "off", script=[
            {"running_max": 1200, "queue_max": 10},
            {"match": "prefill", "text": "late", "start_ms": 600000}, {"text": "quick"}])
        held = []

        def resident():
            with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        try:
            server.post("/v1/chat/completions", chat("x"))
            before = resident()
            for _ in range(1000):
                held.append(server.connect())
                held[-1].sendall(head_of(chat("prefill", stream=True)))
            end = time.time() + 20
            while server.health()[1]["running"] < 1000 and time.time() < end:
                time.sleep(0.05)
            self.assertEqual(server.health()[1]["running"], 1000)
            self.assertLess(resident() - before, 50_000)
            status, _, body = server.post("/v1/chat/completions", chat("x"))
            self.assertEqual((status, json.loads(body)["choices"][0]["message"]["content"]),
                             (200, "quick"))
        finally:
            for connection in held:
                connection.close()
        self.assertTrue(server.wait_idle(20))
        self.assertEqual(server.close(), 0)


class ListeningTest(unittest.TestCase):
    def test_a_socket_in_the_file_system_is_its_owners_alone_and_goes_away(self):
        folder = tempfile.mkdtemp(prefix="lode-socket-")
        path = os.path.join(folder, "lode.sock")
        for _ in range(2):  # the second finds what a killed one left
            script = os.path.join(folder, "script.jsonl")
            with open(script, "w", encoding="utf-8") as file:
                file.write('{"text": "fine"}\n')
            process = subprocess.Popen([LODE, "serve", "script:" + script, "--log", "off", "--host",
                                        "unix:" + path],
                                       stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline().strip(), "listening on unix:" + path)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(head_of(chat("hi")))
                status, _, body = read_response(connection)
            self.assertEqual((status, json.loads(body)["choices"][0]["message"]["content"]),
                             (200, "fine"))
            process.kill()
            process.wait()
            process.stdout.close()
        process = subprocess.Popen([LODE, "serve", "script:" + script, "--log", "off", "--host",
                                        "unix:" + path],
                                   stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.terminate()
        self.assertEqual(process.wait(20), 0)
        process.stdout.close()
        self.assertFalse(os.path.exists(path))
        shutil.rmtree(folder)

    def test_an_answer_that_takes_too_long_is_ended(self):
        server = Server(LODE, "--request-timeout", "1", script=[
            {"match": "prefill", "text": "late", "start_ms": 60000},
            {"match": "decode", "text": "word " * 2000, "delay_ms": 20}, {"text": "quick"}])
        try:
            status, _, body = server.post("/v1/chat/completions", chat("prefill"))
            self.assertEqual((status, json.loads(body)["error"]["code"]), (504, "deadline_exceeded"))
            status, _, body = server.post("/v1/chat/completions", chat("decode", stream=True))
            self.assertEqual(status, 200)
            self.assertIn(b"deadline_exceeded", body)
            self.assertTrue(server.wait_idle(5))
            self.assertEqual(server.post("/v1/chat/completions", chat("x"))[0], 200)
        finally:
            server.close()

    @unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificates")
    def test_clients_show_a_certificate_where_they_must(self):
        folder = tempfile.mkdtemp(prefix="lode-tls-")
        for name in ("server", "client", "stranger"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                            f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out",
                            f"{folder}/{name}.pem"], check=True, capture_output=True)
        server = Server(LODE, "--tls-cert", f"{folder}/server.pem", "--tls-key",
                        f"{folder}/server.key", "--tls-client-ca", f"{folder}/client.pem",
                        script=[{"text": "fine"}])
        try:
            for name, good in (("client", True), ("stranger", False), (None, False)):
                context = ssl.create_default_context(cafile=f"{folder}/server.pem")
                context.check_hostname = False
                if name is not None:
                    context.load_cert_chain(f"{folder}/{name}.pem", f"{folder}/{name}.key")
                try:
                    with context.wrap_socket(server.connect()) as connection:
                        connection.sendall(head_of(chat("hi")))
                        got = read_response(connection)[0] == 200
                except (OSError, ConnectionError):
                    got = False
                self.assertEqual(got, good, name)
        finally:
            server.close()
            shutil.rmtree(folder)


class NonsenseTest(unittest.TestCase):
    """What is wrong is said in a sentence, with the right status, and the server lives."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(LODE, "--cors", "http://page.test", script=[{"text": "fine"}])

    @classmethod
    def tearDownClass(cls):
        assert cls.server.close() == 0

    def tearDown(self):
        status, _, body = self.server.post("/v1/chat/completions", chat("hi"))
        self.assertEqual((status, json.loads(body)["choices"][0]["message"]["content"]), (200, "fine"))

    def raw(self, data):
        with self.server.connect() as connection:
            connection.sendall(data)
            return read_response(connection)

    def test_bodies(self):
        deep = b'{"messages":' + b"[" * 100000
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens",
                     "/tokenize", "/detokenize", "/apply-template"):
            for body in (b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b'{"messages": "x\xc3("}', deep,
                         b'{"messages": [{}]}', b'{"messages": {}}', b'{"messages": [7]}', b"\0\0\0", b'{"model": 7}',
                         b'{"prompt": {}}', b'{"prompt": []}', b'{"tokens": ["x"]}', b'{"tokens": [1e99]}',
                         b'{"messages":[{"role":"user","content":"\\ud800"}]}{', b"NaN"):
                status, headers, answer = self.server.post(path, body)
                self.assertEqual(status, 400, (path, body[:50], answer))
                error = json.loads(answer)["error"]
                self.assertTrue(error["message"] and error["type"] == "invalid_request_error")
                self.assertTrue(headers["x-request-id"])

    def test_fields(self):
        ids = {str(i): 1 for i in range(70000)}
        for more in ({"logit_bias": ids}, {"logit_bias": {"-1": 0}}, {"logit_bias": {"x": 0}}, {"logit_bias": {"1": 1e9}},
                     {"max_tokens": 0}, {"max_tokens": -5}, {"max_tokens": 1.5}, {"max_tokens": "9"}, {"n": 0}, {"n": 1e30},
                     {"temperature": "hot"}, {"top_p": 7}, {"stop": 5}, {"stop": ["x"] * 100}, {"stop": ["y" * 5000]},
                     {"seed": "x"}, {"seed": 2**70}, {"seed": 2**63}, {"stream": "yes"}, {"stream_options": 3}, {"top_logprobs": 99},
                     {"tools": {}}, {"tools": [[]]}, {"tools": [{"type": "magic"}]}, {"tool_choice": 4},
                     {"tool_choice": {"type": "function", "function": {"name": "nobody"}}}, {"response_format": "json"},
                     {"response_format": {"type": "poem"}}, {"reasoning_effort": "huge"}, {"chat_template_kwargs": 5},
                     {"chat_template_kwargs": {"messages": []}}, {"cache_salt": "x" * 1000}, {"stop_token_ids": [-1]}):
            status, _, body = self.server.post("/v1/chat/completions", chat("x", **more))
            self.assertEqual(status, 400, (more if len(str(more)) < 99 else "long", body))
            self.assertIn(next(iter(more)).split(".")[0], json.loads(body)["error"]["message"])
        for more in ({"user": "me", "store": True, "metadata": {}, "unheard_of": [1]}, {"seed": -1}, {"stop": None},
                     {"tool_choice": None, "tools": None}, {"temperature": None}, {"max_completion_tokens": 10**9}):
            status, _, body = self.server.post("/v1/chat/completions", chat("x", **more))
            self.assertEqual(status, 200, (more, body))

    def test_http(self):
        for data, status in ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400), (b"GET\r\n\r\n", 400),
                             (b"GET /health HTTP/9.9\r\n\r\n", 400), (b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
                             (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
                             (b"GET /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
                             (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
                             (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100000 + b"\r\n\r\n", 431),
                             (b"GET /" + b"y" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
                             (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 500 + b"\r\n", 431),
                             (b"GET /health HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403),
                             (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                              b"Content-Length: 2\r\n\r\n{}", 415),
                             (b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415),
                             (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                              b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                             (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -2\r\n\r\n{}", 400)):
            got, _, body = self.raw(data)
            self.assertEqual(got, status, (data[:60], body))
            self.assertTrue(json.loads(body)["error"]["message"])

    def test_a_body_that_is_too_large_is_refused_before_it_is_sent(self):
        start = time.time()
        status, _, body = self.raw(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                   b"Content-Length: 104857600\r\n\r\n" + b"x" * 1000)
        self.assertEqual((status, json.loads(body)["error"]["code"]), (413, "request_too_large"))
        self.assertLess(time.time() - start, 2)
        # and one that does not say so, piece by piece
        with self.server.connect() as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n")
            piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
            try:
                for _ in range(100):
                    connection.sendall(piece)
            except OSError:
                pass  # it has stopped listening, as it may
            try:
                self.assertEqual(read_response(connection)[0], 413)
            except OSError:
                pass

    def test_what_http_allows_works(self):
        with self.server.connect() as connection:  # two at once, answered in order
            connection.sendall(head_of(chat("a")) + head_of(chat("b", stream=True)))
            status, _, rest = read_head(connection)
            self.assertEqual(status, 200)
            while b"data: [DONE]" not in rest or not rest.endswith(b"0\r\n\r\n"):
                rest += connection.recv(65536)
            self.assertLess(rest.index(b"chat.completion"), rest.index(b"chat.completion.chunk"))
        data = json.dumps(chat("x")).encode()
        status, headers, body = self.raw(  # a body in chunks, asked for first
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\nX-Request-Id: mine-7\r\n\r\n"
            + b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in data) + b"0\r\n\r\n")
        self.assertEqual((status, headers["x-request-id"]), (200, "mine-7"))
        status, headers, body = self.raw(b"GET /live HTTP/1.0\r\n\r\n")
        self.assertEqual((status, headers["connection"]), (200, "close"))
        with self.server.connect() as connection:
            connection.sendall(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status, headers, rest = read_head(connection)
            self.assertEqual((status, rest + connection.recv(99)), (200, b""))

    def test_browsers(self):
        ask = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: {}\r\nAccess-Control-Request-Method: POST\r\n\r\n"
        status, headers, _ = self.raw(ask.format("http://page.test").encode())
        self.assertEqual((status, headers["access-control-allow-origin"]), (204, "http://page.test"))
        status, headers, _ = self.raw(ask.format("http://evil.test").encode())
        self.assertNotIn("access-control-allow-origin", headers)

    def test_logs_hold_no_words_of_a_dialogue(self):
        secret = "xyzzy-secret-7"
        self.server.post("/v1/chat/completions", chat(secret))
        self.server.post("/v1/chat/completions", b'{"messages": "' + secret.encode())
        self.server.get("/" + "%0a" + "fake\x1b[31m")
        time.sleep(0.1)
        self.assertNotIn(secret, self.server.log())
        self.assertNotIn("\x1b", self.server.log())
        line = [r for r in self.server.requests() if r["path"] == "/v1/chat/completions" and r["status"] == 200][-1]
        for field in ("time", "id", "ms", "bytes", "remote", "prompt_tokens", "completion_tokens"):
            self.assertIn(field, line)

    def test_metrics(self):
        self.server.post("/v1/chat/completions", chat("x"))
        text = self.server.get("/metrics")[2].decode()
        for name in ("lode_prompt_tokens_total", "vllm:num_requests_running", "vllm:time_to_first_token_seconds_bucket",
                     'lode_http_requests_total{model_name="script",route="/v1/chat/completions",status="200"}'):
            self.assertIn(name, text)
        for line in text.splitlines():
            self.assertRegex(line, r"^(#.*|[a-z0-9_:]+(\{.*\})? [-+0-9.e]+(nan|inf)?)$")

    def test_text_and_tokens(self):
        status, _, body = self.server.post("/tokenize", {"prompt": "Hello ☃", "return_token_strs": True})
        tokens = json.loads(body)["tokens"]
        self.assertEqual(json.loads(self.server.post("/detokenize", {"tokens": tokens})[2])["prompt"], "Hello ☃")
        prompt = json.loads(self.server.post("/apply-template", chat("Hi"))[2])["prompt"]
        self.assertIn("<|im_start|>user\nHi", prompt)
        info = json.loads(self.server.get("/tokenizer_info")[2])
        self.assertIn("chat_template", info)


class KeysTest(unittest.TestCase):
    def test_keys_let_in_and_are_read_again(self):
        def line(name, key):
            return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"
        folder = Server(LODE, script=[{"text": "x"}])  # for its folder
        path = os.path.join(folder.folder, "keys")
        with open(path, "w", encoding="utf-8") as file:
            file.write("# who\n" + line("alice", "first"))
        server = Server(LODE, "--keys", path, script=[{"text": "fine"}])
        try:
            def status(*headers):
                return server.post("/v1/chat/completions", chat("x"),
                                   "".join(h + "\r\n" for h in (*headers, "Content-Type: application/json")))[0]
            self.assertEqual(status("Authorization: Bearer first"), 200)
            self.assertEqual(status("x-api-key: first"), 200)
            for headers in ((), ("Authorization: Bearer wrong",), ("Authorization: Bearer ",), ("x-api-key: firs",)):
                self.assertEqual(status(*headers), 401)
            self.assertEqual(server.get("/health")[0], 200)
            self.assertEqual(server.requests()[0]["tenant"], "alice")
            self.assertNotIn("first", server.log())
            with open(path, "w", encoding="utf-8") as file:
                file.write(line("alice", "second") + line("bob", "third"))
            end = time.time() + 5
            while status("x-api-key: second") != 200 and time.time() < end:
                time.sleep(0.1)
            self.assertEqual((status("x-api-key: first"), status("x-api-key: third")), (401, 200))
            with open(path, "w", encoding="utf-8") as file:
                file.write("not a key file\n")
            time.sleep(1.3)
            self.assertEqual(status("x-api-key: third"), 200)  # a broken file changes nothing
        finally:
            self.assertEqual(server.close(), 0)
            folder.close()

    def test_a_key_may_send_so_many_requests_in_a_minute(self):
        folder = Server(LODE, script=[{"text": "x"}])  # for its folder
        self.addCleanup(folder.close)
        path = os.path.join(folder.folder, "keys")
        with open(path, "w", encoding="utf-8") as file:
            for name, limit in (("alice", " rpm=2"), ("bob", "")):
                file.write(f"{name} {hashlib.sha256(name.encode()).hexdigest()}{limit}\n")
        server = Server(LODE, "--keys", path, script=[{"text": "fine"}])
        self.addCleanup(server.close)

        def ask(name, place="/v1/chat/completions"):
            return server.post(place, {**chat("x"), "max_tokens": 4},
                               f"Content-Type: application/json\r\nx-api-key: {name}\r\n")
        self.assertEqual([ask("alice")[0], ask("alice")[0]], [200, 200])
        for place, kind in (("/v1/chat/completions", "rate_limit_error"), ("/v1/messages", "rate_limit_error")):
            status, headers, body = ask("alice", place)
            self.assertEqual((status, json.loads(body)["error"]["type"]), (429, kind))
            self.assertTrue(1 <= int(headers["retry-after"]) <= 30, headers)
        self.assertEqual([ask("bob")[0] for _ in range(4)], [200] * 4)
        self.assertEqual(server.get("/v1/models", "x-api-key: alice\r\n")[0], 200)  # what is looked up counts nothing


class EndingTest(unittest.TestCase):
    def test_sigterm_lets_running_answers_end_and_refuses_new_ones(self):
        server = Server(LODE, script=SLOW[1:])
        self.addCleanup(server.close)
        streams = [server.connect() for _ in range(4)]
        idle = server.connect()
        for stream in streams:
            stream.sendall(head_of(chat("short", stream=True)))
        heads = [read_head(stream) for stream in streams]
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        self.assertEqual(idle.recv(10), b"")
        self.assertEqual(server.health()[0], 503)
        status, headers, _ = server.post("/v1/chat/completions", chat("new"))
        self.assertEqual(status, 503)
        self.assertIn("retry-after", headers)
        for stream, (_, _, rest) in zip(streams, heads):
            text = read_chunked(stream, rest).decode()
            self.assertIn('"finish_reason":"stop"', text)
            self.assertTrue(text.endswith("data: [DONE]\n\n"))
        self.assertEqual(server.close(), 0)

    def test_without_time_to_drain_answers_end_with_an_error_at_once(self):
        server = Server(LODE, "--drain", "0", script=SLOW[1:])
        stream = server.connect()
        stream.sendall(head_of(chat("decode", stream=True)))
        _, _, rest = read_head(stream)
        whole = server.connect()
        whole.sendall(head_of(chat("decode")))
        time.sleep(0.2)
        start = time.time()
        server.process.send_signal(signal.SIGTERM)
        self.assertIn('"error"', read_chunked(stream, rest).decode().splitlines()[-2])
        self.assertEqual(read_response(whole)[0], 503)
        self.assertEqual(server.close(), 0)
        self.assertLess(time.time() - start, 4)

    def test_a_signal_right_after_the_start_is_not_lost(self):
        for _ in range(10):
            server = Server(LODE, script=[{"text": "fine"}])
            server.process.terminate()
            self.assertEqual(server.process.wait(20), 0)
            server.close()

    def test_a_second_signal_does_not_wait(self):
        server = Server(LODE, script=SLOW[1:])
        stream = server.connect()
        stream.sendall(head_of(chat("decode", stream=True)))
        read_head(stream)
        start = time.time()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.assertIsNone(server.process.poll())
        self.assertEqual(server.close(signal.SIGINT), 0)
        self.assertLess(time.time() - start, 4)

    def test_what_cannot_be_served_is_said(self):
        server = Server(LODE, script=[{"text": "x"}])
        for flags, word in ((["demo", "--port", str(server.port)], "port"), (["demo", "--host", "0.0.0.0"], "--keys"),
                            (["demo", "--host", "nowhere", "--no-keys"], "address"), (["script:/nonexistent"], "nonexistent"),
                            (["demo", "--keys", "/nonexistent"], "nonexistent"), (["demo", "--tls-cert", "/nonexistent"], "key")):
            result = subprocess.run([LODE, "serve", *flags], capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 2, (flags, result.stderr))
            self.assertIn(word, result.stderr)
        self.assertEqual(server.close(), 0)


class DemoTest(unittest.TestCase):
    """The same with a model's engine behind."""

    def test_clients_that_leave_leave_nothing_and_others_go_on(self):
        server = Server(LODE, "--context", "2048", "--agents", "4")
        body = {**chat("Say all that you know.", stream=True, max_tokens=1500, ignore_eos=True), "model": "demo"}

        def one(index):
            connection = server.connect(60)
            connection.sendall(head_of({**body, "n": 4 if index == 0 else 1, "stream": index % 2 == 0}))
            if index % 2 == 0:
                read_head(connection)
            time.sleep(0.05 * index)
            connection.close()

        def stays(_):
            return server.post("/v1/chat/completions", {**chat("Who is there?", max_tokens=20), "model": "demo"})[0]

        stayed = []
        waiter = threading.Thread(target=lambda: stayed.append(stays(0)))
        waiter.start()
        run_together(6, one)
        waiter.join()
        self.assertEqual(stayed, [200])
        self.assertTrue(server.wait_idle(10))
        self.assertEqual(server.close(), 0)


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    unittest.main(verbosity=2, warnings="ignore")
