"""A night: one run folder with its config, input, router and prices, opened and checked before anything is done."""

import json
import os
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from jobs.config import Job, JobConfig, Model, RouterSection, TableConfig, TableJob
from jobs.config_file import parse, secret
from jobs.rundir import RunDir, read_json, write_atomic, write_json, write_parquet
from jobs.source import Source, discover
from routing import artifact
from routing.account import Billing
from routing.artifact import RouterArtifact
from routing.calls import Endpoint
from routing.errors import ChangedRunError, ConfigError, InputMissingError
from routing.estimate import Pricing
from routing.ledger import LedgerReader
from routing.prices import price_snapshot
from schemas.queries import PUBLISHED_COLUMNS
from schemas.run import PLAN_VERSION, Identity, Plan

SIDES = ("strong", "weak")
EMBEDDING = "embedding"
"""Role of the model that embeds prompts, beside the sides."""

P = TypeVar("P", bound=Plan)

_LIMIT_PARAMS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class TableRun:
    """What every job over a table works with: a run folder, the table and how it is cut, router and prices."""

    run: RunDir
    plan: Plan
    source: Source
    router: RouterArtifact
    prices: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Night(TableRun):
    """Everything the stages of a nightly run work with."""

    job: Job

    def model(self, side: str) -> Model:
        """The strong or the weak model of the config."""
        models = self.job.config.models
        return models.strong if side == "strong" else models.weak

    @property
    def models(self) -> dict[str, Model]:
        """Role -> every model that this run pays for."""
        sides = {side: self.model(side) for side in SIDES}
        return sides if self.embedding is None else {EMBEDDING: self.embedding, **sides}

    @property
    def embedding(self) -> Model | None:
        """The model whose embeddings the router reads."""
        return embedding_model(self.job.config.router, self.router)

    def pricing(self, side: str) -> Pricing:
        """How to estimate the cost of one side."""
        return pricing(self.model(side))

    def billing(self, mean_output_tokens: Mapping[str, int]) -> dict[str, Billing]:
        """Who bills for each side; a model that has not answered yet is taken at its expected length."""
        sides = {}
        for side in SIDES:
            model = self.model(side)
            mean = mean_output_tokens.get(model.name, model.expected_output_tokens)
            sides[side] = billing(model, mean)
        return sides


def pricing(model: Model) -> Pricing:
    """How to estimate the cost of a model."""
    return Pricing(model.name, model.base_url, model.provider, model.expected_output_tokens, output_limit(model))


def billing(model: Model, mean_output_tokens: int) -> Billing:
    """Who bills for a model."""
    return Billing(model.name, model.base_url, model.provider, mean_output_tokens)


def output_limit(model: Model) -> int | None:
    """Output token limit that the model's parameters set for every call."""
    limits = [model.params[name] for name in _LIMIT_PARAMS if isinstance(model.params.get(name), int)]
    return min(limits, default=None)


def endpoint_fields(model: Model) -> dict[str, str]:
    """What of a model decides its answers, as text: part of the run's identity and of every call's."""
    params = {**model.params, "(row limit)": model.max_output_tokens_param}
    return {
        "name": model.name,
        "base_url": model.base_url.rstrip("/"),
        "params": json.dumps(params, sort_keys=True, ensure_ascii=False, default=str),
    }


def place(role: str) -> str:
    """Section of the config that says where a model answers."""
    return "router.embedding" if role == EMBEDDING else f"models.{role}"


