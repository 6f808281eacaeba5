"""`python -m service`: serve the models in models/ over HTTP. Settings are environment variables, `SIGHTLINE_…`."""

import logging
import os
import signal
import sys
from typing import NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs an older one should read this, not a SyntaxError
    sys.exit(f"Sightline needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

_EXIT_TERMINATED, _EXIT_INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT


def _report_to_nobody() -> None:
    """Onnxruntime's official builds send reports to Microsoft, and keep a file of them, unless told not to at first."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _end(code: int) -> NoReturn:
    """End now: a run that hangs, or a lost CUDA context, can hold up what Python does after the last line."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _stop_when_told() -> None:
    """Signals end a process that is starting, at once.

    Process 1 of a container has no default for SIGTERM, and Python's own for Ctrl-C would wait for the models that are
    being loaded. The server takes both over once there is something to finish.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_EXIT_TERMINATED))
    signal.signal(signal.SIGINT, lambda *_: os._exit(_EXIT_INTERRUPTED))


_report_to_nobody()
if __name__ == "__main__":
    _stop_when_told()  # importing what follows takes a second
try:
    from service.server import main  # only now: it would not compile on an older Python
except ModuleNotFoundError as error:
    sys.exit(
        f"Sightline needs the package {error.name}, which is not installed: run scripts/serve, or pip install '.[cpu]'"
    )

if __name__ == "__main__":
    _end(main(sys.argv[1:]))
