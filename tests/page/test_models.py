"""Where several models answer a task, one of them can be chosen on the page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.page.acts import draw
from tests.page.conftest import TIMEOUT_MS, Open
from tests.service import tiny_models
from tests.service.processes import Running, running

expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(models_dir=tiny_models.save_all(tmp_path_factory.mktemp("models"))) as service:
        yield service


def test_another_model_is_asked_about_the_same_drawing(open_page: Open, several: Running) -> None:
    page = open_page(at=f"http://{several.host}:{several.port}").page
    select = page.locator("#digit-model")
    expect(select).to_have_value("digits")
    assert sorted(select.locator("option").all_inner_texts()) == ["brightness", "digits"]
    with page.expect_response("**/classify?model=digits&*"):
        draw(page, "7")
    with page.expect_response(lambda response: "/classify?model=brightness&" in response.url) as answered:
        select.select_option("brightness")
    assert answered.value.status == 200
    expect(page.locator("#digit-about")).to_contain_text("version 1: 50.00% accuracy on none (test);")
    page.click("#tab-streets")
    expect(page.locator("#street-model")).to_be_hidden()  # there is one alone
    expect(page.locator("#street-about")).to_contain_text("50.00% accuracy on none (train, seen in training);")
