"""How long something took lately, and how much of the time that is left may be spent on waiting for it."""

WAIT_SHARE = 0.7
"""A request whose expected wait is more than this share of the time left for its answer is refused.

Some waits are longer than expected, and what comes after them takes time, too.
"""

_LATEST = 0.3  # the weight of the latest value


class MovingAverage:
    """An exponential moving average, which begins with the first value; 0 before it."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, value: float) -> None:
        """Count one more value."""
        self.value += (value - self.value) * (_LATEST if self.value else 1)
