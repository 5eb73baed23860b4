"""Rows that repeat a call, and calls that share an id: gateways write null, static and repeated ids.

In two looks, so that the ids of a whole log fit into memory: eight bytes a row find the ids that stand more than once,
and only their rows are looked at whole, by 128 bits of their id and 128 bits of the call. Where a gateway writes one id
for all calls those are all rows: they are looked at in slices of equal calls, of which one is in memory at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

from routing.audit.cube import Tally
from routing.score import stable_hash
from schemas.call_log import TOKENS

Hashes = npt.NDArray[np.uint64]

IDENTITY = ("row", "call_id", "called_at", "model", *TOKENS, "logged_usd")
"""Columns of CALL_LOG that `candidates` reads: one call is told from another by them."""

SLICE_ROWS = 250_000
"""Candidates that are compared at once: about 60 MB."""

_ID = ("id_hash", "id_check")
_NULL = "-"
_HASHES = 2**64


@dataclass(frozen=True, slots=True)
class Repeats:
    """What repeated ids hide."""

    duplicates: pl.DataFrame
    """`part`, `row` of the rows that repeat an earlier one, in log order."""
    reused_ids: int
    """Rows left whose id stands on another call too."""
    logged_usd: Decimal
    """Logged spend of the duplicates."""


def id_hashes(calls: pl.DataFrame) -> Hashes:
    """CALL_LOG -> a hash of each id that is not null, shape (n,)."""
    return calls.select(stable_hash("call_id")).to_series().drop_nulls().to_numpy()


def repeated_hashes(hashes: Sequence[Hashes]) -> pl.Series:
    """Return the hashes that stand more than once, each once, in order."""
    together = np.concatenate([np.empty(0, np.uint64), *hashes])
    together.sort()
    again = together[1:] == together[:-1]
    again[1:] &= ~again[:-1]  # of many equal ones the second
    return pl.Series("id_hash", together[1:][again], dtype=pl.UInt64)


def null_id_hashes(calls: pl.DataFrame) -> Hashes:
    """Columns of CALL_LOG -> a hash of each row without an id, shape (n,): of every column that is there.

    Eight bytes a row, as for ids: such rows are counted, never dropped.
    """
    # polars' own hash: ten times as quick as hashing texts, and these do not outlive the audit.
    return calls.filter(pl.col("call_id").is_null()).hash_rows(seed=0).to_numpy()


def identical(hashes: Sequence[Hashes]) -> int:
    """Count the hashes that repeat an earlier one."""
    together = np.concatenate([np.empty(0, np.uint64), *hashes])
    together.sort()
    return int((together[1:] == together[:-1]).sum())


def candidates(calls: pl.DataFrame, repeated: pl.Series, *, part: int) -> pl.DataFrame:
    """CALL_LOG -> the rows that may repeat another: their address, digests of id and call, and logged spend.

    Args:
        calls: One part, in log order; needs the columns of `IDENTITY`.
        repeated: From `repeated_hashes` over all parts.
        part: Number of the part.
    """
    rows = calls.filter(stable_hash("call_id").is_in(repeated.implode()))
    numbers = [pl.col("called_at").to_physical(), *(pl.col(name) for name in TOKENS)]
    texts = [pl.format("{}:{}", pl.col(name).str.len_bytes(), pl.col(name)) for name in ("model", "call_id")]
    # Numbers first and lengths before the texts: no two calls share one text.
    call = plh.concat_str(
        *(number.cast(pl.String).fill_null(_NULL) for number in numbers),
        *(text.fill_null(_NULL) for text in texts),
        separator=" ",
    )
    return rows.select(
        pl.lit(part, pl.UInt32).alias("part"),
        "row",
        "logged_usd",
        id_hash=stable_hash("call_id"),
        id_check=plh.col("call_id").nchash.xxh3_64(),
        call_hash=call.nchash.wyhash(),
        call_check=call.nchash.xxh3_64(),
    )


def find_repeats(found: pl.LazyFrame, *, slice_rows: int = SLICE_ROWS) -> Repeats:
    """Tell duplicates from reused ids.

    A duplicate has the id, the time, the model and all tokens of an earlier row. The first, in log order, stays.

    Args:
        found: `candidates` of all parts, in any order; read once a slice, fastest from files sorted by `call_hash`.
        slice_rows: Candidates in memory at once. More of them only where one call stands more often than that.
    """
    slices = max(1, -(-found.select(pl.len()).collect().item() // slice_rows))
    edges = [number * _HASHES // slices for number in range(slices)]
    duplicates, ids, logged_usd = list[pl.DataFrame](), Tally(_calls_of_ids), Decimal(0)
    for low, high in zip(edges, [*edges[1:], _HASHES], strict=True):
        within = pl.col("call_hash").is_between(pl.lit(low, pl.UInt64), pl.lit(high - 1, pl.UInt64))
        rows = found.filter(within).collect().sort("part", "row")
        first = rows.select(pl.struct("call_hash", "call_check").is_first_distinct()).to_series()
        again = rows.filter(~first)
        duplicates.append(again.select("part", "row"))
        logged_usd += Decimal(again["logged_usd"].sum() or 0)
        ids.add(_calls_of_ids(rows.filter(first).select(*_ID, calls=pl.lit(1, pl.UInt32))))
    shared = ids.total().filter(pl.col("calls") > 1)
    return Repeats(pl.concat(duplicates).sort("part", "row"), int(shared["calls"].sum()), logged_usd)


def _calls_of_ids(cells: pl.DataFrame) -> pl.DataFrame:
    """Add up calls of the same id."""
    return cells.group_by(_ID).agg(pl.col("calls").sum())
