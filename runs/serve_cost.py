#!/usr/bin/env python3
"""What lode serve itself costs, without a model: CPU time per streamed token, memory of idle streams.

    runs/serve_cost.py build/release/lode [MODEL]

A scripted model plays to 16 clients that read; the process's CPU time is divided by the tokens (script and
sockets included). Then a thousand streams that say nothing are opened. With MODEL the same 16 clients ask it,
and the share of the thread that serves connections in all CPU time of the process is printed.
"""
import json
import os
import resource
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "serve"))
from client import Server, read_chunked, read_head  # noqa: E402
from processes import cpu_seconds  # noqa: E402

STREAMS, IDLE = 16, 1000


def thread_seconds(pid):
    """CPU seconds by thread, the first of them the one that serves connections."""
    times = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            times[int(thread)] = int(file.read().split()[0]) * 1e-9
    return times


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def ask(server, model, text, tokens):
    body = json.dumps({"model": model, "stream": True, "max_tokens": tokens, "ignore_eos": True,
                       "stream_options": {"include_usage": True},
                       "prompt": text}).encode()
    connection = server.connect(600)
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return connection


def completion_tokens(connection):
    _, _, rest = read_head(connection)
    lines = [line for line in read_chunked(connection, rest).decode().splitlines() if line.startswith("data: {")]
    return json.loads(lines[-1][6:])["usage"]["completion_tokens"]


def load(server, model, tokens):
    """Tokens that STREAMS clients got, all at once."""
    counts = [0] * STREAMS
    def one(index):
        counts[index] = completion_tokens(ask(server, model, f"Client {index}, speak.", tokens))
    threads = [threading.Thread(target=one, args=(index,)) for index in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def main():
    lode = sys.argv[1]
    script = [{"match": "silent", "text": "never", "start_ms": 10**9}, {"text": "word " * 3000, "delay_ms": 5}]
    server = Server(lode, "--log", "off", script=script)
    pid = server.process.pid
    load(server, "script", 50)
    before = cpu_seconds(pid)
    tokens = load(server, "script", 2000)
    print(f"{STREAMS} streams: {(cpu_seconds(pid) - before) / tokens * 1e6:.1f} us of CPU per token ({tokens} tokens)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    before = resident(pid)
    held = [ask(server, "script", "silent", 5) for _ in range(IDLE)]
    end = time.time() + 60
    while server.health()[1]["running"] < IDLE and time.time() < end:
        time.sleep(0.1)
    print(f"{IDLE} idle streams: {(resident(pid) - before) / 1e6:.1f} MB")
    for connection in held:
        connection.close()
    server.close()
    if len(sys.argv) > 2:
        server = Server(lode, "--log", "off", "--agents", str(STREAMS), "--context", "2048", model=sys.argv[2])
        name = json.loads(server.get("/v1/models")[2])["data"][0]["id"]
        load(server, name, 20)
        before = thread_seconds(server.process.pid)
        start = time.time()
        tokens = load(server, name, 200)
        seconds = time.time() - start
        after = thread_seconds(server.process.pid)
        spent = {thread: after[thread] - before.get(thread, 0.0) for thread in after}
        share = spent[server.process.pid] / sum(spent.values())
        print(f"{sys.argv[2]}: {tokens / seconds:.0f} tok/s in {STREAMS} streams; "
              f"serving takes {share:.2%} of the CPU time")
        server.close()


if __name__ == "__main__":
    main()
