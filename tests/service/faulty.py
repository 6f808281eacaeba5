"""`python -m tests.service.faulty`: the service with networks that fail on command, in a process of its own.

The command is a picture, for the model `brightness`: its mean decides what the session does, and its size what befalls
the thread that decodes it. Everything else is the service as it is.
"""

import ctypes
import sys
import threading
import time
from typing import Any

import numpy as np

from service import engine, preparing, server
from service.images.decoding import decode_reduced
from service.providers import open_session
from service.server import main

RAISES, ANSWERS_NAN, ANSWERS_A_WRONG_SHAPE, SLEEPS, HANGS, DOZES, HOLDS = 201, 203, 205, 207, 209, 211, 213
"""Means. `HOLDS` hangs in C, and keeps the interpreter to itself, as a driver might: no other thread runs."""
SLEEP_S, DOZE_S, HELD_AFTER_S = 0.4, 5.0, 2.0
DECODE_HANGS, DECODE_EXITS, THREAD_DIES = (40, 41), (40, 42), (40, 43)
"""Sizes of pictures: decoding never ends; it ends its thread; the thread is ended once it waits for the next."""


class _FaultySession:
    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, Any], *rest: Any) -> list[Any]:
        images = feed["images"]
        answer: list[Any] = self._session.run(names, feed, *rest)
        for mean in images.reshape(len(images), -1).mean(1).round():
            match int(mean):
                case n if n == RAISES:
                    raise RuntimeError("a failure that was asked for")
                case n if n == ANSWERS_NAN:
                    return [np.full_like(answer[0], np.nan)]
                case n if n == ANSWERS_A_WRONG_SHAPE:
                    return [answer[0][:, :-1]]
                case n if n == SLEEPS:
                    time.sleep(SLEEP_S)
                case n if n == DOZES:
                    time.sleep(DOZE_S)
                case n if n == HANGS:
                    time.sleep(3600)
                case n if n == HOLDS:
                    ctypes.PyDLL(None).sleep(3600)  # unlike CDLL, it does not let go of the interpreter
        return answer


def _open_session(*args: Any, **options: Any) -> Any:
    return _FaultySession(open_session(*args, **options))


def _decode_with_faults(*args: Any) -> Any:
    picture, size = decode_reduced(*args)
    match size:
        case n if n == DECODE_HANGS:
            time.sleep(3600)
        case n if n == DECODE_EXITS:
            sys.exit("a decoder that ends its thread")
        case n if n == THREAD_DIES:
            threading.Timer(0.05, _kill, [threading.get_ident()]).start()
    return picture, size


def _kill(thread: int) -> None:
    """What C calls to end a thread of Python's: it dies when it next takes a call."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))


if __name__ == "__main__":
    vars(engine)["open_session"] = _open_session
    vars(preparing)["decode_reduced"] = _decode_with_faults
    vars(server)["_HELD_AFTER_S"] = HELD_AFTER_S
    sys.exit(main([]))
