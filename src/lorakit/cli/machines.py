"""Where the runs of a sweep are made: on this machine, or on a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.experiments.jobs import Executor


@dataclass(frozen=True)
class Machines:
    """The options that say on which."""

    jobs: int | None
    ray: str | None
    cores: int | None
    runs_per_gpu: int | None
    together: bool = False

    def __post_init__(self) -> None:
        if self.ray is not None and self.jobs is not None:
            raise ConfigError(
                "--jobs divides this machine, and a Ray cluster is divided by --cores and "
                "--runs-per-gpu; leave --jobs or --ray out."
            )
        if self.ray is not None and self.together:
            raise ConfigError(
                "--together makes runs in one process, and on a Ray cluster each has its own; "
                "leave one of them out."
            )
        if self.ray is None and (names := {"--cores", "--runs-per-gpu"} & self.given.keys()):
            raise ConfigError(f"{', '.join(sorted(names))} needs --ray; here --jobs says it.")

    @property
    def given(self) -> dict[str, object]:
        """Those that are set, as they are typed."""
        options = {
            "--jobs": self.jobs,
            "--ray": self.ray,
            "--cores": self.cores,
            "--runs-per-gpu": self.runs_per_gpu,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return {**given, **({"--together": True} if self.together else {})}

    def executor(self) -> AbstractContextManager[tuple[Executor, int]]:
        """What makes the runs, and how many at a time."""
        if self.ray is not None:
            from lorakit.experiments.ray_runs import Share, on_ray

            return on_ray(self.ray, Share(self.cores or 1, self.runs_per_gpu or 1))
        from lorakit.experiments.local_runs import default_at_once, local_runs

        at_once = self.jobs or default_at_once()
        execute = local_runs(at_once)
        if self.together:
            from lorakit.experiments.together_runs import together_runs

            execute = together_runs(execute, at_once)
        return nullcontext((execute, at_once))
