"""Makes the log that `make audit` audits: 90 days of a LiteLLM proxy with known faults, and what an audit has to find.

    python -m examples.make_log out/audit-log --rows 300000

writes, for one seed always the same:

* `spend_logs/*.parquet`: a dump of LiteLLM_SpendLogs, one file a month;
* `usage.csv`: what the providers say was used, by day and model: also by the calls that the log lost;
* `labels.parquet`: graded answers of both models to some of the prompts, drawn by difficulty;
* `faults.json`: the faults, counted where they were put in.

The faults: repeated rows, null ids, one id for many calls, rows without a prompt, rows without a time, a renamed model,
a changed price that the proxy learns two weeks late, a model that nobody has a price for, failed and retried calls,
answers of the proxy's cache, five hours of outage, calls that were never written down.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from examples.log_traffic import EMBEDDING, MODELS, OWN, RENAMED, START, STRONG, WEAK, Traffic, draw, prompt_pool
from examples.spend_logs import spend_logs

ROWS = 300_000
SEED = 20260707

DUPLICATED, DAMAGED = 0.01, 0.0002
NULL_IDS, MISSING_PROMPTS, FAILED, CACHE_HITS, RETRIED = 0.005, 0.02, 0.012, 0.02, 0.01
STATIC_IDS = 0.003
"""Shares of all calls."""
REPLAYED = 0.1
"""Share of the repeated rows that come at the end of the log; the others follow their first within fifty rows."""

PRICE_CHANGED_AT = datetime(2026, 8, 21, tzinfo=UTC)
"""gpt-5.6-sol became cheaper that day (genai-prices 0.2.3)."""
PRICE_LEARNT_AT = datetime(2026, 9, 4, tzinfo=UTC)
RENAMED_AT = datetime(2026, 8, 28, 10, tzinfo=UTC)
NEW_NAME = "claude-haiku-4-5-20251001"
OUTAGE = (datetime(2026, 8, 12, 9, tzinfo=UTC), datetime(2026, 8, 12, 14, tzinfo=UTC))
LOST_FROM = tuple(START + timedelta(days=day, hours=10) for day in (17, 50, 73))
LOST_FOR = timedelta(hours=5)
"""Calls of the weak model that were answered, but not written down."""

RATES = (
    (5.0, 0.5, 6.25, 30.0),
    (0.2, 0.02, 0.2, 1.25),
    (1.0, 0.1, 1.25, 5.0),
    (0.3, 0.03, 0.3, 2.5),
    (0.02, 0.02, 0.02, 0.0),
    (0.0, 0.0, 0.0, 0.0),
)
"""USD per million tokens by model: input, cached input, cache write, output. The own server bills nothing."""
NEW_STRONG_RATES = (4.0, 0.4, 5.0, 20.0)

GRADED = 600
GOOD_ANSWERS = {"trivial": (0.99, 0.97), "easy": (0.97, 0.9), "medium": (0.93, 0.68), "hard": (0.85, 0.35)}
"""Share of good answers of the strong and of the weak model, by difficulty: assumed."""

TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")

Mask = NDArray[np.bool_]


def make_calls(n: int, seed: int, pool: pl.DataFrame) -> pl.DataFrame:
    """The calls as they were made, in order of time, and which faults each of them meets.

    Columns: `call`, `called_at`, `tenant` and `model` (numbers of log_traffic), `name` (served model), `prompt` (row of
    the pool), `ticket`, the tokens, `latency_s`, `usd` (what the provider charges), `spend` (what the proxy notes),
    `error` (a number below 1), `retries`, and the flags `failed`, `cache_hit`, `static_id`, `null_id`, `no_prompt` and
    `lost`.
    """
    traffic = draw(n, seed, pool, silent=OUTAGE)
    rng = np.random.default_rng([seed, 1])
    model, called_at = traffic.model, _moments(traffic)
    retried, again = _chosen(rng, np.ones(n, dtype=np.bool_), RETRIED), rng.random(n)
    own, embedding = model == OWN, model == EMBEDDING
    failed = _chosen(rng, ~embedding, FAILED)
    cache_hit = _chosen(rng, ~failed & ~embedding & ~own, CACHE_HITS)
    static_id = _chosen(rng, own, STATIC_IDS)
    charged = ~failed & ~cache_hit
    tokens = {name: np.where(failed, 0, getattr(traffic, name)) for name in TOKENS}
    lost = np.logical_or.reduce([(called_at >= _at(day)) & (called_at < _at(day + LOST_FOR)) for day in LOST_FROM])
    names = np.array(MODELS, dtype=object)[model]
    return pl.DataFrame(
        {
            "call": np.arange(n),
            "called_at": pl.Series(called_at).dt.replace_time_zone("UTC"),
            "tenant": traffic.tenant,
            "model": model,
            "name": np.where((model == RENAMED) & (called_at >= _at(RENAMED_AT)), NEW_NAME, names),
            "prompt": traffic.prompt,
            "ticket": traffic.ticket,
            **tokens,
            "latency_s": traffic.latency_s,
            "usd": charged * _usd(model, tokens, cheaper=called_at >= _at(PRICE_CHANGED_AT)),
            "spend": charged * _usd(model, tokens, cheaper=called_at >= _at(PRICE_LEARNT_AT)),
            "error": rng.random(n),
            "retries": np.where(retried, 1 + (again < 0.25), 0),
            "failed": failed,
            "cache_hit": cache_hit,
            "static_id": static_id,
            "null_id": _chosen(rng, ~static_id, NULL_IDS),
            "no_prompt": _chosen(rng, ~embedding, MISSING_PROMPTS) | embedding,
            "lost": lost & (model == WEAK) & charged,
        }
    )


def write_down(calls: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The rows of the log, in its order: without lost calls, with repeated rows (`copy`) and torn ones (`damaged`)."""
    rng = np.random.default_rng([seed, 2])
    rows = calls.filter(~pl.col("lost")).with_row_index("place").cast({"place": pl.Float64})
    unlike = ~(rows["null_id"] | rows["static_id"]).to_numpy()
    copies = rows.filter(_chosen(rng, unlike, DUPLICATED))
    near, late = rng.random((2, copies.height))
    behind = np.where(late < REPLAYED, float(rows.height), np.ceil(50 * near))
    torn = rows.filter(_chosen(rng, unlike, DAMAGED))
    return (
        pl.concat(
            [
                rows.with_columns(copy=False, damaged=False),
                copies.with_columns(pl.col("place") + behind + 0.5, copy=True, damaged=False),
                torn.with_columns(pl.col("place") + 0.25, copy=False, damaged=True),
            ]
        )
        .sort("place", "call")
        .drop("place")
    )


