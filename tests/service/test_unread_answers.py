"""Answers that clients do not read: how much room they take, and who has to go."""

from service.bodies import BodyBudget
from service.unread_answers import UnreadAnswers


class Client:
    """One that has so much to read."""

    def __init__(self, unread: int) -> None:
        self.unread = unread
        self.is_cut_off = False

    def unread_bytes(self) -> int:
        return self.unread

    def cut_off(self) -> None:
        self.is_cut_off = True


class Answers:
    """Unread answers in a budget of 200 bytes, at a time that stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.budget = BodyBudget(200)
        self.unread = UnreadAnswers(self.budget.max_unread_bytes, self.budget.count_unread, lambda: self.now)

    def of(self, unread: int) -> Client:
        client = Client(unread)
        self.unread.count(client, unread)
        self.now += 1
        return client


def test_bodies_always_have_their_half() -> None:
    answers = Answers()
    for _ in range(20):
        answers.of(30)
    assert answers.unread.bytes == answers.budget.used_bytes == 90
    assert answers.budget.has_room(100)
    assert not answers.budget.has_room(111)


def test_who_held_most_for_longest_goes_and_nobody_who_just_came() -> None:
    answers = Answers()
    small, large, later = answers.of(10), answers.of(40), answers.of(20)
    answers.now += 10
    newcomer = answers.of(50)
    assert [each.is_cut_off for each in (small, large, later, newcomer)] == [False, True, False, False]
    assert answers.unread.bytes == 80


def test_what_was_read_meanwhile_takes_no_room() -> None:
    answers = Answers()
    reading = answers.of(90)
    reading.unread = 20
    other = answers.of(60)
    assert not reading.is_cut_off
    assert not other.is_cut_off
    assert answers.unread.bytes == 80
    for each in (reading, other, other):
        answers.unread.count(each, 0)
    assert answers.unread.bytes == answers.budget.used_bytes == 0


def test_who_is_alone_may_read_what_is_larger() -> None:
    answers = Answers()
    assert not answers.of(190).is_cut_off
    assert answers.budget.has_room(100), "bodies have their half all the same"
