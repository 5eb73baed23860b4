"""The static `mf` router, end to end: tables in, trained and calibrated numbers of the graph out. Reads no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.batching import Tokens
from routing.calibrating import fit_platt
from routing.errors import DataError
from routing.metrics import average_pgr, bootstrap, cost_quality_curve, random_router
from routing.training.decontamination import SCREEN, contaminated, near_pairs, shared_phrases
from routing.training.encoder import Encoder
from routing.training.features import Features, features, token_flags, tokenize
from routing.training.graph import StaticRouter
from routing.training.matrix_factorization import MatrixFactorizationConfig, PairHeads, fit
from routing.training.preferences import held_out
from routing.training.static_table import StaticTable, static_table, token_states
from schemas.artifact import Truncation

SCREEN_DIM = 256
"""Width of the table that screens for contamination: narrower ones let three times as many pairs through."""


@dataclass(frozen=True, slots=True)
class StaticMfConfig:
    """What decides the numbers of the router, besides the data."""

    dim: int
    sif: float
    truncation: Truncation
    held_out_share: float
    seed: int
    factorization: MatrixFactorizationConfig
    strong: str
    weak: str
    """The pair, by the model names of the graded answers."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Training data after its filters; see `schemas.preferences`."""

    graded: pl.DataFrame
    """CORRECTNESS."""
    battles: pl.DataFrame
    """BATTLES; may be empty."""
    golden: pl.DataFrame
    """GOLDEN of the pair: calibrates the router and validates it, and is never fitted on as such."""

    def prompts(self) -> pl.Series:
        """Return the distinct prompts, sorted."""
        columns = [table["prompt"] for table in (self.graded, self.battles, self.golden)]
        return pl.concat(columns).unique().sort()

    def only(self, prompts: pl.Series) -> "Tables":
        """Keep the rows of some prompts."""
        return Tables(*(_rows(table, prompts, keep=True) for table in (self.graded, self.battles, self.golden)))

    def without(self, prompts: pl.Series) -> "Tables":
        """Drop the rows of some prompts."""
        return Tables(*(_rows(table, prompts, keep=False) for table in (self.graded, self.battles, self.golden)))


@dataclass(frozen=True, slots=True)
class Corpus:
    """Distinct prompts with what the router sees of them."""

    prompts: pl.Series
    tokens: Tokens
    features: Features

    def of(self, prompts: pl.Series) -> Features:
        """Return the features of some prompts of the corpus, in the order given."""
        index = pl.DataFrame({"prompt": self.prompts}).with_row_index("row")
        rows = pl.DataFrame({"prompt": prompts}).join(index, on="prompt", how="left", maintain_order="left")["row"]
        return self.features.take(rows.to_numpy().astype(np.intp))


@dataclass(frozen=True, slots=True)
class Trained:
    """The result, with what its card tells about it."""

    router: StaticRouter
    held_out_tokens: Tokens
    """Tokens of the prompts that nothing was fitted on."""
    held_out_features: Features
    held_out_golden: pl.DataFrame
    """GOLDEN rows that the calibration saw."""
    held_out_golden_features: Features
    held_out_win_rates: NDArray[np.float64]
    """Win rates of `held_out_golden`."""
    training: Tables
    """Rows that were fitted on."""


@dataclass(frozen=True, slots=True)
class Contaminated:
    """Training prompts that are evaluation prompts."""

    phrases: pl.Series
    """Found by a shared run of words."""
    embeddings: pl.Series
    """Found by the cosine of sentence embeddings."""

    def prompts(self) -> pl.Series:
        """Return them all, each once."""
        return pl.concat([self.phrases, self.embeddings]).unique().sort()


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The encoder turned into tables: built once, cut to the width that is asked for."""

    encoder: Encoder
    states: NDArray[np.float64]
    """Mean hidden state of each token, shape (vocabulary, hidden)."""

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token -> id."""
        return dict(self.encoder.tokenizer.get_vocab(with_added_tokens=True))

    def table(self, *, dim: int, sif: float) -> StaticTable:
        """Return the token table of a width."""
        return static_table(self.states, self.vocabulary, dim=dim, sif=sif)


def lexicon(encoder: Encoder) -> Lexicon:
    """Pass every token through the encoder."""
    return Lexicon(encoder, token_states(encoder))


