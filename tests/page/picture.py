"""The pictures in the README, made anew: `python -m tests.page.picture`, after the models have changed."""

from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.conftest import ROOT
from tests.page.conftest import CHROMIUM, TIMEOUT_MS
from tests.service.processes import Running, running

SIZE = (1180, 880)


def save_page(service: Running, path: Path) -> None:
    """The page with the drawn street, the pointer on a car."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(f"http://{service.host}:{service.port}/")
        page.click("#tab-streets")
        page.click("#street-example")
        page.wait_for_selector("#street-mask:not([disabled])")
        box = page.locator("#street").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.54 * box["height"])
        page.wait_for_selector("#street-tip")
        picture = Image.open(BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").save(path, optimize=True)


def save_overlay(service: Running, path: Path) -> None:
    """What the README's second command answers."""
    street = {"file": ("street.jpg", (ROOT / "examples/street.jpg").read_bytes(), "image/jpeg")}
    answer = httpx.post(f"http://{service.host}:{service.port}/segment?output=overlay", files=street, timeout=60)
    path.write_bytes(answer.raise_for_status().content)


if __name__ == "__main__":
    with running() as service:
        save_page(service, ROOT / "docs/page.png")
        save_overlay(service, ROOT / "examples/street-overlay.png")
