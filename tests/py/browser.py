"""A headless Chromium, driven over chromedriver's own HTTP protocol: nothing but Debian's chromium and chromium-driver.

    with Browser() as browser:
        browser.open("http://127.0.0.1:8420/")
        browser.run("return document.title")
"""
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

PATIENCE = 120.0  # seconds for one command of the driver; starting Chromium on a busy machine is slow


def missing():
    """What is not installed, or None."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian packages chromium and chromium-driver)"
    return None


class Browser:
    ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"]

    def __init__(self, width=1280, height=900):
        self.size = (width, height)
        self.directory = tempfile.mkdtemp(prefix="decant-browser-")
        self.driver = self.session = None

    def call(self, method, path, body=None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:400]}") from error

    def __enter__(self):
        environment = {**os.environ, "HOME": self.directory, "TMPDIR": self.directory}
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       env=environment)
        try:
            port = next(m.group(1) for m in (re.search(r"successfully on port (\d+)", line) for line in self.driver.stdout) if m)
            self.base = f"http://127.0.0.1:{port}"
            options = {"binary": shutil.which("chromium"),
                       "args": [*self.ARGUMENTS, f"--user-data-dir={self.directory}/profile", f"--window-size={self.size[0]},{self.size[1]}"]}
            made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}})
            self.session = "/session/" + made["sessionId"]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        if self.session:
            try:
                self.call("DELETE", self.session)
            except (AssertionError, OSError):
                pass
        self.driver.terminate()
        self.driver.wait(timeout=30)
        self.driver.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def open(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", self.session + "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        return self.run("const e = document.querySelector(arguments[0]); return e ? e.textContent : null", selector)

    def complaints(self):
        """What the console got since the last call, warnings and errors."""
        entries = self.call("POST", self.session + "/se/log", {"type": "browser"})
        return [e["message"] for e in entries if e["level"] in ("WARNING", "SEVERE")]

    def chrome(self, command, **parameters):
        return self.call("POST", self.session + "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width, height, scheme="light"):
        """A screen of that size, and what the system prefers."""
        self.chrome("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.chrome("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.chrome("Page.captureScreenshot", format="png")["data"]))
