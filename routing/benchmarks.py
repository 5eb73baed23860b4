"""Tables of graded answers -> BENCHMARK: RouteLLM's own files, graded answers, pairs of scores, battles.

Scores are divided by the largest grade, so that they lie in 0..1: MT-Bench's 1..10 become 0.1..1. No row is dropped in
silence: `Read.left_out` says how many, and why.

Prompts that occur twice. Where a row holds both answers (RouteLLM's responses, pairs of scores) every row stays a
question of its own, as RouteLLM counts them: 14,042 MMLU rows have 13,937 different prompts. Where answers stand in
rows of their own (graded answers, battles), nothing says which belong together, so all grades of a model on a prompt
are averaged and the prompt is one row; the turns of MT-Bench are averaged in the same way.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import dataframely as dy
import polars as pl
import polars_hash as plh

from routing.errors import DataError
from schemas.benchmarks import Benchmark
from schemas.preferences import WINNERS

SIDES = ("strong", "weak")
MT_BENCH_GRADES = 10.0
"""Largest grade of MT-Bench's judge (FastChat, `single-v1`: 1 to 10)."""

_MEASURES = ("input_tokens", "output_tokens", "usd", "response")
"""Optional columns of one answer."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "correctness": ("prompt", "model", "score"),
    "battles": ("prompt", "model_a", "model_b", "winner"),
    "golden": ("prompt", "strong_score", "weak_score"),
}
"""Layout of a table -> the columns that it is known by and needs. What `nightroute label` writes holds score columns as
well as a winner, and only a golden run fills them: battles go first."""

OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "correctness": ("category", *_MEASURES),
    "golden": ("category", *(f"{side}_{name}" for side in SIDES for name in _MEASURES)),
    "battles": ("category",),
}
"""Layout -> columns that are read where they are there; `task` is read as `category` where there is none."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a table gave."""

    rows: dy.DataFrame[Benchmark]
    left_out: dict[str, int] = field(default_factory=dict)
    """Why rows or prompts were left out -> how many."""

    def but(self, rows: pl.DataFrame, reason: str, *, name: str) -> "Read":
        """Return the read with fewer rows, counted under a reason.

        Raises:
            DataError: none is left.
        """
        gone = len(self.rows) - len(rows)
        left_out = self.left_out | {reason: self.left_out.get(reason, 0) + gone} if gone else self.left_out
        if rows.is_empty():
            raise DataError(f"{name}: no question is left ({_counts(left_out)}); check the table and what is left out")
        return Read(Benchmark.validate(rows), left_out)


def detect(columns: Collection[str], *, name: str) -> str:
    """Return the layout (a key of `COLUMNS`) that has these columns.

    Raises:
        DataError: none fits; names the nearest.
    """
    for layout, needed in COLUMNS.items():
        if set(needed) <= set(columns):
            return layout
    nearest = max(COLUMNS, key=lambda layout: len(set(COLUMNS[layout]) & set(columns)))
    missing = [column for column in COLUMNS[nearest] if column not in columns]
    raise DataError(
        f"{name}: columns {list(columns)} are of no known layout; the nearest is {nearest!r}, which lacks {missing}: "
        'map the columns that hold them (columns = { ours = "theirs" })'
    )


def renamed(raw: pl.DataFrame, columns: Mapping[str, str], layout: str, *, name: str) -> pl.DataFrame:
    """Return a table with the columns that `columns` maps (our name -> the table's) under our names.

    Raises:
        DataError: a name of ours that the layout does not read, or one of theirs that the table lacks.
    """
    known = (*COLUMNS[layout], *OPTIONAL[layout])
    if unknown := [ours for ours in columns if ours not in known]:
        raise DataError(f"{name}: columns maps {unknown}, which {layout!r} does not read; map some of {list(known)}")
    if missing := [theirs for theirs in columns.values() if theirs not in raw.columns]:
        raise DataError(f"{name}: columns maps to {missing}, but the table has {raw.columns}")
    return raw.with_columns(pl.col(theirs).alias(ours) for ours, theirs in columns.items())


