"""Published preference tables -> one plain battle table; each row is read or is handed back with a reason.

The layouts are described in docs/training-data.md. A frame comes as `pl.read_csv` or `pl.read_parquet` gives it.
"""

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

import polars as pl

from routing.errors import DataError
from routing.training.preferences import MIN_PROMPT_CHARS
from schemas.preferences import WINNERS

Turn = Literal["first", "last"]

LAYOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "arena_55k": ("prompt", "model_a", "model_b", "winner_model_a", "winner_model_b", "winner_tie"),
    "battles": ("prompt", "model_a", "model_b", "winner"),
    "correctness": ("prompt", "model", "score"),
    "golden": ("prompt", "strong_score", "weak_score"),
}
"""Columns that each layout is known by and read from; others, such as the responses, are ignored."""

WINNER_NAMES: Final[Mapping[str, str]] = {name: name for name in WINNERS} | dict.fromkeys(
    ("tie (bothbad)", "bothbad", "both_bad"), "tie"
)
"""Names of winners in Chatbot Arena's releases; two bad answers are a tie."""

_FLAGS: Final = dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), WINNERS, strict=True))
_WINNER: Final = pl.Enum(list(WINNERS))
_BATTLE: Final = ("prompt", "model_a", "model_b", "winner", "source")


class Imported(NamedTuple):
    """What a table gave, in its order."""

    battles: pl.DataFrame
    """prompt, model_a, model_b, winner (Enum: model_a, model_b, tie), source; no nulls."""
    rejected: pl.DataFrame
    """row (UInt32, position in the table that was read), reason (String)."""
    n_short: int
    """Battles left out because their prompt is shorter than `min_prompt_chars`."""


def detect(columns: Collection[str]) -> str:
    """Return the layout (a key of `LAYOUTS`) that has these columns.

    RouteLLM's judge battles have the columns of Chatbot Arena 55k, so both are `arena_55k`.

    Raises:
        DataError: no layout fits.
    """
    for name, needed in LAYOUTS.items():
        if set(needed) <= set(columns):
            return name
    # Most columns in common first: three layouts share `prompt`, and only then does the shorter list win.
    nearest = max(LAYOUTS, key=lambda name: (len(set(LAYOUTS[name]) & set(columns)), -len(LAYOUTS[name])))
    missing = [column for column in LAYOUTS[nearest] if column not in columns]
    if len(missing) == len(LAYOUTS[nearest]):
        raise DataError(f"columns {list(columns)} are of no known layout; rename them to one of {dict(LAYOUTS)}")
    raise DataError(
        f"columns {list(columns)} look most like the layout {nearest!r}, but {missing} are missing; "
        "rename the columns that hold them, or add them"
    )


def arena_55k(
    raw: pl.DataFrame,
    *,
    turn: Turn = "first",
    source: str = "lmsys_arena_55k",
    min_prompt_chars: int = MIN_PROMPT_CHARS,
) -> Imported:
    """Chatbot Arena 55k -> battles: `prompt` is a JSON list of turns, three 0/1 columns flag the winner.

    Args:
        raw: the columns of `LAYOUTS["arena_55k"]`.
        turn: which turn of the user is the prompt; RouteLLM takes the first.
        source: name of the data set in the battles.
        min_prompt_chars: shorter prompts are left out; white space at the ends does not count.

    Raises:
        DataError: a column is missing, or `prompt` holds no text.
    """
    _require(raw, "arena_55k")
    return _flagged(raw, _turn(turn), _json_problem(turn), source=source, min_prompt_chars=min_prompt_chars)


