"""The TUI in a browser on this machine, served by textual-serve (the extra ``web``).

Each page runs a TUI of its own as a subprocess; closing it touches no run. A page
of any site can open a socket to this machine, so only a page that this server
gave out may drive a TUI: the request must name this server as its host and as
the origin of its script.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from textual_serve.server import Server

from readwrite_edit.runs.launching import program

HOST = "localhost"


class LocalServer(Server):
    """Serves one command to pages of its own."""

    def initialize_logging(self) -> None:
        """Say nothing of every request."""
        logging.basicConfig(level=logging.WARNING)

    async def on_startup(self, app: web.Application) -> None:
        """Say where to look."""
        print(f"the TUI is at {self.public_url} (ctrl+c ends the server; runs go on)", flush=True)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Let a page of this server drive a TUI, and no other.

        Raises:
            web.HTTPForbidden: It is not one of this server's.
        """
        if not is_own_page(request.headers, self.port):
            raise web.HTTPForbidden(text="only a page of this server may drive its TUI\n")
        return await super().handle_websocket(request)


def is_own_page(headers: Mapping[str, str], port: int) -> bool:
    """Whether a request for a socket comes from a page that a server on a port of this machine gave out."""
    place = f"{HOST}:{port}"
    return headers.get("Host") == place and headers.get("Origin") == f"http://{place}"


def tui_command(root: Path, *, readonly: bool, settings: Path | None) -> str:
    """The command of one TUI, quoted for the shell that textual-serve gives it to."""
    options = [f"--root={root}"]
    options += ["--readonly"] if readonly else []
    options += [] if settings is None else [f"--settings={settings}"]
    return shlex.join(program(["tui", *options]))


def serve(command: str, port: int) -> None:
    """Serve a TUI until the process is interrupted."""
    # The place stands in each page; a default port would be left out of it by browsers, so it is always written.
    LocalServer(command, host=HOST, port=port, title="readwrite-edit", public_url=f"http://{HOST}:{port}").serve()
