"""What an answer of lode serve means, whatever the dialect and whether it was streamed. Not a
script itself.

A meaning is {"thoughts", "text", "calls": [[name, arguments]], "reason", "output_tokens"}.
Everything that a client relies on is checked on the way: one beginning, one end, indexes in order, pieces that
add up.
"""
import json


class Malformed(Exception):
    """The stream or the object is not what the dialect promises."""


def need(condition, what):
    if not condition:
        raise Malformed(what)


def events_of(text):
    """(event name or None, data) of a stream of server-sent events; comments are left out."""
    events = []
    need(text.endswith("\n\n"), "the stream does not end with an empty line")
    for block in text.split("\n\n"):
        name, data = None, []
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
            else:
                need(line == "" or line.startswith(":"), f"a line that is no event: {line!r}")
        if data:
            events.append((name, "\n".join(data)))
    return events


def meaning(thoughts="", text="", calls=(), reason=None, output_tokens=None):
    made = [[name, json.loads(arguments) if isinstance(arguments, str) else arguments]
            for name, arguments in calls]
    return {"thoughts": thoughts, "text": text, "calls": made, "reason": reason,
            "output_tokens": output_tokens}


# --- Chat Completions ---

def chat_whole(body):
    message = body["choices"][0]["message"]
    calls = [(c["function"]["name"], c["function"]["arguments"])
             for c in message.get("tool_calls") or []]
    return meaning(message.get("reasoning_content") or "", message.get("content") or "", calls,
                   body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"])


def add_call_delta(calls, delta):
    if delta["index"] == len(calls):
        need(delta["id"] and delta["function"]["name"], "a call begins without id or name")
        calls.append([delta["function"]["name"], ""])
    else:
        need(delta["index"] == len(calls) - 1, "calls are not in order")
        need(not delta.get("id") and not delta["function"].get("name"), "id or name came twice")
    calls[-1][1] += delta["function"].get("arguments") or ""


def chat_stream(events):
    need(events[-1][1] == "[DONE]", "no [DONE] at the end")
    chunks = [json.loads(data) for _, data in events[:-1]]
    need(len({chunk["id"] for chunk in chunks}) == 1, "the id changes")
    thoughts, text, calls, reason, tokens = "", "", [], None, None
    for chunk in chunks:
        if chunk.get("usage"):
            tokens = chunk["usage"]["completion_tokens"]
        for choice in chunk["choices"]:
            need(reason is None, "a piece behind the end")
            delta = choice["delta"]
            thoughts += delta.get("reasoning_content") or ""
            text += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                add_call_delta(calls, call)
            reason = choice["finish_reason"]
    return meaning(thoughts, text, calls, reason, tokens)


# --- Messages ---

def message_whole(body):
    thoughts = "".join(b["thinking"] for b in body["content"] if b["type"] == "thinking")
    text = "".join(b["text"] for b in body["content"] if b["type"] == "text")
    calls = [(b["name"], b["input"]) for b in body["content"] if b["type"] == "tool_use"]
    return meaning(thoughts, text, calls, body["stop_reason"], body["usage"]["output_tokens"])


def add_block_delta(block, delta):
    if delta["type"] == "text_delta":
        block["text"] += delta["text"]
    elif delta["type"] == "thinking_delta":
        block["thinking"] += delta["thinking"]
    elif delta["type"] == "input_json_delta":
        block["json"] = block.get("json", "") + delta["partial_json"]
    else:
        need(delta["type"] == "signature_delta", f"an unknown delta {delta['type']}")


def message_stream(events):
    kinds = [json.loads(data) for _, data in events]
    need([name for name, _ in events] == [kind["type"] for kind in kinds], "event and type differ")
    kinds = [kind for kind in kinds if kind["type"] != "ping"]
    need(kinds[0]["type"] == "message_start" and kinds[-1]["type"] == "message_stop", "no frame")
    blocks, closed, last = [], 0, None
    for kind in kinds[1:-1]:
        need(last is None, "an event behind message_delta")
        if kind["type"] == "content_block_start":
            need(kind["index"] == len(blocks) == closed, "blocks are not in order")
            blocks.append(dict(kind["content_block"]))
        elif kind["type"] == "content_block_delta":
            need(kind["index"] == len(blocks) - 1 == closed, "a delta of no open block")
            add_block_delta(blocks[-1], kind["delta"])
        elif kind["type"] == "content_block_stop":
            closed += 1
        else:
            need(kind["type"] == "message_delta", f"an unknown event {kind['type']}")
            last = kind
    need(last is not None and closed == len(blocks), "the message does not end")
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.get("json") or "{}")
    return message_whole({"content": blocks, "usage": last["usage"], **last["delta"]})


# --- Responses ---

def response_whole(body):
    thoughts = "".join(part["text"] for item in body["output"] if item["type"] == "reasoning"
                       for part in item.get("content") or [])
    text = "".join(part["text"] for item in body["output"] if item["type"] == "message"
                   for part in item["content"])
    calls = [(i["name"], i["arguments"]) for i in body["output"] if i["type"] == "function_call"]
    return meaning(thoughts, text, calls, body["status"], body["usage"]["output_tokens"])


def response_stream(events):
    kinds = [json.loads(data) for _, data in events if data != "[DONE]"]
    need([k["sequence_number"] for k in kinds] == list(range(len(kinds))), "numbers have gaps")
    need(kinds[0]["type"] == "response.created", "it does not begin with response.created")
    need(kinds[-1]["type"] in ("response.completed", "response.incomplete"), "it does not end well")
    pieces = {"thoughts": "", "text": "", "calls": {}}
    for kind in kinds:
        if kind["type"] == "response.reasoning_text.delta":
            pieces["thoughts"] += kind["delta"]
        elif kind["type"] == "response.output_text.delta":
            pieces["text"] += kind["delta"]
        elif kind["type"] == "response.function_call_arguments.delta":
            calls = pieces["calls"]
            calls[kind["item_id"]] = calls.get(kind["item_id"], "") + kind["delta"]
    whole = response_whole(kinds[-1]["response"])
    need(whole["thoughts"] == pieces["thoughts"] and whole["text"] == pieces["text"],
         "pieces do not add up to the whole")
    need([json.loads(c) for c in pieces["calls"].values()] == [c[1] for c in whole["calls"]],
         "pieces of arguments do not add up to the whole")
    return whole


def meaning_of(path, content_type, text):
    """Of an answer with status 200. Raises Malformed."""
    path = path.partition("?")[0]
    kinds = {"/chat/completions": (chat_whole, chat_stream),
             "/messages": (message_whole, message_stream),
             "/responses": (response_whole, response_stream)}
    whole, stream = next(pair for end, pair in kinds.items() if path.endswith(end))
    if content_type.startswith("text/event-stream"):
        return stream(events_of(text))
    return whole(json.loads(text))
