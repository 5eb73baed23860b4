import os
from pathlib import Path

import polars as pl
import pytest

from routing.errors import DataError, InputMissingError
from routing.sandbox.config import ReplayConfig
from routing.sandbox.replay import Replay

GSM8K = Path(os.environ.get("NIGHTROUTE_DATA", "../shared/data")) / "benchmarks" / "gsm8k.parquet"


def test_answers_are_found_by_model_and_prompt(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "prompt": ["p", "p", "p", "q", "r"],
            "model": ["strong", "weak", "strong", "weak", "weak"],
            "response": ["first", "other", "second", None, "naïve\n"],
        }
    )
    table.write_parquet(tmp_path / "answers.parquet")
    replay = Replay(ReplayConfig(path=tmp_path / "answers.parquet"))
    assert len(replay) == 3
    assert replay.response("strong", "p") == "first"
    assert replay.response("weak", "p") == "other"
    assert replay.response("weak", "r") == "naïve\n"
    assert replay.response("weak", "q") is None
    assert replay.response("strong", "q") is None
    assert replay.response("stron", "gp") is None


def test_columns_can_be_named(tmp_path: Path) -> None:
    pl.DataFrame({"q": ["p"], "llm": ["m"], "text": ["answer"]}).write_parquet(tmp_path / "a.parquet")
    config = ReplayConfig(path=tmp_path / "a.parquet", prompt_column="q", model_column="llm", response_column="text")
    assert Replay(config).response("m", "p") == "answer"


def test_every_wrong_column_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"prompt": [1], "model": ["m"]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"prompt: Int64; response: missing; set replay\.model_column"):
        Replay(ReplayConfig(path=tmp_path / "a.parquet"))


def test_a_missing_file_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no recorded answers"):
        Replay(ReplayConfig(path=tmp_path / "none.parquet"))


def test_a_file_that_is_no_parquet_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("prompt,model,response\n")
    with pytest.raises(DataError, match="no Parquet file"):
        Replay(ReplayConfig(path=tmp_path / "a.parquet"))


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"{GSM8K} is missing; set NIGHTROUTE_DATA to the data folder")
def test_gsm8k_is_replayed_word_for_word() -> None:
    table = pl.read_parquet(GSM8K, columns=["model", "prompt", "response"])
    replay = Replay(ReplayConfig(path=GSM8K))
    replayed = [replay.response(model, prompt) for model, prompt, _ in table.iter_rows()]
    assert len(replayed) == 2638
    assert replayed == table["response"].to_list()
