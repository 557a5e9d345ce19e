import pytest

from mammoscope.training.callbacks import Pace
from mammoscope.training.recipe import RunSection, ScheduleSection


def pace(**schedule: float) -> Pace:
    made = Pace(ScheduleSection(iterations=100, batch=4, **schedule), RunSection(validate_every=30), 40)
    for _ in range(10):
        made.stepped(2.0)
    return made


def test_validations_still_to_come_count():
    made = pace()
    made.validated(7.0)

    # After 50 steps: 50 more of 2 s; validations after 60 and 90, and the closing one.
    assert made.seconds_left(50, 0) == pytest.approx(50 * 2 + 3 * 7)
    assert made.seconds_left(90, 0) == pytest.approx(10 * 2 + 7)
    assert made.seconds_left(100, 0) == pytest.approx(7)


def test_before_the_first_validation_its_images_take_as_long_as_a_steps():
    assert pace().seconds_left(90, 0) == pytest.approx(10 * 2 + 40 * 2 / 4)


def test_the_last_iteration_is_validated_by_the_closing_report_alone():
    made = Pace(ScheduleSection(iterations=90, batch=4), RunSection(validate_every=30), 40)
    made.stepped(1.0)
    made.validated(5.0)

    assert made.seconds_left(0, 0) == pytest.approx(90 + 3 * 5)


def test_a_budget_of_minutes_ends_the_steps_but_not_the_closing_report():
    made = pace(minutes=2.0)
    made.validated(7.0)

    assert made.seconds_left(50, minutes=1.5) == pytest.approx(30 + 7)
    assert made.seconds_left(99, minutes=0.5) == pytest.approx(2 + 7)
    assert made.seconds_left(50, minutes=3) == pytest.approx(7)


def test_the_pace_is_that_of_the_last_fifty_steps():
    made = pace()
    made.validated(0.0)
    for _ in range(50):
        made.stepped(1.0)

    assert made.seconds_left(60, 0) == pytest.approx(40)
