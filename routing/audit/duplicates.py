"""Rows that repeat a call, and calls that share an id: gateways write null, static and repeated ids.

In two looks, so that the ids of a whole log fit into memory: eight bytes a row find the ids that stand more than once,
and only their rows are looked at whole, by 128 bits of their id and 128 bits of the call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

from routing.score import stable_hash
from schemas.call_log import TOKENS

Hashes = npt.NDArray[np.uint64]

IDENTITY = ("row", "call_id", "called_at", "model", *TOKENS, "logged_usd")
"""Columns of CALL_LOG that `candidates` reads: one call is told from another by them."""

_NULL = "-"


@dataclass(frozen=True, slots=True)
class Repeats:
    """What repeated ids hide."""

    duplicates: pl.DataFrame
    """`part`, `row` of the rows that repeat an earlier one."""
    reused_ids: int
    """Rows left whose id stands on another call too."""
    logged_usd: Decimal
    """Logged spend of the duplicates."""


def id_hashes(calls: pl.DataFrame) -> Hashes:
    """CALL_LOG -> a hash of each id that is not null, shape (n,)."""
    return calls.select(stable_hash("call_id")).to_series().drop_nulls().to_numpy()


def repeated_hashes(hashes: Sequence[Hashes]) -> pl.Series:
    """Return the hashes that stand more than once, each once."""
    together = np.concatenate([np.empty(0, np.uint64), *hashes])
    together.sort()
    again = together[1:][together[1:] == together[:-1]]
    return pl.Series("id_hash", np.unique(again), dtype=pl.UInt64)


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


def find_repeats(found: pl.DataFrame) -> Repeats:
    """Tell duplicates from reused ids.

    A duplicate has the id, the time, the model and all tokens of an earlier row. The first, in log order, stays.

    Args:
        found: `candidates` of all parts, in log order.
    """
    first = found.select(pl.struct("call_hash", "call_check").is_first_distinct()).to_series()
    duplicates, calls = found.filter(~first), found.filter(first)
    shared = calls.group_by("id_hash", "id_check").len().filter(pl.col("len") > 1)
    return Repeats(
        duplicates.select("part", "row"),
        int(shared["len"].sum()),
        Decimal(duplicates["logged_usd"].sum() or 0),
    )
