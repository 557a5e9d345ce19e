from mammoscope.evaluation import Case, ImageResult
from mammoscope.evaluation.reports.html import worst_false_alarms, worst_misses
from mammoscope.findings import Box, Finding

SMALL, LARGE, NOWHERE = Box(0, 0, 10, 10), Box(20, 20, 60, 60), Box(90, 90, 100, 100)
NEAR_LARGE = Box(20, 20, 60, 30)  # IoU 0.25


def case(image_id, truth, *candidates):
    found = tuple(Finding(box, score) for box, score in candidates)
    return Case(ImageResult(image_id, "p", truth, found), f"{image_id}.png", 100, 100, {}, ({},) * len(truth))


def named(mistakes):
    return [(mistake.case.file_name, mistake.said) for mistake in mistakes]


def test_misses_that_nothing_hits_come_first_the_largest_before():
    cases = [
        case(1, (SMALL,)),
        case(2, (LARGE,), (NEAR_LARGE, 0.9)),
        case(3, (LARGE,), (LARGE, 0.3)),
        case(4, (SMALL,), (SMALL, 0.2)),
        case(5, (SMALL,), (SMALL, 0.8)),
        case(6, (), (SMALL, 0.8)),
    ]
    assert named(worst_misses(cases, 0.5, 0.5, 9)) == [
        ("2.png", "Missed lesion (40.0 % of the image's side): no candidate hits it."),
        ("1.png", "Missed lesion (10.0 % of the image's side): no candidate hits it."),
        ("4.png", "Missed lesion (10.0 % of the image's side): the candidate on it has a score of 0.200 only."),
        ("3.png", "Missed lesion (40.0 % of the image's side): the candidate on it has a score of 0.300 only."),
    ]
    assert len(worst_misses(cases, 0.5, 0.5, 2)) == 2


def test_one_entry_a_case():
    assert len(worst_misses([case(1, (SMALL, LARGE))], 0.5, 0.5, 9)) == 1
    assert len(worst_false_alarms([case(1, (), (SMALL, 0.9), (LARGE, 0.8))], 0.5, 0.5, 9)) == 1


def test_false_alarms_by_falling_score():
    cases = [
        case(1, (SMALL,), (NOWHERE, 0.6), (SMALL, 0.9)),
        case(2, (LARGE,), (NEAR_LARGE, 0.7)),
        case(3, (SMALL,), (NOWHERE, 0.4)),
    ]
    assert named(worst_false_alarms(cases, 0.5, 0.5, 9)) == [
        ("2.png", "False alarm with a score of 0.700: its highest IoU with a lesion is 0.25."),
        ("1.png", "False alarm with a score of 0.600: it touches no lesion."),
    ]
    assert worst_false_alarms(cases, 0.5, 0.5, 0) == []
