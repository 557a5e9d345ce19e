from mammoscope.node.assembly import StudyTracker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_study_is_due_after_its_quiet_period_and_only_once() -> None:
    clock = Clock()
    tracker = StudyTracker(30, clock)
    tracker.image_arrived("1.2")
    clock.now += 29.9
    assert tracker.take_next() is None
    clock.now += 0.2
    assert tracker.take_next() == "1.2"
    assert tracker.take_next() is None


def test_each_image_starts_the_quiet_period_again() -> None:
    clock = Clock()
    tracker = StudyTracker(30, clock)
    tracker.image_arrived("1.2")
    clock.now += 20
    tracker.image_arrived("1.2")
    clock.now += 20
    assert tracker.take_next() is None
    assert tracker.seconds_until_next() == 10
    clock.now += 10
    assert tracker.take_next() == "1.2"


def test_studies_are_taken_in_the_order_in_which_they_fell_quiet() -> None:
    clock = Clock()
    tracker = StudyTracker(30, clock)
    for study in ("first", "second", "third"):
        tracker.image_arrived(study)
        clock.now += 1
    tracker.image_arrived("first")
    clock.now += 60
    assert [tracker.take_next() for _ in range(4)] == ["second", "third", "first", None]


def test_a_late_image_brings_a_taken_study_back() -> None:
    clock = Clock()
    tracker = StudyTracker(5, clock)
    tracker.image_arrived("1.2")
    clock.now += 5
    assert tracker.take_next() == "1.2"
    tracker.image_arrived("1.2")
    clock.now += 5
    assert tracker.take_next() == "1.2"


def test_seconds_until_next() -> None:
    clock = Clock()
    tracker = StudyTracker(30, clock)
    assert tracker.seconds_until_next() is None
    tracker.image_arrived("1.2")
    clock.now += 10
    tracker.image_arrived("1.3")
    assert tracker.seconds_until_next() == 20
    clock.now += 100
    assert tracker.seconds_until_next() == 0


def test_a_postponed_study_waits_that_long() -> None:
    clock = Clock()
    tracker = StudyTracker(0, clock)
    tracker.postpone("1.2", 60)
    assert tracker.take_next() is None
    clock.now += 60
    assert tracker.take_next() == "1.2"
