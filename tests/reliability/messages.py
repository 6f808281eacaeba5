"""What the tests of this folder ask over and over, and what `/metrics` says of it."""

from tests.service.conftest import grey_png
from tests.service.processes import Reply, Running

PATH = "/classify?model=brightness"
# The head of a picture of so many bytes.
HEAD = b"POST /classify?model=brightness HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"


def post(service: Running, level: int, size: tuple[int, int] = (28, 28)) -> Reply:
    """The answer to a picture of one grey, on a connection of its own."""
    with service.connect() as connection:
        return connection.post(PATH, grey_png(level, size))


def metric(service: Running, name: str) -> float:
    """What `/metrics` says now; 0 for what it does not list yet."""
    with service.connect() as connection:
        lines = connection.get("/metrics").body.decode().splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)
