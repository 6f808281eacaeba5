"""The page's first panel: drawing, photographs, the keyboard, and what is said when it does not work."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, Request, Route, expect

from tests.page.acts import draw, drop, paste, photograph
from tests.page.conftest import TIMEOUT_MS, Open
from tests.service.pictures import ideal, likeness, strokes_mask
from tests.service.processes import ROOT, Running

LABEL, SURE = "#digit-label", "#digit-sure"
expect.set_options(timeout=TIMEOUT_MS)


def bars(page: Page) -> dict[str, float]:
    """The length of each bar, 0…1."""
    script = """(items) => items.map((item) => [
      item.querySelector(".name").textContent,
      item.querySelector(".fill").style.getPropertyValue("--share"),
    ])"""
    found = page.locator("#digit-bars li").evaluate_all(script)
    return {name: float(share or 0) for name, share in found}


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Let the browser go on until something holds."""
    for _ in range(TIMEOUT_MS // 50):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came to that")


def seen(page: Page) -> NDArray[np.uint8]:
    """The picture that the page shows as the network's input: its red channel, height×width."""
    script = """(image) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { width, height, data } = context.getImageData(0, 0, canvas.width, canvas.height);
      return [height, width, ...data.filter((_, i) => i % 4 === 0)];
    }"""
    height, width, *levels = page.locator("#digit-input").evaluate(script)
    return np.array(levels, np.uint8).reshape(height, width)


@pytest.mark.parametrize("digit", ["0", "1", "4", "5", "7"])
def test_a_drawn_digit_is_named(open_page: Open, digit: str) -> None:
    page = open_page().page
    expect(page.locator(SURE)).to_have_text("No drawing yet")
    draw(page, digit)
    expect(page.locator(LABEL)).to_have_text(digit)
    expect(page.locator(".bars .best .name")).to_have_text(digit)
    lengths = bars(page)
    assert list(lengths) == [str(n) for n in range(10)]
    assert sum(lengths.values()) == pytest.approx(1, abs=1e-3)
    assert max(lengths, key=lengths.__getitem__) == digit
    expect(page.locator("#digit-times")).to_contain_text(
        re.compile(r"Server [\d.]+ ms.*Round trip [\d.]+ ms.*decode.*run")
    )
    expect(page.locator("#digit-spoken")).to_have_text(re.compile(rf"^{digit}, >?\d"))


def test_what_the_network_saw_is_shown(open_page: Open) -> None:
    page = open_page().page
    assert not page.locator("#digit-input").is_visible()
    draw(page, "7")
    expect(page.locator("#digit-input")).to_be_visible()
    expect(page.locator(LABEL)).to_have_text("7")
    expect(page.locator("#digit-spoken")).to_have_text(re.compile("^7"))
    pixels = seen(page)
    assert pixels.shape == (28, 28)
    assert likeness(pixels, ideal(strokes_mask("7", 224, 0.075))) > 0.7


def test_the_bars_move_while_the_pen_is_down(open_page: Open) -> None:
    page = open_page().page
    box = page.locator("#pad").bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.15 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.48 * box["width"], box["y"] + 0.85 * box["height"], steps=6)
    expect(page.locator(LABEL)).to_have_text("1")
    page.mouse.up()


@dataclass
class Held:
    """Questions about digits that wait until they are let through."""

    page: Page
    asked: list[Request] = field(default_factory=list)
    given_up: list[Request] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request) if "/classify" in request.url else None)
        self.page.on("requestfailed", lambda request: self.given_up.append(request))  # noqa: PLW0108 - as below
        self.page.route("**/classify?*", lambda route: self.routes.append(route))  # noqa: PLW0108 - Playwright marks what it calls

    def let_through(self) -> None:
        """The newest question, once there is one that is not given up."""
        eventually(self.page, lambda: bool(self.routes) and self.routes[-1].request not in self.given_up)
        self.routes.pop().continue_()


