import io
import json
import subprocess
import sys
from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from routing.errors import DataError
from routing.training.importers import (
    LAYOUTS,
    Imported,
    arena_55k,
    battle_table,
    detect,
    golden_battles,
    gpt4_judge,
)
from schemas.preferences import WINNERS

LONG = "a prompt of more than sixteen characters"
BATTLES = pl.Schema(
    {
        "prompt": pl.String(),
        "model_a": pl.String(),
        "model_b": pl.String(),
        "winner": pl.Enum(list(WINNERS)),
        "source": pl.String(),
    }
)
REJECTED = pl.Schema({"row": pl.UInt32, "reason": pl.String})


def published(*prompts: str | None, **changed: object) -> pl.DataFrame:
    rows = [
        {
            "id": row,
            "model_a": "gpt-4",
            "model_b": "mixtral",
            "prompt": prompt,
            "response_a": '["x"]',
            "response_b": '["y"]',
            "winner_model_a": 1,
            "winner_model_b": 0,
            "winner_tie": 0,
        }
        | changed
        for row, prompt in enumerate(prompts)
    ]
    return pl.DataFrame(rows, schema_overrides={"prompt": pl.String})


def battle(**changed: object) -> dict[str, object]:
    return {"prompt": LONG, "model_a": "a", "model_b": "b", "winner": "tie", "source": "s"} | changed


def reasons(imported: Imported) -> dict[int, str]:
    return dict(imported.rejected.iter_rows())


def test_one_row_of_the_55k_set_as_published() -> None:
    csv = (
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
        '30192,gpt-4-1106-preview,gpt-4-0613,"[""Is it morally right to try?"",""And \\""now\\""?""]",'
        '"[""No""]","[""Yes""]",1,0,0\n'
    )
    imported = arena_55k(pl.read_csv(io.StringIO(csv)))
    expected = {
        "prompt": "Is it morally right to try?",
        "model_a": "gpt-4-1106-preview",
        "model_b": "gpt-4-0613",
        "winner": "model_a",
        "source": "lmsys_arena_55k",
    }
    assert_frame_equal(imported.battles, pl.DataFrame([expected], schema=BATTLES))
    assert_frame_equal(imported.rejected, pl.DataFrame(schema=REJECTED))
    assert imported.n_short == 0


@pytest.mark.parametrize(
    ("prompt", "first", "last"),
    [
        ('["one", "two"]', "one", "two"),
        (' [ "one" ,\n"two" ] ', "one", "two"),
        (r'["a \"quoted\" line\nand \\ slash", "]\"]"]', 'a "quoted" line\nand \\ slash', ']"]'),
        (r'["caf\u00e9 \ud83d\ude00", "日本語"]', "café 😀", "日本語"),
        ('["[\\"a list in a string\\"]"]', '["a list in a string"]', '["a list in a string"]'),
    ],
)
def test_turns(prompt: str, first: str, last: str) -> None:
    raw = published(prompt)
    assert arena_55k(raw, min_prompt_chars=1).battles["prompt"].to_list() == [first]
    assert arena_55k(raw, turn="last", min_prompt_chars=1).battles["prompt"].to_list() == [last]


def test_prompts_that_cannot_be_read_are_rejected_and_the_rest_is_kept() -> None:
    unreadable = [
        (None, "prompt is missing"),
        (LONG, "prompt is no JSON list"),
        (json.dumps({"turn": LONG}), "prompt is no JSON list"),
        (json.dumps(LONG), "prompt is no JSON list"),
        (json.dumps("[" + LONG), "prompt is no JSON list"),
        (f"['{LONG}']", "prompt is no JSON list"),
        (f'["{LONG}"] and more', "prompt is no JSON list"),
        (f'["{LONG}",]', "prompt is no JSON list"),
        (r'["half a surrogate pair \ud83d is no text"]', "prompt is no JSON list"),
        ("null", "prompt is no JSON list"),
        ("", "prompt is no JSON list"),
        ("[ ]", "prompt is an empty list"),
        (f'[null, "{LONG}"]', "the first turn of the prompt is no text"),
        ("[12345678901234567]", "the first turn of the prompt is no text"),
        (f'[["{LONG}"]]', "the first turn of the prompt is no text"),
    ]
    imported = arena_55k(published(*(prompt for prompt, _ in unreadable), json.dumps([LONG])))
    assert reasons(imported) == dict(enumerate(reason for _, reason in unreadable))
    assert imported.rejected.schema == REJECTED
    assert imported.battles["prompt"].to_list() == [LONG]


