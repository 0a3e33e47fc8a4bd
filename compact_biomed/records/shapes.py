"""What may be in a record: types and ranges of the parts that tables read, by kind of record.

Parts that are missing are no error here unless a schema says `Required`: of the others, each table says which it needs.
"""

from typing import Annotated, Any, Required, TypedDict

from compact_biomed.errors import UserError
from compact_biomed.settings import Range, check

Amount = Annotated[float, Range(0)]
Count = Annotated[int, Range(0)]
Positive = Annotated[float, Range(1e-300)]
AtLeastOne = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Percent = Annotated[float, Range(0, 100)]
Signed = Annotated[float, Range(-100, 100)]
_CORRELATIONS = ("pearson", "spearman", "matthews")  # percent too, but they may be negative


class _OriginFields(TypedDict, total=False):
    revision: str | None
    clean: bool | None
    versions: dict[str, str]
    command: str
    date: str


_Origin = TypedDict("_Origin", {"from": _OriginFields}, total=False)  # `from` is a word of Python


# ---- Evaluation


class _TrainingOfEncoder(TypedDict):
    seed: int | None
    configuration: str


class _Encoder(TypedDict, total=False):
    name: str
    start: str
    architecture: str
    encoder_parameters: Count
    weights_sha256: str | None
    tokenizer_sha256: str
    config_sha256: str
    pruning: dict[str, Any]
    training: _TrainingOfEncoder


class _Intermediate(TypedDict):
    examples: AtLeastOne
    sha256: str


class _Files(TypedDict, total=False):
    train: str
    dev: str
    test: str
    format: str
    columns: dict[str, str]
    max_length: AtLeastOne
    split_seed: Count


class _Task(TypedDict, total=False):
    name: str
    kind: str
    version: int
    fold: AtLeastOne | None
    folds: Count
    metric: str
    examples: dict[str, Count]
    data_sha256: dict[str, str]
    files: _Files
    intermediate: _Intermediate


class _TrainedOn(TypedDict, total=False):
    name: Required[str]
    fold: AtLeastOne | None


class _Transfer(TypedDict):
    layers: list[int]
    of: list[str]
    weight: float


class _Distillation(TypedDict, total=False):
    teacher: Required[str]
    teacher_sha256: Required[str]
    temperature: Required[float]
    soft_weight: Required[float]
    unlabelled: Required[Count]
    transfer: _Transfer | None


class _Protocol(TypedDict, total=False):
    name: str
    level: str
    overrides: dict[str, float | list[float]]
    learning_rates: list[float]
    batch_sizes: list[AtLeastOne]
    choose_epochs: bool
    train_on_dev: bool
    patience: AtLeastOne
    distillation: _Distillation | None


class _How(TypedDict, total=False):
    device: str
    precision: str
    seconds: Amount
    tokens: Count
    tokens_per_second: Amount
    training_loss: float


class _Ratios(TypedDict):
    precision: Percent
    recall: Percent
    f1: Percent


class _OfLabels(_Ratios):
    support: Count


class _OfLabel(_OfLabels):
    tp: Count
    fp: Count
    fn: Count


class _Calibration(TypedDict):
    predictions: Count
    ece: Percent
    mean_score: Percent
    right: Percent
    bins: list[list[float]]


class _Pair(TypedDict):
    gold: str
    predicted: str
    number: Count


class _Confusion(TypedDict, total=False):
    largest: Required[list[_Pair]]
    labels: list[str]
    counts: list[list[int]]


class _PartialMatch(TypedDict):
    strict: _Ratios
    exact: _Ratios
    partial: _Ratios
    type: _Ratios


class _Analysis(TypedDict, total=False):
    """What is behind the scores (`evaluation.analysis.analyze`); records of earlier versions have none."""

    by_label: Required[dict[str, _OfLabel]]
    micro: Required[_OfLabels]
    macro: Required[_OfLabels]
    calibration: Required[_Calibration]
    confusion: _Confusion
    errors: dict[str, Count]
    partial_match: _PartialMatch


