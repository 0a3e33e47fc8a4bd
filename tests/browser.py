"""A real browser without a window, driven over WebDriver (W3C) by the standard library."""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
ENTER, TAB, SPACE, CONTROL, END, RIGHT = "\ue007", "\ue004", " ", "\ue009", "\ue010", "\ue014"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element, by the standard


class Browser:
    """A tab of a browser."""

    def __init__(self, port: int):
        self.port, self.path = port, ""

    def call(self, method: str, path: str, body: dict | None = None) -> Any:
        """Send a WebDriver command; return its value."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = None if method != "POST" else json.dumps(body or {})
        connection.request(method, self.path + path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        value = json.loads(response.read())["value"]
        connection.close()
        assert response.status == 200, f"{path}: {value}"
        return value

    def open(self, url: str) -> None:
        """Load a page."""
        self.call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns in the page."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str, seconds: float = 20) -> Any:
        """Return the value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {script}")):
            assert time.monotonic() < end, f"never true: {script}; the page says: {self.text('body')[:2000]}"
            time.sleep(0.05)
        return value

    def find(self, selector: str) -> str:
        """Return the id of the first element that a CSS selector matches."""
        return self.call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def click(self, selector: str) -> None:
        """Click on an element."""
        self.call("POST", f"/element/{self.find(selector)}/click")

    def write(self, selector: str, text: str) -> None:
        """Replace the content of a field, as a user's input."""
        self.call("POST", f"/element/{self.find(selector)}/clear")
        self.type(text, selector)

    def type(self, keys: str, selector: str | None = None) -> None:
        """Press keys in an element, or where the focus is."""
        if selector is None:
            presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
            self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": presses}]})
        else:
            self.call("POST", f"/element/{self.find(selector)}/value", {"text": keys})

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def screenshot(self, path: Path) -> None:
        """Save what is shown as a PNG."""
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


@contextmanager
def browser(downloads: Path) -> Iterator[Browser]:
    """Start a browser that saves downloads in a folder; end it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([DRIVER, f"--port={port}"], **silent)
    tab = Browser(port)
    try:
        _wait(port)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,1200"]
        preferences = {"download.default_directory": str(downloads), "download.prompt_for_download": False}
        options = {"binary": CHROMIUM, "args": flags, "prefs": preferences}
        logging = {"goog:loggingPrefs": {"browser": "ALL"}}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, **logging}}
        tab.path = f"/session/{tab.call('POST', '/session', {'capabilities': capabilities})['sessionId']}"
        yield tab
    finally:
        if tab.path:
            tab.call("DELETE", "")
        process.terminate()
        process.wait(20)


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("chromedriver does not answer")