def test_the_last_turn_must_be_text_too() -> None:
    imported = arena_55k(published(f'["{LONG}", null]', f'["{LONG}", ["x"]]'), turn="last")
    assert set(reasons(imported).values()) == {"the last turn of the prompt is no text"}
    assert len(arena_55k(published(f'["{LONG}", null]')).battles) == 1


@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64, pl.Boolean, pl.String])
def test_each_flag_names_its_winner(kind: type[pl.DataType]) -> None:
    flags = pl.DataFrame({"winner_model_a": [1, 0, 0], "winner_model_b": [0, 1, 0], "winner_tie": [0, 0, 1]})
    raw = published(*[json.dumps([LONG])] * 3).with_columns(flags.cast(kind))
    assert arena_55k(raw).battles["winner"].to_list() == ["model_a", "model_b", "tie"]


@pytest.mark.parametrize("flags", [(0, 0, 0), (1, 1, 0), (1, 0, 1), (1, None, 0), (2, 0, 0), (2, -1, 0), (None,) * 3])
def test_other_than_one_winner_is_rejected(flags: tuple[int | None, ...]) -> None:
    changed = dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), flags, strict=True))
    imported = arena_55k(published(json.dumps([LONG]), **changed))
    assert reasons(imported) == {0: "not exactly one of winner_model_a, winner_model_b, winner_tie is 1"}
    assert imported.battles.is_empty()
    assert imported.battles.schema == BATTLES


def test_short_prompts_are_counted_not_rejected() -> None:
    raw = published(*(json.dumps([text]) for text in ("x" * 15, "x" * 16, " " * 9 + "hi" + " " * 9, "")))
    assert arena_55k(raw).battles["prompt"].to_list() == ["x" * 16]
    assert (arena_55k(raw).n_short, len(arena_55k(raw).rejected)) == (3, 0)
    assert arena_55k(raw, min_prompt_chars=0).n_short == 1  # the empty one


def test_judge_battles_may_have_plain_prompts() -> None:
    raw = published(json.dumps([LONG, "more"]), "plain " + LONG, "[INST] " + LONG, None)
    imported = gpt4_judge(raw)
    assert imported.battles["prompt"].to_list() == [LONG, "plain " + LONG]
    assert imported.battles["source"].unique().to_list() == ["gpt4_judge_battles"]
    assert reasons(imported) == {2: "prompt is no JSON list", 3: "prompt is missing"}


def test_battle_tables_with_other_names() -> None:
    raw = pl.DataFrame(
        {
            "question": [LONG] * 5,
            "left": ["a"] * 5,
            "right": ["b"] * 5,
            "verdict": ["A", "B", "tie", "tie (bothbad)", "both_bad"],
        }
    )
    imported = battle_table(
        raw,
        columns={"prompt": "question", "model_a": "left", "model_b": "right", "winner": "verdict"},
        winners={"A": "model_a", "B": "model_b"},
        source="mine",
    )
    expected = pl.DataFrame(
        [battle(winner=winner, source="mine") for winner in ("model_a", "model_b", "tie", "tie", "tie")], schema=BATTLES
    )
    assert_frame_equal(imported.battles, expected)
    assert imported.rejected.is_empty()


def test_rows_of_a_battle_table_that_lack_something() -> None:
    bad = [
        (battle(prompt=None), "prompt is missing"),
        (battle(model_a=None), "model_a or model_b is missing"),
        (battle(model_b=""), "model_a or model_b is missing"),
        (battle(model_a="b"), "model_a and model_b are the same"),
        (battle(winner=None), "winner is missing"),
        (battle(source=None), "source is missing"),
    ]
    imported = battle_table(pl.DataFrame([battle(), *(row for row, _ in bad)]))
    assert reasons(imported) == dict(enumerate((reason for _, reason in bad), start=1))
    assert len(imported.battles) == 1


def test_an_unknown_winner_stops_with_its_name_and_the_remedy() -> None:
    raw = pl.DataFrame([battle(), battle(winner="draw"), battle(winner="A")])
    with pytest.raises(DataError, match=r"winner \['A', 'draw'\] is unknown, expected .*; name .* winners="):
        battle_table(raw)
    with pytest.raises(DataError, match=r"winners maps to \['left'\]; map to \['model_a', 'model_b', 'tie'\]"):
        battle_table(raw, winners={"A": "left", "draw": "tie"})


def test_wrong_columns_of_a_battle_table() -> None:
    raw = pl.DataFrame([battle()])
    with pytest.raises(DataError, match=r"columns \['question'\] are missing"):
        battle_table(raw, columns={"prompt": "question"})
    with pytest.raises(DataError, match=r"\['source'\] are missing.* and the data set with source="):
        battle_table(raw.drop("source"))
    with pytest.raises(DataError, match=r"columns maps \['promt'\], which are not read"):
        battle_table(raw, columns={"promt": "prompt"})