_SEND = """
  const { left, top, width, height } = pad.getBoundingClientRect();
  pad.setPointerCapture = () => {};
  const send = (kind, [x, y]) => pad.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, isPrimary: true, button: 0, buttons: 1, clientX: left + x * width, clientY: top + y * height,
  }));
"""
MOVES = f"""async (pad, [places, pause]) => {{
  {_SEND}
  send("pointerdown", places[0]);
  for (const place of places.slice(1)) {{
    await new Promise((resolve) => setTimeout(resolve, pause));
    send("pointermove", place);
  }}
}}"""
MOVES_ON = f"""(pad) => {{
  {_SEND}
  let step = 0;
  send("pointerdown", [0.5, 0.2]);
  const move = () => send("pointermove", [0.5 + Math.sin(step) / 10, 0.2 + Math.abs(Math.sin(step++ / 9)) * 0.6]);
  return setInterval(move, 20);
}}"""


def test_nothing_is_asked_about_a_dot_before_the_pen_is_lifted(open_page: Open) -> None:
    page = open_page().page
    held = Held(page)
    page.locator("#pad").evaluate(MOVES, [[[0.5, 0.5], [0.51, 0.51], [0.5, 0.53]], 10])
    page.wait_for_timeout(600)
    assert held.asked == []
    page.locator("#pad").dispatch_event("pointerup", {"pointerId": 1})
    held.let_through()  # a dot is a drawing too, when it is all there is
    expect(page.locator(LABEL)).to_have_text(re.compile(r"\d"))


def test_a_finished_drawing_does_not_wait_for_answers_to_its_beginning(open_page: Open) -> None:
    page = open_page().page
    held = Held(page)
    draw(page, "4")  # many strokes' worth of changes
    page.wait_for_timeout(600)
    eventually(page, lambda: len(held.asked) - len(held.given_up) == 1)
    assert held.given_up == held.asked[:-1], "the service need not answer what nobody waits for"
    assert not any("output" in each.url for each in held.asked)
    before = len(held.asked)
    held.let_through()
    expect(page.locator(LABEL)).to_have_text("4")
    held.let_through()
    expect(page.locator("#digit-input")).to_be_visible()
    page.wait_for_timeout(600)
    assert len(held.asked) == before + 1, "what the network saw, and no more"
    answer, saw = held.asked[-2:]
    assert "output=input" in saw.url
    assert answer.post_data_buffer == saw.post_data_buffer, "both are asked about the same picture"


def test_what_the_network_saw_is_asked_for_when_the_pen_rests(open_page: Open) -> None:
    page = open_page().page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/classify" in request.url else None)
    page.locator("#pad").evaluate(MOVES, [[[0.5, 0.1 + step / 50] for step in range(40)], 40])
    assert asked
    assert not any("output=input" in each for each in asked)
    expect(page.locator("#digit-input")).to_be_visible()
    page.locator("#pad").dispatch_event("pointerup", {"pointerId": 1})
    page.wait_for_timeout(500)
    assert sum("output=input" in each for each in asked) == 1, "lifting the pen changes nothing"


def test_an_answer_to_an_older_drawing_is_marked_as_such(open_page: Open) -> None:
    page = open_page().page
    winner, figure = page.locator(LABEL), page.locator("#digit-seen")
    draw(page, "7")
    expect(page.locator("#digit-spoken")).to_have_text(re.compile("^7"))
    expect(page.locator("#digit-input")).to_be_visible()
    for part in (winner, figure):
        expect(part).to_have_attribute("aria-busy", "false")
        expect(part).to_have_css("opacity", "1")
    held = Held(page)
    draw(page, "0")
    for part in (winner, figure, page.locator("#digit-bars")):
        expect(part).to_have_attribute("aria-busy", "true")
        expect(part).to_have_css("opacity", "0.35")
    expect(page.locator(LABEL)).to_have_text("7")
    expect(page.locator(SURE)).to_have_text("Looking…")
    expect(page.locator("#digit-spoken")).to_be_empty()
    held.let_through()
    expect(winner).to_have_attribute("aria-busy", "false")
    expect(winner).to_have_css("opacity", "1")
    expect(page.locator("#digit-spoken")).to_have_text(re.compile(r"\d, "))
    expect(figure).to_have_attribute("aria-busy", "true")
    held.let_through()
    expect(figure).to_have_attribute("aria-busy", "false")