def gpt4_judge(
    raw: pl.DataFrame,
    *,
    turn: Turn = "first",
    source: str = "gpt4_judge_battles",
    min_prompt_chars: int = MIN_PROMPT_CHARS,
) -> Imported:
    """RouteLLM's `gpt4_judge_battles` -> battles: the columns of 55k, but a prompt may also be plain text.

    The data set's card lists the columns, not how a prompt is written. What starts with "[" must be a JSON list, all
    else is the prompt itself. Arguments and errors are those of `arena_55k`.
    """
    _require(raw, "arena_55k")
    plain = ~_starts_a_list()
    prompt = pl.when(plain).then(pl.col("prompt")).otherwise(_turn(turn))
    problem = pl.when(~plain | pl.col("prompt").is_null()).then(_json_problem(turn))
    return _flagged(raw, prompt, problem, source=source, min_prompt_chars=min_prompt_chars)


def battle_table(
    raw: pl.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    winners: Mapping[str, str] | None = None,
    source: str | None = None,
    min_prompt_chars: int = MIN_PROMPT_CHARS,
) -> Imported:
    """Table of one battle a row -> battles.

    Args:
        raw: prompt (plain text), model_a, model_b, winner, or what `columns` maps to them.
        columns: our name -> the table's name, for columns that are called otherwise.
        winners: the table's name of a winner -> model_a, model_b or tie; goes before `WINNER_NAMES`.
        source: name of the data set in the battles; None reads the column `source`.
        min_prompt_chars: shorter prompts are left out; white space at the ends does not count.

    Raises:
        DataError: a column is missing, `prompt` holds no text, or a winner is unknown.
    """
    names = {name: name for name in (*_BATTLE[:4], *(() if source is not None else ("source",)))}
    if unused := sorted(set(columns or {}) - set(names)):
        raise DataError(f"battles: columns maps {unused}, which are not read; map some of {list(names)}")
    names |= columns or {}
    if missing := [theirs for theirs in names.values() if theirs not in raw.columns]:
        raise DataError(
            f"battles: columns {missing} are missing, got {raw.columns}; name them with columns={{ours: theirs}}"
            + ("" if source is not None else ", and the data set with source=")
        )
    table = raw.select(pl.col(theirs).alias(ours) for ours, theirs in names.items())
    _require_text(table, "battles")
    known = {**WINNER_NAMES, **(winners or {})}
    if wrong := sorted(set(known.values()) - set(WINNERS)):
        raise DataError(f"battles: winners maps to {wrong}; map to {list(WINNERS)}")
    winner = pl.col("winner").cast(pl.String)
    values = table.select(winner.unique().drop_nulls().sort())["winner"]
    if unknown := [value for value in values if value not in known]:
        raise DataError(
            f"battles: winner {unknown} is unknown, expected {list(known)}; "
            "name what they mean with winners={theirs: 'model_a' | 'model_b' | 'tie'}, or drop these rows"
        )
    source_name = pl.col("source").cast(pl.String) if source is None else pl.lit(source)
    problem = pl.coalesce(
        _where(pl.col("prompt").is_null(), "prompt is missing"),
        _models_problem(),
        _where(winner.is_null(), "winner is missing"),
        _where(source_name.is_null(), "source is missing"),
    )
    rows = table.select(
        *_verdict(problem), "prompt", _model("model_a"), _model("model_b"), winner.replace(known), source=source_name
    )
    return _sorted_out(rows, min_prompt_chars)


