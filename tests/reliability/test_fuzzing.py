"""Some seconds of what `python -m tests.reliability.fuzzing` does for minutes; always the same requests."""

from tests.reliability.fuzzing import fuzz
from tests.reliability.witness import Limits, witnessed
from tests.service.processes import Running


def test_mutated_requests(service: Running) -> None:
    fuzz(service, 0, 100, 60)
    limits = Limits(seconds=120, peak_mb=60, kept_mb=30)
    with witnessed(service, "fuzzing", "400 mutated pictures, forms and /v2 bodies", "no 500, no hang", limits) as seen:
        outcome = fuzz(service, 0, 400, 90)
        seen.answered(outcome.counted)
    assert len(outcome.statuses) >= 4, "the mutations reach several refusals"
