"""As much of Hugging Face as a download needs, on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Mirror:
    """Serves the files of repositories, by `owner/name/path`. `HF_ENDPOINT=url` makes huggingface_hub ask here."""

    def __init__(self, url: str):
        self.url = url
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        """The files that were asked for, in order."""


@contextmanager
def serving() -> Iterator[Mirror]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            name = self.path.removeprefix("/").replace("/resolve/main/", "/")
            mirror.asked.append(name)
            content = mirror.files.get(name)
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            if content is not None and start:
                content = content[start:]
            self.send_response(404 if content is None else 206 if start else 200)
            if content is not None:
                self.send_header("ETag", f'"{hash(content):x}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if with_body and content is not None:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror = Mirror(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
