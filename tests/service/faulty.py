"""`python -m tests.service.faulty`: the service with networks that fail on command, in a process of its own.

The command is a picture: what the model `brightness` is shown decides by its mean what its session does. Everything
else is the service as it is.
"""

import sys
import time
from typing import Any

import numpy as np

from service import engine
from service.providers import open_session
from service.server import main

RAISES, ANSWERS_NAN, ANSWERS_A_WRONG_SHAPE, SLEEPS, HANGS, DOZES = 201, 203, 205, 207, 209, 211
SLEEP_S, DOZE_S = 0.4, 2.0


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
        return answer


def _open_session(*args: Any, **options: Any) -> Any:
    return _FaultySession(open_session(*args, **options))


if __name__ == "__main__":
    vars(engine)["open_session"] = _open_session
    sys.exit(main([]))