def usage_export(calls: pl.DataFrame) -> pl.DataFrame:
    """What the providers billed, by day and model."""
    charged = calls.filter(~pl.col("failed") & ~pl.col("cache_hit"))
    return (
        charged.group_by(day=pl.col("called_at").dt.date(), model="name")
        .agg(
            requests=pl.len(),
            input_tokens=pl.sum("input_tokens"),
            output_tokens=pl.sum("output_tokens"),
            usd=pl.sum("usd"),
        )
        .with_columns(pl.col("usd").round(6))
        .sort("day", "model")
    )


def graded(pool: pl.DataFrame, seed: int) -> pl.DataFrame:
    """GOLDEN labels: prompts with 1 for a good and 0 for a bad answer of either model."""
    rng = np.random.default_rng([seed, 3])
    prompts = pool.filter("single").unique("prompt", maintain_order=True)
    some = prompts.filter(_chosen(rng, np.ones(prompts.height, dtype=np.bool_), GRADED / prompts.height))
    good = np.array([GOOD_ANSWERS[name] for name in some["difficulty"]])
    scores = (rng.random(good.shape) < good).astype(np.float64)
    return some.select("prompt", strong_score=pl.Series(scores[:, 0]), weak_score=pl.Series(scores[:, 1]))


def count_faults(calls: pl.DataFrame, rows: pl.DataFrame) -> dict[str, Any]:
    """What an audit has to find, counted by the flags."""
    kept = rows.filter(~pl.col("copy") & ~pl.col("damaged"))
    strong, haiku = kept.filter(model=STRONG, cache_hit=False), kept.filter(model=RENAMED)
    late = (pl.col("called_at") >= PRICE_CHANGED_AT) & (pl.col("called_at") < PRICE_LEARNT_AT)
    stale = strong.filter(late, ~pl.col("failed"))
    lost = calls.filter("lost")
    renamed = haiku.filter(name=NEW_NAME)
    return {
        "read": rows.height,
        "duplicated": rows["copy"].sum(),
        "duplicated_usd": rows.filter("copy")["spend"].sum(),
        "rejected": rows["damaged"].sum(),
        "kept": kept.height,
        "null_ids": kept["null_id"].sum(),
        "reused_ids": kept["static_id"].sum(),
        "missing_prompts": kept["no_prompt"].sum(),
        "failed": kept["failed"].sum(),
        "retried": kept.filter(pl.col("retries") > 0).height,
        "extra_attempts": kept["retries"].sum(),
        "unbilled": kept["cache_hit"].sum(),
        "unpriced": kept.filter(model=OWN).height,
        "outage": [moment.isoformat() for moment in OUTAGE],
        "rename": {
            "before": MODELS[RENAMED],
            "after": NEW_NAME,
            "changed_at": renamed["called_at"][0].isoformat(),
            "calls_before": haiku.height - renamed.height,
            "calls_after": renamed.height,
        },
        "price_change": {
            "model": MODELS[STRONG],
            "changed_at": PRICE_CHANGED_AT.isoformat(),
            "calls_before": strong.filter(pl.col("called_at") < PRICE_CHANGED_AT).height,
            "calls_after": strong.filter(pl.col("called_at") >= PRICE_CHANGED_AT).height,
            "stale_calls": stale.height,
            "overstated_usd": (stale["spend"] - stale["usd"]).sum(),
        },
        "lost": {
            "calls": lost.height,
            "input_tokens": lost["input_tokens"].sum(),
            "output_tokens": lost["output_tokens"].sum(),
            "keys": sorted({f"{day} / {MODELS[WEAK]}" for day in lost["called_at"].dt.date()}),
        },
        "cost_usd": kept["usd"].sum(),
    }


