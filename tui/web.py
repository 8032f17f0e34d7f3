"""The TUI in a browser on this machine, served by textual-serve (the extra ``web``).

Each page runs a TUI of its own as a subprocess; closing it touches no run. A page
of any site can open a socket to this machine, so only a page that this server
gave out may drive a TUI: the request must name this server as its host and as
the origin of its script, and no page of another may show this server's in a frame.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from textual_serve.server import Server

from readwrite_edit.errors import RecipeError
from readwrite_edit.runs.launching import program

HOST = "localhost"
# The template names a font of Google's; the page asks nobody but this server.
_POLICY = (
    "default-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self' ws://{place}; frame-ancestors 'none'"
)


class LocalServer(Server):
    """Serves one command to pages of its own."""

    def initialize_logging(self) -> None:
        """Say nothing of every request."""
        logging.basicConfig(level=logging.WARNING)

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: it does not listen yet."""

    def say_where(self) -> None:
        """Say where to look."""
        print(f"the TUI is at {self.public_url} (ctrl+c ends the server; runs go on)", flush=True)

    def serve(self, debug: bool = False) -> None:
        """Serve until the process is interrupted.

        Raises:
            RecipeError: The port can not be had.
        """
        self.initialize_logging()
        try:
            web.run_app(
                self._make_app(), host=self.host, port=self.port, access_log=None, print=lambda *_: self.say_where()
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise RecipeError(f"port {self.port} of {self.host}: {reason}: choose another with --port") from error

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page, that asks no other server for anything and is shown in no other's frame."""
        page: web.StreamResponse = await super().handle_index(request)
        page.headers["Content-Security-Policy"] = _POLICY.format(place=f"{HOST}:{self.port}")
        return page

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
