"""A calibration at the end of a graph: the formula in ONNX, the card around it, and a job that runs it unchanged."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.train
onnx = pytest.importorskip("onnx", reason="needs the extra `train`")
pytest.importorskip("torch", reason="needs the extra `train`")

from routing.artifact import BUILTIN, load  # noqa: E402
from routing.calibrating import IsotonicMap, Method, Platt, PlattMap, WinRateMap, fit  # noqa: E402
from routing.errors import ArtifactError  # noqa: E402
from routing.routers import EmbeddingRouter, OnnxRouter  # noqa: E402
from routing.training.calibrated_graph import calibrated, parity_error, write_calibrated  # noqa: E402
from schemas.artifact import Quantization, WinRateCalibration  # noqa: E402
from tests.e2e.desk import Desk, nightroute, toml  # noqa: E402
from tests.e2e.harness import STRONG, WEAK, serving  # noqa: E402
from tests.fakes import save_adding_router, save_embedding_router, write_card  # noqa: E402

PROMPTS = [str(n) for n in range(1, 1_000)]
"""The adding router's win rate of `n` is n / 1000."""
STEEP = IsotonicMap(np.array([0.0, 0.3, 0.300001, 0.7, 1.0]), np.array([0.0, 0.1, 0.6, 0.8, 1.0]))
HUMBLE = IsotonicMap(np.array([0.0, 0.4, 1.0]), np.array([0.15, 0.5, 0.8]))
"""Of a router whose zeros and ones are none."""
MAPS: dict[str, WinRateMap] = {
    "platt": PlattMap(Platt(2.5, -0.7)),
    "falling over": PlattMap(Platt(40.0, 3.0)),
    "isotonic": STEEP,
    "humble": HUMBLE,
}


def record(parity_error: float) -> WinRateCalibration:
    return WinRateCalibration(
        method="platt", labels_sha256="1" * 64, n=999, ece_before=0.2, ece_after=0.1, log_loss_before=0.7,
        log_loss_after=0.6, parity_max_error=parity_error, base_sha256="2" * 64,
    )  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_the_graph_says_what_the_formula_says(tmp_path: Path, name: str) -> None:
    found = MAPS[name]
    base = load(save_adding_router(tmp_path / "router"))
    card = write_calibrated(base, tmp_path / "copy", found, PROMPTS, record, name="adding-calibrated")
    assert card.calibration is not None
    assert card.calibration.parity_max_error < 1e-6
    raw = OnnxRouter(base).win_rates([*PROMPTS, "1 1", ""]).win_rate
    made = OnnxRouter(load(tmp_path / "copy")).win_rates([*PROMPTS, "1 1", ""]).win_rate
    # The raw win rate is a float32 before the router rounds it, and this map can be as steep as 500,000.
    assert np.abs(made - found.apply(raw.astype(np.float32).astype(np.float64)).round(6)).max() <= (
        0.05 if name == "isotonic" else 2e-5
    )
    assert (np.diff(made[:-2]) >= 0).all()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_shipped_router_is_calibrated_to_1e6(method: Method) -> None:
    base = load(BUILTIN / "static-mf")
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.45, 0.7, 2_000)
    won = (rng.random(2_000) < 0.2 + rates).astype(np.float64)
    found = fit(rates, won, 1.0 - won, method)
    before = onnx.load(base.graph)
    batch = {
        "input_ids": rng.integers(1_000, 20_000, size=(200, 32)),
        "attention_mask": np.ones((200, 32), np.int64),
    }
    after = calibrated(before, found)
    assert parity_error(before, after, found, [batch]) < 1e-6
    with pytest.raises(ArtifactError, match="differs from its formula by"):
        parity_error(before, after, PlattMap(Platt(1.0, 0.5)), [batch])
    with pytest.raises(ArtifactError, match="ends with a calibration already; calibrate the router it was made from"):
        calibrated(after, found)


def test_what_the_card_says_stays_true(tmp_path: Path) -> None:
    folder = save_adding_router(tmp_path / "router")
    (folder / "training.png").write_bytes(b"picture")
    quantiles = np.linspace(0.2, 0.6, 101).tolist()
    quantization = Quantization(scheme="int8", max_error=0.01, mean_error=0.001, flips={"0.5": 0.02})
    write_card(folder, score_quantiles=quantiles, quantization=quantization)
    base = load(folder)
    base.card.files["training.png"] = "of the picture"
    found = MAPS["platt"]
    card = write_calibrated(base, tmp_path / "copy", found, PROMPTS, record, name="copy")
    made = load(tmp_path / "copy").card
    assert made == card
    assert made.score_quantiles == pytest.approx(found.apply(np.array(quantiles)).tolist())
    assert made.quantization is not None
    assert made.quantization.flips == {"0.5": 0.02}
    assert made.quantization.scheme == "int8; errors are those before the calibration"
    assert set(made.files) == {"model.onnx", "tokenizer.json", "training.png"}
    changed = {"name", "files", "score_quantiles", "quantization", "calibration"}
    assert made.model_dump(exclude=changed) == base.card.model_dump(exclude=changed)


def test_a_router_that_starts_at_embeddings_can_be_calibrated(tmp_path: Path) -> None:
    class Vectors:
        def known(self, texts: Sequence[str]) -> NDArray[np.bool_]:
            return np.ones(len(texts), np.bool_)

        def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.array([[float(text), *[0.0] * 15] for text in texts], np.float32)

    base = load(save_embedding_router(tmp_path / "router"))
    found = MAPS["platt"]
    write_calibrated(base, tmp_path / "copy", found, [], record, name="copy")
    texts = ["-1", "-0.2", "0", "0.5", "1"]
    raw, made = (
        EmbeddingRouter(artifact, Vectors()).win_rates(texts).win_rate for artifact in (base, load(tmp_path / "copy"))
    )
    assert made == pytest.approx(found.apply(raw), abs=1e-5)


