"""A headless Chromium, driven over a pipe by the DevTools protocol: real mouse and keyboard events, no library."""

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEY_CODES = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
    " ": 32,
    "Enter": 13,
    "Backspace": 8,
}


class Browser:
    """One tab. `errors` collects exceptions and messages of level error on the page's console."""

    def __init__(self, commands: Any, answers: Any) -> None:
        self.commands, self.answers = commands, answers
        self.numbers, self.session = itertools.count(1), ""
        self.errors: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol (https://chromedevtools.github.io/devtools-protocol) and return its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        self.commands.write(
            json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0"
        )
        self.commands.flush()
        while (answer := self._read()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _read(self) -> dict[str, Any]:
        content = b"".join(iter(lambda: self.answers.read(1), b"\0"))
        answer = dict(json.loads(content))
        parameters = answer.get("params", {})
        if answer.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        if answer.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        return answer

    def open(self, path: Path, *, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        """Open a file in a tab of this size."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page, after its promise, if it is one."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true, at most ten seconds."""
        script = f"""(async () => {{
            for (let i = 0; i < 500 && !({condition}); i++) await new Promise((resolve) => setTimeout(resolve, 20));
            return Boolean({condition}); }})()"""
        assert self.evaluate(script), f"not within ten seconds: {condition}"

    def centre(self, selector: str) -> tuple[float, float]:
        """Scroll to an element and return its centre in the window."""
        script = f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center", behavior: "instant"}});
            const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"""
        x, y = self.evaluate(script)
        return x, y

    def mouse(self, kind: str, position: tuple[float, float]) -> None:
        x, y = position
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def click(self, selector: str) -> None:
        position = self.centre(selector)
        self.mouse("mousePressed", position)
        self.mouse("mouseReleased", position)

    def drag(self, start: str, end: str, *, steps: int = 8) -> None:
        """Drag one element to the place of another, in several movements."""
        (x, y), (to_x, to_y) = self.centre(start), self.centre(end)
        self.mouse("mousePressed", (x, y))
        for step in range(1, steps + 1):
            self.mouse("mouseMoved", (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps))
        self.mouse("mouseReleased", (to_x, to_y))

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        code = KEY_CODES.get(key, 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, selector: str, text: str) -> None:
        """Replace the text of a field, by keys."""
        self.click(selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.press("Backspace")
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def run_browser(profile: Path) -> Iterator[Browser]:
    """Run a headless Chromium without network access, with its files in the folder `profile`."""
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()
    options = [
        "--headless=new",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "--disable-gpu",
        "--no-sandbox",
    ]
    options += ["--disable-dev-shm-usage", "--no-first-run", "--proxy-server=127.0.0.1:9", "--hide-scrollbars"]
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    redirect = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
    process = subprocess.Popen(
        ["bash", "-c", redirect, "bash", str(CHROMIUM), *options],
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        with os.fdopen(write_commands, "wb") as commands, os.fdopen(read_answers, "rb") as answers:
            browser = Browser(commands, answers)
            yield browser
            browser.session = ""
            browser.call("Browser.close")
    finally:
        process.kill()
        process.wait()
