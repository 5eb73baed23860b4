"""Money over time stands where its moments are; the script that moves marks finds them where they are said to be."""

import itertools
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report.charts import WIDE, Area, Line, Track, line_chart, score_chart
from jobs.report.dial import Dial
from jobs.report.environment import script
from jobs.report.marks import Axis, Mark
from jobs.report.palette import DARK, LIGHT, router_look
from jobs.report.time_charts import Event, Stack, share_bar, spark, time_chart, time_ticks

DAY, LOOK, UNIT = timedelta(days=1), router_look(0), Axis("x", (0.0, 1.0))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


def at(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc, arg-type]


def of_kind(marks: tuple[Mark, ...], kind: str) -> list[Mark]:
    inside = [child for mark in marks for child in of_kind(mark.children, kind)]
    return [mark for mark in marks if mark.attributes.get("class") == kind] + inside


@pytest.mark.parametrize(
    ("begin", "end", "width", "labels"),
    [
        (at(2026, 9, 1), at(2026, 9, 5), DAY, ["1 Sep", "2 Sep", "3 Sep", "4 Sep", "5 Sep"]),
        (at(2026, 9, 1), at(2026, 11, 1), DAY, ["7 Sep", "21 Sep", "5 Oct", "19 Oct"]),  # Mondays
        (at(2026, 1, 1), at(2027, 2, 1), DAY, ["Jan 2026", "Apr 2026", "Jul 2026", "Oct 2026", "Jan 2027"]),
        (at(2026, 9, 1, 1), at(2026, 9, 1, 3), timedelta(minutes=2), ["01:00", "01:30", "02:00", "02:30", "03:00"]),
        (at(2026, 9, 1, 1), at(2026, 9, 1, 1, 0, 8), timedelta(seconds=1),
         [f"01:00:0{second}" for second in (0, 2, 4, 6, 8)]),
        (at(1970, 1, 1), at(9999, 12, 31), DAY, ["Jan 2000", "Jan 4000", "Jan 6000", "Jan 8000"]),
    ],
)  # fmt: skip
def test_ticks_are_round_moments(begin: datetime, end: datetime, width: timedelta, labels: list[str]) -> None:
    assert [label for _, label in time_ticks(begin, end, width, 5)] == labels


@given(MOMENTS, MOMENTS, st.integers(2, 14))
def test_ticks_of_any_time_lie_inside_and_are_few(one: datetime, other: datetime, count: int) -> None:
    begin, end = sorted((one, other))
    found = time_ticks(begin, end, timedelta(seconds=1), count)
    assert all(begin <= moment <= end for moment, _ in found)
    assert len(found) <= 2 * count + 2


def test_bars_are_stacked_in_their_place() -> None:
    starts = [at(2026, 9, 1), at(2026, 9, 2), at(2026, 9, 4)]  # a day is missing
    drawn = time_chart(
        starts, DAY, [Stack("a", "red", [1.0, 0.0, 2.0]), Stack("b", "blue", [3.0, 1.0, 0.0])], ["x", "y", "z"],
        title="dollars", events=[Event(at(2026, 9, 3), "M", "changed"), Event(at(2027, 1, 1), "P", "after the end")],
        gaps=[(at(2026, 9, 3), at(2026, 9, 4)), (at(2025, 1, 1), at(2025, 1, 2))],
    )  # fmt: skip
    lower, upper = of_kind(drawn.marks, "layer")
    pattern = r"M([\d.]+) ([\d.]+)h([\d.]+)V([\d.]+)h-[\d.]+Z"
    below = [tuple(map(float, bar)) for bar in re.findall(pattern, str(lower.attributes["d"]))]
    above = [tuple(map(float, bar)) for bar in re.findall(pattern, str(upper.attributes["d"]))]
    assert (len(below), len(above)) == (2, 2)  # no bar of nothing
    per_dollar = 224 / (4 * 1.04)
    assert below[0][1] - below[0][3] == pytest.approx(per_dollar, abs=0.02)
    assert above[0][1] == below[0][3]
    assert above[0][1] - above[0][3] == pytest.approx(3 * per_dollar, abs=0.02)
    left = [float(rect.attributes["x"]) for rect in of_kind(drawn.marks, "hover")]
    assert left[2] - left[1] == pytest.approx(2 * (left[1] - left[0]), abs=0.02)
    assert [mark.text for mark in of_kind(drawn.marks, "heading")] == ["M"]
    assert len(of_kind(drawn.marks, "band")) == 1
    assert drawn.width == WIDE


