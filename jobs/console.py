"""What people see: progress and summaries on stderr, one JSON line on stdout."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from jobs.embedding_cost import EmbeddingForecast
from jobs.splitting import Forecast
from routing.dispatch import Progress as DispatchProgress
from routing.estimate import LENGTH_SPREAD, TOKENIZER_SPREAD, Interval
from schemas.artifact import Metric
from schemas.run import AnswerLength, EmbeddingBill, Manifest, Split


class FitProgress(Protocol):
    """One report of a fit: `routing.training.router.Progress`, which the nightly job must not import."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def loss(self) -> float:
        """Training loss."""

    @property
    def validation_loss(self) -> float | None:
        """Loss on held-out labels; null between validations."""

    @property
    def apgr(self) -> float | None:
        """APGR on held-out labels."""


REFRESH_S = 0.2
PLAIN_S = 10.0
"""Seconds between progress lines when stderr is no terminal: a log, not an animation."""

STDERR = Console(stderr=True, highlight=False)


def emit(record: Mapping[str, Any]) -> None:
    """Write the one JSON line of a job to stdout; it is the last line there."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Write a line for people."""
    STDERR.print(text, markup=False, soft_wrap=True)


@contextmanager
def part_bar(title: str, total: int) -> Iterator[Callable[[object], None]]:
    """Show progress over parts; yields the function to call after each."""
    if not STDERR.is_terminal:
        yield lambda _: None
        return
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda _: bar.advance(task)


@contextmanager
def dispatch_bar(counters: Mapping[str, DispatchProgress], totals: Mapping[str, int]) -> Iterator[None]:
    """Show one bar per model while calls run; plain lines when stderr is no terminal."""
    stop = threading.Event()

    def line() -> str:
        pieces = [
            f"{side} {c.answered + c.failed}/{totals[side]} (failed {c.failed}, refused {c.refusals})"
            for side, c in counters.items()
        ]
        return "dispatch: " + ", ".join(pieces)

    def plain() -> None:
        while not stop.wait(PLAIN_S):
            say(line())

    def animated() -> None:
        with _bar() as bar:
            tasks = {side: bar.add_task(f"dispatch {side}", total=totals[side]) for side in counters}
            while not stop.wait(REFRESH_S):
                for side, task in tasks.items():
                    bar.update(task, completed=counters[side].answered + counters[side].failed)
            for side, task in tasks.items():
                bar.update(task, completed=counters[side].answered + counters[side].failed)

    thread = threading.Thread(target=animated if STDERR.is_terminal else plain, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def fit_bar(title: str) -> Iterator[Callable[[FitProgress], None]]:
    """Show the steps of a fit with loss, held-out loss and APGR; a line per validation when stderr is no terminal."""

    def told(progress: FitProgress) -> str:
        apgr = "" if progress.apgr is None else f", held-out APGR {progress.apgr:.3f}"
        return f"{title}: loss {progress.loss:.4f}, held-out loss {progress.validation_loss:.4f}{apgr}"

    def plain(progress: FitProgress) -> None:
        if progress.validation_loss is not None:
            say(f"step {progress.step} of {progress.steps}, {told(progress)}")

    if not STDERR.is_terminal:
        yield plain
        return
    with _bar() as bar:
        task = bar.add_task(title, total=None)

        def animated(progress: FitProgress) -> None:
            if progress.validation_loss is not None:
                bar.update(task, description=told(progress))
            bar.update(task, completed=progress.step, total=progress.steps)

        yield animated


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=STDERR, transient=True)


def usd(amount: Decimal | None) -> str:
    """Dollars for people: cents where there are dollars, more digits where there are none."""
    if amount is None:
        return "unpriced"
    return f"${amount:,.2f}" if abs(amount) >= 10 else f"${amount:,.6f}"  # ten dollars


def show_embedding_plan(missing: EmbeddingForecast, model: str) -> None:
    """Print what has to be bought before a table can be split."""
    say(
        f"embedding: {missing.prompts:,} prompts, about {missing.input_tokens:,} tokens in {missing.requests:,} "
        f"requests to {model}, expected cost {span(missing.usd)}"
    )
    say("nothing was sent; scores and split need these embeddings: `plan --embed` or `run` buys them")


