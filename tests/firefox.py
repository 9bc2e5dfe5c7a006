"""A Firefox for tests, by the protocol that browsers share (WebDriver BiDi), which Firefox speaks without a driver."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect


class Firefox:
    """One tab. `complaints` are the errors and warnings that its pages print."""

    def __init__(self, line: ClientConnection) -> None:
        self.line, self.asked = line, 0
        self.complaints: list[str] = []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        self.tab = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **params: Any) -> Any:
        """What Firefox answers to a command; what it reports meanwhile is kept."""
        self.asked += 1
        self.line.send(json.dumps({"id": self.asked, "method": method, "params": params}))
        while True:
            told = json.loads(self.line.recv(timeout=60))
            if told.get("id") == self.asked:
                assert told["type"] == "success", told
                return told["result"]
            if told.get("method") == "log.entryAdded" and told["params"]["level"] in ("error", "warn"):
                self.complaints.append(str(told["params"]["text"]))

    def size(self, width: int, height: int) -> None:
        """Of the page, in CSS pixels."""
        self.ask("browsingContext.setViewport", context=self.tab, viewport={"width": width, "height": height})

    def open(self, address: str) -> None:
        """A page, until it has loaded."""
        self.ask("browsingContext.navigate", context=self.tab, url=address, wait="complete")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or what its promise comes to."""
        whole = f"(async () => JSON.stringify(await ({script})) ?? 'null')()"
        found = self.ask("script.evaluate", expression=whole, target={"context": self.tab}, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])

    def settled(self) -> None:
        """Two frames from now: what the page has to draw is drawn, and lies where it will lie."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))")

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of an element, as soon as it lies still."""
        self.settled()
        script = f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'nearest'}}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2].map(Math.round); }})()"
        x, y = self.evaluate(script)
        press = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self.ask(
            "input.performActions", context=self.tab, actions=[{"type": "pointer", "id": "mouse", "actions": press}]
        )

    def press(self, key: str) -> None:
        """A key, where the focus is."""
        strokes = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.ask("input.performActions", context=self.tab, actions=[{"type": "key", "id": "keys", "actions": strokes}])


@contextmanager
def firefox(program: str, profile: Path) -> Iterator[Firefox]:
    """Firefox without a window, and its end."""
    (profile / "user.js").write_text(
        'user_pref("ui.prefersReducedMotion", 1);\nuser_pref("app.update.enabled", false);\n'
    )
    command = [program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    said = profile / "said"
    with said.open("w") as out:
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out)
    try:
        while not (found := re.search(r"BiDi listening on (ws://\S+)", said.read_text())):
            assert running.poll() is None, said.read_text()
            time.sleep(0.05)
        address = found[1]
        with connect(f"{address}/session", max_size=None, open_timeout=60) as line:
            yield Firefox(line)
    finally:
        running.kill()
        running.wait()
