"""A moving average: what something took lately."""

_LATEST = 0.3  # the weight of the latest value


class MovingAverage:
    """An exponential moving average, which begins with the first value; 0 before it."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, value: float) -> None:
        """Count one more value."""
        self.value += (value - self.value) * (_LATEST if self.value else 1)