def matching(raw: pl.DataFrame, where: Mapping[str, Sequence[str]], *, name: str) -> pl.DataFrame:
    """Keep the rows whose columns have one of the values named, compared as text.

    Raises:
        DataError: a column is missing, or no row is left.
    """
    if missing := [column for column in where if column not in raw.columns]:
        raise DataError(f"{name}: where names {missing}, but the table has {raw.columns}")
    if not where:
        return raw
    kept = raw.filter(*(pl.col(column).cast(pl.String).is_in(list(values)) for column, values in where.items()))
    if kept.is_empty():
        raise DataError(f"{name}: no row of {len(raw)} has {dict(where)}; check `where` and the values of the table")
    return kept


def graded(raw: pl.DataFrame, *, name: str, strong: str, weak: str, largest: float = 1.0) -> Read:
    """Graded answers, one a row (prompt, model, score) -> BENCHMARK, one row per prompt.

    Several grades of a model on a prompt are averaged, and so are tokens and dollars; of responses and categories the
    first is kept. Prompts that only one of the two models answered are left out.

    Args:
        raw: Columns of `COLUMNS["correctness"]`, and of `OPTIONAL` what is known.
        name: Of the benchmark.
        strong: Model whose grades count as strong, as the table names it.
        weak: And as weak.
        largest: Largest grade; scores are divided by it.

    Raises:
        DataError: a column or one of the two models is missing, or a score is no number of 0 to `largest`.
    """
    _require(raw, "correctness", name)
    table = _scores(_category(raw), ("score",), name, largest).with_columns(pl.col("model").cast(pl.String))
    missing = sorted({strong, weak} - set(table["model"].unique()))
    if missing:
        there = table["model"].drop_nulls().unique().sort().head(20).to_list()
        raise DataError(
            f"{name}: no rows of model {missing}; name the models of this file in the config's [[evaluation]] or "
            f"[[benchmarks]], e.g. {there}"
        )
    pair = table.filter(pl.col("model").is_in([strong, weak]))
    kept = pair.filter(_has_prompt(), pl.col("score").is_not_null())
    measures = ("score", *(measure for measure in _MEASURES if measure in table.columns))
    answers = [
        _of_model(measure, model).alias(f"{side}_{measure}")
        for side, model in zip(SIDES, (strong, weak), strict=True)
        for measure in measures
    ]
    prompts = kept.group_by("prompt", maintain_order=True).agg(pl.col("category").drop_nulls().first(), *answers)
    both = prompts.filter(pl.col("strong_score").is_not_null(), pl.col("weak_score").is_not_null())
    left_out = {
        "rows without a prompt or a score": len(pair) - len(kept),
        "prompts that one model has no score for": len(prompts) - len(both),
    }
    return _benchmark(both, name, left_out)


def paired(raw: pl.DataFrame, *, name: str, largest: float = 1.0) -> Read:
    """Two scores a row (prompt, strong_score, weak_score) -> BENCHMARK, one row for each row.

    Args:
        raw: Columns of `COLUMNS["golden"]`, and of `OPTIONAL` what is known.
        name: Of the benchmark.
        largest: Largest grade; scores are divided by it.

    Raises:
        DataError: a column is missing, or a score is no number of 0 to `largest`.
    """
    _require(raw, "golden", name)
    table = _scores(_category(raw), ("strong_score", "weak_score"), name, largest)
    kept = table.filter(_has_prompt(), pl.col("strong_score").is_not_null(), pl.col("weak_score").is_not_null())
    return _benchmark(kept, name, {"rows without a prompt or a score": len(table) - len(kept)})


