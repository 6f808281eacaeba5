"""Routes that FastAPI documents and does not stand in the way of.

For a 28×28 picture what a framework does for every request, whatever it is for, takes longer than the answer.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Any, get_type_hints
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import InvalidRequestError
from service.timings import Timings

_REMEMBERED_QUERIES = 256
_MOST_PARAMETERS = 100  # reading 12,000 of them holds everyone else up
_LONGEST_NAME = 40  # of a parameter that is not there, said back
_LONGEST_REMEMBERED = 200  # bytes: what is longer was not written by a client that means to send it again


class DirectRoute(APIRoute):
    """Calls `endpoint(request, query)`, where `query` is annotated with the pydantic model of its parameters.

    An endpoint that has no `query` gets none, and one with parameters in its path gets them, strings, by their names.

    The signature is what FastAPI documents. It would solve dependencies, look into annotations and open contexts
    for each call.

    The time is taken from here on: `request.state.timings` is there whether the request is answered or refused.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._query_model: type[BaseModel] | None = get_type_hints(endpoint).get("query")
        # Clients send the same few strings over and over, and what is made of them is frozen.
        self._remembered_query = lru_cache(_REMEMBERED_QUERIES)(self._read_query)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.timings = Timings()
        arguments: dict[str, Any] = scope.get("path_params") or {}
        if self._query_model is not None:
            text: bytes = scope["query_string"]
            read = self._remembered_query if len(text) <= _LONGEST_REMEMBERED else self._read_query
            arguments = {**arguments, "query": read(text)}
        response = await self.endpoint(request, **arguments)
        await response(scope, receive, send)

    def _read_query(self, text: bytes) -> BaseModel:
        assert self._query_model is not None
        if text.count(b"&") >= _MOST_PARAMETERS:
            raise InvalidRequestError(f"There are more than {_MOST_PARAMETERS} parameters in the query.")
        parameters: dict[str, str] = {}
        known = self._query_model.model_fields
        for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
            # What is misspelt would be answered as if it had not been asked for, and of two one would not count.
            if name not in known:
                there = ", ".join(sorted(known))
                raise InvalidRequestError(f"There is no parameter {name[:_LONGEST_NAME]!r} here. There are: {there}.")
            if name in parameters:
                raise InvalidRequestError(f"The parameter {name!r} is given more than once. Give it once.")
            parameters[name] = value
        try:
            return self._query_model.model_validate(parameters)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error


class DirectRoutes:
    """Takes requests for direct routes to them, past the middlewares and the search of FastAPI; it gets all others."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[BaseRoute],
        handlers: Iterable[tuple[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]],
    ) -> None:
        """`handlers` make answers of errors, each of those of its class; what is none of them is raised."""
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, DirectRoute) and "{" not in route.path
            for method in route.methods or ()
        }
        self._handlers = tuple(handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            if scope.get("path", "").endswith("\n"):
                # The framework's patterns end in `$`, which does not mind a last line break: it would find /models.
                scope["path"] = scope["path"].replace("\n", "%0A")
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await route.handle(scope, receive, send)
        except Exception as error:
            answer = next((answer for cls, answer in self._handlers if isinstance(error, cls)), None)
            if answer is None:
                raise
            response = await answer(Request(scope, receive), error)
            await response(scope, receive, send)
