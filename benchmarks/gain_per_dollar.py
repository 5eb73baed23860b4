"""A budget spent in the order of the gain per dollar, against plain alpha: quality over real dollars, paired.

Run: `python benchmarks/gain_per_dollar.py [DATA]` (extra `train`; some minutes, most of them for the sentence encoder,
whose vectors are kept in out/gain-per-dollar). Prints the tables of docs/results/gain-per-dollar.md.

Nothing that decides an order has seen the evaluated row: routers, calibrations and expected costs are fitted on the
other four of five folds. What an order then costs is the real bill of that row.
"""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from routing.artifact import BUILTIN, load
from routing.benchmark_costs import with_costs, with_tokens
from routing.benchmarks import graded
from routing.calibrating import EDGE, Method, fit, fitness
from routing.dollars import dollar_curve, paired_dollars, pgr_within, sample_dollars
from routing.errors import DataError
from routing.estimate import SPLIT, Pricing, estimate, fit_answer_length
from routing.metrics import Floats, average_pgr
from routing.prices import price_snapshot
from routing.reliability import outcomes
from routing.routers import OnnxRouter
from routing.split import with_gain_per_usd
from routing.training.dataset import TrainingSet
from routing.training.embedders import encoder_embedder
from routing.training.encoder import find_encoder, load_encoder
from routing.training.linear import LinearConfig, fit_linear
from routing.training.logistic import logistic
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Run
from routing.trials import Trial, folds
from schemas.artifact import Truncation
from schemas.billing import USD, PriceOverride

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("NIGHTROUTE_DATA", ROOT.parent / "shared" / "data"))
CACHE = ROOT / "out" / "gain-per-dollar"

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
WEAK_IN_ROUTERBENCH = "mixtral-8x7b-instruct-v0.1"
PRICES = price_snapshot(
    [PriceOverride(model=WEAK, input_usd_per_mtok=Decimal("0.6"), output_usd_per_mtok=Decimal("0.6"))]
)
"""Those of the GSM8K replay test: genai-prices' for the strong model, 0.6 for the weak one."""
AT = datetime(2026, 11, 1, tzinfo=UTC)

SEED, FOLDS, RESAMPLES = 0, 5, 2_000
BUDGETS = (0.1, 0.2, 0.3, 0.5, 0.8)
"""Shares of the way from the bill of all weak to that of all strong."""
STATISTICS = {"apgr": average_pgr, **{f"{share:g}": pgr_within(share) for share in BUDGETS}}


