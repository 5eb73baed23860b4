from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from jobs.evaluate_robustness import (
    ConfounderSection,
    DriftSection,
    RobustnessSection,
    Target,
    drift,
    drift_table,
    robustness,
)
from routing.errors import DataError
from schemas.evaluation import Robustness

PIECES = [f"w{i}" for i in range(20)]
PROMPTS = [f"{'x' * (i + 1)}" for i in range(40)]


def by_length(texts: Sequence[str]) -> NDArray[np.float64]:
    """Longer is stronger; capitals do not count, `w7` counts a lot."""
    return np.array([min(1.0, len(text.strip()) / 100 + 0.5 * text.count("w7")) for text in texts])


def rows(section: RobustnessSection, prompts: Sequence[str] = PROMPTS, *, seed: int = 0) -> dict[str, Robustness]:
    found = robustness(Target("r", by_length, PIECES), prompts, benchmark="b", section=section, seed=seed)
    return {row.perturbation: row for row in found}


def section(**options: object) -> RobustnessSection:
    return RobustnessSection.model_validate({"benchmarks": ["b"]} | options)


def test_what_a_router_ignores_flips_nothing() -> None:
    found = rows(section(perturbations=["upper_case", "trailing_newline"]))
    for row in found.values():
        assert row.n == 40
        assert row.flips == row.to_strong == {"0.2": 0.0, "0.5": 0.0, "0.8": 0.0}
        assert (row.mean_shift, row.detail) == (0.0, "40 of 40 prompts changed")


def test_flips_by_hand() -> None:
    # Prompts of 1 to 40 letters. Thanks adds 9: alpha at one half is 0.21, which those of 12 to 20 now reach.
    row = rows(section(perturbations=["thanks"], strong_shares=[0.5]))["thanks"]
    assert row.flips == row.to_strong == {"0.5": pytest.approx(9 / 40)}
    assert row.mean_shift == pytest.approx(0.09)


def test_a_move_to_weak_is_a_flip_but_not_the_owners_money() -> None:
    spaced = [text + " a" * 3 + "  " * (i % 2) + "b" for i, text in enumerate(PROMPTS)]
    row = rows(section(perturbations=["single_spaces"]), spaced)["single_spaces"]
    assert sum(row.flips.values()) > 0
    assert sum(row.to_strong.values()) == 0
    assert row.mean_shift < 0


def test_the_confounder_is_measured_on_prompts_it_was_not_tuned_on() -> None:
    asked: list[str] = []

    def recorded(texts: Sequence[str]) -> NDArray[np.float64]:
        asked.extend(texts)
        return by_length(texts)

    options = section(perturbations=[], confounder={"length": 2, "candidates": 10, "max_queries": 3_000})
    assert options.confounder == ConfounderSection(length=2, candidates=10, max_queries=3_000)
    control, attack = robustness(Target("r", recorded, PIECES), PROMPTS, benchmark="b", section=options, seed=2)
    assert (control.perturbation, attack.perturbation) == ("random suffix", "confounder suffix")
    # A quarter of 40 prompts is tuned on.
    assert control.n == attack.n == 30
    measured = asked[:30]
    tuned = {text.split()[0] for text in asked[60:-30]}
    assert len(tuned) == 10
    assert not tuned & set(measured)
    assert "w7 w7" in attack.detail
    assert "of the 10 prompts it was tuned on" in attack.detail
    # Now all are sent to the strong model: those that were weak, 80, 50 and 20 %.
    assert attack.to_strong == attack.flips == {"0.2": pytest.approx(0.8), "0.5": 0.5, "0.8": pytest.approx(0.2)}
    assert attack.mean_shift > control.mean_shift


def test_prompts_are_drawn_with_the_seed_and_once_each() -> None:
    few = section(perturbations=["thanks"], max_prompts=10)
    assert rows(few)["thanks"] == rows(few, PROMPTS * 3)["thanks"]
    assert rows(few)["thanks"].n == 10
    assert rows(few)["thanks"] != rows(few, seed=1)["thanks"]


def test_too_few_prompts_say_so() -> None:
    with pytest.raises(DataError, match="at least 4 different prompts, got 1; give more"):
        rows(section(), ["same"] * 30)


def test_unknown_changes_are_refused() -> None:
    with pytest.raises(ValidationError, match="choose from"):
        section(perturbations=["rot13"])


LOG = pl.DataFrame(
    {
        "text": ["a", "b", "c", "d", "e", "f", "", None],
        "lang": ["en", "en", "de", "de", "de", None, "en", "en"],
        "kind": [1, 1, 1, 2, 2, 2, 1, 1],
    }
)


def test_drift_by_hand(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    options = DriftSection(
        path="log.parquet", prompt="text", groups={"language": "lang", "kind": "kind"}, min_prompts=2
    )
    table = drift_table(options, tmp_path)
    assert table["prompt"].to_list() == list("abcdef")
    found = drift(table, np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), router="r", section=options)
    assert [(row.group, row.n) for row in found] == [
        ("all", 6),
        ("language = de", 3),
        ("language = en", 2),
        ("kind = 1", 3),
        ("kind = 2", 3),
    ]
    # Half of the table is strong: d e f.
    assert [row.strong_share for row in found] == pytest.approx([0.5, 2 / 3, 0, 0, 1])
    assert found[1].mean == pytest.approx(0.4)
    assert found[0].quantiles == pytest.approx([0.125, 0.225, 0.35, 0.475, 0.575])


def test_small_groups_and_other_rows_are_passed_over(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    options = DriftSection(
        path="log.parquet", prompt="text", where={"lang": ("en", "de")}, groups={"language": "lang"}, min_prompts=3
    )
    table = drift_table(options, tmp_path)
    found = drift(table, np.linspace(0, 1, len(table)), router="r", section=options)
    assert [(row.group, row.n) for row in found] == [("all", 5), ("language = de", 3)]


def test_a_log_without_the_columns_says_so(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"columns \['prompt', 'category'\] are missing"):
        drift_table(DriftSection(path="log.parquet"), tmp_path)
    LOG.with_columns(text=pl.lit(" ")).write_parquet(tmp_path / "blank.parquet")
    with pytest.raises(DataError, match="no row of 8 has a prompt"):
        drift_table(DriftSection(path="blank.parquet", prompt="text", groups={}), tmp_path)
