"""Take the README's picture of the server's page, with the included model.

    python examples/screenshot.py docs/page.png

This needs Playwright (`pip install -r requirements-dev.txt`) and Chromium, the system's or Playwright's.
"""

import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

TEXT = (
    "Thanks for the quick answer, that helped a lot.\n\n"
    "But the last comment is just stupid, and you are an idiot if you believe a word of it. Read the manual first."
)
SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE_S = 120


def main() -> None:
    """Start a server on a free port, read the text on its page, take the picture."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/page.png")
    command = [sys.executable, "-m", "moderation", "serve", "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().partition(" at ")[2].split()[0]
            wait_until_ready(address)
            take_picture(address, target)
        finally:
            server.terminate()
    print(f"{target}: {target.stat().st_size:,} bytes")


def wait_until_ready(address: str) -> None:
    """Wait until the server has loaded its model.

    Raises:
        OSError: it did not within two minutes.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(f"{address}readyz", timeout=10).close()  # nosec B310 # our own server
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def take_picture(address: str, target: Path) -> None:
    """Take a picture of the page, as wide as a laptop's window, down to the last label."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=SWITCHES)
        page = browser.new_page(viewport={"width": 1180, "height": 900}, color_scheme="light", reduced_motion="reduce")
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(address)
        page.locator(".labels li").first.wait_for()
        page.fill("#text", TEXT)
        page.locator("mark").first.wait_for()
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(500)
        page.screenshot(path=target, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
