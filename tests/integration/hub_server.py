"""A local server that speaks the part of the Hub's API that an upload uses, and keeps what it receives."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_local_test_token"
OWNER = "tester"
COMMIT = "c" * 40


@dataclass
class Repository:
    """One repository: its visibility, and the files of each branch."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})


@dataclass
class Hub:
    """What the server holds, and a log of what was asked of it."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)

    def files(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        """Files of a branch by name."""
        return self.repositories[repo_id].branches[branch]


class RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": message} | extra


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve on a free local port until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_GET  # noqa: N815, names of http.server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self) -> None:
        body, path = self._body(), self.path.partition("?")[0]
        self.state.requests.append(f"{self.command} {path}")
        try:
            status, answer = 200, self._route(path, body)
        except RefusalError as refusal:
            status, answer = refusal.status, refusal.body
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self, path: str, body: bytes) -> Any:
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                if (status := self.state.refuse.get(answer.__name__)) is not None:
                    raise RefusalError(status, "refused by the test")
                if answer is not _store and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise RefusalError(401, "Invalid username or password.")
                payload = body if answer in (_store, _commit) else json.loads(body or b"null")
                return answer(self.state, payload, **match.groupdict())
        raise RefusalError(404, f"no such address: {self.command} {path}")


def _whoami(hub: Hub, _: Any) -> dict[str, Any]:
    return {"type": "user", "name": OWNER, "orgs": []}


def _create(hub: Hub, asked: dict[str, Any]) -> dict[str, Any]:
    owner = asked.get("organization") or OWNER
    if owner != OWNER:
        raise RefusalError(403, "You don't have the rights to create a model under this namespace")
    repo_id = f"{owner}/{asked['name']}"
    url = f"{hub.url}/{repo_id}"
    if repo_id in hub.repositories:
        raise RefusalError(409, "You already created this model repo", url=url)
    hub.repositories[repo_id] = Repository(private=asked.get("visibility") == "private")
    return {"url": url, "name": repo_id}


def _info(hub: Hub, _: Any, repo_id: str) -> dict[str, Any]:
    if repo_id not in hub.repositories:
        raise RefusalError(404, "Repository not found")
    files = [{"rfilename": name} for name in hub.files(repo_id)]
    return {"id": repo_id, "sha": COMMIT, "private": hub.repositories[repo_id].private, "siblings": files}


def _branch(hub: Hub, _: Any, repo_id: str, branch: str) -> dict[str, Any]:
    branches = hub.repositories[repo_id].branches
    if branch in branches:
        raise RefusalError(409, "Reference already exists")
    branches[branch] = dict(branches["main"])
    return {}


def _validate(hub: Hub, asked: dict[str, Any]) -> dict[str, Any]:
    errors = [{"message": problem} for problem in card_problems(asked["content"])]
    if errors:
        raise RefusalError(400, "Invalid metadata in README.md", errors=errors, warnings=[])
    return {"errors": [], "warnings": []}


def _preupload(hub: Hub, asked: dict[str, Any], repo_id: str, branch: str) -> dict[str, Any]:
    if branch not in hub.repositories[repo_id].branches:
        raise RefusalError(404, "Invalid rev id")

    def mode(file: dict[str, Any]) -> str:
        return "lfs" if file["path"].endswith(".safetensors") or file["size"] > 10 << 20 else "regular"

    files = [{"path": one["path"], "uploadMode": mode(one), "shouldIgnore": False} for one in asked["files"]]
    return {"files": files}


def _batch(hub: Hub, asked: dict[str, Any], repo_id: str) -> dict[str, Any]:
    def upload(entry: dict[str, Any]) -> dict[str, Any]:
        return entry | {"actions": {"upload": {"href": f"{hub.url}/storage/{entry['oid']}"}}}

    return {"transfer": "basic", "objects": [upload(entry) for entry in asked["objects"]]}


def _store(hub: Hub, body: bytes, oid: str) -> dict[str, Any]:
    if hashlib.sha256(body).hexdigest() != oid:
        raise RefusalError(400, "content does not match its hash")
    hub.objects[oid] = body
    return {}


def _commit(hub: Hub, body: bytes, repo_id: str, branch: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in body.splitlines() if line.strip()]
    if lines[0]["key"] != "header" or not lines[0]["value"]["summary"]:
        raise RefusalError(400, "a commit begins with its header")
    received = dict(_received(hub, line["key"], line["value"]) for line in lines[1:])
    hub.repositories[repo_id].branches[branch].update(received)
    return {"success": True, "commitOid": COMMIT, "commitUrl": f"{hub.url}/{repo_id}/commit/{COMMIT}"}


def _received(hub: Hub, key: str, value: dict[str, Any]) -> tuple[str, bytes]:
    if key == "file":
        return value["path"], base64.b64decode(value["content"])
    if key != "lfsFile":
        raise RefusalError(400, f"unknown operation {key}")
    if value["oid"] not in hub.objects:
        raise RefusalError(400, f"the object of {value['path']} was never uploaded")
    return value["path"], hub.objects[value["oid"]]


def card_problems(content: str) -> list[str]:
    """What the Hub would refuse in the metadata of a model card, as far as its documentation says."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if not match:
        return ["no metadata"]
    data = yaml.safe_load(match[1])
    problems = []
    bases = data.get("base_model") or []
    for base in [bases] if isinstance(bases, str) else bases:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
            problems.append(f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.')
    if data.get("base_model_relation") not in (None, "adapter", "finetune", "merge", "quantized"):
        problems.append('"base_model_relation" is not valid')
    if data.get("base_model_relation") and not bases:
        problems.append('"base_model_relation" without "base_model"')
    if data.get("library_name") not in (None, "peft", "transformers"):
        problems.append('"library_name" is not a library of this test')
    if data.get("pipeline_tag") != "text-generation":
        problems.append('"pipeline_tag" is not valid')
    tags = data.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        problems.append('"tags" must be an array of strings')
    return problems


_REPO = r"(?P<repo_id>[\w.-]+/[\w.-]+)"
_BRANCH = r"(?P<branch>[^/]+)"
_ROUTES = (
    ("GET", r"/api/whoami-v2", _whoami),
    ("POST", r"/api/repos/create", _create),
    ("POST", r"/api/validate-yaml", _validate),
    ("GET", rf"/api/models/{_REPO}", _info),
    ("POST", rf"/api/models/{_REPO}/branch/{_BRANCH}", _branch),
    ("POST", rf"/api/models/{_REPO}/preupload/{_BRANCH}", _preupload),
    ("POST", rf"/api/models/{_REPO}/commit/{_BRANCH}", _commit),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _batch),
    ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})", _store),
)
