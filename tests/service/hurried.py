"""`python -m tests.service.hurried`: the service with shorter patience where no setting says how long it is.

What is bounded by 20 or 75 seconds is bounded by 2 or 3 here, so that a test need not wait for it.
"""

import sys
from unittest.mock import patch

from service.server import main

HEAD_S, KEEP_ALIVE_S = 2.0, 3

if __name__ == "__main__":
    patch("service.request_heads.MAX_HEAD_S", HEAD_S).start()
    patch("service.server._KEEP_ALIVE_S", KEEP_ALIVE_S).start()
    sys.exit(main([]))
