"""`GET /`, the page to try the service on, and the files that it is made of."""

from fastapi import APIRouter, Request, Response

from service.static_files import StaticFolder

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def get_page(request: Request) -> Response:
    """The page itself."""
    page: StaticFolder = request.app.state.page
    return page.answer("index.html", request.headers)


@router.api_route("/static/page/{name}", methods=["GET", "HEAD"])
async def get_file(request: Request, name: str) -> Response:
    """What it loads: styles, scripts and the drawn example."""
    page: StaticFolder = request.app.state.page
    return page.answer(name, request.headers)
