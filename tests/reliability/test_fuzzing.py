"""Some seconds of what `python -m tests.reliability.fuzzing` does for minutes; always the same requests."""

from tests.reliability.fuzzing import corpus, fuzz, post
from tests.reliability.witness import Limits, witnessed
from tests.service.processes import Running


def test_what_is_mutated_is_sound(service: Running) -> None:
    for sound in dict.fromkeys(corpus()):
        reply = post(service, sound, sound.body)
        assert reply.status == 200, (sound.path, sound.content_type, reply)


def test_mutated_requests(service: Running) -> None:
    fuzz(service, 0, 100, 60)
    limits = Limits(seconds=120, peak_mb=60, kept_mb=30)
    with witnessed(service, "fuzzing", "400 mutated pictures, forms and /v2 bodies", "no 500, no hang", limits) as seen:
        outcome = fuzz(service, 0, 400, 90)
        seen.answered(outcome.counted)
    assert outcome.statuses.total() == 400, "they were not all sent in 90 s"
    assert len(outcome.statuses) >= 4, "the mutations reach several refusals"
