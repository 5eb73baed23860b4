import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs import demo_data, demo_figures
from jobs.demo_charts import RANDOM, curve_chart
from jobs.demo_figures import LENGTH, Choice, Curve
from jobs.report.palette import DARK, LIGHT
from routing.dollars import dollar_curve
from routing.errors import DataError
from routing.metrics import cost_quality_curve
from routing.prices import price_snapshot
from routing.pricing import RateCard, Unpriced
from schemas.billing import PriceOverride

AT = datetime(2026, 11, 20, tzinfo=UTC)
PRICES = price_snapshot(
    [
        PriceOverride(model="big", input_usd_per_mtok=Decimal(10), output_usd_per_mtok=Decimal(30)),
        PriceOverride(model="small", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2)),
    ]
)
BIG, SMALL = Choice("big", None, 100), Choice("small", None, 50)

# ---- what is read ---------------------------------------------------------------------------------------------------


def test_typed_lines_are_prompts() -> None:
    assert demo_data.typed(" one \n\n\ttwo\n \n", one_a_line=True).texts == ["one", "two"]
    whole = demo_data.typed(" one \n\n two ", one_a_line=False)
    assert (whole.texts, whole.given, whole.labelled) == (["one \n\n two"], 1, False)
    assert demo_data.typed(" \n", one_a_line=False).rows.is_empty()


TABLE = pl.DataFrame({"id": [1, 2], "note": ["a", "b"], "Question": ["long enough?", "yes, it is"]})


def uploads() -> dict[str, bytes]:
    parquet, csv = io.BytesIO(), io.BytesIO()
    TABLE.write_parquet(parquet)
    TABLE.write_csv(csv)
    lines = TABLE.write_ndjson().encode()
    return {"t.PARQUET": parquet.getvalue(), "t.csv": csv.getvalue(), "t.jsonl": lines, "t.ndjson": lines}


