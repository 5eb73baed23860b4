"""Stage 1: score every part, set bad rows aside, find repeated ids. Nothing is spent here."""

from collections.abc import Callable

import polars as pl

from jobs.night import TableRun
from jobs.rundir import write_atomic, write_parquet
from jobs.source import ROW, PartTable, read_part
from routing.routers import EmbeddingRouter, Router
from routing.score import id_hashes, number_derived, repeated, score
from schemas.queries import Queries
from schemas.run import Part

TOO_LONG = "prompt_within_max_prompt_tokens"
REPEATED_ID = "query_id_unique"
NOT_EMBEDDED = "prompt_accepted_by_embedding_endpoint"


def score_parts(night: TableRun, open_router: Callable[[], Router], on_part: Callable[[Part], None]) -> None:
    """Score the parts that are not scored yet, then write `rejected.parquet`.

    Args:
        night: The run.
        open_router: Opens the router; called only when there is something to score.
        on_part: Told of every part that is done.
    """
    router: Router | None = None
    for part in night.plan.parts:
        if not night.run.scores(part.number).exists():
            router = router or open_router()
            _score_part(night, part, router)
        on_part(part)
    if not night.run.repeated.exists():
        _finish(night)


def read_scored(night: TableRun, part: Part) -> pl.DataFrame:
    """SCORED of a part with its final ids: derived ones numbered, rows that repeat a given id left out."""
    scored = pl.read_parquet(night.run.scores(part.number))
    again = pl.read_parquet(night.run.repeated).filter(pl.col("part") == part.number)
    if "query_id" in night.source.config.columns:
        return scored.join(again, on="row", how="anti", maintain_order="left")
    return number_derived(scored, again)


def count_rejected(night: TableRun) -> int:
    """Rows that broke a rule."""
    if not night.run.rejected.exists():
        return 0
    return int(pl.scan_parquet(night.run.rejected).select(pl.len()).collect().item())


def _score_part(night: TableRun, part: Part, router: Router) -> None:
    table = read_part(night.source, part)
    checked = Queries.filter(table.queries)
    details = checked.failure.details()
    rules = [name for name in details.columns if name not in table.queries.columns]
    broken = details.select(
        "row",
        broken_rules=pl.concat_list(pl.when(pl.col(rule) == "invalid").then(pl.lit(rule)) for rule in rules)
        .list.drop_nulls()
        .list.join(", "),
    )
    limit = night.source.config.max_prompt_tokens
    queries, unscorable = _scorable(checked.result, router, max_prompt_tokens=limit)
    scored = score(queries, router)
    too_long = pl.col("prompt_tokens") > limit
    long_rows = scored.filter(too_long).select("row", broken_rules=pl.lit(TOO_LONG))
    _write_rejected(night, part, table, pl.concat([broken, unscorable, long_rows]))
    # Last: its presence means that the part is done.
    write_parquet(night.run.scores(part.number), scored.filter(~too_long), night.run.staging)


def _scorable(queries: pl.DataFrame, router: Router, *, max_prompt_tokens: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Set aside the prompts that have no embedding: none was bought for those too long, others were refused."""
    if not isinstance(router, EmbeddingRouter):
        return queries, pl.DataFrame(schema={"row": pl.UInt32, "broken_rules": pl.String})
    known = pl.Series(router.known(queries["prompt"].to_list()), dtype=pl.Boolean)
    rest = queries.filter(~known)
    tokens = pl.Series(router.count_tokens(rest["prompt"].to_list()), dtype=pl.Int64)
    rule = pl.when(tokens > max_prompt_tokens).then(pl.lit(TOO_LONG)).otherwise(pl.lit(NOT_EMBEDDED))
    return queries.filter(known), rest.select("row", broken_rules=rule)


def _write_rejected(night: TableRun, part: Part, table: PartTable, broken: pl.DataFrame, *, suffix: str = "") -> None:
    if broken.is_empty():
        return
    address = pl.lit(part.number, pl.UInt32).alias("part")
    # Columns of the user's table that are called part, row or broken_rules keep their values under `<name>_input`.
    rows = (
        broken.sort("row")
        .select(address, "row", "broken_rules")
        .join(table.carried, left_on="row", right_on=ROW, how="left", maintain_order="left", suffix="_input")
    )
    path = night.run.refused(part.number)
    write_parquet(path.with_stem(path.stem + suffix), rows, night.run.staging)


def _finish(night: TableRun) -> None:
    """Look at the ids of the whole table at once, in 24 bytes a row."""
    hashes = [
        pl.read_parquet(night.run.scores(part.number), columns=["row", "query_id"]).select(
            pl.lit(part.number, pl.UInt32).alias("part"), "row", *id_hashes()
        )
        for part in night.plan.parts
    ]
    again = repeated(pl.concat(hashes))
    if "query_id" in night.source.config.columns:
        for (number,), rows in again.group_by("part", maintain_order=True):
            part = night.plan.parts[int(str(number))]
            broken = rows.select("row", broken_rules=pl.lit(REPEATED_ID))
            _write_rejected(night, part, read_part(night.source, part), broken, suffix="-ids")
    files = sorted((night.run.root / "scores").glob("rejected-*.parquet"))
    if files:
        rejected = pl.concat([pl.scan_parquet(file) for file in files])
        write_atomic(
            night.run.rejected, lambda draft: rejected.sink_parquet(draft, compression="zstd"), night.run.staging
        )
    write_parquet(night.run.repeated, again, night.run.staging)
