"""What the tests of lode serve share: a server of their own, scripts for it, raw sockets."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time


class Server:
    """lode serve on a free port. `script`: lines that are played; else `model`."""

    def __init__(self, lode, *flags, script=None, model="demo", environment=None):
        self.folder = tempfile.mkdtemp(prefix="lode-serve-test-")
        if script is not None:
            path = os.path.join(self.folder, "script.jsonl")
            with open(path, "w", encoding="utf-8") as file:
                for line in script:
                    file.write(json.dumps(line) + "\n")
            model = "script:" + path
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [lode, "serve", model, "--port", "0", *flags], stdout=subprocess.PIPE, stderr=log,
                text=True, env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        match = re.match(r"listening on (https?)://(\S+):(\d+)$", line.strip())
        if match is None:
            self.process.wait(30)
            raise RuntimeError(f"the server did not start: {line!r} {self.log()}")
        self.scheme, self.host, self.port = match.group(1), match.group(2), int(match.group(3))
        self.url = f"{self.scheme}://{self.host}:{self.port}"

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def requests(self):
        """Lines of the log, as objects."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def health(self):
        status, _, body = self.get("/health")
        return status, json.loads(body)

    def wait_idle(self, seconds=10):
        """True when nothing runs or waits any more."""
        end = time.time() + seconds
        while time.time() < end:
            health = self.health()[1]
            if health["running"] == 0 and health["waiting"] == 0:
                return True
            time.sleep(0.02)
        return False

    def wait_busy(self, seconds=10):
        end = time.time() + seconds
        while time.time() < end:
            health = self.health()[1]
            if health["running"] + health["waiting"] > 0:
                return True
            time.sleep(0.01)
        return False

    # --- plain HTTP, byte by byte ---

    def connect(self, timeout=20):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def get(self, path, headers=""):
        with self.connect() as connection:
            connection.sendall((f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
                                "Connection: close\r\n\r\n").encode())
            return read_response(connection)

    def post(self, path, body, headers="Content-Type: application/json\r\n", connection=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = connection or self.connect()
        try:
            own.sendall((f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
                         f"Content-Length: {len(data)}\r\n\r\n").encode() + data)
            return read_response(own)
        finally:
            if connection is None:
                own.close()

    def close(self, how=signal.SIGTERM, seconds=20):
        """The exit code. May be called again."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.stdout.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        return code


def read_head(connection):
    """Status line and headers, and what was read behind them."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"closed in the head: {data!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split()[1]), headers, rest


def read_response(connection):
    """Status, headers, body; chunked bodies are joined."""
    status, headers, data = read_head(connection)
    if status == 100:
        connection_rest = data
        status, headers, data = read_head(Prefixed(connection, connection_rest))
    if headers.get("transfer-encoding") == "chunked":
        return status, headers, read_chunked(connection, data)
    length = int(headers.get("content-length", 0))
    while len(data) < length:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("closed in the body")
        data += piece
    return status, headers, data[:length]


class Prefixed:
    """A connection whose first bytes were read already."""

    def __init__(self, connection, data):
        self.connection, self.data = connection, data

    def recv(self, size):
        if self.data:
            data, self.data = self.data, b""
            return data
        return self.connection.recv(size)


def read_chunked(connection, data):
    body = b""
    while True:
        while b"\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("closed between chunks")
            data += piece
        size, _, data = data.partition(b"\r\n")
        size = int(size, 16)
        while len(data) < size + 2:
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionError("closed in a chunk")
            data += piece
        body += data[:size]
        data = data[size + 2:]
        if size == 0:
            return body


def run_together(count, work):
    """work(0), ..., work(count - 1) at once; their results, errors raised."""
    results, errors = [None] * count, []

    def one(index):
        try:
            results[index] = work(index)
        except Exception as error:  # told below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
