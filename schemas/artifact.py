"""`router.json`: the card of a router artifact, and the only description of it that loading trusts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Literal[1] = 1

RouterKind = Literal["mf", "sw", "bert", "causal_llm", "linear", "ngram", "cluster", "length", "random", "constant"]


class CardPart(BaseModel):
    """A part of the card; unknown keys are refused, so that a typo in a card is an error and not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Truncation(CardPart):
    """How a prompt longer than the router reads is cut: the first `head` and the last `tail` tokens are kept."""

    head: int = Field(ge=1)
    """Tokens kept from the start of the prompt."""
    tail: int = Field(ge=0)
    """Tokens kept from the end: the question often stands after a long context."""


class EmbeddingInput(CardPart):
    """A router whose graph starts at an embedding that a provider computes, at a price per prompt token."""

    provider: Literal["openai"]
    """Whose protocol the embeddings endpoint speaks."""
    model: str
    dim: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    """Longer prompts are cut before they are sent."""


class Quantization(CardPart):
    """What int8 changed, on the parity prompts, against the same graph in fp32."""

    scheme: str
    max_error: float
    """Largest |difference| in win rate."""
    mean_error: float
    flips: dict[str, float]
    """Strong share (`0.2`, `0.5`, `0.8`) -> share of prompts that change sides when both graphs are cut there."""


class WinRateCalibration(CardPart):
    """A monotone map at the end of the graph, fitted on labels: `nightroute calibrate`.

    The expected gap between the two scores is then 2 win_rate - 1. The map keeps the order of prompts. What the card
    says of the graph's parity, quantization error and metrics was measured before it was added; score quantiles are
    those after it.
    """

    method: Literal["platt", "isotonic"]
    labels_sha256: str
    """Digest of prompts and scores."""
    n: int = Field(ge=1)
    """Labelled prompts."""
    ece_before: float
    """Expected calibration error of the router as it was, on the labels (ten bins of equal mass)."""
    ece_after: float
    """The same after calibration, each label judged by a map that was fitted without it."""
    log_loss_before: float
    log_loss_after: float
    parity_max_error: float
    """Largest |graph - formula| in win rate over the parity inputs."""
    base_sha256: str
    """Digest of the card of the router that was calibrated."""


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
    prefix_tokens: list[int] = []
    """Token ids put before every prompt after it is cut: `[CLS]`, or the head of an instruction."""
    suffix_tokens: list[int] = []
    """Token ids put behind it."""
    embedding: EmbeddingInput | None = None
    """Set where the graph takes `embedding` instead of tokens."""
    lowercase_prompts: bool = False
    """True when the tokenizer folds case, so that `HELP` and `help` score alike."""
    files: dict[str, str]
    """File name -> sha256 for every other file of the folder; `model.onnx` and `tokenizer.json` at least."""
    opset: int
    """ONNX opset of the graph."""
    score_quantiles: list[float]
    """101 quantiles (0 %, 1 %, ..., 100 %) of `win_rate` on held-out prompts: where alpha is likely to lie."""
    training: list[TrainingData]
    dropped: dict[str, int] = {}
    """Why rows of the sources were not trained on -> how many: `contaminated` (an evaluation prompt), `short`, ..."""
    notes: dict[str, float] = {}
    """Figures of the fit, e.g. `storage_max_error`: what float16 and thinning cost in win rate."""
    seed: int
    config_sha256: str
    """Digest of the training config file that built it."""
    parity_max_error: float
    """Largest |ONNX - training framework| in win rate over the parity prompts."""
    parity_mean_error: float = 0.0
    parity_prompts: int
    quantization: Quantization | None = None
    calibration: WinRateCalibration | None = Field(None, exclude_if=lambda value: value is None)
    """Set where the graph ends with a map fitted on labels of its owner's traffic."""
    metrics: list[Metric]
    licence: str
    limits: list[str]
    """What it cannot do, in plain sentences."""
    versions: dict[str, str]
    """Package -> version that built it."""
