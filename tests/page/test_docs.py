"""/docs under its policy, with nothing in reach but this machine: everything that it shows comes from the service."""

from playwright.sync_api import Route, expect

from tests.page.conftest import Open, Tab
from tests.service.processes import Running


def open_docs(open_page: Open, service: Running) -> tuple[Tab, list[str]]:
    """The page, and the addresses outside of the service that it tried."""
    outside: list[str] = []

    def only_ours(route: Route) -> None:
        if route.request.url.startswith((f"http://{service.host}:{service.port}/", "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    tab = open_page(path="/docs", state="", prepare=lambda page: page.route("**/*", only_ours))
    expect(tab.page.locator(".opblock").first).to_be_visible()
    return tab, outside


def test_every_operation_is_shown(open_page: Open, service: Running) -> None:
    tab, outside = open_docs(open_page, service)
    paths = {each.inner_text().replace("\u200b", "") for each in tab.page.locator(".opblock-summary-path").all()}
    document = tab.page.request.get(f"http://{service.host}:{service.port}/openapi.json").json()
    assert paths == set(document["paths"])
    expect(tab.page.locator("#docs")).to_contain_text("not-a-picture")
    assert not outside


def test_an_operation_unfolds_to_its_examples_and_is_tried_out(open_page: Open, service: Running) -> None:
    tab, outside = open_docs(open_page, service)
    operation = tab.page.locator(".opblock", has_text="Say what a picture shows")
    operation.locator(".opblock-summary-control").click()
    expect(operation.locator(".responses-table").first).to_contain_text("Too many pictures in one request")
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_label("Request content type").select_option("image/*")
    operation.locator("input[type=file]").set_input_files("service/static/docs/seven.png")
    operation.get_by_role("button", name="Execute").click()
    live = operation.locator(".live-responses-table")
    expect(live).to_contain_text('"label": "7"')
    # Swagger UI says so of binary bodies in OpenAPI 3.1, and shows them all the same.
    tab.complaints[:] = [each for each in tab.complaints if "JsonSchema_string_binary" not in each]
    assert not outside


def test_a_model_is_asked_as_the_example_stands(open_page: Open, service: Running) -> None:
    """Under /v2 nothing has to be filled in: the name of the model, its version and the body are there."""
    tab, outside = open_docs(open_page, service)
    operation = tab.page.locator(".opblock", has_text="Ask a version of a model")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_contain_text('"model_name": "digits"')
    assert not outside


def test_the_policy_is_in_force(open_page: Open, service: Running) -> None:
    """What the other tests would not notice if it were not: a script from elsewhere, and one in the page."""
    tab, outside = open_docs(open_page, service)
    tab.page.evaluate("""() => {
        const script = document.createElement("script");
        script.src = "https://example.org/x.js";
        document.body.append(script);
        const inline = document.createElement("script");
        inline.textContent = "window.ran = true";
        document.body.append(inline);
    }""")
    tab.page.wait_for_function("() => true")
    assert tab.page.evaluate("window.ran === undefined")
    assert len([each for each in tab.complaints if "violated" in each]) == 2
    tab.complaints.clear()
    assert not outside
