"""LitServe: a LitAPI with its dynamic batching, in one worker process behind one API process.

Settings: `max_batch_size` as the other sides have; `batch_timeout` of a millisecond (its default of 0 asks an idle
queue over and over, and takes a core of the two for it); `workers_per_device=1`, `num_api_servers=1`; `fast_queue=True`
(answers over ZeroMQ); no access log; no request timeout, so that it may queue without bound. Pictures are decoded in
the worker.
"""

from typing import Any

import litserve
from fastapi import Request

from benchmarks.serving.peers.work import Assignment, Item, Work


class Api(litserve.LitAPI):
    """Decode, predict a batch, encode."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Open the network in the worker process."""
        self.assignment = Assignment.read()
        self.work: Work = self.assignment.open()

    def decode_request(self, request: Request) -> bytes:  # the annotation makes LitServe read a form
        """A form's file, as LitServe hands it over."""
        data: bytes = request["file"].file.read()
        return data

    def batch(self, inputs: list[bytes]) -> list[Item]:
        """Decoded here, in threads: `decode_request` is called for one after the other."""
        return self.assignment.map(self.work.prepare, inputs)

    def predict(self, x: list[Item]) -> list[dict[str, Any]]:
        """A batch."""
        outputs = self.work.run(x)
        return self.assignment.map(lambda pair: self.work.answer(*pair), zip(x, outputs, strict=True))

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One for each request."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """FastAPI turns it to JSON."""
        return output


def main() -> None:
    """Serve until killed."""
    assignment = Assignment.read()
    api = Api(max_batch_size=assignment.max_batch_size, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=False, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=assignment.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