def test_an_answer_that_comes_when_the_pen_has_moved_on_is_not_announced(open_page: Open) -> None:
    page = open_page().page
    held = Held(page)
    moving = page.locator("#pad").evaluate(MOVES_ON)
    eventually(page, lambda: len(held.routes) == 1)
    page.wait_for_timeout(300)
    held.let_through()
    expect(page.locator(LABEL)).to_have_text(re.compile(r"\d"))
    expect(page.locator(LABEL)).to_have_attribute("aria-busy", "true")
    page.wait_for_timeout(900)
    expect(page.locator("#digit-spoken")).to_be_empty()
    page.evaluate("clearInterval", moving)


def test_undo_and_clear(open_page: Open) -> None:
    page = open_page().page
    expect(page.locator("#pad-clear")).to_be_disabled()
    draw(page, "4", strokes=1)
    before = page.locator("#pad").evaluate("(pad) => pad.toDataURL()")
    draw(page, "4")
    expect(page.locator(LABEL)).to_have_text("4")
    page.click("#pad-undo")
    page.click("#pad-undo")
    assert page.locator("#pad").evaluate("(pad) => pad.toDataURL()") == before
    page.click("#pad-clear")
    expect(page.locator(SURE)).to_have_text("No drawing yet")
    expect(page.locator("#pad-undo")).to_be_disabled()
    assert not any(bars(page).values())
    assert not page.locator("#digit-input").is_visible()


@pytest.mark.parametrize("hand_over", [drop, paste])
def test_a_photograph_is_taken_and_the_digit_marked(
    open_page: Open, hand_over: Callable[[Page, bytes, str, str], None]
) -> None:
    page = open_page().page
    hand_over(page, photograph("5"), "five.png", "image/png")
    expect(page.locator(LABEL)).to_have_text("5")
    accent = page.evaluate("getComputedStyle(document.body).getPropertyValue('--accent').trim()")
    red, green, blue = (int(accent[i : i + 2], 16) for i in (1, 3, 5))
    marked = page.locator("#pad").evaluate(
        """(pad, [red, green, blue]) => {
          const { data } = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height);
          let count = 0;
          for (let i = 0; i < data.length; i += 4) {
            count += data[i] === red && data[i + 1] === green && data[i + 2] === blue;
          }
          return count;
        }""",
        [red, green, blue],
    )
    assert marked > 200, "a box is drawn where the digit was found"


def test_a_palm_beside_the_pen_draws_nothing(open_page: Open) -> None:
    page = open_page().page
    inked = page.locator("#pad").evaluate(
        """(pad) => {
          const { left, top, width, height } = pad.getBoundingClientRect();
          const send = (kind, pointerId, x, y) => pad.dispatchEvent(new PointerEvent(kind, {
            pointerId, isPrimary: true, pointerType: pointerId === 1 ? "pen" : "touch", button: 0, buttons: 1,
            clientX: left + x * width, clientY: top + y * height, bubbles: true,
          }));
          pad.setPointerCapture = () => {};
          send("pointerdown", 1, 0.3, 0.2);
          send("pointerdown", 2, 0.8, 0.8);
          for (const y of [0.3, 0.4, 0.5]) {
            send("pointermove", 1, 0.3, y);
            send("pointermove", 2, 0.8, 0.85);
          }
          send("pointerup", 2, 0.8, 0.85);
          send("pointermove", 1, 0.3, 0.6);
          send("pointerup", 1, 0.3, 0.6);
          const at = (x, y) => pad.getContext("2d").getImageData(x * pad.width, y * pad.height, 1, 1).data[3];
          return [at(0.3, 0.25), at(0.3, 0.55), at(0.8, 0.82), at(0.55, 0.55)];
        }"""
    )
    assert inked == [255, 255, 0, 0]