@pytest.mark.parametrize("name", uploads())
def test_an_upload_is_read_by_the_end_of_its_name(name: str) -> None:
    assert demo_data.read_upload(name, uploads()[name]).equals(TABLE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"PK", r"t\.xlsx: files ending in '\.xlsx' are not read; drop one of \.parquet, \.csv"),
        ("t.parquet", b"not parquet at all", "cannot be read as parquet"),
        ("t.jsonl", b"{broken", "cannot be read as jsonl"),
        ("t.csv", b"a,b\n", "has no rows"),
        ("t.csv", b"", "cannot be read as csv"),
    ],
)
def test_what_is_no_table_is_told(name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        demo_data.read_upload(name, content)


def test_the_likeliest_prompt_column_stands_first() -> None:
    assert demo_data.text_columns(TABLE, name="t") == ["Question", "note"]
    longest = pl.DataFrame({"a": ["x"], "b": ["longer"], "c": [None]}, schema_overrides={"c": pl.String})
    assert demo_data.text_columns(longest, name="t") == ["b", "a", "c"]
    with pytest.raises(DataError, match="no column of text"):
        demo_data.text_columns(pl.DataFrame({"a": [1]}), name="t")


def test_rows_without_a_prompt_are_counted() -> None:
    prompts = demo_data.unlabelled(pl.DataFrame({"q": ["a", None, "  ", "b"]}), "q")
    assert (prompts.texts, prompts.given, prompts.left_out) == (["a", "b"], 4, {"rows without a prompt": 2})


def test_a_draw_is_stated_and_repeats() -> None:
    prompts = demo_data.typed("\n".join(map(str, range(1_000))), one_a_line=True)
    some = demo_data.drawn(prompts, 100)
    assert some.texts == demo_data.drawn(prompts, 100).texts
    assert sorted(map(int, some.texts)) == list(map(int, some.texts))
    assert len(set(some.texts)) == 100
    assert some.texts != prompts.texts[:100]
    assert some.given == 1_000
    assert demo_data.drawn(prompts, 1_000) is prompts


GOLDEN = pl.DataFrame({"q": ["a", "b", " "], "strong_score": [10, 8, 9], "weak_score": [5, 8, 1]})
GRADED = pl.DataFrame({"q": ["a", "a", "b", "b"], "model": ["s", "w", "s", "w"], "score": [1.0, 0.0, 1.0, 1.0]})
FOUGHT = pl.DataFrame({"q": ["a", "b"], "model_a": "s", "model_b": "w", "winner": ["model_a", "tie"]})


@pytest.mark.parametrize(
    ("table", "layout", "models", "largest", "strong", "weak"),
    [
        (GOLDEN, "golden", [], 10.0, [1.0, 0.8], [0.5, 0.8]),
        (GRADED, "correctness", ["s", "w"], 1.0, [1.0, 1.0], [0.0, 1.0]),
        (FOUGHT, "battles", ["s", "w"], 1.0, [1.0, 0.5], [0.0, 0.5]),
    ],
)
def test_tables_of_labels(
    table: pl.DataFrame, layout: str, models: list[str], largest: float, strong: list[float], weak: list[float]
) -> None:
    assert demo_data.label_layout(table) == layout
    assert demo_data.labelled_models(table, layout) == models
    assert demo_data.largest_score(table, layout) == largest
    pair = {"strong": "s", "weak": "w"}
    prompts = demo_data.labelled(table, layout, "q", name="t", largest=largest, **pair)
    assert prompts.labelled
    assert prompts.texts == ["a", "b"]
    assert prompts.rows["strong_score"].to_list() == strong
    assert prompts.rows["weak_score"].to_list() == weak
    assert prompts.given == len(table)


def test_tables_without_labels() -> None:
    assert demo_data.label_layout(TABLE) is None
    with pytest.raises(DataError, match="choose two models"):
        demo_data.labelled(GRADED, "correctness", "q", name="t", strong="s", weak="s", largest=1.0)
    with pytest.raises(DataError, match="scores must lie in"):
        demo_data.labelled(GOLDEN, "golden", "q", name="t", strong="", weak="", largest=1.0)
    words = GRADED.with_columns(score=pl.lit("good"))
    assert demo_data.labelled_models(words, "correctness") == ["s", "w"]
    assert demo_data.largest_score(words, "correctness") == 1.0


# ---- what is shown --------------------------------------------------------------------------------------------------


def costed() -> pl.DataFrame:
    return demo_figures.costs(np.array([93, 193, 993, 3]), BIG, SMALL, PRICES, at=AT)


def test_costs_are_counted_prompts_and_assumed_answers() -> None:
    assert costed()["prompt_tokens"].to_list() == [100, 200, 1_000, 10]
    # (100 * 10 + 100 * 30) / 10**6 and (100 * 1 + 50 * 2) / 10**6, ...
    assert costed()["strong_usd"].to_list() == [Decimal(n) / 1_000_000 for n in (4_000, 5_000, 13_000, 3_100)]
    assert costed()["weak_usd"].to_list() == [Decimal(n) / 1_000_000 for n in (200, 300, 1_100, 110)]


RATES = np.array([0.7, 0.5, 0.5, 0.2])


@pytest.mark.parametrize(
    ("alpha", "n_strong", "usd"),
    [(0.0, 4, "0.0251"), (0.5, 3, "0.02211"), (0.501, 1, "0.00551"), (0.7, 1, "0.00551"), (0.71, 0, "0.00171")],
)
def test_an_alpha_has_routes_and_a_bill(alpha: float, n_strong: int, usd: str) -> None:
    made = demo_figures.outcome(RATES, costed(), alpha)
    assert (made.n, made.n_strong, made.usd) == (4, n_strong, Decimal(usd))
    assert (made.all_strong_usd, made.all_weak_usd) == (Decimal("0.0251"), Decimal("0.00171"))
    assert made.saved_share == pytest.approx(1 - float(usd) / 0.0251)
    table = demo_figures.routes(pl.DataFrame({"prompt": list("abcd")}), costed(), {"r": RATES}, alpha)
    assert table["r route"].to_list() == ["strong" if rate >= alpha else "weak" for rate in RATES]
    assert table.columns == ["prompt", "r win rate", "r route", "tokens", "strong USD", "weak USD"]
    assert table["strong USD"].to_list() == [0.004, 0.005, 0.013, 0.0031]


def test_unpriced_is_never_free() -> None:
    unknown = Choice("my-own-model", None, 10)
    table = demo_figures.costs(np.array([1, 2]), unknown, SMALL, PRICES, at=AT)
    made = demo_figures.outcome(np.array([0.1, 0.9]), table, 0.5)
    assert (made.usd, made.all_strong_usd, made.saved_share) == (None, None, None)
    assert made.all_weak_usd == Decimal("0.000217")
    shown = demo_figures.routes(pl.DataFrame({"prompt": ["a", "b"]}), table, {"r": np.array([0.1, 0.9])}, 0.5)
    assert shown["strong USD"].to_list() == ["unpriced", "unpriced"]
    assert shown["weak USD"].dtype == pl.Float64
    assert demo_figures.curve(np.array([0.1, 0.9]), np.ones(2), np.zeros(2), table).usd_per_1000 is None
    assert isinstance(unknown.rates(PRICES, AT), Unpriced)


def test_models_are_chosen_from_the_snapshot_or_typed() -> None:
    names = demo_figures.model_names(PRICES, AT)
    assert names["openai/gpt-4-turbo"] == ("openai", "gpt-4-turbo")
    assert names["openrouter/openai/gpt-4-turbo"] == ("openrouter", "openai/gpt-4-turbo")
    assert "big" not in names
    assert "openai/text-embedding-3-small" not in names
    turbo = demo_figures.chosen("openai/gpt-4-turbo", names, 264)
    assert turbo == Choice("gpt-4-turbo", "openai", 264)
    rates = turbo.rates(PRICES, AT)
    assert isinstance(rates, RateCard)
    assert (rates.input_usd_per_mtok, rates.output_usd_per_mtok) == (Decimal(10), Decimal(30))
    assert demo_figures.chosen("meta/my-llama", names, 1) == Choice("meta/my-llama", None, 1)


def test_the_curve_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(5)
    rates = rng.random(300).round(1)
    weak = rng.random(300)
    strong = np.minimum(weak + rng.random(300), 1.0)
    table = demo_figures.costs(rng.integers(1, 500, 300), BIG, SMALL, PRICES, at=AT)
    found = demo_figures.curve(rates, strong, weak, table)
    known = cost_quality_curve(rates, strong, weak)
    np.testing.assert_allclose(found.strong_share, known.strong_share)
    np.testing.assert_allclose(found.quality, known.quality)
    assert found.pgr(4) == pytest.approx(known.pgr[4])
    on_strong, on_weak = (table[c].cast(pl.Float64).to_numpy() for c in ("strong_usd", "weak_usd"))
    dollars = dollar_curve(rates, strong, weak, on_strong, on_weak).usd
    assert found.usd_per_1000 is not None
    np.testing.assert_allclose(found.usd_per_1000 * 0.3, dollars)
    # A cut of the curve is what the alpha there costs.
    for alpha in (0.0, 0.35, 0.9, 1.0):
        made = demo_figures.outcome(rates, table, alpha)
        assert found.usd_per_1000[found.at(made.strong_share)] * 0.3 == pytest.approx(float(made.usd or -1))


def test_a_router_may_expect_the_weak_model_to_win() -> None:
    rates = np.array([0.4, 0.3])
    strong, weak = demo_figures.claim(rates)
    curve = demo_figures.curve(rates, strong, weak, costed().head(2))
    np.testing.assert_allclose(curve.quality, [0.65, 0.55, 0.35])
    assert curve.pgr(1) is None
    assert demo_figures.apgr(rates, strong, weak) is None


def test_curves_in_numbers() -> None:
    unpriced = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.2, 0.4]), None)
    table = demo_figures.curve_table({"r": unpriced}, {"r": unpriced}, one_truth=False)
    assert table.columns == ["curve", "strong share", "quality"]
    assert table.rows() == [
        ("r", 0.0, 0.1), ("r", 0.5, 0.2), ("r", 1.0, 0.4),
        (f"{LENGTH} (r)", 0.0, 0.1), (f"{LENGTH} (r)", 0.5, 0.2), (f"{LENGTH} (r)", 1.0, 0.4),
    ]  # fmt: skip
    priced = Curve(unpriced.strong_share, unpriced.quality, np.array([1.0, 2.0, 9.0]))
    measured = demo_figures.curve_table({"r": priced, "s": priced}, {"r": priced, "s": priced}, one_truth=True)
    assert measured["curve"].unique(maintain_order=True).to_list() == ["r", "s", LENGTH]
    assert measured["USD per 1,000"].to_list() == [1.0, 2.0, 9.0] * 3