def test_scores_of_two_models_are_battles() -> None:
    grades = [
        ("better " + LONG, "strong", 1.0),
        ("better " + LONG, "weak", 0.0),
        ("equal " + LONG, "weak", 0.5),
        ("equal " + LONG, "strong", 1.0),
        ("equal " + LONG, "strong", 0.0),  # averaged: 0.5
        ("worse " + LONG, "strong", 0.2),
        ("worse " + LONG, "weak", 0.3),
        ("alone " + LONG, "strong", 1.0),
        ("alone " + LONG, "other", 1.0),
        ("unknown " + LONG, "weak", None),
        ("unknown " + LONG, "strong", 1.0),
        ("nan " + LONG, "weak", float("nan")),
        (None, "weak", 1.0),
        ("short", "strong", 1.0),
        ("short", "weak", 1.0),
    ]
    raw = pl.DataFrame(grades, schema=["prompt", "model", "score"], orient="row")
    imported = golden_battles(raw, model_a="strong", model_b="weak", source="mmlu")
    expected = [
        {"prompt": f"{name} {LONG}", "model_a": "strong", "model_b": "weak", "winner": winner, "source": "mmlu"}
        for name, winner in (("better", "model_a"), ("equal", "tie"), ("worse", "model_b"))
    ]
    assert_frame_equal(imported.battles, pl.DataFrame(expected, schema=BATTLES))
    lonely = "the other model has no score on this prompt"
    missing = "score is missing"
    assert reasons(imported) == {7: lonely, 9: missing, 10: lonely, 11: missing, 12: "prompt is missing"}
    assert imported.rejected.schema == REJECTED
    assert imported.n_short == 1


def test_right_and_wrong_answers_are_scores() -> None:
    raw = pl.DataFrame({"prompt": [LONG] * 2, "model": ["a", "b"], "score": [False, True]})
    assert golden_battles(raw, model_a="a", model_b="b", source="s").battles["winner"].to_list() == ["model_b"]


def test_wrong_correctness_tables() -> None:
    raw = pl.DataFrame({"prompt": [LONG] * 2, "model": ["a", "b"], "score": [0.0, 1.0]})
    with pytest.raises(DataError, match=r"no row of model \['gpt'\]; this table has \['a', 'b'\]"):
        golden_battles(raw, model_a="a", model_b="gpt", source="s")
    with pytest.raises(DataError, match="needs two models, got 'a' twice"):
        golden_battles(raw, model_a="a", model_b="a", source="s")
    with pytest.raises(DataError, match="score must be a number or true/false, got String; cast it"):
        golden_battles(raw.with_columns(score=pl.lit("A")), model_a="a", model_b="b", source="s")
    with pytest.raises(DataError, match=r"columns \['score'\] are missing"):
        golden_battles(raw.drop("score"), model_a="a", model_b="b", source="s")


def test_layouts_are_told_by_their_columns() -> None:
    assert detect(published("[]").columns) == "arena_55k"
    assert detect(["winner", "prompt", "model_b", "model_a", "language"]) == "battles"
    assert detect(["prompt", "model", "score", "benchmark"]) == "correctness"


@pytest.mark.parametrize(
    ("columns", "nearest", "missing"),
    [
        (["id", "prompt", "model_a", "model_b", "winner_model_a", "winner_model_b"], "arena_55k", ["winner_tie"]),
        (["prompt", "model_a", "model_b", "label"], "battles", ["winner"]),
        (["question", "model", "score"], "correctness", ["prompt"]),
    ],
)
def test_an_unknown_layout_is_compared_with_the_nearest(columns: list[str], nearest: str, missing: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        detect(columns)
    assert f"look most like the layout '{nearest}', but {missing} are missing; rename" in str(caught.value)


def test_a_table_of_something_else() -> None:
    with pytest.raises(DataError, match="are of no known layout; rename them to one of") as caught:
        detect(["sepal_length", "species"])
    assert all(name in str(caught.value) for name in LAYOUTS)


@pytest.mark.parametrize("read", [arena_55k, gpt4_judge])
def test_wrong_columns_of_a_flagged_table(read: Callable[[pl.DataFrame], Imported]) -> None:
    raw = published(json.dumps([LONG]))
    with pytest.raises(DataError, match=r"columns \['winner_tie'\] are missing; expected"):
        read(raw.drop("winner_tie"))
    with pytest.raises(DataError, match=r"prompt must be text \(String\), got List\(String\); convert"):
        read(raw.with_columns(prompt=pl.concat_list("prompt")))


def test_importing_needs_no_torch() -> None:
    script = "import sys, routing.training.importers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