def test_of_two_photographs_the_one_that_was_given_last(open_page: Open) -> None:
    """The first takes longer to decode."""
    slow = """() => {
      const make = createImageBitmap;
      let count = 0;
      globalThis.createImageBitmap = async (...given) => {
        if (count++ === 0) await new Promise((resolve) => setTimeout(resolve, 1500));
        return make(...given);
      };
    }"""
    page = open_page(prepare=lambda page: page.add_init_script(f"({slow})()")).page
    drop(page, photograph("7"), "seven.png", "image/png")
    drop(page, photograph("4"), "four.png", "image/png")
    expect(page.locator(LABEL)).to_have_text("4")
    page.wait_for_timeout(2000)
    expect(page.locator(LABEL)).to_have_text("4")


def test_a_question_about_what_is_gone_is_not_waited_for(open_page: Open) -> None:
    """A photograph whose answer never comes is cleared away, and a drawing is answered."""
    page = open_page().page
    page.route("**/classify?*", lambda _: None, times=1)
    drop(page, photograph("7"), "seven.png", "image/png")
    expect(page.locator(SURE)).to_have_text("Looking…")
    page.click("#pad-clear")
    draw(page, "4")
    expect(page.locator(LABEL)).to_have_text("4")


def test_a_picked_photograph_gives_way_to_a_drawing(open_page: Open) -> None:
    page = open_page().page
    page.set_input_files("#digit-file", ROOT / "examples" / "seven.png")
    expect(page.locator(LABEL)).to_have_text("7")
    draw(page, "0")
    expect(page.locator(LABEL)).to_have_text("0")


def test_a_digit_is_drawn_with_the_keyboard_alone(open_page: Open) -> None:
    page = open_page().page
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "pad":
            break
    assert page.evaluate("document.activeElement.id") == "pad"
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator(LABEL)).to_have_text("1")
    page.keyboard.press("ArrowLeft")  # the pen is up: nothing changes
    expect(page.locator("#digit-spoken")).to_have_text(re.compile("^1"))
    page.keyboard.press("Delete")
    expect(page.locator(SURE)).to_have_text("No drawing yet")


def test_a_problem_is_shown_in_the_services_words(open_page: Open, service: Running) -> None:
    tab = open_page()
    drop(tab.page, b"This is no picture.", "letter.txt", "text/plain")
    answer = httpx.post(
        f"http://{service.host}:{service.port}/classify",
        content=b"This is no picture.",
        headers={"content-type": "application/octet-stream"},
    ).json()
    expect(tab.page.locator("#digit-problem")).to_have_text(answer["detail"])  # the title says the same once more
    expect(tab.page.locator("#pad-hint")).to_be_visible()  # of a letter there is nothing to see
    expect(tab.page.locator("#digit-problem button")).to_have_count(0)  # the same would be refused again
    tab.take_refusals(415)
    draw(tab.page, "7")  # and all is well again
    expect(tab.page.locator(LABEL)).to_have_text("7")
    expect(tab.page.locator("#digit-problem")).to_be_hidden()