@pytest.mark.parametrize("days", range(150, 210, 4))
def test_no_label_is_cut_off_at_the_end(days: int) -> None:
    starts = [at(2026, 1, 1) + k * DAY for k in range(days)]
    drawn = time_chart(starts, DAY, [Stack("a", "red", [1.0] * days)], ["x"] * days, title="")
    labels = [mark for mark in of_kind(drawn.marks, "tick") if re.search("[A-Z]", mark.text)]
    assert len(labels) >= 4
    assert all(float(mark.attributes["x"]) + 7 * len(mark.text) <= WIDE for mark in labels)


@pytest.mark.parametrize("start", [at(9999, 12, 31), at(1, 1, 1), at(2026, 2, 28)])
def test_a_log_may_hold_any_date(start: datetime) -> None:
    assert of_kind(time_chart([start], DAY, [Stack("a", "red", [0.0])], ["x"], title="").marks, "hover")


def test_small_lines_and_bars() -> None:
    (line,) = spark([0.0, 5.0, 10.0]).marks
    assert line.attributes["d"] == "M0.0 17.0L48.0 9.5L96.0 2.0"
    assert spark([]).marks[0].attributes["d"] == "M0 17.0h96.0"
    assert spark([0.0, 0.0]).marks[0].attributes["d"] == "M0.0 17.0L96.0 17.0"
    for share, width in ((0.25, 18.0), (-1.0, 0.0), (7.0, 72.0)):
        assert of_kind(share_bar(share).marks, "part")[0].attributes["width"] == width


def test_a_mark_is_where_its_list_says() -> None:
    drawn = line_chart([Line(LOOK, [0, 1], [0, 1])], UNIT, UNIT, track=Track([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], 1))
    rule, dot = of_kind(drawn.marks, "moving")
    assert dot.attributes["data-places"] == "58 282;252 147;446 12"
    assert dot.attributes["transform"] == "translate(252 147)"
    assert rule.attributes["data-places"] == "58 0;252 0;446 0"


def test_an_area_lies_between_its_lines() -> None:
    drawn = line_chart([], UNIT, UNIT, areas=[Area([0.0, 1.0], [0.0, 0.0], [0.5, 1.0])])
    (area,) = of_kind(drawn.marks, "area")
    assert area.attributes["d"] == "M58.0 147.0L446.0 12.0L446.0 282.0L58.0 282.0Z"


def test_wide_labels_get_room() -> None:
    money = Axis("dollars", (0.0, 4e6), "money")
    drawn = line_chart([], UNIT, money)
    labels = [mark for mark in of_kind(drawn.marks, "tick") if mark.text.startswith("$")]
    assert max(len(mark.text) for mark in labels) == len("$4,000,000")
    assert min(float(mark.attributes["x"]) - 7.4 * len(mark.text) for mark in labels) > 16
    across = line_chart([], money, UNIT)
    ticks = sorted(float(m.attributes["x"]) for m in of_kind(across.marks, "tick") if m.text.startswith("$"))
    assert min(b - a for a, b in itertools.pairwise(ticks)) > 6.6 * len("$4,000,000")


def test_alpha_among_the_win_rates() -> None:
    drawn = score_chart([3, 1], [None, 0.5, 0.0], 1, UNIT)
    ground, cut = of_kind(drawn.marks, "moving")
    assert ground.attributes["data-places"] == cut.attributes["data-places"] == "446 0;252 0;58 0"
    assert not of_kind(score_chart([3, 1], [], 0, UNIT).marks, "moving")


def test_where_a_point_stands_on_the_slider() -> None:
    dial = Dial(last=100, index=40, name=(), told=(), tiles=(), stops=())
    assert (dial.place(0), dial.place(40), dial.place(100)) == (0, 40, 100)
    assert Dial(last=0, index=0, name=(), told=(), tiles=(), stops=()).place(0) == 0


def test_the_script_makes_no_html_and_evaluates_nothing() -> None:
    text = script("numbers.js", "slider.js").text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function|fetch|XMLHttp|import|</", text
    )


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_layers_are_told_apart(palette: dict[str, str]) -> None:
    """Five layers in the order of their lightness, so that grey paper tells them too."""
    lights = [sum(int(palette[name][i : i + 2], 16) for i in (1, 3, 5)) for name in ("t0", "t1", "t2", "t3")]
    falling = palette is DARK
    assert lights == sorted(lights, reverse=falling)
    assert all(abs(b - a) > 60 for a, b in itertools.pairwise(lights))
