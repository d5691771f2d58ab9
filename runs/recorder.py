"""A proxy between a client and a server that writes down what both say. Not a script itself."""
import http.client
import http.server
import threading
import time


class Exchange:
    """One request and its answer."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body
        self.status, self.content_type, self.answer, self.seconds = 0, "", b"", 0.0


class Recorder:
    """Listens on a free port of this machine and passes everything on to `port`, piece by piece."""

    def __init__(self, port):
        recorder, self.exchanges = self, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def pass_on(self):
                recorder.pass_on(self, port)

            do_GET = do_POST = pass_on

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pass_on(self, handler, port):
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {k.lower(): v for k, v in handler.headers.items()}
        one = Exchange(handler.path, headers, body)
        self.exchanges.append(one)
        begin = time.monotonic()
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=900)
        hops = ("host", "connection", "content-length")
        own = {k: v for k, v in headers.items() if k not in hops}
        link.request(handler.command, handler.path, body, own)
        reply = link.getresponse()
        one.status, one.content_type = reply.status, reply.getheader("content-type") or ""
        handler.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                handler.send_header(name, value)
        handler.send_header("connection", "close")
        handler.end_headers()
        try:
            while piece := reply.read1(65536):
                one.answer += piece
                handler.wfile.write(piece)
        except OSError:
            one.status = 499  # the client went away
        finally:
            link.close()
            handler.close_connection = True
            one.seconds = time.monotonic() - begin

    def close(self):
        self.server.shutdown()
        self.server.server_close()
