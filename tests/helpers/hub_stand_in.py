"""A stand-in for the Hugging Face hub on this machine: it takes models from the real client and remembers them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_standin"


class Hub(ThreadingHTTPServer):
    """What it holds: for each repository whether it is private, its files and its commits' messages."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []
        self.refuses = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._resolve(body=False)

    def _resolve(self, body: bool) -> None:
        """A file of a repository, as ``OWNER/NAME/resolve/main/FILE``."""
        repo, _, name = self.path.removeprefix("/").partition("/resolve/main/")
        content = self.server.files.get(repo, {}).get(name)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_GET(self) -> None:
        if "/resolve/main/" in self.path:
            return self._resolve(body=True)
        repo = self.path.removeprefix("/api/models/").partition("?")[0]
        if repo in self.server.private:
            self._answer({"id": repo, "private": self.server.private[repo], "siblings": [], "tags": []})
        else:
            self._answer({"error": "Repository not found"}, 404)

    def do_POST(self) -> None:
        lines = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid username or password."}, 401)
        if self.server.refuses and self.server.refuses in self.path:
            return self._answer({"error": "The quota is used up."}, 403)
        path = self.path.partition("?")[0].removeprefix("/api/")
        if path == "repos/create":
            told = json.loads(lines[0])
            repo = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
            if repo in self.server.private:
                return self._answer({"error": "You have this model", "url": f"{self.server.address}/{repo}"}, 409)
            self.server.private[repo] = told.get("visibility") == "private" or bool(told.get("private"))
            self.server.files[repo] = {}
            return self._answer({"url": f"{self.server.address}/{repo}"})
        if path == "validate-yaml":
            return self._answer({"warnings": [], "errors": []})
        repo, _, action = path.removeprefix("models/").partition("/main")[0].rpartition("/")
        if action == "preupload":
            asked = json.loads(lines[0])["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            return self._answer({"files": modes})
        assert action == "commit", self.path
        for line in map(json.loads, lines):
            if line["key"] == "header":
                self.server.commits.append(line["value"]["summary"])
            else:
                self.server.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._answer({"commitUrl": f"{self.server.address}/{repo}/commit/0", "commitOid": "0" * 40})

    def _body(self) -> list[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces).splitlines()
        return self.rfile.read(int(self.headers.get("Content-Length", 0))).splitlines()


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """A hub within the block."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