class Thresholds(TypedDict):
    """The lowest score at which a prediction counts: label -> threshold (`evaluation.analysis.thresholds`)."""

    values: dict[str, Share]
    default: Share
    otherwise: str | None


class _Scores(_Origin, total=False):
    run: str
    model: _Encoder
    task: _Task
    trained_on: _TrainedOn
    protocol: _Protocol
    settings: dict[str, Any]
    split: str
    seed: Count
    score: Signed
    metrics: dict[str, Signed]
    dev: list[float]
    counts: dict[str, Amount]
    analysis: _Analysis
    thresholds: Thresholds
    per_example_counts: str
    how: _How


# ---- Pretraining and ablations


class _Measurement(TypedDict, total=False):
    """On held-out text: loss and accuracy of a model that predicts words, else the terms of its distillation loss."""

    loss: Amount
    accuracy: Share
    distillation_loss: Amount
    terms: dict[str, Amount]
    pseudo_perplexity: Amount
    kl_to_teacher: float
    documents: Count
    masked_tokens: Count


class _Unigram(_Measurement, total=False):
    loss: Required[Amount]


class _After(TypedDict, total=False):
    after: Required[_Measurement]


class _Heldout(_After, total=False):
    unigram: _Unigram
    teacher: _Measurement
    before: Required[_Measurement]


class _Settings(TypedDict, total=False):
    model: str
    learning_rate: Amount
    batch_size: AtLeastOne
    mask_probability: Share
    seed: int


class _SettingsOfTraining(_Settings, total=False):
    recipe: Required[str]
    preset: str
    max_steps: Count


class _SettingsOfAblation(_Settings, total=False):
    recipe: str
    preset: Required[str]
    max_steps: Required[Count]


class _Split(TypedDict, total=False):
    documents: Count
    tokens: Count


class _Decontamination(TypedDict, total=False):
    documents: Count
    benchmarks: Required[dict[str, Any]]


class _Corpus(TypedDict, total=False):
    fingerprint: Required[str]
    documents: dict[str, Count]
    train: _Split
    heldout: _Split
    decontamination: _Decontamination


class _Speed(TypedDict, total=False):
    device: Required[str]
    precision: str


class _Pretraining(_Origin, total=False):
    run: str
    model: Required[str]
    hyperparameters: Required[_SettingsOfTraining]
    corpus: Required[_Corpus]
    start_sha256: dict[str, str]
    speed: Required[_Speed]
    parameters: Required[Count]
    tokens: Required[Count]
    flops: Amount
    seconds: Required[Amount]
    heldout: Required[_Heldout]
    weights_sha256: str


class _Ablation(_Origin, total=False):
    run: str
    ablation: Required[str]
    recipe: Required[str]
    variant: Required[str]
    seed: Required[int]
    corpus: Required[str]
    reference: Required[str]
    question: Required[str]
    hyperparameters: Required[_SettingsOfAblation]
    tokens: Required[Count]
    heldout: Required[_After]


# ---- Speed


class _BenchStep(_Origin, total=False):
    recipe: Required[str]
    preset: Required[str]
    ratio: Required[Amount]
    ratio_to_tuned: Amount
    tokens_per_s: Required[Amount]
    tokens_per_s_published: Required[Amount]
    tokens_per_s_tuned: Amount
    peak_memory_ratio: Required[Amount]
    loss_difference: Required[float]
    loss_difference_fp32: Required[float]
    device: str


class _BenchInference(_Origin, total=False):
    model: Required[str]
    variant: Required[str]
    threads: Required[AtLeastOne]
    length: Required[AtLeastOne]
    tokens_per_s: Required[Positive]
    latency_ms: Required[Amount]
    latency_ms_p95: Required[Amount]
    best_batch: Required[AtLeastOne]
    parameters: Required[Count]
    flops: Required[Amount]
    disk_bytes: Required[Count]
    peak_memory_mb: Required[Amount]
    device: str


