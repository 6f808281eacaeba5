"""The page's second panel: the drawn street, its classes, the pointer, the keyboard, and what can be downloaded."""

import re
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from tests.page.acts import drop
from tests.page.conftest import TIMEOUT_MS, Open
from tests.service.processes import ROOT, Running

STREET = ROOT / "examples" / "street.jpg"
expect.set_options(timeout=TIMEOUT_MS)


def look(page: Page) -> None:
    page.click("#street-example")
    expect(page.locator("#street-mask")).to_be_enabled()


def level_at(page: Page, x: float, y: float) -> list[int]:
    """The colour that the canvas has at a place, 0…1 of it each way."""
    script = """(canvas, [x, y]) => {
      const context = canvas.getContext("2d");
      return [...context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
    }"""
    level: list[int] = page.locator("#street").evaluate(script, [x, y])
    return level


def downloaded(page: Page, button: str) -> tuple[str, Image.Image]:
    with page.expect_download() as download:
        page.click(button)
    saved = download.value
    return saved.suggested_filename, Image.open(BytesIO(Path(saved.path()).read_bytes()))


def amid(labels: NDArray[np.uint8], class_id: int) -> tuple[float, float]:
    """The place (fractions of width and height) of the first pixel with nothing but its class 8 pixels around.

    At a class's edge the browser's rounding may name the neighbour.
    """
    windows = sliding_window_view(labels == class_id, (17, 17))
    row, column = np.argwhere(windows.all(axis=(2, 3)))[0] + 8.5
    return column / labels.shape[1], row / labels.shape[0]


@pytest.mark.parametrize("size", [(1280, 800), (1366, 650)], ids=["large", "low"])
def test_the_street_and_its_classes(open_page: Open, service: Running, size: tuple[int, int]) -> None:
    page = open_page(path="/#streets", size=size).page
    look(page)
    url = f"http://{service.host}:{service.port}/segment"
    body, jpeg = STREET.read_bytes(), {"content-type": "image/jpeg"}
    truth = httpx.post(url, content=body, headers=jpeg, timeout=60).json()["results"][0]
    mask_png = httpx.post(url, params={"output": "mask"}, content=body, headers=jpeg, timeout=60).content
    labels = np.asarray(Image.open(BytesIO(mask_png)))
    names = {each["id"]: each["name"] for each in truth["classes"]}

    entries = page.locator("#street-legend button")
    assert entries.locator(".name").all_inner_texts() == [each["name"] for each in truth["classes"]]
    first = truth["classes"][0]
    expect(entries.first.locator(".value")).to_have_text(f"{first['share'] * 100:.1f}%")
    expect(page.locator("#street-times")).to_contain_text(re.compile(r"Server [\d.]+ ms.*Round trip [\d.]+ ms"))

    box = page.locator("#street").bounding_box()
    assert box
    assert box["width"] / box["height"] == pytest.approx(labels.shape[1] / labels.shape[0], rel=0.01)
    for class_id in [each["id"] for each in truth["classes"][:3]]:  # the pointer is told what the mask says
        x, y = amid(labels, class_id)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        label = names[class_id]
        expect(page.locator("#street-tip")).to_have_text(label)
        expect(page.locator("#street-legend .here .name")).to_have_text(label)
    page.mouse.move(0, 0)
    expect(page.locator("#street-tip")).to_be_hidden()

    name, mask = downloaded(page, "#street-mask")
    assert name == "street-mask.png"
    assert np.array_equal(np.asarray(mask), labels), "the very mask that the service drew"


def test_the_slider_mixes_picture_and_classes(open_page: Open) -> None:
    page = open_page(path="/#streets").page
    look(page)
    with Image.open(STREET) as picture:
        photographed = picture.convert("RGB").getpixel((480, 648))
    road = [0x80, 0x40, 0x80]
    slider = page.locator("#street-opacity")
    slider.fill("0")
    assert isinstance(photographed, tuple)
    assert np.allclose(level_at(page, 0.5, 0.9), photographed, atol=12)
    slider.fill("100")
    assert level_at(page, 0.5, 0.9) == road
    name, overlay = downloaded(page, "#street-overlay")
    assert (name, overlay.size) == ("street-overlay.png", (960, 720))
    saved = overlay.convert("RGB").getpixel((480, 648))
    assert isinstance(saved, tuple)
    assert list(saved) == road, "saved as it is shown"


def test_the_street_with_the_keyboard_alone(open_page: Open) -> None:
    page = open_page().page
    page.locator("#tab-digits").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#streets")).to_be_visible()
    expect(page.locator("#tab-streets")).to_be_focused()
    page.locator("#street-example").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#street-mask")).to_be_enabled()
    expect(page.locator("#street")).to_be_focused()
    for _ in range(5):
        page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#street-spoken")).to_have_text("road")
    expect(page.locator("#street-tip")).to_have_text("road")
    sky = page.locator("#street-legend button", has_text="sky")
    before = level_at(page, 0.5, 0.95)
    sky.focus()
    page.keyboard.press("Enter")
    expect(sky).to_have_attribute("aria-pressed", "true")
    assert level_at(page, 0.5, 0.95) != before, "all but the sky is faded"


def test_a_dropped_file_that_is_no_street_and_a_service_that_is_gone_for_a_while(open_page: Open) -> None:
    tab = open_page(path="/#streets")
    drop(tab.page, b"\x89PNG\r\n\x1a\n cut", "cut.png", "image/png")
    expect(tab.page.locator("#street-problem")).to_be_visible()
    expect(tab.page.locator("#street-problem")).to_contain_text("picture")
    expect(tab.page.locator("#street-empty")).to_be_visible()  # there is no picture to see
    tab.take_refusals(422)
    tab.page.route("**/segment?*", lambda route: route.abort("connectionrefused"))
    drop(tab.page, STREET.read_bytes(), "street.jpg", "image/jpeg")
    expect(tab.page.locator("#street-problem")).to_contain_text("cannot be reached")
    tab.page.unroute("**/segment?*")
    assert all("ERR_CONNECTION_REFUSED" in each for each in tab.complaints)
    tab.complaints.clear()
    tab.page.focus("#street-problem button")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#street-mask")).to_be_enabled()
    expect(tab.page.locator("#street-problem")).to_be_hidden()
