"""What a person does on the page."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw
from playwright.sync_api import Page

from tests.service.pictures import DIGITS, Color

Stroke = Sequence[tuple[float, float]]


def draw(page: Page, digit: str, strokes: int | None = None) -> None:
    """Draw a digit with the mouse, all of its strokes or the first few."""
    box = page.locator("#pad").bounding_box()
    assert box
    for stroke in DIGITS[digit][:strokes]:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=4)
        page.mouse.up()


def photograph(digit: str, ink: Color = (30, 40, 90), size: tuple[int, int] = (400, 300)) -> bytes:
    """A digit on coloured paper, off-centre, as PNG."""
    picture = Image.new("RGB", size, (240, 235, 215))
    pen = ImageDraw.Draw(picture)
    for stroke in DIGITS[digit]:
        pen.line([(180 + x * 150, 60 + y * 200) for x, y in stroke], fill=ink, width=16, joint="curve")
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


_DROP = """
async ([data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const options = { dataTransfer: transfer, clipboardData: transfer, bubbles: true, cancelable: true };
  const target = document.querySelector("main");
  for (const kind of EVENTS) {
    target.dispatchEvent(kind === "paste" ? new ClipboardEvent(kind, options) : new DragEvent(kind, options));
  }
}
"""


def drop(page: Page, data: bytes, name: str, media_type: str) -> None:
    """Drop a file on the page."""
    _hand_over(page, '["dragover", "drop"]', data, name, media_type)


def paste(page: Page, data: bytes, name: str, media_type: str) -> None:
    """Paste a file into the page."""
    _hand_over(page, '["paste"]', data, name, media_type)


def _hand_over(page: Page, events: str, data: bytes, name: str, media_type: str) -> None:
    page.evaluate(_DROP.replace("EVENTS", events), [b64encode(data).decode(), name, media_type])
