#!/usr/bin/env python3
"""lode serve as its users meet it: the unmodified SDKs of OpenAI and Anthropic against a scripted model
and against the demo model.

Usage: sdk_test.py LODE_BINARY VENV_FOLDER
The packages are installed into VENV_FOLDER once. Without a package index the test says so and is skipped.
"""
import json
import os
import subprocess
import sys
import unittest

LODE, VENV = sys.argv[1:3]
PACKAGES = ["openai", "anthropic"]
SKIPPED = 77


def enter_venv():
    python = os.path.join(VENV, "bin", "python")
    stamp = os.path.join(VENV, "installed")
    if not os.path.exists(stamp):
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV])
        if made.returncode != 0 or subprocess.run(
                [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES],
                timeout=400).returncode != 0:
            print("\n*** the SDKs cannot be installed (no package index?): NOTHING of them was tested ***\n"
                  "[  SKIPPED ] serve.sdk_test (0 ms)", flush=True)
            sys.exit(SKIPPED)
        with open(stamp, "w", encoding="utf-8") as file:
            file.write("\n".join(PACKAGES))
    os.execv(python, [python, *sys.argv])


if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
    enter_venv()

import anthropic  # noqa: E402  (only there behind enter_venv)
import openai  # noqa: E402

from client import Server  # noqa: E402

CALL = ("<tool_call>\n<function={}>\n<parameter=city>\n{}\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>\n")
SCRIPT = [
    {"match": "two calls", "text": "Both.\n" + CALL.format("weather", "Paris") + CALL.format("weather", "Köln ☂")},
    {"match": "weather", "text": "Let me see.\n" + CALL.format("weather", "Paris")},
    {"match": "think first", "text": "Hm, Paris?\nYes.</think>\n" + CALL.format("weather", "Paris")},
    {"match": "sunny", "text": "It is sunny in Paris. END of it."},
    {"match": "break", "text": "So far", "fail": "the engine lost a wheel"},
    {"match": "run it", "text": "<tool_call>\n<function=shell>\n<parameter=input>\nls -l | wc\n</parameter>\n</function>\n"
                                "</tool_call>"},
    {"match": "json", "text": "{\"city\": \"Paris\", \"days\": 3}"},
    {"match": None, "text": "Hello there, ☃ friend."},
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
          "required": ["city", "days"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}}]
CLAUDE_TOOLS = [{"name": "weather", "description": "of a city", "input_schema": SCHEMA}]


def user(text):
    return [{"role": "user", "content": text}]


class ScriptedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(LODE, "--alias", "script-alias", script=SCRIPT)
        cls.openai = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="x", max_retries=0)
        cls.anthropic = anthropic.Anthropic(base_url=cls.server.url, api_key="x", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.close()
        assert code == 0, code

    # --- Chat Completions ---

    def chat(self, text, **more):
        return self.openai.chat.completions.create(model="script", messages=user(text), **more)

    def test_a_whole_answer_has_text_usage_and_a_reason(self):
        answer = self.chat("hi")
        self.assertEqual(answer.choices[0].message.content, "Hello there, ☃ friend.")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.model, "script")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertIsNone(answer.choices[0].message.tool_calls)

    def test_a_stream_is_the_whole_answer_in_pieces(self):
        chunks = list(self.chat("hi", stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
                         "Hello there, ☃ friend.")
        self.assertEqual(len({c.id for c in chunks}), 1)
        self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 3)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))

    def test_streamed_tool_calls_are_those_of_the_whole_answer(self):
        whole = self.chat("two calls", tools=TOOLS).choices[0]
        self.assertEqual(whole.finish_reason, "tool_calls")
        self.assertEqual(whole.message.content.strip(), "Both.")
        with self.openai.chat.completions.stream(model="script", messages=user("two calls"), tools=TOOLS) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion().choices[0]
        for choice in (whole, streamed):
            calls = choice.message.tool_calls
            self.assertEqual([c.function.name for c in calls], ["weather"] * 2)
            self.assertEqual([json.loads(c.function.arguments) for c in calls],
                             [{"city": "Paris", "days": 3}, {"city": "Köln ☂", "days": 3}])
            self.assertEqual(len({c.id for c in calls}), 2)
        self.assertEqual(streamed.finish_reason, "tool_calls")

    def test_names_and_ids_come_once_and_arguments_in_pieces(self):
        deltas = [d for c in self.chat("weather", tools=TOOLS, stream=True) if c.choices
                  for d in c.choices[0].delta.tool_calls or []]
        self.assertEqual([bool(d.id) for d in deltas], [True] + [False] * (len(deltas) - 1))
        self.assertEqual([bool(d.function.name) for d in deltas], [True] + [False] * (len(deltas) - 1))
        self.assertGreater(len(deltas), 4)

    def test_a_tool_loop_goes_round(self):
        messages = user("weather")
        first = self.openai.chat.completions.create(model="script", messages=messages, tools=TOOLS)
        messages.append(first.choices[0].message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": first.choices[0].message.tool_calls[0].id, "content": "sunny"})
        second = self.openai.chat.completions.create(model="script", messages=messages, tools=TOOLS)
        self.assertIn("sunny in Paris", second.choices[0].message.content)
        self.assertGreater(second.usage.prompt_tokens_details.cached_tokens, 20)

    def test_reasoning_is_told_apart_and_counted(self):
        on = {"chat_template_kwargs": {"enable_thinking": True}}
        whole = self.chat("think first", tools=TOOLS, extra_body=on)
        self.assertEqual(whole.choices[0].message.reasoning_content, "Hm, Paris?\nYes.")
        self.assertEqual(whole.choices[0].finish_reason, "tool_calls")
        self.assertGreater(whole.usage.completion_tokens_details.reasoning_tokens, 3)
        thoughts = "".join(getattr(c.choices[0].delta, "reasoning_content", None) or ""
                           for c in self.chat("think first", tools=TOOLS, stream=True, reasoning_effort="high") if c.choices)
        self.assertEqual(thoughts, "Hm, Paris?\nYes.")

    def test_a_stop_string_ends_the_text_before_it(self):
        for stream in (False, True):
            answer = self.chat("sunny", stop=["END", "nowhere"], stream=stream)
            text = ("".join(c.choices[0].delta.content or "" for c in answer) if stream
                    else answer.choices[0].message.content)
            self.assertEqual(text, "It is sunny in Paris. ")
        self.assertTrue(self.server.wait_idle())

    def test_choices_lengths_and_logprobs(self):
        answer = self.chat("hi", n=3, max_completion_tokens=4, logprobs=True, top_logprobs=2)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        self.assertEqual({c.finish_reason for c in answer.choices}, {"length"})
        tokens = answer.choices[0].logprobs.content
        self.assertEqual(len(tokens), 4)
        self.assertEqual(bytes(b for t in tokens for b in t.bytes).decode(), answer.choices[0].message.content)
        self.assertEqual(len(tokens[0].top_logprobs), 2)
        self.assertEqual(answer.usage.completion_tokens, 12)

    def test_what_is_wrong_is_said_with_its_place(self):
        for more, words in [({"model": "gpt-5"}, ("404", "model_not_found", "gpt-5")),
                            ({"temperature": -1}, ("400", "temperature")),
                            ({"messages": [{"role": "robot", "content": "x"}]}, ("400", "messages[0].role")),
                            ({"tool_choice": "required"}, ("400", "tool_choice")),
                            ({"tools": [{"type": "function"}]}, ("400", "tools[0]")),
                            ({"logit_bias": {"99999999": 1}}, ("400", "logit_bias")),
                            ({"n": 100000}, ("400", "n: ")),
                            ({"messages": []}, ("400", "messages"))]:
            with self.assertRaises(openai.APIStatusError) as caught:
                self.openai.chat.completions.create(**{"model": "script", "messages": user("x"), **more})
            for word in words:
                self.assertIn(word, f"{caught.exception} {caught.exception.code}")

    def test_an_answer_that_fails_raises_in_the_client(self):
        with self.assertRaisesRegex(openai.APIError, "lost a wheel"):
            list(self.chat("break", stream=True))
        with self.assertRaises(openai.InternalServerError):
            self.chat("break")

    def test_structured_answers_parse(self):
        answer = self.openai.chat.completions.create(
            model="script", messages=user("json"),
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}})
        self.assertEqual(json.loads(answer.choices[0].message.content), {"city": "Paris", "days": 3})

    # --- Completions, models ---

    def test_completions(self):
        answer = self.openai.completions.create(model="script", prompt=["one", [105, 106]], n=2, max_tokens=5, echo=True)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2, 3])
        self.assertTrue(answer.choices[0].text.startswith("oneHello"))
        streamed = self.openai.completions.create(model="script", prompt="x", stream=True, max_tokens=50, logprobs=1)
        self.assertEqual("".join(c.choices[0].text for c in streamed if c.choices), "Hello there, ☃ friend.")

    def test_models(self):
        self.assertEqual([m.id for m in self.openai.models.list()], ["script-alias", "script"])
        self.assertEqual(self.openai.models.retrieve("script").id, "script")
        with self.assertRaises(openai.NotFoundError):
            self.openai.models.retrieve("nothing")
        self.assertEqual([m.id for m in self.anthropic.models.list()], ["script-alias", "script"])

    # --- Responses ---

    def respond(self, text, **more):
        return self.openai.responses.create(model="script", input=text, **more)

    def test_a_response_has_text_usage_and_its_settings(self):
        answer = self.respond("hi", instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=50)
        self.assertEqual(answer.output_text, "Hello there, ☃ friend.")
        self.assertEqual((answer.status, answer.object, answer.instructions), ("completed", "response", "Be brief."))
        self.assertEqual((answer.metadata, answer.max_output_tokens), ({"a": "b"}, 50))
        self.assertEqual((answer.tools, answer.tool_choice, answer.parallel_tool_calls), ([], "auto", True))
        self.assertEqual(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)
        self.assertIsNotNone(answer.usage.input_tokens_details.cached_tokens)
        cut = self.respond("hi", max_output_tokens=3)
        self.assertEqual((cut.status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual(cut.output[0].status, "incomplete")

    def test_events_of_a_response_join_to_the_whole(self):
        tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
        whole = self.respond("two calls", tools=tools)
        types = []
        with self.openai.responses.stream(model="script", input="two calls", tools=tools) as stream:
            for event in stream:
                types.append(event.type)
            streamed = stream.get_final_response()
        for answer in (whole, streamed):
            self.assertEqual([item.type for item in answer.output], ["message", "function_call", "function_call"])
            self.assertEqual(answer.output_text.strip(), "Both.")
            self.assertEqual([json.loads(c.arguments) for c in answer.output[1:]],
                             [{"city": "Paris", "days": 3}, {"city": "Köln ☂", "days": 3}])
            self.assertEqual(len({c.call_id for c in answer.output[1:]}), 2)
        self.assertEqual(types[:4], ["response.created", "response.in_progress", "response.output_item.added",
                                     "response.content_part.added"])
        self.assertEqual(types[-1], "response.completed")
        self.assertEqual(types.count("response.function_call_arguments.done"), 2)
        raw = list(self.respond("two calls", tools=tools, stream=True))
        self.assertEqual([e.sequence_number for e in raw], list(range(len(raw))))
        deltas = "".join(e.delta for e in raw if e.type == "response.function_call_arguments.delta" and e.output_index == 1)
        self.assertEqual(json.loads(deltas), {"city": "Paris", "days": 3})

    def test_a_tool_loop_of_items_thinks_and_goes_round(self):
        tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
        items = [{"role": "user", "content": "think first"}]
        on = {"chat_template_kwargs": {"enable_thinking": True}}
        first = self.respond(items, tools=tools, store=False, include=["reasoning.encrypted_content"],
                             reasoning={"effort": "high", "summary": "auto"}, extra_body=on)
        thought, call = first.output
        self.assertEqual((thought.type, thought.content[0].text), ("reasoning", "Hm, Paris?\nYes."))
        self.assertEqual(thought.summary[0].text, "Hm, Paris?\nYes.")
        self.assertTrue(thought.encrypted_content)
        self.assertGreater(first.usage.output_tokens_details.reasoning_tokens, 3)
        sealed = {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        count = lambda seal: self.openai.responses.input_tokens.count(
            model="script", input=items + [*seal, call.model_dump(exclude_none=True), result], tools=tools).input_tokens
        self.assertGreater(count([sealed]), count([]))  # what was sealed is read again
        second = self.respond(items + [sealed, call.model_dump(exclude_none=True), result], tools=tools, store=False)
        self.assertIn("sunny in Paris", second.output_text)

    def test_kept_responses_go_on_and_can_be_looked_at(self):
        tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
        first = self.respond("weather", tools=tools)
        call = first.output[-1]
        second = self.respond([{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
                              previous_response_id=first.id, tools=tools)
        self.assertIn("sunny in Paris", second.output_text)
        self.assertEqual(second.previous_response_id, first.id)
        self.assertGreater(second.usage.input_tokens_details.cached_tokens, 20)
        self.assertEqual(self.openai.responses.retrieve(second.id).output_text, second.output_text)
        items = list(self.openai.responses.input_items.list(second.id, order="asc", limit=2))
        self.assertEqual([i.type for i in items], ["message", "message", "function_call", "function_call_output"])
        again = self.respond([{"role": "user", "content": "hi"}, {"type": "item_reference", "id": second.output[0].id},
                              {"role": "user", "content": "sunny"}])
        self.assertIn("sunny", again.output_text)
        self.openai.responses.delete(first.id)
        for gone in (lambda: self.openai.responses.retrieve(first.id),
                     lambda: self.openai.responses.delete(first.id),
                     lambda: self.respond("x", previous_response_id=second.id),
                     lambda: self.respond("x", previous_response_id=self.respond("hi", store=False).id)):
            with self.assertRaises(openai.NotFoundError):
                gone()

    def test_custom_tools_take_text(self):
        tools = [{"type": "custom", "name": "shell", "description": "runs"}]
        answer = self.respond("run it", tools=tools)
        self.assertEqual((answer.output[0].type, answer.output[0].input), ("custom_tool_call", "ls -l | wc"))
        last = self.respond([{"role": "user", "content": "run it"}, answer.output[0].model_dump(exclude_none=True),
                             {"type": "custom_tool_call_output", "call_id": answer.output[0].call_id, "output": "sunny"}],
                            tools=tools)
        self.assertIn("sunny", last.output_text)

    def test_structured_responses_parse(self):
        import pydantic
        Place = pydantic.create_model("Place", city=(str, ...), days=(int, ...))
        answer = self.openai.responses.parse(model="script", input="json", text_format=Place)
        self.assertEqual((answer.output_parsed.city, answer.output_parsed.days), ("Paris", 3))
        with self.openai.responses.stream(model="script", input="json", text_format=Place) as stream:
            self.assertEqual(stream.get_final_response().output_parsed.city, "Paris")

    def test_logprobs_of_a_response_spell_its_text(self):
        for more in ({"top_logprobs": 2}, {"include": ["message.output_text.logprobs"]}):
            tokens = self.respond("hi", **more).output[0].content[0].logprobs
            self.assertEqual(bytes(b for t in tokens for b in t.bytes).decode(), "Hello there, ☃ friend.")

    def test_what_is_wrong_with_a_response_is_said_with_its_place(self):
        for more, words in [({"background": True}, ("400", "background")),
                            ({"tools": [{"type": "web_search"}]}, ("400", "tools[0].type")),
                            ({"input": [{"type": "web_search_call"}]}, ("400", "input[0].type")),
                            ({"input": []}, ("400", "input")),
                            ({"tool_choice": {"type": "function", "name": "f"}}, ("400", "tool_choice")),
                            ({"previous_response_id": "resp_no"}, ("404", "previous_response_id")),
                            ({"text": {"format": {"type": "json_schema"}}}, ("400", "text.format.schema"))]:
            with self.assertRaises(openai.APIStatusError) as caught:
                self.openai.responses.create(**{"model": "script", "input": "x", **more})
            for word in words:
                self.assertIn(word, str(caught.exception))
        events = list(self.respond("break", stream=True))
        self.assertEqual(events[-1].type, "response.failed")
        self.assertIn("lost a wheel", events[-1].response.error.message)
        self.assertEqual(events[-1].response.output[0].status, "incomplete")

    # --- Messages ---

    def test_messages_whole_and_streamed_agree(self):
        more = dict(model="script", max_tokens=500, messages=user("two calls"), tools=CLAUDE_TOOLS)
        whole = self.anthropic.messages.create(**more)
        with self.anthropic.messages.stream(**more) as stream:
            text = "".join(stream.text_stream)
            streamed = stream.get_final_message()
        for message in (whole, streamed):
            self.assertEqual(message.stop_reason, "tool_use")
            self.assertEqual([b.type for b in message.content], ["text", "tool_use", "tool_use"])
            self.assertEqual([b.input for b in message.content[1:]],
                             [{"city": "Paris", "days": 3}, {"city": "Köln ☂", "days": 3}])
        self.assertEqual(text.strip(), "Both.")
        self.assertEqual(whole.usage.output_tokens, streamed.usage.output_tokens)
        self.assertGreater(streamed.usage.input_tokens + streamed.usage.cache_read_input_tokens, 10)

    def test_messages_think_and_loop(self):
        more = dict(model="script", max_tokens=5000, tools=CLAUDE_TOOLS, thinking={"type": "enabled", "budget_tokens": 1024})
        messages = user("think first")
        with self.anthropic.messages.stream(messages=messages, **more) as stream:
            first = stream.get_final_message()
        self.assertEqual([b.type for b in first.content], ["thinking", "tool_use"])
        self.assertEqual(first.content[0].thinking, "Hm, Paris?\nYes.")
        self.assertTrue(first.content[0].signature)
        messages.append({"role": "assistant", "content": [b.model_dump() for b in first.content]})
        messages.append({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": first.content[1].id, "content": [{"type": "text", "text": "sunny"}]}]})
        second = self.anthropic.messages.create(model="script", max_tokens=100, messages=messages, tools=CLAUDE_TOOLS,
                                                stop_sequences=["END"])
        self.assertEqual(second.content[0].text, "It is sunny in Paris. ")
        self.assertEqual((second.stop_reason, second.stop_sequence), ("stop_sequence", "END"))

    def test_messages_are_counted_with_everything_in_them(self):
        count = lambda **more: self.anthropic.messages.count_tokens(model="script", messages=user("weather"), **more).input_tokens
        self.assertGreater(count(tools=CLAUDE_TOOLS), count() + 30)
        self.assertGreater(count(system="Be brief."), count())
        used = self.anthropic.messages.create(model="script", max_tokens=9, messages=user("weather"), tools=CLAUDE_TOOLS).usage
        self.assertEqual(used.input_tokens + used.cache_read_input_tokens, count(tools=CLAUDE_TOOLS))

    def test_errors_of_messages_have_their_own_shape(self):
        with self.assertRaises(anthropic.NotFoundError) as caught:
            self.anthropic.messages.create(model="claude", max_tokens=9, messages=user("x"))
        self.assertEqual(caught.exception.body["error"]["type"], "not_found_error")
        with self.assertRaises(anthropic.BadRequestError):
            self.anthropic.messages.create(model="script", max_tokens=9, messages=[
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}]}])
        with self.assertRaises(anthropic.APIError):
            with self.anthropic.messages.stream(model="script", max_tokens=99, messages=user("break")) as stream:
                stream.get_final_message()


class DemoTest(unittest.TestCase):
    """A real model: its words do not matter, the protocol does."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(LODE, "--context", "2048", "--agents", "4")
        cls.openai = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="x", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.close() == 0

    def ask(self, **more):
        more = {"messages": user("What news from Rome?"), "max_tokens": 24, "temperature": 0, **more}
        return self.openai.chat.completions.create(model="demo", **more)

    def test_streams_and_wholes_agree_and_repeats_are_cached(self):
        whole = self.ask()
        streamed = "".join(c.choices[0].delta.content or "" for c in self.ask(stream=True) if c.choices)
        self.assertEqual(streamed, whole.choices[0].message.content)
        self.assertTrue(streamed)
        again = self.ask(messages=user("What news from Rome?") + [
            {"role": "assistant", "content": streamed}, {"role": "user", "content": "And then?"}])
        self.assertGreater(again.usage.prompt_tokens_details.cached_tokens, 8)

    def test_the_same_seed_gives_the_same_words_and_choices_differ(self):
        first = self.ask(seed=5, temperature=1, n=2)
        second = self.ask(seed=5, temperature=1, n=2)
        texts = [c.message.content for c in first.choices]
        self.assertEqual(texts, [c.message.content for c in second.choices])
        self.assertNotEqual(texts[0], texts[1])

    def test_logprobs_spell_the_answer(self):
        choice = self.ask(logprobs=True, top_logprobs=3).choices[0]
        spelt = bytes(b for t in choice.logprobs.content for b in t.bytes).decode(errors="replace")
        self.assertEqual(spelt, choice.message.content)
        for token in choice.logprobs.content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(token.logprob, max(t.logprob for t in token.top_logprobs))

    def test_echoed_prompts_are_judged(self):
        ids = [int(t) for t in self.tokens("To be, or not to be")]
        answer = self.openai.completions.create(model="demo", prompt=[ids, ids[:3]], echo=True, logprobs=1,
                                                max_tokens=1, temperature=0)
        first, second = (c.logprobs for c in answer.choices)
        self.assertEqual(len(first.tokens), len(ids) + 1)
        self.assertIsNone(first.token_logprobs[0])
        self.assertTrue(all(p <= 0 for p in first.token_logprobs[1:]))
        self.assertEqual(first.token_logprobs[1:3], second.token_logprobs[1:3])  # whatever follows
        self.assertEqual("".join(first.tokens), answer.choices[0].text)
        self.assertEqual(first.text_offset[-1] + len(first.tokens[-1]), len(answer.choices[0].text))
        # The last token was drawn as the likeliest; judged as part of a prompt it has the same logprob.
        told = self.openai.completions.create(model="demo", prompt=ids[:4], logprobs=1, max_tokens=1, temperature=0)
        again = self.openai.completions.create(model="demo", prompt=ids[:4] + self.tokens(told.choices[0].text),
                                               echo=True, logprobs=1, max_tokens=0)
        self.assertEqual(again.choices[0].logprobs.token_logprobs[4], told.choices[0].logprobs.token_logprobs[0])

    def test_responses_stream_keep_and_hold_their_form(self):
        first = self.openai.responses.create(model="demo", input="What news from Rome?", max_output_tokens=12, temperature=0)
        streamed = "".join(e.delta for e in self.openai.responses.create(
            model="demo", input="What news from Rome?", max_output_tokens=12, temperature=0, stream=True)
            if e.type == "response.output_text.delta")
        self.assertEqual(streamed, first.output_text)
        second = self.openai.responses.create(model="demo", input="And then?", previous_response_id=first.id,
                                              max_output_tokens=4)
        self.assertGreater(second.usage.input_tokens_details.cached_tokens, 8)
        schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Athens"]}}, "required": ["city"],
                  "additionalProperties": False}
        held = self.openai.responses.create(
            model="demo", input="Where?", text={"format": {"type": "json_schema", "name": "x", "schema": schema}})
        self.assertIn(json.loads(held.output_text)["city"], ["Rome", "Athens"])
        self.assertEqual(held.output_text, held.output_text.strip())

    def test_answers_are_held_to_forms_in_everybodys_words(self):
        schema = {"enum": ["Rome", "Athens"]}
        for extra, form in [({"guided_regex": "[0-9]{3}-[a-c]{2}"}, r"[0-9]{3}-[a-c]{2}"),
                            ({"guided_choice": ["red", "blue"]}, "red|blue"),
                            ({"structured_outputs": {"choice": ["red", "blue"]}}, "red|blue"),
                            ({"structured_outputs": {"json": schema}}, '"Rome"|"Athens"'),
                            ({"guided_json": json.dumps(schema)}, '"Rome"|"Athens"'),
                            ({"json_schema": schema}, '"Rome"|"Athens"'),
                            ({"grammar": 'root ::= "a" [0-9] "b"'}, "a[0-9]b"),
                            ({"response_format": {"type": "structural_tag", "format": {"type": "sequence", "elements": [
                                {"type": "const_string", "value": "x="}, {"type": "regex", "pattern": "[01]{4}"}]}}},
                             "x=[01]{4}")]:
            chat = self.ask(temperature=1, extra_body=extra).choices[0].message.content
            plain = self.openai.completions.create(model="demo", prompt="The answer is ", max_tokens=24, extra_body=extra)
            for text in (chat, plain.choices[0].text):
                self.assertRegex(text, f"^({form})$", str(extra))
        for extra, place in [({"guided_regex": "a", "grammar": "root ::= [a]"}, "grammar"),
                             ({"guided_grammar": "root ::= other"}, "guided_grammar"),
                             ({"grammar": "root ::= other"}, "grammar"),
                             ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
                             ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
                             ({"guided_choice": []}, "guided_choice")]:
            with self.assertRaises(openai.BadRequestError) as caught:
                self.ask(extra_body=extra)
            self.assertEqual(caught.exception.body["param"], place)

    def test_long_dialogues_lose_their_beginning_where_that_is_asked_for(self):
        items = [{"role": ("user", "assistant")[i % 2], "content": "word " * 150} for i in range(41)]
        with self.assertRaisesRegex(openai.BadRequestError, "2048"):
            self.openai.responses.create(model="demo", input=items, max_output_tokens=4)
        answer = self.openai.responses.create(model="demo", input=items, max_output_tokens=4, truncation="auto")
        self.assertLess(answer.usage.input_tokens, 2048)
        self.assertGreater(answer.usage.input_tokens, 800)

    def tokens(self, text):
        return json.loads(self.server.post("/tokenize", {"prompt": text})[2])["tokens"]

    def test_embeddings_have_length_one_and_tell_texts_apart(self):
        both = self.openai.embeddings.create(model="demo", input=["To be, or not to be", "What news?"])
        first, second = (e.embedding for e in both.data)  # the SDK asks for base64
        plain = self.openai.embeddings.create(model="demo", input="To be, or not to be", encoding_format="float")
        self.assertEqual(len(first), len(second))
        for one, other in zip(first, plain.data[0].embedding):
            self.assertAlmostEqual(one, other, places=6)
        self.assertAlmostEqual(sum(x * x for x in first), 1.0, places=4)
        self.assertLess(sum(x * y for x, y in zip(first, second)), 0.9999)

    def test_a_prompt_that_never_fits_is_refused_with_numbers(self):
        with self.assertRaisesRegex(openai.BadRequestError, "2048"):
            self.ask(messages=user("word " * 5000))


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    unittest.main(verbosity=2, warnings="ignore")