def golden_battles(
    raw: pl.DataFrame, *, model_a: str, model_b: str, source: str, min_prompt_chars: int = MIN_PROMPT_CHARS
) -> Imported:
    """Graded answers of two models -> one battle per prompt that both answered; equal scores are a tie.

    Scores of one model on one prompt are averaged first. Rows of other models are neither read nor rejected.

    Args:
        raw: prompt, model, score (a number or true/false, higher is better).
        model_a: a model of the table.
        model_b: another.
        source: name of the data set in the battles.
        min_prompt_chars: shorter prompts are left out; white space at the ends does not count.

    Raises:
        DataError: a column or one of the models is missing, `prompt` holds no text or `score` no numbers.
    """
    _require(raw, "correctness")
    kind = raw.schema["score"]
    if not (kind.is_numeric() or kind == pl.Boolean):
        raise DataError(f"correctness: score must be a number or true/false, got {kind}; cast it")
    if model_a == model_b:
        raise DataError(f"correctness: a battle needs two models, got {model_a!r} twice")
    models = raw["model"].cast(pl.String).unique().drop_nulls().sort()
    if missing := [model for model in (model_a, model_b) if model not in models]:
        raise DataError(f"correctness: no row of model {missing}; this table has {models.to_list()}")
    graded = raw.select(
        "prompt",
        pl.col("model").cast(pl.String),
        pl.col("score").cast(pl.Float64).fill_nan(None),
        row=pl.int_range(pl.len(), dtype=pl.UInt32),
    ).filter(pl.col("model").is_in([model_a, model_b]))
    usable = graded.filter(pl.col("prompt").is_not_null(), pl.col("score").is_not_null())
    mean_a, mean_b = (pl.col("score").filter(pl.col("model") == model).mean() for model in (model_a, model_b))
    pairs = usable.group_by("prompt", maintain_order=True).agg(a=mean_a, b=mean_b).drop_nulls()
    problem = pl.coalesce(
        _where(pl.col("prompt").is_null(), "prompt is missing"),
        _where(pl.col("score").is_null(), "score is missing"),
        _where(~pl.col("prompt").is_in(pairs["prompt"].implode()), "the other model has no score on this prompt"),
    )
    rejected = graded.select("row", reason=problem).drop_nulls()
    winner = pl.coalesce(
        _where(pl.col("a") > pl.col("b"), "model_a"), _where(pl.col("a") < pl.col("b"), "model_b"), pl.lit("tie")
    )
    rows = pairs.select(
        "prompt",
        model_a=pl.lit(model_a),
        model_b=pl.lit(model_b),
        winner=winner,
        source=pl.lit(source),
    )
    battles, n_short = _long_enough(rows, min_prompt_chars)
    return Imported(battles, rejected, n_short)


def golden_scores(
    raw: pl.DataFrame, *, model_a: str, model_b: str, source: str, min_prompt_chars: int = MIN_PROMPT_CHARS
) -> Imported:
    """Golden rows, the scores of both models side by side -> one battle per row; equal scores are a tie.

    Args:
        raw: prompt, strong_score, weak_score (numbers, higher is better); a column `benchmark` names the source.
        model_a: name of the strong model in the battles.
        model_b: name of the weak one.
        source: name of the data set in the battles.
        min_prompt_chars: shorter prompts are left out; white space at the ends does not count.

    Raises:
        DataError: a column is missing, `prompt` holds no text or a score no numbers.
    """
    _require(raw, "golden")
    for column in LAYOUTS["golden"][1:]:
        if not (raw.schema[column].is_numeric() or raw.schema[column] == pl.Boolean):
            raise DataError(f"golden: {column} must be a number, got {raw.schema[column]}; convert the column")
    strong, weak = (pl.col(name).cast(pl.Float64).fill_nan(None) for name in LAYOUTS["golden"][1:])
    problem = pl.coalesce(
        _where(pl.col("prompt").is_null(), "prompt is missing"),
        _where(strong.is_null() | weak.is_null(), "strong_score or weak_score is missing"),
    )
    winner = pl.coalesce(_where(strong > weak, "model_a"), _where(strong < weak, "model_b"), pl.lit("tie"))
    name = pl.col("benchmark").cast(pl.String) if "benchmark" in raw.columns else pl.lit(None, pl.String)
    rows = raw.select(
        *_verdict(problem),
        "prompt",
        model_a=pl.lit(model_a),
        model_b=pl.lit(model_b),
        winner=winner,
        source=name.fill_null(source),
    )
    return _sorted_out(rows, min_prompt_chars)