def make_log(folder: Path, *, rows: int = ROWS, seed: int = SEED) -> dict[str, Any]:
    """Write everything into a folder; returns the content of `faults.json`.

    Args:
        folder: Made if need be; files of an earlier log in it are replaced.
        rows: Calls made, before rows are lost and repeated; twenty thousand and more show every fault.
        seed: The same seed gives the same log.
    """
    pool = prompt_pool()
    calls = make_calls(rows, seed, pool)
    written = write_down(calls, seed)
    (folder / "spend_logs").mkdir(parents=True, exist_ok=True)
    for old in (folder / "spend_logs").glob("*.parquet"):
        old.unlink()
    for name, part in _by_month(written):
        spend_logs(part, pool).write_parquet(folder / "spend_logs" / f"{name}.parquet")
    usage_export(calls).write_csv(folder / "usage.csv")
    graded(pool, seed).write_parquet(folder / "labels.parquet")
    faults = count_faults(calls, written)
    (folder / "faults.json").write_text(json.dumps(faults, indent=1) + "\n", "utf-8")
    return faults


def _by_month(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Cut where the log reaches a new month; rows that are replayed at its end stay there."""
    month = pl.col("called_at").dt.truncate("1mo").cum_max()
    for (first,), part in rows.group_by(month.alias("month"), maintain_order=True):
        yield f"{first:%Y-%m}", part


def _chosen(rng: np.random.Generator, eligible: Mask, share: float) -> Mask:
    """Mark exactly `share` of all places, each eligible one with the same chance."""
    places = np.flatnonzero(eligible)
    order = np.argsort(rng.random(len(places)), kind="stable")
    found = np.zeros(len(eligible), dtype=np.bool_)
    found[places[order[: round(share * len(eligible))]]] = True
    return found


def _moments(traffic: Traffic) -> NDArray[np.datetime64]:
    """To the millisecond, as PostgreSQL keeps them there."""
    return _at(START) + np.round(traffic.seconds * 1_000).astype("timedelta64[ms]")


def _at(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "ms")


def _usd(model: NDArray[np.int64], tokens: dict[str, NDArray[np.int64]], *, cheaper: Mask) -> NDArray[np.float64]:
    """What tokens cost, as a float, the way a proxy adds it up."""
    rates = np.array(RATES)[model]
    rates[cheaper & (model == STRONG)] = NEW_STRONG_RATES
    cached, written = tokens["cached_tokens"], tokens["cache_write_tokens"]
    kinds = np.stack([tokens["input_tokens"] - cached - written, cached, written, tokens["output_tokens"]], axis=1)
    found: NDArray[np.float64] = (kinds * rates / 1e6).sum(axis=1)
    return found


def main() -> None:
    """Write the log."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    print(json.dumps(make_log(given.folder, rows=given.rows, seed=given.seed), indent=1))


if __name__ == "__main__":
    main()
