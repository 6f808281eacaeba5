import gzip
import re
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from service.static_files import StaticFolder
from tests.conftest import ROOT
from tests.service.conftest import problem

PAGE = ROOT / "service" / "static" / "page"
PLAIN = {"accept-encoding": "identity"}


def folder(path: Path) -> StaticFolder:
    (path / "a.js").write_text("let a = 1;\n" * 50)
    (path / "b.png").write_bytes(b"\x89PNG")
    return StaticFolder(path)


async def test_the_page_and_all_that_it_names_are_served(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="(static/page/[^"]+)"', page.text))
    for module in PAGE.glob("*.js"):
        named |= {f"static/page/{name}" for name in re.findall(r'from "\./([^"]+)"', module.read_text())}
    assert len(named) > 8
    for path in named:
        response = await client.get(f"/{path}")
        assert response.status_code == 200, path
        assert response.content == (PAGE / Path(path).name).read_bytes()


def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(r'(src|href|action)="(https?:)?//', page)
    assert not re.search(r"<style|style=|\son\w+=|javascript:", page)
    assert re.findall(r"<script(.*?)>(.*?)</script>", page) == [(' type="module" src="static/page/page.js"', "")]
    for path in [*PAGE.glob("*.js"), *PAGE.glob("*.css")]:
        assert not re.search(r"https?://(?!127\.0\.0\.1:8000)|@import|innerHTML|\beval\b", path.read_text()), path


def test_the_example_is_the_one_of_the_repository() -> None:
    assert (PAGE / "street.jpg").read_bytes() == (ROOT / "examples" / "street.jpg").read_bytes()


@pytest.mark.parametrize("path", ["/", "/static/page/page.js", "/static/page/street.jpg"])
async def test_every_file_is_locked_down(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"


async def test_who_has_a_file_is_not_sent_it_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/", headers=PLAIN)
    assert first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await client.get("/", headers=PLAIN | {"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert "content-security-policy" in again.headers
    assert (await client.get("/", headers=PLAIN | {"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=1.0", True),
        ("", False),
        ("br, deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
    ],
)
async def test_text_is_compressed_for_who_takes_it(client: httpx.AsyncClient, accepted: str, zipped: bool) -> None:
    request = client.build_request("GET", "/static/page/page.css", headers={"accept-encoding": accepted})
    response = await client.send(request, stream=True)
    body = b"".join([chunk async for chunk in response.aiter_raw()])
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers.get("content-encoding") == ("gzip" if zipped else None)
    assert response.headers["etag"].endswith('-gzip"') == zipped
    assert (gzip.decompress(body) if zipped else body) == (PAGE / "page.css").read_bytes()


async def test_head_names_the_length_and_sends_nothing(client: httpx.AsyncClient) -> None:
    response = await client.head("/", headers=PLAIN)
    assert response.status_code == 200
    assert int(response.headers["content-length"]) == (PAGE / "index.html").stat().st_size


@pytest.mark.parametrize("name", ["nothing.js", "", "../app.py", "..%2Fapp.py", "%2e%2e/app.py", "page.js/", "a\\b"])
async def test_nothing_else_can_be_had(client: httpx.AsyncClient, name: str) -> None:
    problem(await client.get(f"/static/page/{name}"), 404, "not-found", "")


def test_a_changed_file_has_another_etag(tmp_path: Path) -> None:
    before = folder(tmp_path).answer("a.js", Headers())
    (tmp_path / "a.js").write_text("let a = 2;\n")
    after = StaticFolder(tmp_path).answer("a.js", Headers())
    assert before.headers["etag"] != after.headers["etag"]


def test_pictures_are_not_compressed_again(tmp_path: Path) -> None:
    response = folder(tmp_path).answer("b.png", Headers({"accept-encoding": "gzip"}))
    assert "content-encoding" not in response.headers
    assert response.body == b"\x89PNG"


def test_a_file_of_no_known_kind_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "notes.odt").write_text("x")
    with pytest.raises(KeyError, match="odt"):
        StaticFolder(tmp_path)
