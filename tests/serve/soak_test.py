#!/usr/bin/env python3
"""lode serve for a long time under clients that cancel, stall and misbehave: memory and descriptors
stay flat, no request is lost, nothing is left running.

Usage: soak_test.py LODE_BINARY      (minutes: LODE_SOAK_MINUTES, 30 unless told)
"""
import collections
import json
import os
import random
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time

from client import Server, read_head, read_response

LODE = sys.argv[1]
MINUTES = float(os.environ.get("LODE_SOAK_MINUTES", "30"))
CLIENTS = int(os.environ.get("LODE_SOAK_CLIENTS", "64"))
SYSTEM = "You help people on an island in a lake. " * 12
TOOLS = [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"]}}}]


def chat(random_, **more):
    return {"messages": [{"role": "system", "content": SYSTEM},
                         {"role": "user", "content": f"Number {random_.randrange(200)}?"}],
            "max_tokens": random_.choice((4, 16, 48)), **more}


class Client:
    """One of many. What it does is drawn anew each time."""

    def __init__(self, server, seed, counts):
        self.server, self.random, self.counts = server, random.Random(seed), counts

    def send(self, connection, method, path, body):
        data = json.dumps(body).encode() if body is not None else b""
        kind = "Content-Type: application/json\r\n" if body is not None else ""
        connection.sendall((f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}"
                            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n").encode()
                           + data)

    def ask(self, method, path, body=None):
        """A well-behaved request: it must get an answer."""
        with self.server.connect(300) as connection:
            self.send(connection, method, path, body)
            status, _, reply = read_response(connection)
        if status in (429, 503):  # told to come again
            self.counts["told to come again"] += 1
            time.sleep(0.2)
            return None
        if status >= 400:
            raise AssertionError(f"{method} {path}: {status} {reply[:200]}")
        self.counts["answered"] += 1
        return reply

    def whole(self):
        self.ask("POST", "/v1/chat/completions", chat(self.random))

    def streamed(self):
        reply = self.ask("POST", "/v1/chat/completions", chat(self.random, stream=True))
        if reply is not None and not reply.rstrip().endswith(b"data: [DONE]"):
            raise AssertionError(f"a stream without its end: {reply[-200:]}")

    def held_to_a_schema(self):
        self.ask("POST", "/v1/chat/completions",
                 chat(self.random, tools=TOOLS, tool_choice="required"))

    def anthropic(self):
        self.ask("POST", "/v1/messages", {"messages": chat(self.random)["messages"][1:],
                                          "max_tokens": 8})

    def goes_away(self):
        connection = self.server.connect()
        self.send(connection, "POST", "/v1/chat/completions",
                  chat(self.random, stream=self.random.random() < 0.5, max_tokens=400))
        time.sleep(self.random.random())
        if self.random.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        self.counts["went away"] += 1

    def stalls(self):
        connection = self.server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.send(connection, "POST", "/v1/chat/completions",
                  chat(self.random, stream=True, max_tokens=300))
        time.sleep(self.random.random() * 3)
        connection.close()
        self.counts["stalled"] += 1

    def half_a_request(self):
        connection = self.server.connect()
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(self.random.random())
        connection.close()
        self.counts["half a request"] += 1

    def nonsense(self):
        connection = self.server.connect()
        try:
            connection.sendall(bytes(self.random.randrange(256) for _ in range(200)) + b"\r\n\r\n")
            if read_head(connection)[0] >= 500:
                raise AssertionError("nonsense is the client's fault")
        except OSError:
            pass
        connection.close()
        self.counts["nonsense"] += 1

    def contexts(self):
        body = {"messages": [{"role": "system", "content": SYSTEM}]}
        made = self.ask("POST", "/v1/contexts", body)
        if made is None:
            return
        first = json.loads(made)["id"]
        forks = json.loads(self.ask("POST", f"/v1/contexts/{first}/fork", {"n": 2}))
        ids = [fork["id"] for fork in forks["contexts"]]
        self.ask("POST", "/v1/chat/completions",
                 {"messages": [{"role": "user", "content": "Who?"}], "context": ids[0],
                  "max_tokens": 8})
        name = f"soak-{self.random.randrange(8)}"
        with self.server.connect(300) as connection:  # two that save under one name: one may not
            self.send(connection, "POST", f"/v1/contexts/{ids[0]}/save", {"name": name})
            if read_response(connection)[0] not in (200, 400, 429, 503):
                raise AssertionError("a save failed")
        for one in (first, *ids):
            self.ask("DELETE", f"/v1/contexts/{one}")
        self.counts["contexts"] += 1

    def act(self):
        acts = (self.whole, self.streamed, self.streamed, self.held_to_a_schema, self.anthropic,
                self.goes_away, self.goes_away, self.stalls, self.half_a_request, self.nonsense,
                self.contexts)
        self.random.choice(acts)()


def measure(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    return resident, len(os.listdir(f"/proc/{process.pid}/fd"))


def watch(server, end, samples, errors):
    while time.time() < end and not errors:
        samples.append(measure(server.process))
        time.sleep(min(5.0, MINUTES * 60 / 40))


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    folder = tempfile.TemporaryDirectory(prefix="lode-soak-")
    server = Server(LODE, "--agents", "8", "--context", "2048", "--states", "32", "--log", "off",
                    "--contexts", folder.name)
    counts, errors, samples = collections.Counter(), [], []
    before = measure(server.process)
    end = time.time() + MINUTES * 60

    def run(seed):
        client = Client(server, seed, counts)
        while time.time() < end and not errors:
            try:
                client.act()
            except Exception as error:  # told below
                errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    watch(server, end, samples, errors)
    for thread in threads:
        thread.join()
    idle = server.wait_idle(60)
    time.sleep(4)  # lingering connections
    health, after = server.health()[1], measure(server.process)
    kept = json.loads(server.get("/v1/contexts")[2])["data"]
    code = server.close()
    quarter = max(1, len(samples) // 4)
    early = statistics.median(sample[0] for sample in samples[quarter:2 * quarter] or samples)
    late = statistics.median(sample[0] for sample in samples[-quarter:])
    report = {"minutes": MINUTES, "clients": CLIENTS, "counts": dict(counts),
              "rss_kib": {"start": before[0], "second_quarter": early, "last_quarter": late,
                          "end": after[0]},
              "descriptors": {"start": before[1], "most": max(s[1] for s in samples),
                              "end": after[1]},
              "left": {"running": health["running"], "waiting": health["waiting"],
                       "contexts": len(kept)}, "exit": code}
    print(json.dumps(report, indent=1))
    folder.cleanup()
    if errors:
        raise errors[0]
    assert idle and health["running"] == 0 and health["waiting"] == 0, health
    assert not kept, kept
    assert counts["answered"] > CLIENTS
    # What was evicted is remembered until its share of the budget is full.
    assert late < early * 1.1, "memory grows"
    assert after[1] <= before[1] + 3, "descriptors stay open"
    assert code == 0


if __name__ == "__main__":
    main()
