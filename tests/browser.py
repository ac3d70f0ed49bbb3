"""A real headless Chromium, driven over its DevTools protocol: evaluate, click, drag, press."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = "apt-get install chromium, or put another Chromium or Chrome on PATH"
REQUIRED = "MEMBPTT_BROWSER_REQUIRED"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
PATIENCE = 60  # seconds


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with its own profile; without one, skip, or fail where it is required."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(f"no browser: {HOW}")
    websocket = pytest.importorskip("websocket")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                connection = websocket.create_connection(
                    _address(Path(profile)), suppress_origin=True, timeout=PATIENCE
                )
                try:
                    yield Browser(connection)
                finally:
                    connection.close()
            finally:
                process.terminate()


def _address(profile: Path) -> str:
    """Return the address at which the only page listens, as soon as it does."""
    written = profile / "DevToolsActivePort"
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if written.exists() and written.read_text().strip():
            port = written.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as reply:
                pages = [page for page in json.load(reply) if page["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise TimeoutError(f"the browser did not start within {PATIENCE} s")


class Browser:
    """One page; it keeps what it requested from the network and the errors of its scripts."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sent = 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Send one command and return its result; events that arrive meanwhile are noted."""
        self._sent += 1
        self._connection.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv())
            if message.get("id") == self._sent:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            match message.get("method"):
                case "Network.requestWillBeSent":
                    self.requests.append(message["params"]["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.errors.append(str(message["params"]["exceptionDetails"]))
                case "Log.entryAdded" if message["params"]["entry"]["level"] == "error":
                    self.errors.append(message["params"]["entry"]["text"])

    def open(self, url: str) -> None:
        """Open a page and wait until its scripts have run."""
        self.call("Page.navigate", url="about:blank")  # a change of the fragment alone would not load the page again
        self.call("Page.navigate", url=url)
        until = time.monotonic() + PATIENCE
        while self.evaluate("location.href === 'about:blank' || document.readyState !== 'complete'"):
            if time.monotonic() > until:
                raise TimeoutError(f"{url} did not load within {PATIENCE} s")
            time.sleep(0.02)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression.

        Raises:
            RuntimeError: it throws.
        """
        reply = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(str(reply["exceptionDetails"]))
        return reply["result"].get("value")

    def resize(self, width: int, height: int, *, dark: bool = False, touch: bool = False) -> None:
        """Take the shape of a window or of a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=theme)

    def click(self, selector: str, across: float = 0.5) -> None:
        """Press and release the mouse on an element, at a share of its width."""
        self.drag(selector, across, across)

    def drag(self, selector: str, begin: float, end: float) -> None:
        """Press the mouse at one share of an element's width and release it at another."""
        script = f"""(() => {{ const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{block: "center"}}); const box = element.getBoundingClientRect();
            return [box.left, box.top + box.height / 2, box.width]; }})()"""
        left, y, width = self.evaluate(script)
        start, stop = left + begin * width, left + end * width
        self._mouse("mousePressed", start, y)
        for step in range(1, 6):
            self._mouse("mouseMoved", start + (stop - start) * step / 5, y)
        self._mouse("mouseReleased", stop, y)

    def press(self, key: str, code: int) -> None:
        """Press and release one key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def _mouse(self, kind: str, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
