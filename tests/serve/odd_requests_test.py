#!/usr/bin/env python3
"""Requests as clients send them though nobody would write them so: legal ones are answered, others
are refused with the path of the field, and nothing is the fault of the server. The demo model.

Usage: odd_requests_test.py LODE_BINARY
"""
import json
import sys
import unittest

from client import Server, read_response

LODE = sys.argv[1]
USER = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {
    "type": "object", "properties": {"a": {"type": "string"}}}}}
CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
EMBEDDINGS = "/v1/embeddings"


def called(arguments):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [*USER, {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "r"}]


def used(block):
    return [*USER, {"role": "assistant", "content": [block]}]


# Path, what differs from a plain request, what it is.
ANSWERED = [
    (CHAT, {name: None for name in ("temperature", "tools", "tool_choice", "stop", "n", "stream",
                                    "seed", "response_format", "stream_options", "logprobs")}),
    (CHAT, {"tools": [TOOL], "tool_choice": None}),
    (CHAT, {"tools": [], "tool_choice": "auto"}),
    (CHAT, {"max_tokens": 4.0}),
    (CHAT, {"top_p": 0}),
    (CHAT, {"top_k": 0}),
    (CHAT, {"stop": ""}),
    (CHAT, {"stop": ["", "a"]}),
    (CHAT, {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "user": "u",
            "prompt_cache_key": "x", "verbosity": "low", "safety_identifier": "x",
            "prediction": {"type": "content", "content": "x"}, "unheard_of": {"a": 1}}),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": None}}]}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "string", "pattern": "^(a+)+$"}}}}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "string", "maxLength": 65536}}}}),
    (CHAT, {"messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}]}]}),
    (CHAT, {"messages": USER + USER}),
    (CHAT, {"messages": [{"role": "user", "content": None}]}),
    (CHAT, {"messages": [{"role": "user", "content": "a\x00b\x1b[31m<|im_end|><tool_call>"}]}),
    (CHAT, {"messages": [{"role": "tool", "tool_call_id": "x", "content": "r"}]}),
    *[(CHAT, {"messages": called(value), "tools": [TOOL]})
      for value in ('{"a":1}', "{bad", '"text"', "[1]", "null", "", None, {"a": 1}, 5)],
    (MESSAGES, {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}),
    (MESSAGES, {"messages": used({"type": "thinking", "thinking": "x", "signature": "?"}) + USER}),
    (MESSAGES, {"messages": used({"type": "redacted_thinking", "data": "x"}) + USER}),
    (MESSAGES, {"thinking": {"type": "adaptive"}, "metadata": {"user_id": "x"}, "container": "x"}),
    (COMPLETIONS, {"prompt": [1, 2]}),
    (COMPLETIONS, {"prompt": ["a", [1]]}),
    (COMPLETIONS, {"prompt": "a", "suffix": ""}),
    (COMPLETIONS, {"prompt": "a", "max_tokens": 0, "echo": True, "logprobs": 1}),
    (EMBEDDINGS, {"input": [1, 2]}),
]

# And the field that the refusal begins with.
REFUSED = [
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_tokens": "4"}, "max_tokens"),
    (CHAT, {"max_tokens": 1e300}, "max_tokens"),
    (CHAT, {"seed": 2**64}, "seed"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"stop": ["x"] * 70}, "stop"),
    (CHAT, {"logit_bias": {"1.5": 1}}, "logit_bias"),
    (CHAT, {"tool_choice": "required"}, "tool_choice"),
    (CHAT, {"tools": [None]}, "tools[0]"),
    (CHAT, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
    (CHAT, {"chat_template_kwargs": []}, "chat_template_kwargs"),
    (CHAT, {"reasoning_effort": "bogus"}, "reasoning_effort"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
     "messages[0].content[0].type"),
    (MESSAGES, {"temperature": 3}, "temperature"),
    (MESSAGES, {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
    (MESSAGES, {"output_config": {"effort": "bogus"}}, "output_config.effort"),
    (MESSAGES, {"output_config": {"effort": 5}}, "output_config.effort"),
    (MESSAGES, {"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
    (MESSAGES, {"output_format": {"type": "xml"}}, "output_format"),
    (MESSAGES, {"thinking": {}}, "thinking"),
    (MESSAGES, {"messages": used({"type": "server_tool_use"})}, "messages[1].content[0].type"),
    (MESSAGES, {"messages": used({"type": "tool_use", "name": "f", "input": "s"})},
     "messages[1].content[0].input"),
    *[(COMPLETIONS, {"prompt": value}, "prompt")
      for value in ("", [], [""], [[]], [1, "a"], [-1], [99999], None, 5, {})],
    (COMPLETIONS, {"prompt": "a", "suffix": "b"}, "suffix"),
    (EMBEDDINGS, {"input": []}, "input"),
    (EMBEDDINGS, {"input": "a", "encoding_format": "hex"}, "encoding_format"),
]

# Bodies that are no JSON object.
BROKEN = [b"", b"[]", b'"x"', b"{} x", b"[" * 100000, b'{"temperature": NaN}',
          b'{"temperature": 1e999}', b'{"messages": "\\ud800"}', b'{"messages": "\xff\xfe"}']


class OddRequestsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Fewer places to wait than texts in the longest list below.
        cls.server = Server(LODE, "--context", "1024", "--agents", "4", "--queue", "80")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.wait_idle()
        assert cls.server.close() == 0

    def ask(self, path, more):
        body = {"model": "demo"}
        if path in (CHAT, MESSAGES):
            body["messages"] = USER
        if path != EMBEDDINGS:
            body["max_tokens"] = 4
        status, _, answer = self.server.post(path, {**body, **more})
        return status, json.loads(answer)

    def test_what_is_legal_is_answered(self):
        for path, more in ANSWERED:
            with self.subTest(path=path, more=more):
                status, answer = self.ask(path, more)
                self.assertEqual(status, 200, answer)

    def test_what_is_not_is_refused_at_its_place(self):
        for path, more, place in REFUSED:
            with self.subTest(path=path, more=more):
                status, answer = self.ask(path, more)
                self.assertEqual(status, 400, answer)
                message = answer["error"]["message"]
                self.assertTrue(message.startswith(place + ": "), message)

    def test_what_is_no_request_is_said_to_be_none(self):
        for body in BROKEN:
            for path in (CHAT, MESSAGES, COMPLETIONS):
                status, _, answer = self.server.post(path, body)
                self.assertEqual(status, 400, body[:40])
                self.assertIn("message", json.loads(answer)["error"])

    def test_an_address_may_be_whole(self):
        for target, expected in (("http://localhost/health", 200), ("http://localhost", 200),
                                 ("https://localhost/live?x=/", 200), ("http://localhost/x", 404)):
            with self.server.connect() as connection:
                connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                self.assertEqual(read_response(connection)[0], expected, target)

    def test_a_format_at_its_older_place_is_held(self):
        schema = {"type": "object", "required": ["town"], "additionalProperties": False,
                  "properties": {"town": {"enum": ["Rome", "Verona"]}}}
        for place in ({"output_format": {"type": "json_schema", "schema": schema}},
                      {"output_config": {"format": {"type": "json_schema", "schema": schema}}}):
            status, answer = self.ask(MESSAGES, {**place, "max_tokens": 60})
            self.assertEqual(status, 200, answer)
            self.assertIn(json.loads(answer["content"][0]["text"])["town"], ("Rome", "Verona"))

    def test_a_list_longer_than_the_queue_is_one_request(self):
        status, answer = self.ask(EMBEDDINGS, {"input": [f"text {i}" for i in range(300)]})
        self.assertEqual(status, 200, answer)
        self.assertEqual([one["index"] for one in answer["data"]], list(range(300)))
        prompts = [[i] for i in range(5, 205)]
        status, answer = self.ask(COMPLETIONS, {"prompt": prompts, "echo": True})
        self.assertEqual(status, 200, answer)
        self.assertEqual([one["index"] for one in answer["choices"]], list(range(200)))

    def test_the_token_that_ends_a_judged_text_is_listed(self):
        """Harnesses ask for one token more than the text and leave the last of the list out."""
        for stream in (False, True):
            text = "Good morrow, my lord."
            body = {"model": "demo", "prompt": text, "max_tokens": 1, "temperature": 0,
                    "echo": True, "logprobs": 1, "stream": stream,
                    "stop_token_ids": list(range(1024))}  # whatever comes, it ends
            ids = json.loads(self.server.post("/tokenize", {"prompt": text})[2])["tokens"]
            status, _, answer = self.server.post(COMPLETIONS, body)
            self.assertEqual(status, 200, answer)
            parts = ([json.loads(line[6:]) for line in answer.decode().splitlines()
                      if line.startswith("data: {")] if stream else [json.loads(answer)])
            told = [one for part in parts for choice in part["choices"]
                    for one in choice["logprobs"]["token_logprobs"]]
            self.assertEqual(len(told), len(ids) + 1)
            self.assertEqual("".join(c["text"] for part in parts for c in part["choices"]), text)
            self.assertEqual(parts[-1]["choices"][0]["finish_reason"], "stop")


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    unittest.main(verbosity=2)