def test_a_copy_takes_the_place_of_another_when_all_else_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rates = rng.integers(300, 700, 500)
    won = rng.random(500) < rates / 1000
    save_adding_router(tmp_path / "router")
    labels = {"prompt": [str(rate) for rate in rates], "strong_score": won.astype(int), "weak_score": 1 - won}
    pl.DataFrame(labels).write_parquet(tmp_path / "labels.parquet")
    pl.DataFrame({"query_id": ["a"], "prompt": [" "]}).write_parquet(tmp_path / "blank.parquet")
    before = set(tmp_path.iterdir())

    def made(*args: str) -> tuple[int, str]:
        values = {"router.artifact": "router", "labels.path": "labels.parquet", "calibration.output": "new/copy"}
        lines = [f"{key} = {toml(value)}" for key, value in values.items()]
        (tmp_path / "calibrate.toml").write_text("\n".join(lines), encoding="utf-8")
        ended = nightroute("calibrate", "-c", str(tmp_path / "calibrate.toml"), *args)
        return ended.exit_code, ended.stderr

    for again in (False, True):
        for path, code in (("nothing.parquet", 66), ("blank.parquet", 65)):
            ended, err = made("--set", f'input.path="{path}"', "--set", "target.strong_share=0.5")
            assert ended == code, err
            assert sorted(path.name for path in (tmp_path / "new").iterdir()) == (["copy"] if again else [])
            assert (tmp_path / "calibration.json").exists() == again
        if not again:
            assert made()[0] == 0
            first = load(tmp_path / "new" / "copy").sha256
        assert load(tmp_path / "new" / "copy").sha256 == first
    assert made("--set", 'output.path="new/copy/calibration.json"')[0] == 0
    assert (tmp_path / "new" / "copy" / "calibration.json").exists()
    ended, err = made("--set", "calibration.method=isotonic", "--set", "target.strong_share=0.5")
    assert ended == 0, err
    assert load(tmp_path / "new" / "copy").sha256 != first
    assert f'artifact = "{tmp_path}/new/copy"' in err
    assert set(tmp_path.iterdir()) - before == {
        tmp_path / name for name in ("calibrate.toml", "calibration.json", "new")
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]


def test_from_labels_to_a_night_by_gain_per_dollar(tmp_path: Path) -> None:
    """Everything in a row: labels, a calibrated copy, alphas of that copy, and a night that needs nothing new."""
    rng = np.random.default_rng(0)
    rates = rng.integers(300, 700, 3_000)
    won = rng.random(3_000) < 2.0 * (rates / 1000 - 0.25)  # the router is too timid
    desk = Desk(tmp_path)
    save_adding_router(tmp_path / "router")
    pl.DataFrame(
        {"prompt": [str(rate) for rate in rates], "strong_score": won.astype(int), "weak_score": 1 - won.astype(int)}
    ).write_parquet(tmp_path / "labels.parquet")
    values = {
        "router.artifact": "router", "labels.path": "labels.parquet", "target.pgr": 0.5,
        "calibration": {"output": "copy", "method": "isotonic", "name": "adding-2026-11"},
    }  # fmt: skip
    lines = [f"{key} = {toml(value)}" for key, value in values.items()]
    (tmp_path / "calibrate.toml").write_text("\n".join(lines), encoding="utf-8")
    ended = nightroute("calibrate", "-c", str(tmp_path / "calibrate.toml"))
    assert ended.exit_code == 0, ended.stderr
    made = ended.summary["calibration"]
    assert made["ece_after"] < 0.05 < 0.08 < made["ece_before"]
    copy = load(tmp_path / "copy")
    assert (ended.summary["router"], ended.summary["router_sha256"]) == ("adding-2026-11", copy.sha256)
    assert copy.card.calibration is not None
    assert copy.card.calibration.base_sha256 == load(tmp_path / "router").sha256
    # Alpha is one of the copy's own win rates.
    known = OnnxRouter(copy).win_rates([str(rate) for rate in range(300, 700)]).win_rate
    assert ended.summary["pgr"]["alpha"] in known

    desk.put(pl.DataFrame({"id": [f"q{i}" for i in range(20)], "text": [str(310 + 20 * i) for i in range(20)]}))
    prices = [
        {"model": model, "input_usd_per_mtok": rate, "output_usd_per_mtok": rate}
        for model, rate in ((STRONG, "9"), (WEAK, "1"))
    ]
    with serving(tmp_path / "sandbox") as server:
        night = Desk(tmp_path, server.base_url)
        night.write_config(
            router__artifact="copy",
            split__strong_share=None,
            split__max_usd="1",
            split__order="gain_per_usd",
            prices=prices,
        )
        ended = night.run()
    assert ended.exit_code == 0, ended.stderr
    assert "was not calibrated" not in ended.stderr
    table = night.published()
    # Half is where the labels have it: at .5 of the router as it was, whose .45 is now about .4.
    strong = table.filter(route="strong")["prompt"].cast(pl.Int64)
    assert 480 <= int(str(strong.min())) <= 530
    assert strong.len() == table.filter(pl.col("win_rate") > 0.5).height
