"""The recipes and sweeps that come with the package, as files; listed without reading them."""

from __future__ import annotations

from pathlib import Path


def recipe_files() -> dict[str, Path]:
    """Each recipe by its name."""
    return _shipped("recipes")


def sweep_files() -> dict[str, Path]:
    """Each sweep by its name."""
    return _shipped("sweeps")


def _shipped(kind: str) -> dict[str, Path]:
    """Files by their path below a folder, which is in the package, or beside `src`.

    The former is so in a wheel, the latter in a checkout.
    """
    package = Path(__file__).parent
    places = (package / kind, package.parents[1] / kind)
    folder = next((place for place in places if place.is_dir()), None)
    files = sorted(folder.rglob("*.yaml")) if folder else []
    return {str(f.relative_to(folder).with_suffix("").as_posix()): f for f in files if folder}
