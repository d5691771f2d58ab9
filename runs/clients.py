#!/usr/bin/env python3
"""LangChain, LiteLLM and lm-evaluation-harness, unmodified, with lode serve behind them.

    runs/clients.py build/release/lode [--only NAME]... [--folder DIR]

Each client gets a Python environment of its own below --folder, once. LangChain and LiteLLM talk to
a scripted model in the dialects of OpenAI and Anthropic: whole, streamed, tools, structured answers.
lm-evaluation-harness judges the demo model on questions that this script makes (log-likelihoods,
rolling ones, generation), and its numbers are compared with those that `lode logits` gives. Prints
what passed.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "serve"))
from client import Server  # noqa: E402

PACKAGES = {
    "langchain": ["langchain-openai", "langchain-anthropic"],
    "litellm": ["litellm", "mcp"],  # its Anthropic side imports the latter for tools
    "lm-eval": ["lm-eval[api]==0.4.13"],
}


def call(name, city="Paris"):
    return (f"<tool_call>\n<function={name}>\n<parameter=city>\n{city}\n</parameter>\n"
            "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n")


ANSWER = {"city": "Paris", "days": 3}
SCRIPT = [
    {"match": "two calls", "text": "Both.\n" + call("weather") + call("weather", "Köln ☂")},
    {"match": "sunny", "text": "It is sunny in Paris."},
    {"match": "as a place", "text": call("Place")},
    {"match": "as json", "text": json.dumps(ANSWER)},
    {"text": "Hello there, ☃ friend."},
]
GREETING = SCRIPT[-1]["text"]
CALLS = [("weather", ANSWER), ("weather", {"city": "Köln ☂", "days": 3})]
PARAMETERS = {"type": "object", "required": ["city", "days"],
              "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function",
        "function": {"name": "weather", "description": "of a city", "parameters": PARAMETERS}}


def equal(left, right):
    if left != right:
        raise AssertionError(f"{left!r} is not {right!r}")


def outcome(name, check):
    """One line of the table: what was tried, and whether it went well."""
    try:
        note = check() or ""
        print(f"{name:52} passed {note}", flush=True)
        return True
    except Exception as error:  # a table, not a stop
        print(f"{name:52} FAILED {type(error).__name__}: {str(error)[:300]}", flush=True)
        if os.environ.get("LODE_TRACE"):
            traceback.print_exc()
        return False


# --- LangChain ---

def text_of(message):
    if isinstance(message.content, str):
        return message.content
    return "".join(block.get("text", "") for block in message.content)


def langchain_checks(model, methods):
    from langchain_core.messages import HumanMessage, ToolMessage
    from pydantic import BaseModel

    class Place(BaseModel):
        """A place."""
        city: str
        days: int

    tools = model.bind_tools([TOOL])

    def streamed(source, text):
        total = None
        for chunk in source.stream(text):
            total = chunk if total is None else total + chunk
        return total

    def loop():
        messages = [HumanMessage("two calls")]
        messages.append(streamed(tools, messages))
        equal([(c["name"], c["args"]) for c in messages[-1].tool_calls], CALLS)
        messages += [ToolMessage("sunny", tool_call_id=c["id"]) for c in messages[-1].tool_calls]
        equal(text_of(tools.invoke(messages)), "It is sunny in Paris.")

    def usage():
        total = streamed(model, "hi")
        if total.usage_metadata["output_tokens"] < 3 or total.usage_metadata["input_tokens"] < 3:
            raise AssertionError(total.usage_metadata)

    def batch():
        equal([text_of(m) for m in model.batch(["hi"] * 8)], [GREETING] * 8)

    yield "whole", lambda: equal(text_of(model.invoke("hi")), GREETING)
    yield "streamed", lambda: equal(text_of(streamed(model, "hi")), GREETING)
    yield "usage of a stream", usage
    yield "eight at once", batch
    yield "tools, streamed, and round again", loop
    for method, text in methods:
        yield f"structured output ({method})", lambda method=method, text=text: equal(
            model.with_structured_output(Place, method=method).invoke(text).model_dump(), ANSWER)


def langchain_inside(url):
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI
    own = {"model": "script", "api_key": "x", "max_retries": 0}
    chat = ChatOpenAI(base_url=url + "/v1", stream_usage=True, **own)
    claude = ChatAnthropic(base_url=url, max_tokens=500, **own)
    newer = ChatOpenAI(base_url=url + "/v1", use_responses_api=True, **own)
    methods = [("function_calling", "as a place"), ("json_schema", "as json")]
    good = True
    for name, model, more in [("ChatOpenAI", chat, [("json_mode", "as json")]),
                              ("ChatOpenAI, Responses", newer, []),
                              ("ChatAnthropic", claude, [])]:
        for what, check in langchain_checks(model, methods + more):
            good &= outcome(f"langchain {name}: {what}", check)
    return good


# --- LiteLLM ---

def litellm_inside(url):
    import litellm
    litellm.telemetry, litellm.suppress_debug_info = False, True
    good = True
    for provider, base in [("openai", url + "/v1"), ("anthropic", url)]:
        def ask(text, base=base, provider=provider, **more):
            return litellm.completion(
                model=f"{provider}/script", api_base=base, api_key="x", num_retries=0,
                max_tokens=300, messages=[{"role": "user", "content": text}], **more)

        def calls(message):
            return [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls]

        def streamed(text, **more):
            chunks = list(ask(text, stream=True, stream_options={"include_usage": True}, **more))
            return litellm.stream_chunk_builder(chunks)

        def usage():
            if streamed("hi").usage.completion_tokens < 3:
                raise AssertionError("no tokens are counted")

        def structured():
            closed = {**PARAMETERS, "additionalProperties": False}
            schema = {"name": "Place", "strict": True, "schema": closed}
            answer = ask("as json", response_format={"type": "json_schema", "json_schema": schema})
            equal(json.loads(answer.choices[0].message.content), ANSWER)

        def refused():
            try:
                ask("hi", temperature=-3)
            except litellm.BadRequestError:
                return
            raise AssertionError("a bad temperature was taken")

        def content(answer):
            return answer.choices[0].message.content

        tools = {"tools": [TOOL]}
        for what, check in [
                ("whole", lambda: equal(content(ask("hi")), GREETING)),
                ("streamed", lambda: equal(content(streamed("hi")), GREETING)),
                ("usage of a stream", usage),
                ("tools",
                 lambda: equal(calls(ask("two calls", **tools).choices[0].message), CALLS)),
                ("tools, streamed",
                 lambda: equal(calls(streamed("two calls", **tools).choices[0].message), CALLS)),
                ("structured output", structured),
                ("an error of the right kind", refused)]:
            good &= outcome(f"litellm {provider}: {what}", check)
    return good


# --- lm-evaluation-harness ---

TEXT = ("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n"
        "First Citizen:\nYou are all resolved rather to die than to famish?\n")
QUESTIONS = [
    {"context": "To be, or not to", "choices": [" be", " the king", " resolved"], "answer": 0},
    {"context": "What news from", "choices": [" Rome?", " citizen to", " speak."], "answer": 0},
    {"context": "Good morrow, my", "choices": [" lord.", " be", " famish"], "answer": 0},
]
TASKS = {
    "lode_choice": {
        "output_type": "multiple_choice", "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}", "doc_to_target": "{{answer}}", "target_delimiter": "",
        "metric_list": [{"metric": "acc"}]},
    "lode_rolling": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}]},
    "lode_words": {
        "output_type": "generate_until", "doc_to_text": "{{context}}", "doc_to_target": "",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}]},
}


def write_tasks(folder):
    """Data and descriptions of the tasks; YAML is a superset of JSON."""
    rows = [{**question, "text": TEXT} for question in QUESTIONS]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data.jsonl").write_text(lines, encoding="utf-8")
    for name, task in TASKS.items():
        task = {"task": name, "dataset_path": "json", "test_split": "test", **task,
                "dataset_kwargs": {"data_files": {"test": str(folder / "data.jsonl")}}}
        (folder / f"{name}.yaml").write_text(json.dumps(task), encoding="utf-8")


def own_loglikelihood(lode, folder, ids, begin):
    """Sum over ids[begin:] of log p, of the logits that the program writes, without the server."""
    import numpy
    path = folder / "logits.npy"
    listed = ",".join(map(str, ids))
    subprocess.run([lode, "logits", "demo", "--tokens", listed, "--out", str(path)], check=True,
                   capture_output=True)
    logits = numpy.load(path).astype(numpy.float64).reshape(len(ids), -1)
    total = 0.0
    for at in range(begin, len(ids)):
        row = logits[at - 1]
        total += row[ids[at]] - row.max() - math.log(numpy.exp(row - row.max()).sum())
    return total


def lm_eval_inside(url):
    import lm_eval
    from lm_eval.tasks import TaskManager
    import requests
    lode = os.environ["LODE"]
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        write_tasks(folder)
        results = lm_eval.simple_evaluate(
            model="local-completions", tasks=list(TASKS), log_samples=True, bootstrap_iters=0,
            model_args={"model": "demo", "base_url": url + "/v1/completions", "num_concurrent": 4,
                        "max_length": 1024, "max_retries": 1},
            task_manager=TaskManager(include_path=str(folder), include_defaults=False))
        samples = results["samples"]

        def tokens(text):
            answer = requests.post(url + "/tokenize", json={"prompt": text}, timeout=60)
            return answer.json()["tokens"]

        def choices():
            worst = 0.0
            for sample in samples["lode_choice"]:
                told = sample["filtered_resps"]
                for choice, response in zip(sample["doc"]["choices"], told, strict=True):
                    context = tokens(sample["doc"]["context"])
                    ids = tokens(sample["doc"]["context"] + choice)
                    equal(ids[:len(context)], context)
                    own = own_loglikelihood(lode, folder, ids, len(context))
                    worst = max(worst, abs(own - float(response[0])))
            if worst > 1e-3:
                raise AssertionError(f"off by {worst}")
            accuracy = results["results"]["lode_choice"]["acc,none"]
            return f"(accuracy {accuracy:.2f}, log-likelihoods off by at most {worst:.1e})"

        def rolling():
            first = requests.get(url + "/tokenizer_info", timeout=60).json()["bos_token"]
            ids = tokens(first) + tokens(TEXT)
            own = own_loglikelihood(lode, folder, ids, 1)
            told = samples["lode_rolling"][0]["filtered_resps"][0]
            told = float(told[0] if isinstance(told, (list, tuple)) else told)
            if abs(own - told) > 1e-3 * len(ids):
                raise AssertionError(f"{told} is not {own}")
            return f"({told:.4f} over {len(ids) - 1} tokens, own {own:.4f})"

        def words():
            for sample in samples["lode_words"]:
                body = {"model": "demo", "prompt": sample["doc"]["context"], "max_tokens": 12,
                        "temperature": 0, "stop": ["\n"]}
                answer = requests.post(url + "/v1/completions", json=body, timeout=60).json()
                equal(sample["resps"][0][0], answer["choices"][0]["text"])

        good = outcome("lm-eval loglikelihood (multiple choice)", choices)
        good &= outcome("lm-eval loglikelihood_rolling", rolling)
        return outcome("lm-eval generate_until", words) and good


INSIDE = {"langchain": langchain_inside, "litellm": litellm_inside, "lm-eval": lm_eval_inside}


def enter(name, folder):
    """The Python of the client's environment."""
    venv = (folder / name).resolve()
    python, stamp = venv / "bin" / "python", venv / "installed"
    if not stamp.exists():
        for command in ([sys.executable, "-m", "venv", str(venv)],
                        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                         *PACKAGES[name]]):
            subprocess.run(command, check=True, timeout=1800)
        stamp.write_text("\n".join(PACKAGES[name]), encoding="utf-8")
    show = subprocess.run([str(python), "-m", "pip", "list", "--format", "json",
                           "--disable-pip-version-check"],
                          capture_output=True, text=True, check=True)
    versions = {p["name"].lower().replace("_", "-"): p["version"] for p in json.loads(show.stdout)}
    names = [package.split("[")[0].split("=")[0] for package in PACKAGES[name]]
    told = ", ".join(f"{one} {versions.get(one, '?')}" for one in names)
    print(f"--- {told} ---", flush=True)
    return python


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lode")
    parser.add_argument("--only", action="append", choices=list(PACKAGES))
    parser.add_argument("--folder", default="build/clients")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return 0 if INSIDE[arguments.inside[0]](arguments.inside[1]) else 1
    good = True
    for name in arguments.only or PACKAGES:
        python = enter(name, pathlib.Path(arguments.folder))
        server = (Server(arguments.lode, "--context", "2048", "--agents", "4") if name == "lm-eval"
                  else Server(arguments.lode, script=SCRIPT))
        environment = {**os.environ, "LODE": os.path.abspath(arguments.lode), "OPENAI_API_KEY": "x",
                       "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1",
                       "HF_DATASETS_OFFLINE": "1", "PYTHONWARNINGS": "ignore",
                       "LANGSMITH_TRACING": "false"}
        command = [str(python), __file__, arguments.lode, "--inside", name, server.url]
        try:
            good &= subprocess.run(command, env=environment, timeout=900).returncode == 0
            good &= server.wait_idle()
        finally:
            good &= server.close() == 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