@dataclass(frozen=True, slots=True)
class Table:
    """Prompts with both grades and both bills."""

    prompts: list[str]
    tokens: Floats
    """Of each prompt, as the router counts them."""
    strong: Floats
    weak: Floats
    strong_usd: Floats
    weak_usd: Floats
    trials: list[Trial]

    @property
    def extra(self) -> Floats:
        """What the strong model really cost more, USD."""
        return self.strong_usd - self.weak_usd


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: the same prompts in two orders."""

    name: str
    alpha: Floats
    """Order of plain alpha."""
    win_rates: Floats
    """What the gain is taken from."""


# ---- tables ---------------------------------------------------------------------------------------------------------


def gsm8k(data: Path, router: OnnxRouter) -> tuple[Table, dict[str, Floats]]:
    """Real answers of both models; returns expected costs as well: predicted, and as they were."""
    rows = graded(pl.read_parquet(data / "benchmarks" / "gsm8k.parquet"), name="gsm8k", strong=STRONG, weak=WEAK).rows
    rows, unpriced = with_costs(with_tokens(rows, router.count_tokens), PRICES, strong=STRONG, weak=WEAK, at=AT)
    assert not unpriced, unpriced
    table = _table(rows, rows["strong_input_tokens"].to_numpy().astype(np.float64))
    asked = pl.DataFrame({"prompt_tokens": table.tokens.astype(np.int64)}).with_columns(
        row=pl.int_range(pl.len()), max_output_tokens=pl.lit(None, pl.Int64)
    )
    written = {side: rows[f"{side}_output_tokens"].to_numpy().astype(np.float64) for side in ("strong", "weak")}
    predicted = np.empty(len(rows))
    for trial in table.trials:
        priced = asked[trial.evaluated]
        for side, model in (("strong", STRONG), ("weak", WEAK)):
            length = fit_answer_length(table.tokens[trial.labelled], written[side][trial.labelled])
            pricing = Pricing(model, "https://api.openai.com/v1", None, 264, None, length)
            priced = estimate(priced, PRICES, pricing, prefix=side, at=AT, columns=SPLIT)
        usd = priced.select((pl.col("strong_usd") - pl.col("weak_usd")).cast(pl.Float64)).to_series()
        assert not usd.null_count()
        predicted[trial.evaluated] = usd.to_numpy()
    return table, {"predicted": predicted, "known": table.extra}


def routerbench(data: Path, router: OnnxRouter) -> tuple[Table, dict[str, Floats]]:
    """ARC, MBPP and Winogrande with recorded dollars.

    These hold few-shot examples that the prompts do not show. A nightly table counts all input tokens; in their place
    stands the mean cost of the prompt's task in the other folds.
    """
    raw = pl.read_parquet(data / "correctness.parquet").filter(pl.col("source") == "routerbench")
    raw = raw.with_columns(usd=pl.col("cost"), category=pl.col("benchmark").cast(pl.String))
    rows = graded(raw, name="routerbench", strong=STRONG, weak=WEAK_IN_ROUTERBENCH).rows
    table = _table(rows, router.count_tokens(rows["prompt"].to_list()).astype(np.float64))
    tasks = rows["category"].to_numpy()
    predicted = np.empty(len(rows))
    for trial in table.trials:
        for task in np.unique(tasks):
            known, asked = (places[tasks[places] == task] for places in (trial.labelled, trial.evaluated))
            predicted[asked] = table.extra[known].mean()
    return table, {"predicted": predicted, "known": table.extra}


def _table(rows: pl.DataFrame, tokens: Floats) -> Table:
    scores = {name: rows[f"{name}_score"].to_numpy() for name in ("strong", "weak")}
    usd = {f"{name}_usd": rows[f"{name}_usd"].cast(pl.Float64).to_numpy() for name in ("strong", "weak")}
    trials = folds(len(rows), FOLDS, seed=SEED, draw=0)
    return Table(prompts=rows["prompt"].to_list(), tokens=tokens, trials=trials, **scores, **usd)


# ---- win rates ------------------------------------------------------------------------------------------------------


def calibrated(table: Table, rates: Floats, method: Method) -> Floats | None:
    """Out-of-fold calibration of given win rates; null where the router ranks a fold backwards."""
    found = np.empty(len(rates))
    for trial in table.trials:
        seen = trial.labelled
        try:
            fitted = fit(rates[seen], table.strong[seen], table.weak[seen], method)
        except DataError:
            return None
        found[trial.evaluated] = fitted.apply(rates[trial.evaluated])
    return found


def with_length(table: Table, rates: Floats) -> Floats:
    """Out-of-fold chance of a win from the win rate and the prompt's length together."""
    inner = np.clip(rates, EDGE, 1 - EDGE)
    x = np.stack([np.log(inner / (1 - inner)), np.log(table.tokens)], axis=1)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y, found = outcomes(table.strong, table.weak), np.empty(len(rates))
    for trial in table.trials:
        seen = trial.labelled
        weights = logistic(x[seen], y[seen], np.ones(len(seen)), decay=1e-4)
        found[trial.evaluated] = 1 / (1 + np.exp(-(weights[0] + x[trial.evaluated] @ weights[1:])))
    return found


def in_domain(table: Table, embed: PromptEmbeddings) -> Floats:
    """Win rates of the kind `linear`, each by a router fitted on the other folds; it calibrates itself inside them."""
    labels = pl.DataFrame(
        {
            "prompt": table.prompts,
            "target": outcomes(table.strong, table.weak),
            "tie": (table.strong == table.weak).astype(np.float64),
            "weight": np.ones(len(table.prompts)),
            "source": ["labels"] * len(table.prompts),
        }
    )
    found = np.empty(len(table.prompts))
    for trial in table.trials:
        seen, none = labels[trial.labelled], labels.clear()
        dataset = TrainingSet(none, seen, none, none, STRONG, WEAK)
        router = fit_linear(dataset, embed, LinearConfig(), Run(SEED, 2, "cpu", lambda _: None))
        found[trial.evaluated] = router.head.win_rates(embed(labels["prompt"].gather(trial.evaluated)))
    return found


# ---- orders ---------------------------------------------------------------------------------------------------------


def gain_per_usd(win_rates: Floats, extra: Floats) -> Floats:
    """The order of a split, by its own code; queries without a gain last, by their win rate as plain alpha has them."""
    usd = pl.Series("strong_usd", [Decimal(f"{one:.12f}") for one in extra], USD)
    scored = pl.DataFrame({"win_rate": win_rates, "strong_usd": usd}).with_columns(weak_usd=pl.lit(Decimal(0), USD))
    key = with_gain_per_usd(scored)["gain_per_usd"].to_numpy()
    return np.where(key > 0, key, win_rates - 1)


