"""How an answer leaves: its head together with what follows it."""

import asyncio

from service.answer_transport import AnswerTransport


class Recorded(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return b"closed" in self.written

    def close(self) -> None:
        self.written.append(b"closed")


def test_an_answer_leaves_in_one_piece() -> None:
    recorded = Recorded()
    transport = AnswerTransport(recorded, end=recorded.close)
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert recorded.written == [b"HTTP/1.1 100 Continue\r\n\r\n"], "which cannot wait: the body comes after it"
    transport.write(b"HTTP/1.1 is what it says")
    transport.write(b", and more of it")
    assert recorded.written[1:] == [b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 is what it says", b", and more of it"]


def test_a_head_without_a_body_leaves_too() -> None:
    for end in (AnswerTransport.flush, AnswerTransport.close):
        recorded = Recorded()
        transport = AnswerTransport(recorded, end=recorded.close)
        transport.write(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        end(transport)
        assert recorded.written[0] == b"HTTP/1.1 304 Not Modified\r\n\r\n"
