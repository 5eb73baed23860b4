"""`router.json`: the card of a router artifact, and the only description of it that loading trusts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Literal[1] = 1

RouterKind = Literal["mf", "sw", "bert", "causal_llm", "linear", "cluster", "length", "random", "constant"]


class CardPart(BaseModel):
    """A part of the card; unknown keys are refused, so that a typo in a card is an error and not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Truncation(CardPart):
    """How a prompt longer than the router reads is cut: the first `head` and the last `tail` tokens are kept."""

    head: int = Field(ge=1)
    """Tokens kept from the start of the prompt."""
    tail: int = Field(ge=0)
    """Tokens kept from the end: the question often stands after a long context."""


class TrainingData(CardPart):
    """One source of training rows."""

    name: str
    rows: int
    """Rows used after filtering and decontamination."""
    sha256: str
    """Digest of the file the rows were read from."""
    licence: str


class Metric(CardPart):
    """A measured figure with its interval. Shares are in 0..1."""

    benchmark: str
    name: str
    """The metric: `apgr`, `cpt50`, `cpt80`, `auc`, `accuracy`, ..."""
    value: float
    low: float
    """Lower end of the 95 % bootstrap interval."""
    high: float
    """Upper end of the 95 % bootstrap interval."""
    n: int
    """Prompts evaluated."""
    note: str = ""
    """The protocol, or the baseline that the figure has to be read beside."""


class RouterCard(CardPart):
    """What is inside an artifact folder, where it came from, what it can and what it cannot do."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    """Name of this router, e.g. `mf-static-en`."""
    kind: RouterKind
    """Family of the router (DESIGN section 5)."""
    description: str
    trained_pair: str
    """The pair of models, or the mixture of pairs, behind the labels: a win rate always means *this* gap."""
    truncation: Truncation
    lowercase_prompts: bool = False
    """True when the tokenizer folds case, so that `HELP` and `help` score alike."""
    files: dict[str, str]
    """File name -> sha256 for every other file of the folder; `model.onnx` and `tokenizer.json` at least."""
    opset: int
    """ONNX opset of the graph."""
    score_quantiles: list[float]
    """101 quantiles (0 %, 1 %, ..., 100 %) of `win_rate` on held-out prompts: where alpha is likely to lie."""
    training: list[TrainingData]
    seed: int
    config_sha256: str
    """Digest of the training config file that built it."""
    parity_max_error: float
    """Largest |ONNX - training framework| in win rate over the parity prompts."""
    parity_prompts: int
    metrics: list[Metric]
    licence: str
    limits: list[str]
    """What it cannot do, in plain sentences."""
    versions: dict[str, str]
    """Package -> version that built it."""
