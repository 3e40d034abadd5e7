"""
A Hub for one test: an HTTP server on the loopback address that speaks as much of the Hub's API as `huggingface_hub`
needs to create a model repository, commit to it, and download from it. Nothing is kept on disk.

    with HubServer() as hub:
        ...  # a process with HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET=1 and any HF_TOKEN
        hub.repositories["org/name"].head.files["config.json"]
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LARGE_FILES = (".safetensors", ".bin", ".png")


@dataclass
class Commit:
    """One state of a repository: the files and their contents."""

    files: dict[str, bytes]

    @property
    def oid(self) -> str:
        digest = hashlib.sha1()
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + b"\0" + content)
        return digest.hexdigest()


@dataclass
class Repository:
    """A repository with one branch, `main`."""

    name: str
    commits: list[Commit] = field(default_factory=lambda: [Commit({})])

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.head
        return next((commit for commit in self.commits if commit.oid == revision), None)

    def info(self, commit: Commit) -> dict[str, Any]:
        """What the Hub says of a model; task and library come from the front matter of its card."""
        card = _front_matter(commit.files.get("README.md", b""))
        return {
            "_id": self.name,
            "id": self.name,
            "modelId": self.name,
            "sha": commit.oid,
            "private": False,
            "disabled": False,
            "gated": False,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags") or [],
            "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name", "transformers"),
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        }


def _front_matter(card: bytes) -> dict[str, Any]:
    match = re.match(r"---\n(.*?\n)---", card.decode(), re.DOTALL)
    return (yaml.safe_load(match[1]) or {}) if match else {}


class HubError(Exception):
    """An answer that is not a success; `code` is the Hub's own name of the error, `details` join the answer."""

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details


class HubServer:
    """Runs in a thread of its own between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.log: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        return Handler

    def repository(self, name: str) -> Repository:
        if name not in self.repositories:
            raise HubError(404, "RepoNotFound", f"Repository {name} not found")
        return self.repositories[name]

    def commit_at(self, name: str, revision: str) -> Commit:
        commit = self.repository(name).at(unquote(revision))
        if commit is None:
            raise HubError(404, "RevisionNotFound", f"Revision {revision} not found")
        return commit

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"{body['organization']}/{body['name']}" if body.get("organization") else body["name"]
        if name in self.repositories:
            raise HubError(409, "RepoExists", "You already created this model repo", url=f"{self.url}/{name}")
        self.repositories[name] = Repository(name)
        return {"url": f"{self.url}/{name}", "name": name, "id": name}

    def commit(self, name: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        repository = self.repository(name)
        files = dict(repository.head.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large_files[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] != "header":
                raise HubError(400, "BadRequest", f"Unknown operation {line['key']}")
        repository.commits.append(Commit(files))
        oid = repository.head.oid
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.url}/{name}/commit/{oid}"}


class _Handler(BaseHTTPRequestHandler):
    """Finds the method for a request in `ROUTES` and sends what it returns, or its `HubError`."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.log.append(f"{self.command} {path}")
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.command in ("POST", "PUT") and not self.headers.get("Authorization") and "/lfs/" not in path:
                raise HubError(401, "Unauthorized", "A token is needed to write")
            for method, pattern, function in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command == method:
                    function(self, *match.groups())
                    return
            raise HubError(501, "NotImplemented", f"This test server does not know {self.command} {path}")
        except HubError as error:
            self.send(
                error.status, json.dumps({"error": str(error), **error.details}).encode(), {"X-Error-Code": error.code}
            )

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def log_message(self, format: str, *args: Any) -> None:
        """The log is kept in `HubServer.log`, not printed."""

    def create(self) -> None:
        self.send_json(self.hub.create(json.loads(self.content)))

    def validate_card(self) -> None:
        self.send_json({"errors": [], "warnings": []})

    def info(self, name: str, revision: str = "main") -> None:
        commit = self.hub.commit_at(name, revision)
        self.send_json(self.hub.repository(name).info(commit))

    def tree(self, name: str, revision: str) -> None:
        files = self.hub.commit_at(name, revision).files
        entries = [
            {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}
            for path, content in sorted(files.items())
        ]
        self.send_json(entries)

    def preupload(self, name: str, revision: str) -> None:
        self.hub.commit_at(name, revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE_FILES) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.content)["files"]
        ]
        self.send_json({"files": files})

    def large_file_batch(self, name: str) -> None:
        self.hub.repository(name)
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}}
            for entry in json.loads(self.content)["objects"]
        ]
        self.send_json({"transfer": "basic", "objects": objects})

    def large_file(self, oid: str) -> None:
        if hashlib.sha256(self.content).hexdigest() != oid:
            raise HubError(400, "BadRequest", f"What was sent is not the file {oid}")
        self.hub.large_files[oid] = self.content
        self.send(200, b"", {})

    def commit(self, name: str, revision: str) -> None:
        self.hub.commit_at(name, revision)
        lines = [json.loads(line) for line in self.content.splitlines() if line]
        self.send_json(self.hub.commit(name, lines))

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit = self.hub.commit_at(name, revision)
        content = commit.files.get(unquote(path))
        if content is None:
            raise HubError(404, "EntryNotFound", f"{path} not found")
        self.send(200, content, {"X-Repo-Commit": commit.oid, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})


NAME = r"([\w.-]+/[\w.-]+)"
REVISION = r"([^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate_card),
    ("GET", rf"/api/models/{NAME}", _Handler.info),
    ("GET", rf"/api/models/{NAME}/revision/{REVISION}", _Handler.info),
    ("GET", rf"/api/models/{NAME}/tree/{REVISION}", _Handler.tree),
    ("POST", rf"/api/models/{NAME}/preupload/{REVISION}", _Handler.preupload),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", _Handler.large_file_batch),
    ("PUT", r"/lfs/(\w+)", _Handler.large_file),
    ("POST", rf"/api/models/{NAME}/commit/{REVISION}", _Handler.commit),
    ("GET", rf"/{NAME}/resolve/{REVISION}/(.+)", _Handler.resolve),
    ("HEAD", rf"/{NAME}/resolve/{REVISION}/(.+)", _Handler.resolve),
]
