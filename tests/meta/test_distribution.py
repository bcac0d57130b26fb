"""What `make dist` builds works where nothing else of the checkout is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import torch, lorakit as lora
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
x = torch.randn(3, 8)
lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear"))
loss = model(x).square().sum()
loss.backward()
with torch.no_grad():
    model[0].lora_B.sub_(model[0].lora_B.grad)
lora.save_adapter(model, "adapter")
assert model(x).square().sum() != loss
lora.eject(model)
lora.load_adapter(model, "adapter")
print(lora.__version__, lora.__file__)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, and the tests' packages for its dependencies."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("distribution")
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        folder,
        cwd=ROOT,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    installed = folder / "env" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    pip = [sys.executable, "-m", "pip", f"--python={folder / 'env' / 'bin' / 'python'}"]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder)
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder / "env"


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints; raises if it fails. No checkout is on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_commands_work_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    lorakit = environment / "bin" / "lorakit"
    assert "train" in run(lorakit, "--help", cwd=tmp_path)
    shipped = {path.stem for path in (ROOT / "recipes").glob("**/*.yaml")}
    listed = run(lorakit, "recipes", "list", cwd=tmp_path)
    assert shipped
    assert [name for name in shipped if name not in listed] == []


def test_python_works_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    version, file = run(environment / "bin" / "python", "-c", PROGRAM, cwd=tmp_path).split()
    assert Path(file).is_relative_to(environment)
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
