import io
import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from routing.training.importers import Turn, arena_55k, battle_table

FLAGS = {"model_a": (1, 0, 0), "model_b": (0, 1, 0), "tie": (0, 0, 1)}
PUBLISHED = {
    "id": pl.Int64,
    "model_a": pl.String,
    "model_b": pl.String,
    "prompt": pl.String,
    "winner_model_a": pl.Int64,
    "winner_model_b": pl.Int64,
    "winner_tie": pl.Int64,
}

# JSON has no half surrogate pairs; everything else, control characters included, is written and read.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
turns = st.lists(text.map(lambda part: f"<{part}>"), min_size=1, max_size=3)
battles = st.lists(st.tuples(turns, st.sampled_from(list(FLAGS)), st.booleans()), max_size=8)


def write(rows: list[tuple[list[str], str, bool]]) -> pl.DataFrame:
    """The 55k layout; the flag of a row says whether its JSON escapes what is not ASCII."""
    return pl.DataFrame(
        [
            (row, "gpt-4", "mixtral", json.dumps(prompt, ensure_ascii=ascii_only), *FLAGS[winner])
            for row, (prompt, winner, ascii_only) in enumerate(rows)
        ],
        schema=PUBLISHED,
        orient="row",
    )


@given(battles)
def test_what_is_written_in_the_55k_layout_comes_back(rows: list[tuple[list[str], str, bool]]) -> None:
    positions: dict[Turn, int] = {"first": 0, "last": -1}
    for turn, position in positions.items():
        imported = arena_55k(write(rows), turn=turn, min_prompt_chars=1)
        assert imported.battles["prompt"].to_list() == [prompt[position] for prompt, _, _ in rows]
        assert imported.battles["winner"].to_list() == [winner for _, winner, _ in rows]
        assert imported.rejected.is_empty()


@given(battles.filter(bool))
def test_a_csv_gives_the_same_battles_as_the_frame(rows: list[tuple[list[str], str, bool]]) -> None:
    raw = write(rows)
    read = pl.read_csv(io.BytesIO(raw.write_csv().encode()), schema=PUBLISHED)
    assert arena_55k(read, min_prompt_chars=1).battles.equals(arena_55k(raw, min_prompt_chars=1).battles)


@given(
    st.lists(
        st.text("[]\"\\,x1 nul{}:'", max_size=12) | st.none() | turns.map(json.dumps),
        max_size=12,
    ),
    st.integers(0, 8),
)
def test_every_row_is_a_battle_short_or_rejected(prompts: list[str | None], min_prompt_chars: int) -> None:
    raw = pl.DataFrame(
        [(row, "a", "b", prompt, 0, 0, 1) for row, prompt in enumerate(prompts)], schema=PUBLISHED, orient="row"
    )
    imported = arena_55k(raw, min_prompt_chars=min_prompt_chars)
    assert len(imported.battles) + imported.n_short + len(imported.rejected) == len(prompts)
    read_by_json = {row for row, prompt in enumerate(prompts) if prompt is not None and _is_turns(prompt)}
    assert set(range(len(prompts))) - set(imported.rejected["row"]) == read_by_json


@given(battles)
def test_a_battle_table_is_read_as_itself(rows: list[tuple[list[str], str, bool]]) -> None:
    once = arena_55k(write(rows), min_prompt_chars=1).battles
    assert battle_table(once, min_prompt_chars=1).battles.equals(once)


def _is_turns(prompt: str) -> bool:
    try:
        value = json.loads(prompt)
    except json.JSONDecodeError:
        return False
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], str)
