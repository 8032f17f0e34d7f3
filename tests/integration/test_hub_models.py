"""Models from the Hub, against a local server that speaks enough of its API."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from readwrite_edit.errors import ModelError
from readwrite_edit.models import hub
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import load_config, load_model, load_tokenizer
from readwrite_edit.models.source import parse_source
from tests.tiny_models import TINY, tiny_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories as folders, repositories that refuse with an error code, and the files asked for."""

    endpoint: str = ""
    folders: dict[str, Path] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)


def _handler(fake: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.removeprefix("/api/models").split("?")[0].strip("/")
            repo = "/".join(path.split("/")[:2])
            if repo not in fake.folders:
                status, code = fake.refusals.get(repo, (404, "RepoNotFound"))
                return self.answer(status, b"", {"X-Error-Code": code})
            if self.path.startswith("/api/"):
                names = [{"rfilename": file.name} for file in fake.folders[repo].iterdir()]
                return self.answer(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": names}).encode())
            _, _, revision, name = path.removeprefix(repo).split("/", 3)
            file = fake.folders[repo] / name
            if revision not in ("main", COMMIT) or not file.is_file():
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            fake.fetched.append(name)
            content = file.read_bytes()
            return self.answer(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            headers = {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **(headers or {})}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    _point_at(f"http://127.0.0.1:{server.server_port}", tmp_path, monkeypatch)
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


def _point_at(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def _refusal(path: str, revision: str | None = None, load=load_model) -> str:
    with pytest.raises(ModelError) as caught:
        load(parse_source(path, revision))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("shards", ["5GB", "50KB"])
def test_a_model_comes_without_code_pickles_and_copies(fake_hub: FakeHub, tmp_path: Path, shards: str) -> None:
    fake_hub.folders["org/model"] = tmp_path / "repo"
    TINY["llama"]().save_pretrained(tmp_path / "repo", max_shard_size=shards)
    tiny_tokenizer().save_pretrained(tmp_path / "repo")
    for name in ("pytorch_model.bin", "modeling.py", "consolidated.safetensors"):
        (tmp_path / "repo" / name).write_bytes(b"never")
    where = parse_source("org/model")
    assert load_config(where).model_type == "llama"
    assert load_tokenizer(where)("ab")["input_ids"] == tiny_tokenizer()("ab")["input_ids"]
    assert not [name for name in fake_hub.fetched if name.endswith(".safetensors")]
    assert weights_hash(load_model(where, device="cpu")) == weights_hash(TINY["llama"]())
    assert not {"pytorch_model.bin", "modeling.py", "consolidated.safetensors"} & set(fake_hub.fetched)


def test_a_model_in_the_cache_loads_without_a_connection(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.folders["org/model"] = tmp_path / "repo"
    TINY["llama"]().save_pretrained(tmp_path / "repo")
    load_config(parse_source("org/model"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_config(parse_source("org/model")).model_type == "llama"
    assert "no safetensors weights here" in _refusal("org/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_model(parse_source("org/model"), device="cpu")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load_model(parse_source("org/model"), device="cpu")


def test_what_the_hub_refuses(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.refusals["org/gated"] = (403, "GatedRepo")
    fake_hub.refusals["org/norevision"] = (404, "RevisionNotFound")
    fake_hub.folders["org/pickled"] = tmp_path / "pickled"
    (tmp_path / "pickled").mkdir()
    assert "no config.json" in _refusal("org/pickled")
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"never")
    assert "only pickled weights (pytorch_model.bin)" in _refusal("org/pickled")
    assert "access is gated" in _refusal("org/gated")
    assert "no revision 'v9'" in _refusal("org/norevision", "v9")
    assert "no such folder and no such Hub repository" in _refusal("org/missing")
    assert "pytorch_model.bin" not in fake_hub.fetched


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        _point_at(f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path, monkeypatch)
        assert "the Hub can not be reached" in _refusal("org/model")
        assert "the Hub can not be reached" in _refusal("org/model", load=load_tokenizer)


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, monkeypatch)
        assert "the Hub can not be reached" in _refusal("org/model")
