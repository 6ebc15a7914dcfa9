"""A headless browser, and a server on this machine that counts who asks it."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
    "--virtual-time-budget=4000", "--enable-logging=stderr", "--log-level=0",
)  # fmt: skip


def browser() -> str | None:
    """The first browser that is installed."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass
class Server:
    """Pages to serve, and what else was asked for.

    Attributes:
        address: Where it is.
        pages: Path and content of each page.
        asked: Paths that were asked for and are no page.
    """

    address: str = ""
    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine, as long as the context lasts."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = state.pages.get(self.path)
            if page is None and self.path != "/favicon.ico":
                state.asked.append(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page or b"")

        do_POST = do_HEAD = do_GET  # noqa: N815 - named by the standard library

        def log_message(self, *args: object) -> None:  # type: ignore[override]
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def dump(program: str, url: str, folder: Path) -> tuple[str, str]:
    """The tree of a page as HTML after its scripts and loads had seconds to run, and what the browser logged."""
    # A browser refuses its sandbox to root, who runs tests in a container.
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    done = subprocess.run(
        [program, *_FLAGS, *sandbox, f"--user-data-dir={folder}", "--dump-dom", url],
        capture_output=True,
        check=True,
        timeout=120,
    )
    return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