@pytest.mark.parametrize("size", [(390, 844), (320, 568)], ids=["phone", "small"])
@pytest.mark.parametrize("panel", ["digit", "street"])
def test_on_a_phone_a_problem_is_seen(open_page: Open, panel: str, size: tuple[int, int]) -> None:
    tab = open_page(path=f"/#{panel}s", size=size, touch=True)
    tab.page.focus(f"#{panel}-file")
    tab.page.set_input_files(f"#{panel}-file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"A letter."})
    expect(tab.page.locator(f"#{panel}-problem")).to_be_in_viewport(ratio=1)
    expect(tab.page.locator(f"#{panel}-file")).to_be_focused()
    tab.take_refusals(415)


def busy(times: int, asked: list[Request], retry_after_s: str) -> Callable[[Route], None]:
    """Answers 503 a number of times, then lets requests through."""

    def answer(route: Route) -> None:
        asked.append(route.request)
        if len(asked) > times:
            route.continue_()
            return
        body = {"type": "urn:sightline:problem:overloaded", "title": "Too busy", "status": 503, "detail": "Come back."}
        headers = {"content-type": "application/problem+json", "retry-after": retry_after_s}
        route.fulfill(status=503, headers=headers, body=json.dumps(body))

    return answer


def test_a_busy_service_is_asked_again_after_the_time_it_names(open_page: Open) -> None:
    asked: list[Request] = []
    tab = open_page()
    page = tab.page
    page.route(re.compile(r"/classify\?(?!.*output)"), busy(2, asked, "1"))
    paste(page, photograph("5"), "five.png", "image/png")
    for told in ("#digit-spoken", SURE):  # who hears and who sees
        expect(page.locator(told)).to_have_text("Too busy: asking again in 1 s.")
    expect(page.locator(LABEL)).to_have_text("5")
    assert len(asked) == 3
    tab.take_refusals(503)


def test_who_waits_with_an_older_answer_is_told_so_too(open_page: Open) -> None:
    asked: list[Request] = []
    tab = open_page()
    page = tab.page
    draw(page, "7")
    draw(page, "1")
    expect(page.locator("#digit-spoken")).to_have_text(re.compile(r"^\d"))
    page.route(re.compile(r"/classify\?(?!.*output)"), busy(1, asked, "2"))
    page.locator("#pad-undo").click()
    expect(page.locator(SURE)).to_have_text("Too busy: asking again in 2 s.")
    page.wait_for_timeout(500)  # the older answer is marked by then
    expect(page.locator(LABEL)).to_have_attribute("aria-busy", "true")
    expect(page.locator(SURE)).to_have_text("Too busy: asking again in 2 s.")
    expect(page.locator(LABEL)).to_have_text("7")
    expect(page.locator(LABEL)).to_have_attribute("aria-busy", "false")
    tab.take_refusals(503)


def test_an_answer_counts_without_what_the_network_saw(open_page: Open) -> None:
    asked: list[Request] = []
    tab = open_page()
    tab.page.route(re.compile(r"/classify\?.*output"), busy(99, asked, "0.5"))
    draw(tab.page, "7")
    expect(tab.page.locator(LABEL)).to_have_text("7")
    expect(tab.page.locator("#digit-problem")).to_be_hidden()
    expect(tab.page.locator("#digit-input")).to_be_hidden()
    tab.page.unroute_all(behavior="wait")
    tab.take_refusals(503)


def test_a_picture_that_comes_before_the_page_is_ready_is_not_lost(open_page: Open) -> None:
    asked: list[Request] = []
    tab = open_page(state="")
    tab.page.route(re.compile(r"/models$"), busy(1, asked, "1"))
    tab.page.reload()
    paste(tab.page, photograph("5"), "five.png", "image/png")
    expect(tab.page.locator(LABEL)).to_have_text("5")
    assert len(asked) == 2
    tab.take_refusals(503)


def test_a_service_that_stays_busy_is_left_alone(open_page: Open) -> None:
    asked: list[Request] = []
    tab = open_page()
    tab.page.route(re.compile(r"/classify\?(?!.*output)"), busy(99, asked, "0.5"))
    paste(tab.page, photograph("5"), "five.png", "image/png")
    expect(tab.page.locator("#digit-problem")).to_contain_text("Come back.")
    assert len(asked) == 4
    tab.page.wait_for_timeout(1000)
    assert len(asked) == 4
    tab.take_refusals(503)


def test_a_service_that_is_gone_is_said_to_be(open_page: Open) -> None:
    tab = open_page()
    tab.page.route("**/classify?*", lambda route: route.abort("connectionrefused"))
    draw(tab.page, "7")
    expect(tab.page.locator("#digit-problem")).to_contain_text("cannot be reached")
    tab.page.unroute("**/classify?*")
    tab.page.click("#digit-problem button:text('Try again')")  # it is there again
    expect(tab.page.locator(LABEL)).to_have_text("7")
    expect(tab.page.locator("#digit-problem")).to_be_hidden()
    assert all("ERR_CONNECTION_REFUSED" in each for each in tab.complaints)
    tab.complaints.clear()
