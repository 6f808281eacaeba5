"""The page on a service that wants keys: it asks for one, keeps it for the tab, and sends it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.acts import draw, photograph
from tests.page.conftest import TIMEOUT_MS, Open, Tab
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


def cancel(tab: Tab) -> None:
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#key")).to_be_hidden()
    expect(tab.page.locator("body")).to_have_attribute("data-state", "failed")


def give(tab: Tab, key: str) -> None:
    expect(tab.page.locator("#key")).to_be_visible()
    tab.page.fill("#key-value", key)
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("body")).to_have_attribute("data-state", "ready")


def test_the_page_asks_for_the_key_and_keeps_it_for_the_tab(open_page: Open, locked: Running) -> None:
    tab = open_page(at=f"http://{locked.host}:{locked.port}", state="")
    page = tab.page
    expect(page.locator("#key")).to_be_visible()
    expect(page.locator("#key-value")).to_be_focused()
    expect(page.locator("#key")).to_have_accessible_name("This service needs a key")
    expect(page.locator("#key-why")).to_have_text("Ask whoever runs it for one.")
    page.keyboard.type("not-the-key")
    page.keyboard.press("Enter")
    expect(page.locator("#key-value")).to_have_value("")  # asked for again
    expect(page.locator("#key-why")).to_contain_text("not known here")
    assert not set("`:") & set(page.locator("#key").inner_text()), "for people, not for who writes a client"
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
    models = page.locator("header a:text('Models')")  # a link alone would bring no key, here or in another tab
    with tab.context.expect_page() as opened:
        models.click(modifiers=["ControlOrMeta"])
    models.click()
    for shown in (opened.value, page):
        shown.wait_for_url("blob:**")
        assert '"name": "digits"' in shown.content()


def test_who_gives_no_key_is_told_why_and_may_give_one_later(open_page: Open, locked: Running) -> None:
    tab = open_page(at=f"http://{locked.host}:{locked.port}", state="")
    cancel(tab)
    expect(tab.page.locator("#digit-problem")).to_contain_text("This service needs a key. Ask whoever runs it for one.")
    expect(tab.page.locator("a:text('Models')").filter(visible=True)).to_have_count(0)  # it would lead to a refusal
    tab.page.click("#digit-problem button:text('Enter a key')")  # it is found after all
    give(tab, KEY)
    expect(tab.page.locator("header a:text('Models')")).to_be_visible()
    expect(tab.page.locator("#digit-problem")).to_be_hidden()
    expect(tab.page.locator("#street-problem")).to_be_hidden()
    draw(tab.page, "7")
    expect(tab.page.locator("#digit-label")).to_have_text("7")
    tab.take_refusals(401)


def test_who_gave_no_key_is_asked_again_when_there_is_a_drawing(open_page: Open, locked: Running) -> None:
    tab = open_page(at=f"http://{locked.host}:{locked.port}", state="")
    expect(tab.page.locator("#key")).to_be_visible()
    tab.page.fill("#key-value", "not-the-key")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#key-why")).to_contain_text("not known here")
    cancel(tab)
    expect(tab.page.locator("#pad-hint")).to_be_visible()
    draw(tab.page, "7")
    expect(tab.page.locator("#key-why")).to_have_text("Ask whoever runs it for one.")  # the wrong one is forgotten
    give(tab, KEY)
    expect(tab.page.locator("#digit-label")).to_have_text("7")
    tab.take_refusals(401)


@pytest.mark.parametrize("panel", ["digit", "street"])
def test_who_gave_no_key_is_asked_again_when_there_is_a_file(open_page: Open, locked: Running, panel: str) -> None:
    tab = open_page(at=f"http://{locked.host}:{locked.port}", path=f"/#{panel}s", state="")
    expect(tab.page.locator("#key")).to_be_visible()
    cancel(tab)
    tab.page.set_input_files(f"#{panel}-file", {"name": "5.png", "mimeType": "image/png", "buffer": photograph("5")})
    give(tab, KEY)
    told = "#digit-label" if panel == "digit" else "#street-spoken"
    expect(tab.page.locator(told)).to_contain_text("5" if panel == "digit" else "classes")
    tab.take_refusals(401)


def test_who_gives_no_key_for_a_drawing_is_asked_once(open_page: Open, locked: Running) -> None:
    """The key in use is taken back while the page is open."""
    tab = open_page(at=f"http://{locked.host}:{locked.port}", state="")
    give(tab, KEY)
    refusal = {"status": 401, "content_type": "application/problem+json", "body": '{"title": "A key is needed"}'}
    tab.page.route("**/classify?*", lambda route: route.fulfill(**refusal))
    draw(tab.page, "7")
    expect(tab.page.locator("#key-why")).to_contain_text("not known here")
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#digit-problem")).to_contain_text("not known here")
    tab.page.wait_for_timeout(500)
    expect(tab.page.locator("#key")).to_be_hidden()
    tab.page.unroute("**/classify?*")
    draw(tab.page, "1")
    give(tab, KEY)
    expect(tab.page.locator("#digit-problem")).to_be_hidden()
    tab.take_refusals(401)
