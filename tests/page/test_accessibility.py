"""axe-core finds nothing to complain of, in both schemes and on both sizes, before and after there is an answer."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.acts import draw
from tests.page.conftest import TIMEOUT_MS, Open

expect.set_options(timeout=TIMEOUT_MS)


def check(page: Page) -> None:
    page.wait_for_timeout(300)  # colours that are on their way are not those that stay
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844), (320, 568)], ids=["desktop", "phone", "enlarged"])
def test_nobody_is_shut_out(open_page: Open, scheme: str, size: tuple[int, int]) -> None:
    page = open_page(scheme=scheme, size=size, touch=size[0] < 500).page
    check(page)
    draw(page, "7")
    expect(page.locator("#digit-label")).to_have_text("7")
    page.click("summary")
    check(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
    page.click("#tab-streets")
    check(page)
    page.click("#street-example")
    expect(page.locator("#street-mask")).to_be_enabled()
    check(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
