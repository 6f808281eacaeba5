"""MLServer: a custom runtime with its adaptive batching, in the server's own process.

Settings (`settings.json` and `model-settings.json`, written by `sides.py`): `parallel_workers=0`, which its
documentation advises for light models; `max_batch_size`, and `max_batch_time` of a millisecond; `debug` off. It takes
only the Open Inference Protocol, so a picture arrives as base64 in JSON and the answer leaves as JSON in a string.
"""

import asyncio
import json

from mlserver import MLModel
from mlserver.codecs import Base64Codec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.serving.peers.work import Assignment


class Peer(MLModel):
    """Pictures in, results out."""

    async def load(self) -> bool:
        """Open the network."""
        self.assignment = Assignment.read()
        self.work = self.assignment.open()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A batch: the pictures of several requests, gathered by the server."""
        pictures = Base64Codec.decode_input(payload.inputs[0])
        results = await asyncio.to_thread(self.answer, pictures)
        output = ResponseOutput(name="results", shape=[len(results)], datatype="BYTES", data=results)
        return InferenceResponse(model_name=self.name, outputs=[output])

    def answer(self, pictures: list[bytes]) -> list[str]:
        """In a thread, so that the event loop stays free."""
        items = self.assignment.map(self.work.prepare, pictures)
        pairs = zip(items, self.work.run(items), strict=True)
        return self.assignment.map(lambda pair: json.dumps(self.work.answer(*pair)), pairs)