def fought(raw: pl.DataFrame, *, name: str, strong: str, weak: str, winners: Mapping[str, str] | None = None) -> Read:
    """Battles (prompt, model_a, model_b, winner) -> BENCHMARK, one row per prompt.

    A battle that the strong model wins scores 1 for it, a tie 1/2, a loss 0, and the weak model the rest; the battles
    of a prompt are averaged. Battles of other models are passed over.

    Args:
        raw: Columns of `COLUMNS["battles"]`, and of `OPTIONAL` what is known.
        name: Of the benchmark.
        strong: The strong model, as the table names it.
        weak: The weak one.
        winners: The table's name of a winner -> model_a, model_b or tie.

    Raises:
        DataError: a column is missing, the two never meet, or a winner is unknown.
    """
    _require(raw, "battles", name)
    table = _category(raw).with_columns(pl.col("model_a", "model_b", "winner").cast(pl.String))
    a, b = pl.col("model_a"), pl.col("model_b")
    met = table.filter(((a == strong) & (b == weak)) | ((a == weak) & (b == strong)))
    if met.is_empty():
        raise DataError(f"{name}: no battle is between {strong!r} and {weak!r}; name the models of the table")
    met = met.with_columns(pl.col("winner").replace(dict(winners or {})))
    if unknown := met["winner"].drop_nulls().filter(~met["winner"].drop_nulls().is_in(WINNERS)).unique().to_list():
        raise DataError(
            f"{name}: winner {sorted(unknown)} is unknown, expected one of {list(WINNERS)}; map it (winners)"
        )
    kept = met.filter(_has_prompt(), pl.col("winner").is_not_null())
    winner = pl.when(pl.col("winner") == "model_a").then(a).when(pl.col("winner") == "model_b").then(b)
    won = pl.when(winner == strong).then(1.0).when(winner == weak).then(0.0).otherwise(0.5)
    rows = (
        kept.group_by("prompt", maintain_order=True)
        .agg(pl.col("category").drop_nulls().first(), strong_score=won.mean())
        .with_columns(weak_score=1.0 - pl.col("strong_score"))
    )
    return _benchmark(rows, name, {"battles without a prompt or a winner": len(met) - len(kept)})


def responses(raw: pl.DataFrame, *, name: str, strong: str, weak: str, contaminated: Collection[str] = ()) -> Read:
    """RouteLLM's response tables (MMLU, GSM8K: prompt, one column of grades per model) -> BENCHMARK, row for row.

    Args:
        raw: `prompt`, a true/false column for each model, `<model>_response` and `category` where known.
        name: Of the benchmark.
        strong: Column of the strong model.
        weak: Column of the weak one.
        contaminated: Prompts that are left out.

    Raises:
        DataError: a model has no column.
    """
    grades = [
        column for column in raw.columns if column not in ("prompt", "category") and raw.schema[column] != pl.String
    ]
    if missing := [model for model in (strong, weak) if model not in raw.columns]:
        raise DataError(f"{name}: no column of model {missing}; the models of these files are {grades}")
    theirs = {f"{side}_score": model for side, model in zip(SIDES, (strong, weak), strict=True)}
    theirs |= {
        f"{side}_response": f"{model}_response"
        for side, model in zip(SIDES, (strong, weak), strict=True)
        if f"{model}_response" in raw.columns
    }
    known = ["prompt", *(["category"] if "category" in raw.columns else [])]
    read = paired(raw.select(*known, **{ours: pl.col(column) for ours, column in theirs.items()}), name=name)
    return read.but(_without(read.rows, contaminated), CONTAMINATED, name=name)


CONTAMINATED = "contaminated (RouteLLM's training data holds them)"


def mt_bench(
    questions: pl.DataFrame,
    judgements: pl.DataFrame,
    *,
    name: str,
    strong: str,
    weak: str,
    contaminated: Collection[str] = (),
) -> Read:
    """RouteLLM's MT-Bench (question.jsonl, judgements.jsonl) -> BENCHMARK, one row per question.

    The prompt is the first turn, as in RouteLLM's evaluation; the score is the mean over the turns, divided by 10.

    Args:
        questions: question_id, category, turns.
        judgements: question_id, model, score (1 to 10), one row per turn.
        name: Of the benchmark.
        strong: The strong model.
        weak: The weak one.
        contaminated: Questions with one of these turns are left out.

    Raises:
        DataError: a column or a model is missing, or a score is no number of 0 to 10.
    """
    for table, needed in ((questions, ("question_id", "turns")), (judgements, ("question_id", "model", "score"))):
        if missing := [column for column in needed if column not in table.columns]:
            raise DataError(f"{name}: columns {missing} are missing; expected {list(needed)}, got {table.columns}")
    clean = questions.filter(~pl.col("turns").list.eval(pl.element().is_in(list(contaminated))).list.any())
    category = pl.col("category") if "category" in clean.columns else pl.lit(None, pl.String)
    asked = clean.select("question_id", category, prompt=pl.col("turns").list.first())
    rows = judgements.select("question_id", "model", "score").join(asked, on="question_id", maintain_order="right")
    read = graded(rows, name=name, strong=strong, weak=weak, largest=MT_BENCH_GRADES)
    gone = {
        CONTAMINATED: len(questions) - len(clean),
        "questions without a judgement": len(clean) - rows["question_id"].n_unique(),
    }
    return Read(read.rows, read.left_out | {reason: count for reason, count in gone.items() if count})


