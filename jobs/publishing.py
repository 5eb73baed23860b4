"""Stage 4: read the ledger, price every row, write the table to staging, publish it by one rename, manifest last."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import polars as pl

from jobs.dispatching import routed_part, spent_usd
from jobs.embedding_cost import embedding_bill
from jobs.night import SIDES, Night, package_version
from jobs.rundir import PARQUET_LEVEL, move, storing, write_json
from jobs.scoring import count_rejected
from jobs.source import ROW, read_part
from routing.account import Billing, cost
from routing.artifact import file_sha256
from routing.errors import ConfigError, DataError
from routing.ledger import LedgerReader
from routing.prices import snapshot_sha256
from routing.replies import answer
from schemas.queries import PUBLISHED_COLUMNS, Routed
from schemas.run import EmbeddingBill, Manifest, Part, PublishedFile, Split, Totals

MANIFEST = "_manifest.json"
_PACKAGES = ("polars", "pyarrow", "onnxruntime", "tokenizers", "openai", "genai-prices")
_COUNTED = ("ok", "truncated", "failed", "unsent")


@dataclass(slots=True)
class Tally:
    """Sums over the parts, so that no part has to stay in memory."""

    rows: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    models: dict[str, dict[str, int | Decimal]] = field(default_factory=dict)
    cost_usd: Decimal = Decimal(0)
    all_strong_usd: Decimal = Decimal(0)
    all_weak_usd: Decimal = Decimal(0)
    compared_usd: Decimal = Decimal(0)
    """Cost of the rows that both counterfactuals could be computed for."""
    compared_rows: int = 0
    unpriced_rows: int = 0
    spent_usd: Decimal = Decimal(0)


def check_output(night: Night) -> None:
    """Refuse an output folder that holds something else, before any money is spent.

    Raises:
        ConfigError: it is no folder, belongs to another run, or cannot be written.
    """
    output = night.job.output
    if output.suffix == ".parquet":
        raise ConfigError(
            f"output.path {output} names a file; the published table is a folder of Parquet files: drop the suffix"
        )
    columns = [name for name in (*night.source.columns(), *PUBLISHED_COLUMNS) if name != night.job.date_key]
    if missing := [name for name in night.job.config.output.partition_by if name not in columns]:
        raise ConfigError(
            f"output.partition_by names {missing}, which the published table does not hold in its files; "
            f"its columns are {list(dict.fromkeys(columns))}"
        )
    check_writable(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        owner = published_run_id(output)
        if owner != night.plan.run_id:
            holder = f"the table of run {owner}" if owner else "files that nightroute did not publish"
            raise ConfigError(f"output.path {output} already holds {holder}; remove it, or choose another output.path")


def check_writable(output: Path) -> None:
    """Try to write beside an output, before any money is spent.

    Raises:
        StorageError: the disk refuses.
    """
    with storing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        probe = output.parent / f".{output.name}.probe"
        probe.touch()
        probe.unlink()


def published_run_id(output: Path) -> str | None:
    """Run id of a published folder; null when it has no manifest."""
    try:
        return str(json.loads((output / MANIFEST).read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError):
        return None


def publish(
    night: Night,
    split: Split,
    ledger: LedgerReader,
    *,
    revision: int,
    started_at: datetime,
    timings_s: Mapping[str, float],
    on_part: Callable[[Part], None],
) -> Manifest:
    """Write and publish the table; returns its manifest.

    Args:
        night: The run, every call decided or given up.
        split: Where it is cut.
        ledger: Its ledger.
        revision: Counts publications of this run.
        started_at: When this process began.
        timings_s: Seconds of the stages before.
        on_part: Told of every part that is written.

    Raises:
        StorageError: the disk refuses; nothing is published.
        DataError: the ids written are not the ids read; nothing is published.
    """
    staged = night.run.staging / "table"
    with storing(staged):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    billing = night.billing(ledger.mean_output_tokens())
    tally = Tally()
    for part in night.plan.parts:
        _publish_part(night, part, split, ledger, billing, staged, tally)
        on_part(part)
    manifest = _manifest(night, split, ledger, tally, _files(staged), revision, started_at, timings_s)
    write_json(staged / MANIFEST, manifest, night.run.staging)
    _swap(staged, night.job.output, night.run.staging / "replaced")
    write_json(night.run.manifest, manifest, night.run.staging)
    with storing(night.run.staging):
        shutil.rmtree(night.run.staging, ignore_errors=True)
    return manifest


def _publish_part(
    night: Night,
    part: Part,
    split: Split,
    ledger: LedgerReader,
    billing: Mapping[str, Billing],
    staged: Path,
    tally: Tally,
) -> None:
    routed = routed_part(night, part, split).select(Routed.column_names())
    costed = cost(answer(routed, ledger.replies(part.number)), night.prices, billing)
    carried = read_part(night.source, part).carried
    added = costed.select("row", *(name for name in PUBLISHED_COLUMNS if name not in carried.columns))
    # Inner: rejected rows are carried nowhere. Input order is kept.
    table = carried.join(added, left_on=ROW, right_on="row", how="inner", maintain_order="left").drop(ROW)
    if "query_id" in carried.columns:
        table = table.with_columns(pl.col("query_id").cast(pl.String))
    if table["query_id"].to_list() != costed["query_id"].to_list():
        raise DataError(
            f"part {part.number} would be published with other ids than it was read with; nothing was published; "
            f"please report this with {night.run.plan}"
        )
    _write_table(night, table, part, staged)
    _add(tally, costed)
    tally.spent_usd += spent_usd(night, ledger, part.number, billing)


def _write_table(night: Night, table: pl.DataFrame, part: Part, staged: Path) -> None:
    by = night.job.config.output.partition_by
    table = table.drop(night.job.date_key or [])
    name = f"part-{part.number:05d}.parquet"
    with storing(staged):
        if not by:
            if table.height:
                table.write_parquet(staged / name, compression="zstd", compression_level=PARQUET_LEVEL)
            return
        for keys, rows in table.group_by(by, maintain_order=True):
            folder = staged.joinpath(*(f"{column}={_hive(value)}" for column, value in zip(by, keys, strict=True)))
            folder.mkdir(parents=True, exist_ok=True)
            rows.drop(by).write_parquet(folder / name, compression="zstd", compression_level=PARQUET_LEVEL)


def _hive(value: object) -> str:
    """A value as a folder name, escaped as Hive does: a tenant called `../x` stays inside."""
    from urllib.parse import quote

    return "__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe=" ")


def _add(tally: Tally, costed: pl.DataFrame) -> None:
    tally.rows.update(dict(costed["route"].value_counts().iter_rows()))
    tally.rows.update(dict(costed["status"].value_counts().iter_rows()))
    tally.errors.update(dict(costed["error_code"].drop_nulls().value_counts().iter_rows()))
    for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "attempts"):
        tally.tokens[name] += int(costed[name].sum() or 0)
    both = (
        pl.col("strong_cost_usd").is_not_null()
        & pl.col("weak_cost_usd").is_not_null()
        & pl.col("cost_usd").is_not_null()
    )
    compared = costed.filter(both)
    tally.cost_usd += Decimal(costed["cost_usd"].sum() or 0)
    tally.compared_usd += Decimal(compared["cost_usd"].sum() or 0)
    tally.all_strong_usd += Decimal(compared["strong_cost_usd"].sum() or 0)
    tally.all_weak_usd += Decimal(compared["weak_cost_usd"].sum() or 0)
    tally.compared_rows += compared.height
    tally.unpriced_rows += costed["unpriced_reason"].drop_nulls().len()
    for model, rows, answered, tokens, usd in (
        costed.group_by("model", maintain_order=True)
        .agg(
            pl.len(),
            pl.col("answer").count().alias("answered"),
            pl.col("output_tokens").sum(),
            pl.col("cost_usd").sum(),
        )
        .iter_rows()
    ):
        sums = tally.models.setdefault(model, {"rows": 0, "answered": 0, "output_tokens": 0, "cost_usd": Decimal(0)})
        sums["rows"] += rows
        sums["answered"] += answered
        sums["output_tokens"] += tokens
        sums["cost_usd"] += Decimal(usd or 0)


def _files(staged: Path) -> list[PublishedFile]:
    files = []
    for path in sorted(staged.rglob("*.parquet")):
        digest = file_sha256(path)
        rows = pl.scan_parquet(path, hive_partitioning=False).select(pl.len()).collect().item()
        files.append(PublishedFile(path=path.relative_to(staged).as_posix(), rows=int(rows), sha256=digest))
    return files


def _manifest(
    night: Night,
    split: Split,
    ledger: LedgerReader,
    tally: Tally,
    files: list[PublishedFile],
    revision: int,
    started_at: datetime,
    timings_s: Mapping[str, float],
) -> Manifest:
    published = sum(file.rows for file in files)
    if published != split.n:
        raise DataError(f"{published} rows would be published, {split.n} were scored; nothing was published")
    rejected, embedding = count_rejected(night), embedding_bill(night)
    return Manifest(
        run_id=night.plan.run_id,
        revision=revision,
        started_at=started_at,
        published_at=datetime.now(UTC),
        nightroute_version=package_version(),
        versions={name: version(name) for name in _PACKAGES},
        identity=night.plan.identity,
        router={"name": night.router.card.name, "kind": night.router.card.kind, "sha256": night.router.sha256},
        split=split,
        rows={
            "read": published + rejected,
            "rejected": rejected,
            "published": published,
            **{name: tally.rows[name] for name in (*SIDES, *_COUNTED)},
        },
        errors=dict(tally.errors.most_common()),
        models={
            model: {
                "rows": int(sums["rows"]),
                "mean_output_tokens": int(sums["output_tokens"]) / int(sums["answered"]) if sums["answered"] else None,
                "cost_usd": str(sums["cost_usd"]),
            }
            for model, sums in tally.models.items()
        },
        totals=_totals(tally, embedding, unknown_calls=ledger.unknown().height),
        embedding=embedding,
        prices_sha256=snapshot_sha256(night.prices),
        input_files=night.plan.files,
        files=files,
        timings_s={name: round(seconds, 3) for name, seconds in timings_s.items()},
    )


def _totals(tally: Tally, embedding: EmbeddingBill | None, *, unknown_calls: int) -> Totals:
    comparable = tally.compared_rows > 0
    saved = tally.all_strong_usd - tally.compared_usd
    return Totals(
        cost_usd=tally.cost_usd,
        all_strong_usd=tally.all_strong_usd if comparable else None,
        all_weak_usd=tally.all_weak_usd if comparable else None,
        saved_vs_strong_usd=saved if comparable else None,
        saved_share=float(saved / tally.all_strong_usd) if tally.all_strong_usd else None,
        unpriced_rows=tally.unpriced_rows,
        spent_usd=tally.spent_usd + (Decimal(0) if embedding is None else embedding.cost_usd),
        unknown_calls=unknown_calls,
        input_tokens=tally.tokens["input_tokens"],
        cached_tokens=tally.tokens["cached_tokens"],
        output_tokens=tally.tokens["output_tokens"],
        reasoning_tokens=tally.tokens["reasoning_tokens"],
        attempts=tally.tokens["attempts"],
    )


def _swap(staged: Path, output: Path, replaced: Path) -> None:
    """Put the staged folder in place by one rename; an earlier revision is moved aside first and removed after."""
    with storing(output):
        shutil.rmtree(replaced, ignore_errors=True)
        if output.exists():
            move(output, replaced)
        move(staged, output)
        shutil.rmtree(replaced, ignore_errors=True)
