"""How a route gets at what the process shares."""

from typing import Annotated

from fastapi import Depends, Request

from service.pipeline import Pipeline


async def pipeline_of(request: Request) -> Pipeline:  # FastAPI calls a plain function on a thread
    """The pipeline of the application that a request came to."""
    pipeline: Pipeline = request.app.state.pipeline
    return pipeline


SharedPipeline = Annotated[Pipeline, Depends(pipeline_of)]
