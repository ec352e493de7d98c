"""A real HTTP server on this machine, for whatever downloads."""

import contextlib
import http.server
import threading

import pytest


class Mirror:
    """A server of named contents: what it sends, how often it was asked, and how it misbehaves."""

    def __init__(self):
        self.files = {}
        self.asked = []
        self.cut_at = None
        self.hide_length = False
        self.url = ""


@contextlib.contextmanager
def serving():
    mirror = Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            mirror.asked.append(self.path)
            content = mirror.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            if not mirror.hide_length:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[: mirror.cut_at])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as mirror:
        yield mirror


@pytest.fixture
def second(mirror):
    with serving() as second:
        yield second
