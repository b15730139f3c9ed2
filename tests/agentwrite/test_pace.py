"""The time left counts only the sections that were really written."""

import pytest

from agentwrite.pace import Pace, duration


def test_stored_sections_say_nothing_about_the_time_left() -> None:
    now = 0.0

    def clock() -> float:
        return now

    pace = Pace(clock)
    now = 50.0  # for the plan
    pace.start()
    pace.add(1000, is_stored=True)
    assert pace.seconds_left(500) is None
    now += 20
    pace.add(400, is_stored=False)
    now += 5  # reading another stored section
    pace.add(1000, is_stored=True)
    assert pace.seconds_left(800) == pytest.approx(40)
    assert pace.seconds_left(-10) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_a_duration_is_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
