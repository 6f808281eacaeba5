"""The page on a service that wants keys: it asks for one, keeps it for the tab, and sends it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.acts import draw
from tests.page.conftest import TIMEOUT_MS, Open
from tests.service.processes import Running, running

KEY = "a-key-that-only-the-tests-know-3141592653"
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    with running(api_keys_file=path) as service:
        yield service


def test_the_page_asks_for_the_key_and_keeps_it_for_the_tab(open_page: Open, locked: Running) -> None:
    tab = open_page(at=f"http://{locked.host}:{locked.port}", state="")
    page = tab.page
    expect(page.locator("#key")).to_be_visible()
    expect(page.locator("#key-value")).to_be_focused()
    page.keyboard.type("not-the-key")
    page.keyboard.press("Enter")
    expect(page.locator("#key-value")).to_have_value("")  # asked for again
    expect(page.locator("#key")).to_be_visible()
    page.fill("#key-value", KEY + "\N{ZERO WIDTH SPACE}")  # as it may come out of a document: no header can hold it
    page.keyboard.press("Enter")
    expect(page.locator("#key-why")).to_contain_text("no key has")
    page.fill("#key-value", KEY)
    page.keyboard.press("Enter")
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    expect(page.locator("#key")).to_be_hidden()
    draw(page, "7")
    expect(page.locator("#digit-label")).to_have_text("7")
    tab.take_refusals(401)
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-state", "ready")
    assert page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]") == [0, "", [KEY]]
    assert KEY not in page.url
    expect(page.locator("#curl")).to_contain_text('curl -H "Authorization: Bearer $KEY" -F file=@examples/seven.png')
    page.click("header a:text('Models')")  # a link alone would bring no key
    page.wait_for_url("blob:**")
    assert '"name": "digits"' in page.content()


def test_who_gives_no_key_is_told_why_and_may_give_one_later(open_page: Open, locked: Running) -> None:
    tab = open_page(at=f"http://{locked.host}:{locked.port}", state="")
    tab.page.click("#key button[value=cancel]")
    expect(tab.page.locator("body")).to_have_attribute("data-state", "failed")
    expect(tab.page.locator("#digit-problem")).to_contain_text("key")
    tab.page.click("#digit-problem button:text('Try again')")  # the key is found after all
    tab.page.fill("#key-value", KEY)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("body")).to_have_attribute("data-state", "ready")
    expect(tab.page.locator("#digit-problem")).to_be_hidden()
    expect(tab.page.locator("#street-problem")).to_be_hidden()
    draw(tab.page, "7")
    expect(tab.page.locator("#digit-label")).to_have_text("7")
    tab.take_refusals(401)