def test_alpha_ranges_over_what_moves_something() -> None:
    rates = {"a": np.array([0.456, 0.7, 0.5]), "b": np.array([0.41])}
    low, high, start = demo_figures.alpha_range(rates)
    assert (low, high, start) == (0.41, 0.71, 0.5)
    assert [demo_figures.outcome(rates["a"], costed().head(3), a).n_strong for a in (low, high)] == [3, 0]
    assert demo_figures.alpha_range({"a": np.array([0.0, 1.0])}) == (0.0, 1.0, 0.5)


# ---- the chart ------------------------------------------------------------------------------------------------------


def layers(chart: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [layer["data"]["values"] for layer in chart["layer"]]


def test_the_chart_marks_alpha_on_every_router() -> None:
    strong, weak = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
    a = demo_figures.curve(RATES, strong, weak, costed())
    b = demo_figures.curve(-RATES, strong, weak, costed())
    chart = curve_chart({"a": a, "b": b}, {"a": 1, "b": 2}, length=b, alpha=0.6, quality="Quality")
    lines, rules, points, label = layers(chart)
    assert {row["curve"] for row in lines} == {"a", "b", LENGTH, RANDOM}
    assert [(row["x"], row["y"]) for row in lines if row["curve"] == RANDOM] == [
        pytest.approx((0.4275, 0.25)), pytest.approx((6.275, 0.75)),
    ]  # fmt: skip
    assert rules == points
    assert [(p["curve"], p["share"], p["x"], p["y"]) for p in points] == [
        ("a", 0.25, pytest.approx(1.3775), 0.5), ("b", 0.75, pytest.approx(5.325), 0.5),
    ]  # fmt: skip
    assert label[0]["words"] == "alpha .600"
    assert chart["description"] == (
        "Quality over USD per 1,000 prompts. At alpha .600: a: strong share .250, Quality .500; "
        "b: strong share .750, Quality .500"
    )
    json.dumps(chart)


def test_the_chart_without_prices_and_in_the_dark() -> None:
    rates = np.linspace(0.1, 0.9, 5_000)
    table = demo_figures.costs(np.full(5_000, 9), Choice("nobody", None, 1), SMALL, PRICES, at=AT)
    curve = demo_figures.curve(rates, *demo_figures.claim(rates), table)
    chart = curve_chart({"a": curve}, {"a": 9}, length=curve, alpha=0.5, quality="Q", first=1, dark=True)
    assert chart["layer"][0]["encoding"]["x"]["title"] == "Strong share"
    assert sum(row["curve"] == "a" for row in layers(chart)[0]) == 250
    assert chart["layer"][0]["encoding"]["color"]["scale"]["range"] == [DARK["s1"], DARK["base"], DARK["base"]]
    light = curve_chart({"a": curve}, {"a": 9}, length=curve, alpha=0.5, quality="Q")
    assert light["layer"][0]["encoding"]["color"]["scale"]["range"][0] == LIGHT["s0"]
