"""`GET /openapi.json`, and `GET /docs`: shown by Swagger UI, whose files come from here and not from elsewhere."""

import asyncio

from fastapi import APIRouter, Request, Response

from service.reply import JSON
from service.static_files import STRICT_POLICY, StaticFolder

POLICY = STRICT_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""Swagger UI puts styles into its elements; its scripts are as strictly kept as the page's."""

router = APIRouter(include_in_schema=False)


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
async def get_description(request: Request) -> Response:
    """The whole interface, for programs."""
    # In a thread, where it is made the first time: that takes longer than others should wait.
    await asyncio.to_thread(request.app.openapi)
    return Response(request.app.state.description, media_type=JSON)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def get_docs(request: Request) -> Response:
    """The page itself."""
    docs: StaticFolder = request.app.state.docs
    return docs.answer("docs.html", request.headers)


@router.api_route("/static/docs/{name}", methods=["GET", "HEAD"])
async def get_file(request: Request, name: str) -> Response:
    """What it loads, and the licences."""
    docs: StaticFolder = request.app.state.docs
    return docs.answer(name, request.headers)