def compared(table: Table, row: Row, extra: Floats) -> list[str]:
    """Cells of a line: APGR over dollars in both orders, and their difference at every budget."""
    order = gain_per_usd(row.win_rates, extra)
    bill = (table.strong, table.weak, table.strong_usd, table.weak_usd)
    plain = sample_dollars(row.alpha, *bill, STATISTICS, resamples=1, seed=SEED)
    found = {
        name: paired_dollars(order, row.alpha, *bill, statistic, resamples=RESAMPLES, seed=SEED)
        for name, statistic in STATISTICS.items()
    }
    differences = [f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in found.values()]
    return [f"{plain['apgr'].value:.3f}", *differences]


def worth(table: Table, win_rates: Floats, extra: Floats) -> float:
    """What the order would add to APGR over dollars if win rates and these costs were exactly right."""
    bill = (win_rates, 1 - win_rates, extra, np.zeros(len(extra)))
    return dollar_curve(gain_per_usd(win_rates, extra), *bill).apgr - dollar_curve(win_rates, *bill).apgr


def section(title: str, table: Table, rows: list[Row], costs: Mapping[str, Floats]) -> list[str]:
    """The lines of one table of the page."""
    actual, predicted = table.extra, costs["predicted"]
    gap = table.strong - table.weak
    budgets = [f"at {share:g} of the extra $" for share in BUDGETS]
    heads = ["router", "cost", "APGR over $, alpha", "gain per $ minus alpha", *budgets, "if all were exact"]
    lines = [
        f"## {title}",
        "",
        f"{len(gap):,} prompts; all weak ${table.weak_usd.sum():.4f}, all strong ${table.strong_usd.sum():.4f}. "
        f"Logarithm of the extra cost of a prompt: standard deviation {_log(actual).std():.2f}, of the predicted one "
        f"{_log(predicted).std():.2f}, R2 {_r2(predicted, actual):.2f}. Correlation of the gap with the extra cost: "
        f"{np.corrcoef(gap, actual)[0, 1]:+.2f}.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    for row in rows:
        for name, extra in costs.items():
            cells = [row.name, name, *compared(table, row, extra), f"{worth(table, row.win_rates, extra):+.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    bill = (table.strong, table.weak, table.strong_usd, table.weak_usd)
    orders = [gap, *(np.where(gap > 0, gap / usd, gap) for usd in (actual, predicted))]
    alone, real, expected = (dollar_curve(order, *bill).apgr for order in orders)
    lines += [
        "",
        f"An oracle of the scores: {alone:.3f} by the gap alone, {real:.3f} per real dollar, {expected:.3f} per "
        "predicted dollar.",
    ]
    calibration = [f"{row.name} {fitness(row.win_rates, table.strong, table.weak).ece:.3f}" for row in rows]
    return [*lines, f"Expected calibration error: {', '.join(calibration)}.", ""]


def rows_of(table: Table, router: OnnxRouter, embed: PromptEmbeddings) -> list[Row]:
    """Routers and ways to calibrate them."""
    static = np.asarray(router.win_rates(table.prompts).win_rate)
    linear = in_domain(table, embed)
    found = [Row("static-mf, as shipped", static, static)]
    for method in ("platt", "isotonic"):
        rates = calibrated(table, static, method)
        if rates is not None:
            found.append(Row(f"static-mf, {method}", static, rates))
    seeing = with_length(table, static)
    found += [
        Row("static-mf, calibrated with length", static, seeing),
        Row("the same, both orders", seeing, seeing),
        Row("linear, in-domain", linear, linear),
    ]
    return found


def _log(usd: Floats) -> Floats:
    return np.log(np.maximum(usd, 1e-9))


def _r2(predicted: Floats, actual: Floats) -> float:
    return float(np.corrcoef(_log(predicted), _log(actual))[0, 1] ** 2)


def main(data: Path) -> None:
    router = OnnxRouter(load(BUILTIN / "static-mf"))
    encoder = encoder_embedder(load_encoder(find_encoder(None)), truncation=Truncation(head=256, tail=128), counts=True)
    embed = PromptEmbeddings(encoder, cache=CACHE)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} shared cores, Python {platform.python_version()}; {FOLDS} "
        f"folds, seed {SEED}, {RESAMPLES:,} resamples.",
        "",
    ]
    for title, read in (("GSM8K", gsm8k), ("RouterBench: ARC, MBPP and Winogrande in one table", routerbench)):
        table, costs = read(data, router)
        lines += section(title, table, rows_of(table, router, embed), costs)
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
