"""A night: one run folder with its config, input, router and prices, opened and checked before anything is done."""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import polars as pl

from jobs.config import Job, JobConfig, Model, parse, secret
from jobs.rundir import RunDir, read_json, write_atomic, write_json, write_parquet
from jobs.source import Source, discover
from routing import artifact
from routing.account import Billing
from routing.artifact import RouterArtifact
from routing.calls import Endpoint
from routing.errors import ChangedRunError, ConfigError, InputMissingError
from routing.estimate import Pricing
from routing.prices import price_snapshot
from schemas.run import PLAN_VERSION, Identity, Plan

SIDES = ("strong", "weak")
_LIMIT_PARAMS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Night:
    """Everything the stages of a run work with."""

    job: Job
    run: RunDir
    plan: Plan
    source: Source
    router: RouterArtifact
    prices: pl.DataFrame

    def model(self, side: str) -> Model:
        """The strong or the weak model of the config."""
        models = self.job.config.models
        return models.strong if side == "strong" else models.weak

    def pricing(self, side: str) -> Pricing:
        """How to estimate the cost of one side."""
        model = self.model(side)
        return Pricing(model.name, model.base_url, model.provider, model.expected_output_tokens, output_limit(model))

    def billing(self, mean_output_tokens: Mapping[str, int]) -> dict[str, Billing]:
        """Who bills for each side; a model that has not answered yet is taken at its expected length."""
        sides = {}
        for side in SIDES:
            model = self.model(side)
            mean = mean_output_tokens.get(model.name, model.expected_output_tokens)
            sides[side] = Billing(model.name, model.base_url, model.provider, mean)
        return sides


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


def endpoint(model: Model, side: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """Read the secrets of one model and return how to talk to it.

    Raises:
        ConfigError: a variable is not set.
    """
    key = "none"
    if model.api_key_env is not None:
        key = secret(model.api_key_env, needed_by=f"models.{side} ({model.name})", environment=environment)
    secret_headers = {
        header: secret(variable, needed_by=f"models.{side}.headers_env.{header}", environment=environment)
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
    models = job.config.models
    if models.strong.name == models.weak.name and models.strong.base_url == models.weak.base_url:
        raise ConfigError(
            f"models.strong and models.weak are the same model ({models.strong.name!r} at {models.strong.base_url}); "
            "name two models, or there is nothing to route"
        )
    _check_folders(job)
    router = artifact.load(artifact.locate(job.config.router.artifact, relative_to=job.base))
    source = discover(job)
    run = RunDir(job.run_dir)
    run.prepare()
    identity = _identity(job, router)
    if run.plan.exists():
        plan = read_json(Plan, run.plan)
        _same_run(plan, identity, source, run)
    else:
        plan = Plan(
            version=PLAN_VERSION,
            run_id=uuid.uuid4().hex[:12],
            created_at=datetime.now(UTC),
            nightroute_version=package_version(),
            identity=identity,
            files=source.files,
            parts=source.parts,
        )
    save_job(job, run)
    if not run.prices.exists():
        write_parquet(run.prices, price_snapshot(job.config.prices), run.staging)
    prices = pl.read_parquet(run.prices)
    if not run.plan.exists():
        write_json(run.plan, plan, run.staging)
    return Night(job, run, plan, source, router, prices)


def _check_folders(job: Job) -> None:
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
    """
    run = RunDir(run_dir.resolve())
    try:
        record = json.loads(run.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputMissingError(
            f"{run.config} cannot be read; {run_dir} is not the folder of a run (run_dir in the config names it)"
        ) from error
    config = parse(JobConfig, record["config"], source=str(run.config))
    # The folder may have been moved since: where it is now counts.
    return Job(config.model_copy(update={"run_dir": str(run.root)}), Path(record["base"]), record["date"])


def _identity(job: Job, router: RouterArtifact) -> Identity:
    config = job.config
    return Identity(
        input_path=str(job.path(config.input.path)),
        columns=dict(config.input.columns),
        drop=config.input.drop,
        date=job.date,
        date_column=config.input.date_column,
        max_prompt_tokens=config.input.max_prompt_tokens,
        part_rows=config.input.part_rows,
        router_sha256=router.sha256,
        strong=endpoint_fields(config.models.strong),
        weak=endpoint_fields(config.models.weak),
    )


def _same_run(plan: Plan, identity: Identity, source: Source, run: RunDir) -> None:
    """Refuse to mix two runs, naming what changed."""
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
    changes += [
        f"input file {path} changed" for path in sorted(known.keys() & found.keys()) if known[path] != found[path]
    ]
    if changes:
        raise ChangedRunError(
            f"run {run.root} was started with something else:\n  "
            + "\n  ".join(changes)
            + "\nput it back, or give the new run a run_dir of its own"
        )


def _flat(identity: Identity) -> dict[str, object]:
    """One entry per thing that may change, so that a message can name it: `weak.params.temperature`."""
    flat: dict[str, object] = {}
    for name, value in identity.model_dump().items():
        if name in SIDES:
            flat |= {f"{name}.{key}": text for key, text in value.items() if key != "params"}
            flat |= {f"{name}.params.{key}": setting for key, setting in json.loads(value["params"]).items()}
        else:
            flat[name] = value
    return flat


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 120 else f"{text[:117]}..."  # one line of a terminal
