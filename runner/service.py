"""The runner: store, scheduler and configurations as one object.  The APIs and the command line are dialects of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harbourmaster.core.settings import Settings
from runner.configuration import Configuration, Configurations
from runner.engine.client import EngineProcess
from runner.engine.llama_server import BACKEND as LLAMA_SERVER
from runner.engine.llama_server import LlamaServer
from runner.engine.remote import RemoteEngine
from runner.engine.spec import DEFAULT_CONTEXT, EngineSpec
from runner.errors import RequestInvalid, Unsupported
from runner.gguf import Gguf, check_file
from runner.remotes import Remote, Remotes
from runner.scheduler.memory import Measurements, available_bytes, estimate
from runner.scheduler.scheduler import LoadedEngine, Plan, Scheduler
from runner.store.store import Model, ModelStore

MAX_PLANS = 256


@dataclass
class Runner:
    """
    >>> runner = Runner.open(settings)
    >>> async with runner.scheduler.use(runner.plan("smollm2")) as engine: ...
    """

    settings: Settings
    store: ModelStore
    configurations: Configurations
    measurements: Measurements
    scheduler: Scheduler
    remotes: Remotes
    _headers: dict[str, list[Gguf]] = field(default_factory=dict)
    _plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)

    @classmethod
    def open(cls, settings: Settings, *, available: Callable[[], int] = available_bytes) -> Runner:
        root = settings.home / "models"
        measurements = Measurements(root / "measured.json")
        scheduler = Scheduler(available, start_engine=start_engine)
        remotes = Remotes(root / "remotes.json")
        runner = cls(
            settings, ModelStore(root), Configurations(root / "configurations.json"), measurements, scheduler, remotes
        )
        runner.scheduler.on_measured = runner._measured
        return runner

    def plan(self, name: str, **changes: Any) -> Plan:
        """How ``name`` is loaded; raises ``ModelNotFound``, ``GgufInvalid`` or ``Unsupported``.

        Kept until a file that it depends on changes: this is on the path of every request.
        """
        state = (name, json.dumps(changes, sort_keys=True, default=str), *map(_stamp, self._depends_on()))
        if state not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[state] = self._make_plan(name, changes)
        return self._plans[state]

    def _measured(self, plan: Plan, measured: int) -> None:
        if not plan.spec.url:
            self.measurements.put(_model_id(plan), plan.spec, measured)

    def _depends_on(self) -> list[Path]:
        names = ("index.json", "configurations.json", "measured.json", "remotes.json")
        return [self.store.root / name for name in names]

    def _make_plan(self, name: str, changes: dict[str, Any]) -> Plan:
        if remote := self.remotes.find(name):
            return _remote_plan(remote)
        model = self.store.find(name)
        configuration = self.configurations.get(model).changed(changes)
        spec = self._spec(model, configuration)
        known = self.measurements.get(model.id, spec)
        settings = hashlib.sha256(json.dumps(spec.as_dict(), sort_keys=True).encode()).hexdigest()[:12]
        return Plan(
            key=f"{model.id}/{settings}",
            name=model.name,
            spec=spec,
            bytes=known or estimate(self.headers(model), spec) + self._projector_bytes(model),
            keep_alive=configuration.keep_alive_s,
            pinned=configuration.pinned,
        )

    def headers(self, model: Model) -> list[Gguf]:
        """The checked headers of a model's weights, read once."""
        if model.id not in self._headers:
            weights = self.store.weights(model)
            if not weights or model.config.format != "gguf":
                raise Unsupported(
                    f"{model.name} has no GGUF weights ({model.config.format})",
                    remedy="use a GGUF build of the model: this runner's engine is llama.cpp",
                )
            self._headers[model.id] = [check_file(path) for path in weights]
        return self._headers[model.id]

    def context_of(self, model: Model) -> int:
        """Tokens that a request to ``model`` may use, prompt and answer together."""
        return self._spec(model, self.configurations.get(model)).context

    def _spec(self, model: Model, configuration: Configuration) -> EngineSpec:
        projector = self.store.projector(model)
        trained = self.headers(model)[0].context_length or DEFAULT_CONTEXT
        wanted = configuration.context_size or model.config.context_size or min(trained, DEFAULT_CONTEXT)
        return EngineSpec(
            name=model.name,
            paths=tuple(str(p) for p in self.store.weights(model)),
            context=min(wanted, trained),
            cells=configuration.cells or 0,
            running=configuration.parallel,
            threads=configuration.threads or 0,
            gpu_layers=configuration.gpu_layers,
            speculative=configuration.speculative_tokens,
            template=self.store.template(model),
            loras=_adapters(self.store.adapters(model), configuration.lora),
            mmproj=str(projector) if projector else "",
            backend=configuration.backend,
        )

    def _projector_bytes(self, model: Model) -> int:
        projector = self.store.projector(model)
        return projector.stat().st_size if projector else 0


def _adapters(paths: list[Path], chosen: tuple[tuple[int, float], ...] | None) -> tuple[tuple[str, float], ...]:
    """What the model was packaged with, each at 1 unless someone chose."""
    if chosen is None:
        return tuple((str(path), 1.0) for path in paths)
    if any(not 0 <= number < len(paths) for number, _ in chosen):
        raise RequestInvalid(f"the model has {len(paths)} adapters, numbered from 0", param="lora")
    return tuple((str(paths[number]), scale) for number, scale in chosen if scale)


async def start_engine(spec: EngineSpec, *, on_exit: Callable[[], None]) -> LoadedEngine:
    kind: Any = RemoteEngine if spec.url else LlamaServer if spec.backend == LLAMA_SERVER else EngineProcess
    engine: LoadedEngine = await kind.start(spec, on_exit=on_exit)
    return engine


def _remote_plan(remote: Remote) -> Plan:
    spec = EngineSpec(
        remote.name, (), context=remote.context, url=remote.url, remote_model=remote.model, key_env=remote.key_env
    )
    settings = hashlib.sha256(json.dumps(spec.as_dict(), sort_keys=True).encode()).hexdigest()[:12]
    return Plan(key=f"{remote.name}/{settings}", name=remote.name, spec=spec, bytes=0)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _model_id(plan: Plan) -> str:
    return plan.key.partition("/")[0]
