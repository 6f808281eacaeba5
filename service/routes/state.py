"""How a route gets at what the process shares."""

from typing import Annotated

from fastapi import Depends, Request

from service.pipeline import Pipeline


async def _pipeline(request: Request) -> Pipeline:  # FastAPI calls a plain function on a thread
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


SharedPipeline = Annotated[Pipeline, Depends(_pipeline)]
