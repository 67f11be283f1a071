"""A real browser without a window, driven by its own debugging protocol: Chromium, where there is one."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60  # seconds
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--mute-audio"),
    *("--remote-debugging-port=0", "about:blank"),
)


def chromium() -> str | None:
    """The program, if this machine has it."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab: commands are sent in turn, and what it reports meanwhile is kept in `events`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: WebSocketClientConnection) -> None:
        self.loop, self.socket, self.sent = loop, socket, 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and wait for its answer."""
        return self.loop.run_until_complete(asyncio.wait_for(self._call(method, params), PATIENCE))

    async def _call(self, method: str, params: dict[str, Any]) -> Any:
        self.sent += 1
        await self.socket.write_message(json.dumps({"id": self.sent, "method": method, "params": params}))
        while True:
            answer = json.loads(await self.socket.read_message() or "{}")
            if answer.get("id") == self.sent:
                assert "error" not in answer, answer["error"]
                return answer.get("result")
            self.events.append(answer)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < until, f"never true: {condition}"
            time.sleep(0.05)

    def open(self, address: str) -> None:
        """Load a page from nothing, and wait until its plots are there."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait("Boolean(document.documentElement?.dataset.ready)")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Be a screen of this size in the light or the dark."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def reveal(self) -> None:
        """Scroll through the page, so that everything on it is drawn."""
        wait = "await new Promise(done => requestAnimationFrame(() => setTimeout(done, 150)));"
        each = f"for (const place of document.querySelectorAll('.canvas')) {{ place.scrollIntoView(); {wait} }}"
        self.run(f"(async () => {{ {each} scrollTo(0, 0); {wait} }})()")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Keep what is seen, or the whole page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[Any]:
        """Errors and warnings of the console, exceptions, and violations of the page's own policy."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        said = [each for each in self.events if each.get("method") in kinds]
        logged = [each for each in self.events if each.get("method") == "Runtime.consoleAPICalled"]
        return said + [each for each in logged if each["params"]["type"] in ("error", "warning", "assert")]

    def requests(self) -> list[str]:
        """What was asked of a disk or a network; data in the page itself does not count."""
        sent = [
            each["params"]["request"]["url"]
            for each in self.events
            if each.get("method") == "Network.requestWillBeSent"
        ]
        return [address for address in sent if not address.startswith(("data:", "blob:"))]


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with a profile in this folder, and one page of it."""
    program = chromium()
    assert program
    command = [program, f"--user-data-dir={folder}", *FLAGS]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    try:
        port = _port(folder / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            address = next(each["webSocketDebuggerUrl"] for each in json.load(answer) if each["type"] == "page")
        socket = loop.run_until_complete(_connect(address))
        page = Page(loop, socket)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        yield page
        socket.close()
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
        loop.close()


async def _connect(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=2**28)


def _port(told: Path, process: "subprocess.Popen[bytes]") -> int:
    until = time.monotonic() + PATIENCE
    while not told.exists() or len(told.read_text().splitlines()) < 2:
        assert process.poll() is None and time.monotonic() < until, "Chromium did not start"
        time.sleep(0.05)
    return int(told.read_text().splitlines()[0])
