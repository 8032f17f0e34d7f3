"""The TUI in a browser: what is served, to whom, and what is said where it can not be."""

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from readwrite_edit.cli import main

pytest.importorskip("textual_serve")

import aiohttp

from readwrite_edit.tui.web import is_own_page, tui_command
from tests.tui.screens import still_run


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_the_command_is_quoted_for_a_shell(tmp_path):
    root = tmp_path / "$(touch x); 'a b'"
    words = shlex.split(tui_command(root, readonly=True, settings=Path("-s.toml")))
    assert words[0] == sys.executable
    assert words[-4:] == ["tui", f"--root={root}", "--readonly", "--settings=-s.toml"]


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [("localhost:8000", "http://localhost:8000", True), ("localhost:8000", "http://evil.example", False),
     ("evil.example:8000", "http://evil.example:8000", False), ("localhost:8000", None, False),
     ("localhost:8000", "http://localhost:3000", False)],
)  # fmt: skip
def test_only_a_page_of_its_own_may_drive_it(host, origin, own):
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    assert is_own_page(headers, 8000) is own


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tui", "--web"]) == 2
    assert "pip install 'readwrite-edit[web]'" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["80", "x8", "65536", "8000.0", ""])
def test_a_port_that_is_none_is_refused(port, capsys):
    with pytest.raises(SystemExit):
        main(["tui", "--web", "--port", port])
    assert f"{port}: expected a port from 1024 to 65535" in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused_in_words_and_nothing_is_said_of_a_page(capsys):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        assert main(["tui", "--web", "--port", str(port)]) == 2
    said = capsys.readouterr()
    assert f"port {port} of localhost" in said.err and "choose another with --port" in said.err and said.out == ""


def test_settings_are_checked_before_anything_is_served(tmp_path, capsys):
    (tmp_path / "t.toml").write_text('theme = "nrod"')
    assert main(["tui", "--web", "--settings", str(tmp_path / "t.toml")]) == 2
    assert "did you mean 'nord'" in capsys.readouterr().err


async def first_words(port):
    """What a page of the server's own is sent, until the list of runs stands in it."""
    base = f"http://localhost:{port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(base) as page:
            rules = dict(rule.split(" ", 1) for rule in page.headers["Content-Security-Policy"].split("; "))
            assert page.status == 200 and rules["frame-ancestors"] == "'none'" and "http" not in rules["default-src"]
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{base}/ws", origin="http://evil.example")
        async with session.ws_connect(f"{base}/ws?width=100&height=30", origin=base) as place:
            seen = b""
            async for message in place:
                seen += message.data if isinstance(message.data, bytes) else b""
                if b"far-away-run" in seen:
                    return seen
    return seen


def test_a_page_shows_the_runs_of_the_root(tmp_path):
    still_run(tmp_path / "a 'quoted' $root", "far-away-run")
    port = free_port()
    command = [sys.executable, "-m", "readwrite_edit.cli", "tui", "--web", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--root", "a 'quoted' $root"], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert f"http://localhost:{port}".encode() in server.stdout.readline()
        assert b"far-away-run" in asyncio.run(asyncio.wait_for(first_words(port), 60))
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(20)
        server.stdout.close()