def without(read: Read, prompts: pl.Series, reason: str, *, name: str) -> Read:
    """Leave out the rows of some prompts, counted under a reason.

    Raises:
        DataError: none is left.
    """
    return read.but(_without(read.rows, prompts.to_list()), reason, name=name)


def rows_sha256(rows: pl.DataFrame) -> str:
    """Digest of a BENCHMARK: prompts and scores, in order."""
    return _digest(rows, ("prompt", "strong_score", "weak_score"))


def prompts_sha256(prompts: Sequence[str]) -> str:
    """Digest of texts, in order."""
    return _digest(pl.DataFrame({"prompt": prompts}, schema={"prompt": pl.String}), ("prompt",))


def _digest(rows: pl.DataFrame, columns: Sequence[str]) -> str:
    texts = [pl.col(name).cast(pl.String) for name in columns]
    parts = [pl.format("{}:{}", text.str.len_bytes(), text) for text in texts]
    lines = rows.select(line=plh.concat_str(parts).chash.sha2_256())["line"]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _benchmark(table: pl.DataFrame, name: str, left_out: Mapping[str, int]) -> Read:
    """Fill the columns that a table lacks with nulls, in BENCHMARK's types."""
    left_out = {reason: count for reason, count in left_out.items() if count}
    if table.is_empty():
        raise DataError(f"{name}: no question with both scores is left ({_counts(left_out)}); check the table")
    filled = table.with_columns(source=pl.lit(name))
    schema = Benchmark.create_empty().schema
    columns = [
        (_typed(filled, column, dtype) if column in filled.columns else pl.lit(None)).cast(dtype).alias(column)
        for column, dtype in schema.items()
    ]
    return Read(Benchmark.validate(filled.select(columns)), left_out)


def _typed(table: pl.DataFrame, column: str, dtype: pl.DataType) -> pl.Expr:
    """NaN is unknown; tokens that were averaged, or stored as floats, are rounded."""
    value = pl.col(column).fill_nan(None) if table.schema[column].is_float() else pl.col(column)
    return value.round() if dtype == pl.Int64 and table.schema[column].is_float() else value


def _of_model(measure: str, model: str) -> pl.Expr:
    values = pl.col(measure).filter(pl.col("model") == model).drop_nulls()
    return values.first() if measure == "response" else values.cast(pl.Float64).mean()


def _scores(raw: pl.DataFrame, columns: Sequence[str], name: str, largest: float) -> pl.DataFrame:
    """Scores as shares of the largest grade; NaN is no score."""
    for column in columns:
        if not (raw.schema[column].is_numeric() or raw.schema[column] == pl.Boolean):
            raise DataError(f"{name}: {column} must be a number, got {raw.schema[column]}; convert the column")
    shares = raw.with_columns((pl.col(columns).cast(pl.Float64).fill_nan(None) / largest).name.keep())
    for column in columns:
        outside = shares.filter(~pl.col(column).is_between(0.0, 1.0))[column]
        if len(outside):
            grades = "" if largest == 1.0 else f" once divided by {largest:g}"
            raise DataError(
                f"{name}: scores must lie in 0..1{grades}, got {outside[0]:g}; divide them by the largest grade "
                "(largest_score in an evaluation config)"
            )
    return shares.with_columns(pl.col("prompt").cast(pl.String))


def _category(raw: pl.DataFrame) -> pl.DataFrame:
    source = next((column for column in ("category", "task") if column in raw.columns), None)
    category = pl.lit(None, pl.String) if source is None else pl.col(source).cast(pl.String)
    return raw.with_columns(category=category)


def _has_prompt() -> pl.Expr:
    return pl.col("prompt").fill_null("").str.len_chars() > 0


def _without(rows: pl.DataFrame, prompts: Collection[str]) -> pl.DataFrame:
    gone = pl.DataFrame({"prompt": list(prompts)}, schema={"prompt": pl.String})
    return rows.join(gone, on="prompt", how="anti", maintain_order="left")


def _require(raw: pl.DataFrame, layout: str, name: str) -> None:
    needed = COLUMNS[layout]
    if missing := [column for column in needed if column not in raw.columns]:
        raise DataError(f"{name}: columns {missing} are missing; expected {list(needed)}, got {raw.columns}")


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "the table is empty"
