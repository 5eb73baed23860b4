"""Marks stand where their numbers are; the palette can be read by everybody."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.report import charts
from jobs.report.charts import Line, Point, Row, Word
from jobs.report.marks import SYMBOLS, Axis, Frame, Mark, padded, ticks
from jobs.report.palette import DARK, LIGHT, baseline_look, router_look

LOOK = router_look(0)
UNIT = Axis("x", (0.0, 1.0))


def of_kind(marks: tuple[Mark, ...], kind: str) -> list[Mark]:
    inside = [child for mark in marks for child in of_kind(mark.children, kind)]
    return [mark for mark in marks if mark.attributes.get("class") == kind] + inside


@pytest.mark.parametrize(
    ("domain", "count", "found"),
    [
        ((0.0, 1.0), 5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((0.48, 0.66), 4, [0.5, 0.55, 0.6, 0.65]),
        ((-75, 1_575), 6, [0, 250, 500, 750, 1_000, 1_250, 1_500]),
        ((-0.5, 1.5), 2, [-0.0, 1.0]),
    ],
)
def test_ticks_are_round(domain: tuple[float, float], count: int, found: list[float]) -> None:
    assert ticks(domain, count) == pytest.approx(found)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_lie_inside_and_are_about_as_many_as_wanted(low: float, width: float, count: int) -> None:
    found = ticks((low, low + width), count)
    slack = 1e-6 * width + 2 * math.ulp(abs(low) + width)  # a float this far from zero is no finer
    assert all(low - slack <= tick <= low + width + slack for tick in found)
    assert 1 <= len(found) <= 2 * count + 1


def test_axis_labels_say_the_ticks_own_values() -> None:
    fine = charts.dot_chart([Row("a", LOOK, 0.55, text=".550")], Axis("APGR", (0.5, 0.66)))
    labels = [mark.text for mark in of_kind(fine.marks, "tick")]
    assert labels == [".500", ".525", ".550", ".575", ".600", ".625", ".650"]
    coarse = charts.dot_chart([Row("a", LOOK, 0.55, text=".550")], Axis("APGR", (0.0, 1.0)))
    assert of_kind(coarse.marks, "tick")[1].text == ".10"


def test_padding() -> None:
    assert padded([1.0, 3.0]) == (0.9, 3.1)
    assert padded([0.2], include=[0.5, 0.7], limits=(0.3, 0.6)) == (0.3, 0.6)
    assert padded([2.0]) == (1.9, 2.1)
    assert padded([0.0]) == (-0.05, 0.05)
    assert padded([7.0], limits=(0.0, 1.0)) == (0.0, 1.0)
    low, high = padded([0.5, 0.5 + 1e-300])
    assert ticks((low, high), 3)


def test_a_line_goes_through_its_points_and_is_cut_at_the_frame() -> None:
    drawn = charts.line_chart([Line(LOOK, [0.0, 0.5, 1.0], [0.0, 2.0, 1.0])], UNIT, UNIT)
    frame = Frame(58, 12, 388, 270, (0, 1), (0, 1))
    (path,) = of_kind(drawn.marks, "series")
    assert path.attributes["d"] == "M58.0 282.0L252.0 -258.0L446.0 12.0"
    (clip,) = [mark for mark in drawn.marks if mark.tag == "svg"]
    assert path in clip.children
    assert clip.attributes["viewBox"] == f"{frame.left} {frame.top} {frame.width} {frame.height}"


def test_a_dot_an_interval_and_an_arrow() -> None:
    rows = [
        Row("inside", LOOK, 0.5, 0.25, 0.75, ".500"),
        Row("outside", LOOK, 7.0, 0.9, 8.0, "7.000"),
        Row("none", LOOK),
    ]
    drawn = charts.dot_chart(rows, UNIT, reference=0.5, band=(-1.0, 0.1))
    (dot,) = of_kind(drawn.marks, "dot")
    inside, outside = of_kind(drawn.marks, "interval")
    left, width = 14 + 6.6 * 7, 460 - (14 + 6.6 * 7) - (14 + 6.6 * 5)
    assert dot.attributes["transform"] == f"translate({round(left + width / 2, 2)} {6 + 21 - 10.5})"
    assert (inside.attributes["x1"], inside.attributes["x2"]) == pytest.approx(
        (left + width / 4, left + width * 3 / 4), abs=0.01
    )
    assert (outside.attributes["x1"], outside.attributes["x2"]) == pytest.approx(
        (left + width * 0.9, left + width), abs=0.01
    )
    (arrow,) = of_kind(drawn.marks, "arrow")
    assert arrow.tooltip == "outside: 7.000"
    (band,) = of_kind(drawn.marks, "band")
    assert (band.attributes["x"], band.attributes["width"]) == pytest.approx((left, width / 10), abs=0.01)


def test_an_interval_wholly_outside_is_only_an_arrow() -> None:
    drawn = charts.dot_chart([Row("far", LOOK, -3.0, -4.0, -2.0, f"{-3}")], UNIT)
    assert len(of_kind(drawn.marks, "arrow")) == 1
    assert not of_kind(drawn.marks, "interval")
    assert not of_kind(drawn.marks, "dot")


def test_long_labels_stand_above_their_rows_and_are_whole_in_the_tooltip() -> None:
    name = "claude-3-5-sonnet-20240620 / claude-3-haiku-20240307"
    drawn = charts.dot_chart([Row("heading"), Row(name, LOOK, 0.5)], UNIT)
    (label,) = of_kind(drawn.marks, "label")
    assert label.text == name
    (longer,) = of_kind(charts.dot_chart([Row(name * 3, LOOK, 0.5)], UNIT).marks, "label")
    assert len(longer.text) == 66
    assert longer.text.endswith("…")
    assert longer.tooltip == name * 3


def test_charts_side_by_side_share_their_rows() -> None:
    columns = [(name, [Row(c, LOOK, 0.5 + k / 10) for c in "abc"]) for k, name in enumerate(("one", "two"))]
    drawn = charts.matrix_chart(columns, UNIT, reference=0.5)
    assert [mark.text for mark in of_kind(drawn.marks, "label")] == ["a", "b", "c"]
    assert [mark.text for mark in of_kind(drawn.marks, "heading")] == ["one", "two"]
    places = [str(mark.attributes["transform"])[10:-1].split() for mark in of_kind(drawn.marks, "dot")]
    assert [y for _, y in places[:3]] == [y for _, y in places[3:]]
    assert drawn.width <= charts.WIDE + 8


def test_bars_start_at_zero_and_end_at_their_values() -> None:
    drawn = charts.bar_chart([Row("group"), Row("a", LOOK, 0.5, text=".500"), Row("b", LOOK, 0.25, text=".250")], UNIT)
    first, second = of_kind(drawn.marks, "bar")
    assert first.attributes["x"] == second.attributes["x"]
    assert first.attributes["width"] == pytest.approx(2 * float(second.attributes["width"]), abs=0.02)


def test_reliability_points_and_diagonal() -> None:
    square = Axis("", (0.4, 0.6), "ratio")
    drawn = charts.reliability_chart([Point(LOOK, 0.5, 0.5, 0.0, 0.6)], square, square)
    (interval,) = of_kind(drawn.marks, "interval")
    side = charts.SMALL - 60
    assert (interval.attributes["y1"], interval.attributes["y2"]) == (8 + side, 8)
    (diagonal,) = of_kind(drawn.marks, "reference")
    assert (diagonal.attributes["y1"], diagonal.attributes["y2"]) == (8 + side, 8)
    apart = charts.reliability_chart([Point(LOOK, 0.9, 0.1, 0.0, 0.2)], Axis("", (0.8, 1.0)), Axis("", (0.0, 0.3)))
    assert not of_kind(apart.marks, "reference")


def test_a_histogram_draws_what_is_counted() -> None:
    drawn = charts.histogram([0.0, 0.5, 1.0, 1.5], [4, 0, 2], LOOK, Axis("win rate", (0.0, 1.5)))
    tall, half = of_kind(drawn.marks, "bar")
    assert tall.attributes["height"] == pytest.approx(2 * float(half.attributes["height"]))
    assert half.tooltip == "1.000 to 1.500: 2 prompts"
    assert not of_kind(charts.histogram([0.0, 1.0], [0], LOOK, UNIT).marks, "bar")


def test_words_stand_where_they_are_put() -> None:
    (word,) = of_kind(
        charts.line_chart([], UNIT, UNIT, words=[Word(0.5, 0.5, "here", "end")], rules=[0.5]).marks, "word"
    )
    assert (word.attributes["x"], word.attributes["y"], word.attributes["text-anchor"]) == (252.0, 142.0, "end")


def test_routers_look_different() -> None:
    looks = [router_look(k) for k in range(210)]
    assert len(set(looks)) == 210
    assert {look.symbol for look in looks} | {baseline_look("x").symbol} == set(SYMBOLS)
    assert len({baseline_look(name).dash for name in ("random", "length", "constant", "oracle")}) == 4


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_contrast_is_that_of_wcag_aa(palette: dict[str, str]) -> None:
    for ground in ("paper", "panel", "band"):
        for ink in ("ink", "ink-2", "link", "good", "bad"):
            assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    for mark in ("s0", "s1", "s2", "s3", "s4", "s5", "base"):
        assert contrast(palette[mark], palette["paper"]) >= 3, mark
        assert contrast(palette[mark], palette["band"]) >= 3, mark


@pytest.mark.parametrize("palette", [LIGHT, DARK])
@pytest.mark.parametrize("blindness", ["none", "protanopia", "deuteranopia"])
def test_series_are_told_apart_by_colour_blind_readers(palette: dict[str, str], blindness: str) -> None:
    """Machado, Oliveira and Fernandes 2009, severity 1; CIELAB distance of all pairs of series."""
    seen = [lab(MACHADO[blindness] @ linear(palette[f"s{k}"])) for k in range(6)]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest > (25 if blindness == "none" else 15)


def linear(colour: str) -> NDArray[np.float64]:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    lights = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (a, b))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
MACHADO = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
}
