import pytest

from mammoscope.node.jobs.study_completion import StudyTracker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker(clock: Clock) -> StudyTracker:
    return StudyTracker(30, 600, clock)


def test_a_study_is_due_after_its_quiet_period(tracker: StudyTracker, clock: Clock) -> None:
    tracker.notice("1.2", 1)
    clock.now += 29.9
    assert not tracker.is_due("1.2")
    assert tracker.seconds_until_next() == pytest.approx(0.1)
    clock.now += 0.2
    assert tracker.is_due("1.2")
    assert tracker.seconds_until_next() is None
    assert tracker.seconds_since_last_image("1.2") == pytest.approx(30.1)


def test_each_arrival_starts_the_quiet_period_again(tracker: StudyTracker, clock: Clock) -> None:
    tracker.notice("1.2", 1)
    clock.now += 20
    assert tracker.has_news("1.2", 2)
    tracker.notice("1.2", 2)
    assert not tracker.has_news("1.2", 2)
    clock.now += 20
    assert not tracker.is_due("1.2")
    clock.now += 10
    assert tracker.is_due("1.2")


def test_a_complete_study_need_not_be_quiet(tracker: StudyTracker) -> None:
    tracker.notice("1.2", 4, at_once=True)
    assert tracker.is_due("1.2")


@pytest.mark.parametrize(
    ("age", "waits"),
    [(10, 20), (30, 0), (1e9, 0), (-1e9, 30)],
    ids=["some of it is over", "all", "the wall clock leapt ahead", "the wall clock leapt back"],
)
def test_after_a_restart_a_study_waits_for_what_is_left_and_never_longer(
    tracker: StudyTracker, clock: Clock, age: float, waits: float
) -> None:
    tracker.notice("1.2", 1, age_seconds=age)
    clock.now += max(waits - 0.5, 0)
    assert tracker.is_due("1.2") is (waits == 0)
    clock.now += 0.5
    assert tracker.is_due("1.2")


def test_the_wall_clock_is_not_asked_of_a_study_that_we_saw_arriving(tracker: StudyTracker, clock: Clock) -> None:
    tracker.notice("1.2", 1)
    tracker.notice("1.2", 2, age_seconds=29)
    clock.now += 29
    assert not tracker.is_due("1.2")


def test_an_answer_is_owed_from_the_last_image_or_from_our_start(tracker: StudyTracker, clock: Clock) -> None:
    tracker.notice("1.2", 1, age_seconds=10_000)
    clock.now += 599
    assert not tracker.is_overdue("1.2")
    clock.now += 1
    assert tracker.is_overdue("1.2")
    tracker.notice("1.2", 2)
    assert not tracker.is_overdue("1.2")


def test_a_postponed_study_is_not_due_before(tracker: StudyTracker, clock: Clock) -> None:
    tracker.notice("1.2", 1, at_once=True)
    tracker.postpone("1.2", 60)
    clock.now += 59
    assert not tracker.is_due("1.2")
    clock.now += 1
    assert tracker.is_due("1.2")
    tracker.postpone("1.9", 60)
    assert not tracker.is_due("1.9")


def test_studies_that_are_done_are_forgotten(tracker: StudyTracker) -> None:
    tracker.notice("1.2", 1, at_once=True)
    tracker.notice("1.3", 1, at_once=True)
    tracker.forget_all_but(["1.3"])
    assert not tracker.is_due("1.2")
    assert tracker.is_due("1.3")
    assert tracker.seconds_since_last_image("1.2") == 0
