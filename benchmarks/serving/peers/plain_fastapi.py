"""Plain FastAPI, as its tutorial has it: an upload, a `def` endpoint in its thread pool, one session, no batching.

Settings: uvicorn with uvloop and httptools, no access log; a dict with a return annotation, which FastAPI turns to JSON
without a detour through Python.
"""

from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, UploadFile

from benchmarks.serving.peers.work import Assignment


def main() -> None:
    """Serve until killed."""
    assignment = Assignment.read()
    work = assignment.open()
    app = FastAPI()

    def infer(data: bytes) -> dict[str, Any]:
        item = work.prepare(data)
        return work.answer(item, work.run([item])[0])

    @app.post("/predict")
    def predict(file: UploadFile) -> dict[str, Any]:
        return infer(file.file.read())

    @app.post("/predict-raw")
    def predict_raw(body: Annotated[bytes, Body(media_type="application/octet-stream")]) -> dict[str, Any]:
        return infer(body)

    uvicorn.run(
        app, port=assignment.port, loop="uvloop", http="httptools", access_log=False, log_level="warning", ws="none"
    )


if __name__ == "__main__":
    main()
