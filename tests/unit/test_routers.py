from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from routing.artifact import load
from routing.errors import ArtifactError
from routing.routers import TOKENIZE_ROWS, OnnxRouter
from tests.fakes import save_adding_router, write_card


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> OnnxRouter:
    """Win rate = sum of the first three and last two token numbers / 1000."""
    return OnnxRouter(load(save_adding_router(tmp_path_factory.mktemp("adding"))), threads=1, token_budget=12)


def test_the_graph_sees_head_and_tail_and_the_length_is_of_the_whole(adding: OnnxRouter) -> None:
    rates = adding.win_rates(["1 2", "1 2 3 4 5 6 7 8", "", "900 unknown"])
    assert_allclose(rates.win_rate, [0.003, (1 + 2 + 3 + 7 + 8) / 1000, 0.0, 0.9], rtol=1e-6)
    assert_array_equal(rates.tokens, [2, 8, 0, 2])


def test_the_frame_of_the_card_stands_around_the_cut_prompt(tmp_path: Path) -> None:
    folder = save_adding_router(tmp_path / "router")
    write_card(folder, prefix_tokens=[100, 10], suffix_tokens=[200])
    framed = OnnxRouter(load(folder)).win_rates(["1 2", "1 2 3 4 5 6 7 8", ""])
    assert_allclose(framed.win_rate, [(310 + total) / 1000 for total in (3, 1 + 2 + 3 + 7 + 8, 0)], rtol=1e-6)
    assert_array_equal(framed.tokens, [2, 8, 0])  # of the bare text


def test_limits_written_into_the_tokenizer_file_are_switched_off(adding: OnnxRouter) -> None:
    # The file asks for truncation to 2 tokens and padding to 4.
    assert_array_equal(adding.count_tokens(["7 7 7 7 7 7", "7"]), [6, 1])


def test_win_rates_are_float64_and_lengths_int64(adding: OnnxRouter) -> None:
    rates = adding.win_rates(["1"])
    assert rates.win_rate.dtype == np.float64
    assert rates.tokens.dtype == np.int64


def test_no_texts_no_win_rates(adding: OnnxRouter) -> None:
    assert [array.shape for array in adding.win_rates([])] == [(0,), (0,)]
    assert adding.count_tokens([]).shape == (0,)


def test_order_holds_over_tokenizer_chunks_and_batches(adding: OnnxRouter) -> None:
    numbers = np.random.default_rng(5).integers(1, 1000, TOKENIZE_ROWS + 100)
    texts = [" ".join([str(n)] * (1 + n % 4)) for n in numbers]
    assert_allclose(adding.win_rates(texts).win_rate, numbers * (1 + numbers % 4) / 1000, rtol=1e-6)


def test_a_graph_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    folder = save_adding_router(tmp_path / "router")
    (folder / "model.onnx").write_bytes(b"no graph")
    write_card(folder)
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be opened: .*export the router again"):
        OnnxRouter(load(folder))


def test_a_graph_with_other_inputs_is_refused(tmp_path: Path) -> None:
    folder = save_adding_router(tmp_path / "router", inputs=["embedding"])
    with pytest.raises(ArtifactError, match=r"takes \['embedding'\], expected input_ids and attention_mask"):
        OnnxRouter(load(folder))