def endpoint(model: Model, side: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """Read the secrets of one model and return how to talk to it.

    Raises:
        ConfigError: a variable is not set.
    """
    key, section = "none", place(side)
    if model.api_key_env is not None:
        key = secret(model.api_key_env, needed_by=f"{section} ({model.name})", environment=environment)
    secret_headers = {
        header: secret(variable, needed_by=f"{section}.headers_env.{header}", environment=environment)
        for header, variable in model.headers_env.items()
    }
    return Endpoint(
        model=model.name,
        base_url=model.base_url,
        api_key=key,
        params=model.params,
        max_output_tokens_param=model.max_output_tokens_param,
        headers=model.headers,
        secret_headers=secret_headers,
        timeout_s=model.timeout_s,
        max_connections=model.max_in_flight,
    )


def embedding_model(section: RouterSection, router: RouterArtifact) -> Model | None:
    """The model whose embeddings the router reads, and where the config says it answers; null: it reads tokens.

    Raises:
        ConfigError: the config says nothing of it, or names an embedding that the router does not read.
    """
    wanted, given = router.card.embedding, section.embedding
    if wanted is None:
        if given is not None:
            raise ConfigError(f"[router.embedding] is set, but router {router.card.name!r} reads tokens; remove it")
        return None
    if given is None:
        raise ConfigError(
            f"router {router.card.name!r} starts at embeddings of {wanted.model!r}, which are bought from an endpoint; "
            'add [router.embedding] with base_url = "https://api.openai.com/v1" and api_key_env = "OPENAI_API_KEY" '
            "(or those of another endpoint that serves this model), or choose a router that reads tokens"
        )
    access = given.model_dump(exclude={"batch_size", "batch_tokens"})
    return Model(name=wanted.model, **access)


def package_version() -> str:
    """Version of nightroute."""
    try:
        return version("nightroute")
    except PackageNotFoundError:  # run from a checkout without installing it
        return "0+checkout"


def open_night(job: Job) -> Night:
    """Check input, router and models, then create the plan of a run, or check that an existing one is the same run.

    Raises:
        NightrouteError: whatever is wrong, before a row is scored or a cent is spent.
    """
    refuse_labelling(RunDir(job.run_dir))
    models = job.config.models
    if models.strong.name == models.weak.name and models.strong.base_url == models.weak.base_url:
        raise ConfigError(
            f"models.strong and models.weak are the same model ({models.strong.name!r} at {models.strong.base_url}); "
            "name two models, or there is nothing to route"
        )
    table = open_table(job, Plan, lambda router: _identity(job, router), lambda run: save_job(job, run))
    return Night(table.run, table.plan, table.source, table.router, table.prices, job)


def open_table(
    job: TableJob[TableConfig],
    plan_type: type[P],
    identify: Callable[[RouterArtifact], Identity],
    save: Callable[[RunDir], None],
    *,
    written: Collection[str] = PUBLISHED_COLUMNS,
    restart_unspent: bool = False,
) -> TableRun:
    """Check input and router, then create the plan of a run, or check that an existing one is the same run.

    Args:
        job: The job.
        plan_type: Record of its plan.
        identify: Router -> everything that decides what is asked, and of whom.
        save: Keeps the effective config in the run folder.
        written: See `discover`.
        restart_unspent: Begin anew, with today's prices, where the run was started with something else but has not
            sent anything yet.

    Raises:
        NightrouteError: whatever is wrong, before a row is scored or a cent is spent.
    """
    _check_folders(job)
    router = artifact.load(artifact.locate(job.config.router.artifact, relative_to=job.base))
    source = discover(job, written=written)
    run = RunDir(job.run_dir)
    run.prepare()
    identity = identify(router)
    if restart_unspent and run.plan.exists() and not (run.ledger.exists() and LedgerReader(run.ledger).has_sends()):
        changed = bool(_changes(read_json(plan_type, run.plan), identity, source))
        run.prices.unlink(missing_ok=True)
        if changed:
            run.forget()
    if run.plan.exists():
        plan = read_json(plan_type, run.plan)
        _same_run(plan, identity, source, run)
    else:
        plan = plan_type(
            version=PLAN_VERSION,
            run_id=uuid.uuid4().hex[:12],
            created_at=datetime.now(UTC),
            nightroute_version=package_version(),
            identity=identity,
            files=source.files,
            parts=source.parts,
        )
    save(run)
    if not run.prices.exists():
        write_parquet(run.prices, price_snapshot(job.config.prices), run.staging)
    prices = pl.read_parquet(run.prices)
    if not run.plan.exists():
        write_json(run.plan, plan, run.staging)
    return TableRun(run, plan, source, router, prices)


def _check_folders(job: TableJob[TableConfig]) -> None:
    """What a run writes below its input folder would be read by the next one."""
    pattern = job.path(job.config.input.path)
    source = Path(str(pattern).partition("**")[0])
    recursive = source != pattern or source.is_dir()
    for key, path in (("run_dir", job.run_dir), ("output.path", job.output)):
        if recursive and path.is_relative_to(source):
            raise ConfigError(
                f"{key} {path} lies inside the input folder {source}, where a run would read it as input; "
                "choose a folder outside"
            )


def save_job(job: Job, run: RunDir) -> None:
    """Keep the effective config for `resume`. It holds no secret: keys are named by variable."""
    record = {"base": str(job.base), "date": job.date, "config": job.config.model_dump(mode="json")}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomic(run.config, lambda draft: draft.write_text(text, encoding="utf-8"), run.staging)


def saved_job(run_dir: Path) -> Job:
    """Read back the config of a run.

    Raises:
        InputMissingError: the folder holds no run.
        ConfigError: it holds a labelling run.
    """
    run = RunDir(run_dir.resolve())
    refuse_labelling(run)
    try:
        record = json.loads(run.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputMissingError(
            f"{run.config} cannot be read; {run_dir} is not the folder of a run (run_dir in the config names it)"
        ) from error
    config = parse(JobConfig, record["config"], source=str(run.config))
    # The folder may have been moved since: where it is now counts.
    return Job(config.model_copy(update={"run_dir": str(run.root)}), Path(record["base"]), record["date"])


def refuse_labelling(run: RunDir) -> None:
    """Tell a labelling run from a night.

    Raises:
        ConfigError: it is one.
    """
    if run.label_config.exists():
        raise ConfigError(f"{run.root} is a labelling run; go on with: nightroute label --config ...")


def table_identity(job: TableJob[TableConfig], router: RouterArtifact) -> dict[str, Any]:
    """What every job over a table is identified by: the table, how it is cut, and the router."""
    table = job.config.input
    return {
        "input_path": str(job.path(table.path)),
        "columns": dict(table.columns),
        "drop": table.drop,
        "date": job.date,
        "date_column": table.date_column,
        "max_prompt_tokens": table.max_prompt_tokens,
        "part_rows": table.part_rows,
        "router_sha256": router.sha256,
    }


def _identity(job: Job, router: RouterArtifact) -> Identity:
    config = job.config
    embedding = embedding_model(config.router, router)
    return Identity(
        **table_identity(job, router),
        strong=endpoint_fields(config.models.strong),
        weak=endpoint_fields(config.models.weak),
        embedding=None if embedding is None else endpoint_fields(embedding),
    )


def _same_run(plan: Plan, identity: Identity, source: Source, run: RunDir) -> None:
    """Refuse to mix two runs, naming what changed."""
    if changes := _changes(plan, identity, source):
        raise ChangedRunError(
            f"run {run.root} was started with something else:\n  "
            + "\n  ".join(changes)
            + "\nput it back, or give the new run a run_dir of its own"
        )


def _changes(plan: Plan, identity: Identity, source: Source) -> list[str]:
    """What differs from the plan, one line each."""
    before, now = _flat(plan.identity), _flat(identity)
    changes = [
        f"{name}: was {_shown(before.get(name))}, is {_shown(now.get(name))}"
        for name in dict.fromkeys((*now, *before))
        if before.get(name) != now.get(name)
    ]
    known = {file.path: file.sha256 for file in plan.files}
    found = {file.path: file.sha256 for file in source.files}
    changes += [f"input file {path} is gone" for path in sorted(known.keys() - found.keys())]
    changes += [f"input file {path} is new" for path in sorted(found.keys() - known.keys())]
    return changes + [
        f"input file {path} changed" for path in sorted(known.keys() & found.keys()) if known[path] != found[path]
    ]


def _flat(identity: Identity) -> dict[str, object]:
    """One entry per thing that may change, so that a message can name it: `weak.params.temperature`."""
    flat: dict[str, object] = {}
    for name, value in identity.model_dump().items():
        if isinstance(value, dict) and "params" in value:  # a model; never `columns`, which has our names only
            flat |= {f"{name}.{key}": text for key, text in value.items() if key != "params"}
            flat |= {f"{name}.params.{key}": setting for key, setting in json.loads(value["params"]).items()}
        else:
            flat[name] = value
    return flat


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 120 else f"{text[:117]}..."  # one line of a terminal