class _Turn(TypedDict, total=False):
    seed: int
    tokens: Count
    seconds: Amount
    seconds_plain: Amount
    seconds_tuned: Amount
    score: Signed
    score_plain: Signed
    score_tuned: Signed


class _BenchFinetune(_Origin, total=False):
    model: str
    task: str
    ratio: Amount
    ratio_to_tuned: Amount
    ratio_of_answers: Amount
    ratio_of_answers_to_tuned: Amount
    score_difference: float
    score_difference_interval: list[float] | None  # None where all differences are equal, as of one seed
    score_difference_to_tuned: float
    score_difference_to_tuned_interval: list[float] | None
    turns: list[_Turn]
    device: str


class _Check(TypedDict):
    loss_difference: Amount
    gradient_difference: Amount
    passed: bool


class _BenchGpu(_Origin, total=False):
    recipe: Required[str]
    mode: Required[str]
    device: Required[str]
    checks: Required[dict[str, _Check]]
    tokens_per_s: Required[Positive | None]  # None with an error
    mfu: Required[Share | None]
    peak_memory_mb: Required[Amount | None]
    paper_hours: Required[Amount | None]
    error: Required[str | None]


_SCHEMAS: dict[str, type] = {
    "scores": _Scores,
    "search": _Scores,
    "pretraining": _Pretraining,
    "ablation": _Ablation,
    "bench-step": _BenchStep,
    "bench-inference": _BenchInference,
    "bench-finetune": _BenchFinetune,
    "bench-gpu": _BenchGpu,
}


def check_record(record: dict[str, Any], *, where: str, remedy: str) -> None:
    """Check the types and ranges of a record's parts. Records of unknown kinds pass.

    Raises:
        UserError: a part has another type or is out of its range.
    """
    kind = record.get("record") or _benchmark(record)
    if isinstance(kind, str) and kind in _SCHEMAS:
        check(record, _SCHEMAS[kind], where=where, remedy=remedy)
        if kind in ("pretraining", "ablation"):
            _check_heldout(record["heldout"], where=f"{where}: heldout", remedy=remedy)
    for name, value in record.get("metrics", {}).items() if record.get("record") == "scores" else ():
        if not name.endswith(_CORRELATIONS):
            check(value, Percent, where=f"{where}: metrics.{name}", remedy=remedy)
    metric = record.get("task", {}).get("metric") if record.get("record") == "scores" else None
    if metric is not None and not metric.endswith(_CORRELATIONS) and "score" in record:
        check(record["score"], Percent, where=f"{where}: score", remedy=remedy)


def _benchmark(record: dict[str, Any]) -> str | None:
    """Return the kind of a benchmark's record. The `kind` of a run's own record is that of its training."""
    kind = record.get("kind")
    return kind if isinstance(kind, str) and kind.startswith("bench-") else None


def _check_heldout(heldout: dict[str, Any], *, where: str, remedy: str) -> None:
    """Raise a `UserError` if the held-out measurements of a training are not whole.

    A model that predicts words has a loss and an accuracy, beside those of word frequencies; any other has the terms of
    its distillation loss.
    """
    rows = [("before", ("loss",)), ("after", ("loss", "accuracy")), ("unigram", ())]
    if "distillation_loss" in heldout["after"]:
        rows = [("before", ("distillation_loss", "terms")), ("after", ("terms",))]
    for row, keys in rows:
        if row not in heldout and "before" in heldout:  # an ablation's record has no other row than `after`
            raise UserError(f"no {row}", where=where, remedy=remedy)
        for key in keys if row in heldout else ():
            if key not in heldout[row]:
                raise UserError(f"no {key}", where=f"{where}.{row}", remedy=remedy)