def show_plan(
    split: Split,
    forecast: Forecast,
    models: Mapping[str, str],
    *,
    rejected: int,
    embedding: EmbeddingBill | None = None,
) -> None:
    """Print what `nightroute plan` found."""
    sent = "nothing was sent" if embedding is None else "nothing but embeddings was sent"
    table = Table(title=f"plan: {sent}", title_justify="left")
    for name, justify in (("route", "left"), ("model", "left"), ("queries", "right"), ("share", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich's literal type
    table.add_column("input tokens", justify="right")
    table.add_column("expected output tokens", justify="right")
    for side, n in (("strong", split.n_strong), ("weak", split.n - split.n_strong)):
        share = f"{n / split.n:.3f}" if split.n else "-"
        table.add_row(
            side, models[side], f"{n:,}", share, f"{forecast.input_tokens[side]:,}", f"{forecast.output_tokens[side]:,}"
        )
    STDERR.print(table)
    at = "alpha" if split.alpha is not None else "this gain"
    ties = f", {split.n_tied_strong} of {split.n_tied} queries at exactly {at} go strong" if split.n_tied > 1 else ""
    say(f"{threshold(split)} from {split.rule} = {split.wanted}{ties}")
    for side, length in split.answer_lengths.items():
        say(f"answers of {models[side]}: {answer_length(length)}")
    for title, interval in (
        ("expected cost", forecast.routed),
        ("all strong", forecast.all_strong),
        ("all weak", forecast.all_weak),
    ):
        say(f"{title}: {span(interval)}")
    if embedding is not None:
        say(f"{embedding_line(embedding)}, spent already")
    say(
        f"the ranges allow {TOKENIZER_SPREAD:.0%} in input tokens and a factor {LENGTH_SPREAD:g} in mean answer length "
        "around expected_output_tokens"
    )
    if rejected:
        say(f"rows rejected: {rejected} (rejected.parquet in the run folder says why)")


def threshold(split: Split) -> str:
    """Where a table was cut, in the unit of its order."""
    if split.alpha is not None:
        return f"alpha {split.alpha:.6f}"
    return f"min_gain_per_usd {split.min_gain_per_usd:.6g} (expected score points a dollar more has to buy)"


def answer_length(length: AnswerLength) -> str:
    """How long answers are expected to be, for people."""
    source = f"fitted on {length.answers:,} answers" if length.answers else "assumed"
    if not length.power:
        return f"{length.scale:.1f} tokens ({source})"
    return f"{length.scale:.4g} x prompt tokens ^ {length.power:.3f} ({source})"


def span(interval: Interval | None) -> str:
    """A cost with its range, for people."""
    if interval is None:
        return "unknown: a model has no price, which is not $0; add [[prices]] to the config"
    return f"{usd(interval.expected)} ({usd(interval.low)} to {usd(interval.high)})"


def embedding_line(bill: EmbeddingBill) -> str:
    """What embeddings cost, as a line of its own: they are no part of any query's cost."""
    unpriced = f", {bill.unpriced_requests:,} of the requests UNPRICED" if bill.unpriced_requests else ""
    lost = f", {bill.unknown_calls} in flight at a kill" if bill.unknown_calls else ""
    return (
        f"embedding: {usd(bill.cost_usd)} for {bill.prompts:,} prompts, {bill.input_tokens:,} tokens in "
        f"{bill.requests:,} requests to {bill.model}{unpriced}{lost}"
    )


def show_manifest(manifest: Manifest, output: str) -> None:
    """Print the summary of a published run."""
    totals, rows = manifest.totals, manifest.rows
    table = Table(title=f"run {manifest.run_id}, revision {manifest.revision}", title_justify="left")
    for name in ("", "queries", "mean output tokens", "cost"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    identity = manifest.identity
    names = dict.fromkeys((identity.strong["name"], identity.weak["name"]))
    for model, sums in ((name, manifest.models[name]) for name in names if name in manifest.models):
        mean = sums["mean_output_tokens"]
        table.add_row(
            model, f"{sums['rows']:,}", "-" if mean is None else f"{mean:.1f}", usd(Decimal(str(sums["cost_usd"])))
        )
    table.add_section()
    table.add_row("total", f"{rows['published']:,}", "", usd(totals.cost_usd))
    answered = rows["ok"] + rows["truncated"]
    if answered:
        table.add_row("all strong, modelled", "", "", usd(totals.all_strong_usd))
        table.add_row("all weak, modelled", "", "", usd(totals.all_weak_usd))
    if totals.saved_share is not None:
        table.add_row(
            "saved against all strong", "", "", f"{usd(totals.saved_vs_strong_usd)} ({totals.saved_share:.1%})"
        )
    STDERR.print(table)
    say(
        f"rows: {rows['read']:,} read, {answered:,} answered ({rows['truncated']:,} truncated), "
        f"{rows['failed']:,} failed, {rows['unsent']:,} unsent, {rows['rejected']:,} rejected; "
        f"{totals.attempts:,} calls; {threshold(manifest.split)}"
    )
    if manifest.embedding is not None:
        say(f"{embedding_line(manifest.embedding)}, on top of the total")
    for code, count in manifest.errors.items():
        say(f"  {code}: {count:,}")
    if totals.unpriced_rows:
        say(
            f"UNPRICED: {totals.unpriced_rows:,} answered rows have no price and are in no sum; "
            "add [[prices]] to the config for the next run"
        )
    if totals.unknown_calls:
        say(
            f"UNKNOWN: {totals.unknown_calls} calls were in flight when a run was killed; "
            "the provider may have billed them"
        )
    if totals.spent_usd != totals.cost_usd:
        also = "" if manifest.embedding is None else "embeddings, "
        say(f"spent by this run so far, {also}earlier revisions and repeated calls included: {usd(totals.spent_usd)}")
    say(f"read it with: pl.read_parquet({f'{output}/**/*.parquet'!r})")


def show_metrics(router: str, metrics: Sequence[Metric]) -> None:
    """Print the measured figures of a router, with their intervals."""
    table = Table(title=f"router {router}", title_justify="left")
    for name in ("benchmark", "metric", "value", "95 % interval", "prompts"):
        table.add_column(name, justify="left" if name in ("benchmark", "metric") else "right", no_wrap=True)
    for metric in metrics:
        interval = f"{metric.low:.3f} to {metric.high:.3f}"
        table.add_row(metric.benchmark, metric.name, f"{metric.value:.3f}", interval, f"{metric.n:,}")
    STDERR.print(table)