def contaminated_prompts(
    prompts: pl.Series, evaluation: pl.Series, words: Lexicon, *, sif: float, truncation: Truncation
) -> Contaminated:
    """Find the prompts that are evaluation prompts (see `routing.training.decontamination`)."""
    dim = min(SCREEN_DIM, words.states.shape[1])
    table, flags = words.table(dim=dim, sif=sif), token_flags(words.vocabulary)
    cut = truncation
    train, other = (
        features(tokenize(words.encoder.tokenizer, texts, head=cut.head, tail=cut.tail), table, flags).query
        for texts in (prompts.to_list(), evaluation.to_list())
    )
    near = near_pairs(train, other, limit=SCREEN)
    same = contaminated(prompts.to_list(), evaluation.to_list(), near, words.encoder.embed)
    return Contaminated(phrases=prompts.gather(shared_phrases(prompts, evaluation)), embeddings=prompts.gather(same))


def corpus(prompts: pl.Series, words: Lexicon, table: StaticTable, truncation: Truncation) -> Corpus:
    """Tokenize prompts and compute their features."""
    tokens = tokenize(words.encoder.tokenizer, prompts.to_list(), head=truncation.head, tail=truncation.tail)
    return Corpus(prompts, tokens, features(tokens, table, token_flags(words.vocabulary)))


def train_static_mf(tables: Tables, known: Corpus, words: Lexicon, config: StaticMfConfig) -> Trained:
    """Fit on a part of the prompts, calibrate on the golden rows of the rest.

    Raises:
        DataError: a side of the split is empty, or the router does not rank the held-out golden rows.
    """
    aside = held_out(known.prompts, share=config.held_out_share, seed=config.seed)
    training, rest = tables.without(aside), tables.only(aside)
    if rest.golden.is_empty():
        raise DataError("no golden row is among the held-out prompts; use more golden rows or a larger held_out_share")
    heads = _heads(training, known, config)
    golden_features = known.of(rest.golden["prompt"])
    gap = heads.gap(golden_features)
    strong, weak = _scores(rest.golden)
    calibration = fit_platt(gap, strong, weak)
    table, flags = words.table(dim=config.dim, sif=config.sif), token_flags(words.vocabulary)
    rows = np.flatnonzero(known.prompts.is_in(aside.implode()).to_numpy())
    return Trained(
        router=StaticRouter(table=table, flags=flags, heads=heads, calibration=calibration),
        held_out_tokens=[known.tokens[row] for row in rows],
        held_out_features=known.features.take(rows),
        held_out_golden=rest.golden,
        held_out_golden_features=golden_features,
        held_out_win_rates=calibration.apply(gap),
        training=training,
    )


def leave_one_out(
    tables: Tables, families: Mapping[str, Sequence[str]], known: Corpus, config: StaticMfConfig
) -> pl.DataFrame:
    """Measure transfer: for each family of benchmarks, fit without it and rank its golden rows.

    Args:
        tables: Training data.
        families: Name -> benchmarks that are left out together; their golden rows are the test.
        known: Features of all prompts.
        config: The router's configuration.

    Returns:
        One row per family: family, n, apgr, low, high (bootstrap), length (APGR of the token count), random_low,
        random_high.
    """
    rows = [_transfer(name, list(members), tables, known, config) for name, members in families.items()]
    return pl.DataFrame(rows)


def _transfer(
    name: str, members: list[str], tables: Tables, known: Corpus, config: StaticMfConfig
) -> dict[str, str | float]:
    test = tables.golden.filter(pl.col("source").is_in(members))
    if test.is_empty():
        raise DataError(f"validation.families.{name}: no golden rows of {members}; name benchmarks of the golden data")
    rest = tables.without(test["prompt"])
    graded = rest.graded.filter(~pl.col("benchmark").is_in(members))
    heads = _heads(Tables(graded, rest.battles, rest.golden), known, config)
    seen = known.of(test["prompt"])
    strong, weak = _scores(test)
    found = bootstrap(heads.gap(seen), strong, weak, average_pgr, seed=config.seed)
    chance = random_router(strong, weak, average_pgr, seed=config.seed)
    length = cost_quality_curve(seen.shape[:, 0].astype(np.float64), strong, weak).apgr
    return {
        "family": name,
        "n": len(test),
        "apgr": found.value,
        "low": found.low,
        "high": found.high,
        "length": length,
        "random_low": chance.low,
        "random_high": chance.high,
    }


def _heads(tables: Tables, known: Corpus, config: StaticMfConfig) -> PairHeads:
    fitted = fit(
        tables.graded, tables.battles, known.prompts.to_list(), known.features, config.factorization, seed=config.seed
    )
    return fitted.heads(strong=config.strong, weak=config.weak)


def _scores(golden: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return golden["strong_score"].to_numpy(), golden["weak_score"].to_numpy()


def _rows(table: pl.DataFrame, prompts: pl.Series, *, keep: bool) -> pl.DataFrame:
    return table.join(prompts.to_frame("prompt"), on="prompt", how="semi" if keep else "anti", maintain_order="left")