def _flagged(
    raw: pl.DataFrame, prompt: pl.Expr, prompt_problem: pl.Expr, *, source: str, min_prompt_chars: int
) -> Imported:
    # A CSV read without type inference has "0" and "1", others have integers, floats or booleans.
    flags = [pl.col(flag).cast(pl.Float64, strict=False) for flag in _FLAGS]
    one_winner = pl.all_horizontal(flag.is_in([0.0, 1.0]).fill_null(value=False) for flag in flags) & (
        pl.sum_horizontal(flags) == 1.0
    )
    problem = pl.coalesce(
        prompt_problem, _models_problem(), _where(~one_winner, f"not exactly one of {', '.join(_FLAGS)} is 1")
    )
    winner = pl.coalesce(_where(flag == 1.0, name) for flag, name in zip(flags, _FLAGS.values(), strict=True))
    rows = raw.select(
        *_verdict(problem),
        prompt.alias("prompt"),
        _model("model_a"),
        _model("model_b"),
        winner=winner,
        source=pl.lit(source),
    )
    return _sorted_out(rows, min_prompt_chars)


def _starts_a_list() -> pl.Expr:
    return pl.col("prompt").str.strip_chars_start(" \t\r\n").str.starts_with("[")


def _turn(turn: Turn) -> pl.Expr:
    return pl.col("prompt").str.json_path_match("$[0]" if turn == "first" else "$[-1]")


def _json_problem(turn: Turn) -> pl.Expr:
    # `$` gives the value without white space between its parts, or null if the text is no JSON. There, a turn that is a
    # string is the only one to begin and end with a quotation mark.
    compact = pl.col("prompt").str.json_path_match("$")
    text = compact.str.starts_with('["') if turn == "first" else compact.str.ends_with('"]')
    return pl.coalesce(
        _where(pl.col("prompt").is_null(), "prompt is missing"),
        _where(~_starts_a_list() | compact.is_null(), "prompt is no JSON list"),
        _where(compact == "[]", "prompt is an empty list"),
        _where(~text, f"the {turn} turn of the prompt is no text"),
    )


def _models_problem() -> pl.Expr:
    model_a, model_b = _model("model_a"), _model("model_b")
    missing = pl.any_horizontal((model.is_null() | (model == "")) for model in (model_a, model_b))
    return pl.coalesce(
        _where(missing, "model_a or model_b is missing"),
        _where(model_a == model_b, "model_a and model_b are the same"),
    )


def _model(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String)


def _where(condition: pl.Expr, text: str) -> pl.Expr:
    return pl.when(condition).then(pl.lit(text))


def _verdict(problem: pl.Expr) -> list[pl.Expr]:
    return [pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"), problem.alias("reason")]


def _sorted_out(rows: pl.DataFrame, min_prompt_chars: int) -> Imported:
    battles, n_short = _long_enough(rows.filter(pl.col("reason").is_null()), min_prompt_chars)
    return Imported(battles, rows.select("row", "reason").drop_nulls(), n_short)


def _long_enough(rows: pl.DataFrame, min_prompt_chars: int) -> tuple[pl.DataFrame, int]:
    # An empty prompt breaks the contract of BATTLES, so one character is the least.
    long = rows.filter(pl.col("prompt").str.strip_chars().str.len_chars() >= max(min_prompt_chars, 1))
    return long.select(_BATTLE).with_columns(pl.col("winner").cast(_WINNER)), len(rows) - len(long)


def _require(raw: pl.DataFrame, layout: str) -> None:
    if missing := [column for column in LAYOUTS[layout] if column not in raw.columns]:
        raise DataError(f"{layout}: columns {missing} are missing; expected {list(LAYOUTS[layout])}, got {raw.columns}")
    _require_text(raw, layout)


def _require_text(raw: pl.DataFrame, layout: str) -> None:
    if raw.schema["prompt"] not in (pl.String, pl.Null):
        raise DataError(f"{layout}: prompt must be text (String), got {raw.schema['prompt']}; convert the column")
