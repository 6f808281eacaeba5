"""The API's documentation works without the internet."""

import gzip
import re

import httpx


async def test_the_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for path in loaded:
        if path != "data:,":
            assert path.startswith("static/docs/")
            assert (await client.get("/" + path)).status_code == 200
    assert "<script>" not in page.text, "the policy lets no script run that stands in the page"


async def test_scripts_come_compressed_or_not(client: httpx.AsyncClient) -> None:
    path = "/static/docs/swagger-ui-bundle.js"
    zipped = await client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert zipped.content == plain.content
    assert int(zipped.headers["content-length"]) < len(gzip.compress(plain.content, 1))
    assert plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (await client.get("/static/docs/swagger-ui.LICENSE.txt")).text.strip().startswith("Apache License")


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/models", "/healthz", "/readyz", "/metrics", "/openapi.json"):
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
        assert answer.headers["content-type"]
    refused = await client.head("/classify")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
