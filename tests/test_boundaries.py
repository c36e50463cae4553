"""Who may import whom, read off the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from idlewatch.signals import SIGNALS
from idlewatch.signals.making import MAKERS

PACKAGE = Path(__file__).parent.parent / "idlewatch"
PURE = {
    "model.py": set(),
    "errors.py": set(),
    "durations.py": set(),
    "amounts.py": set(),
    **{f"deciding/{path.name}": {"model", "durations", "deciding"} for path in (PACKAGE / "deciding").glob("*.py")},
}
CLOCKS = {"time", "random", "logging"}
LAYERS = (
    "model errors durations amounts printable redact files machine_clock tmux_servers version hold",
    "children",
    "deciding kernel servers providers snapshot arguments callbacks",
    "gpu history hooks notify",
    "signals settings requests state_folder report",
    "pod logs",
    "host stopping",
    "telling",
    "effects",
    "assembly",
    "watching",
    "demo doctor replay",
    "shadow work",
    "show",
    "web",
    "verbs",
    "cli",
)
"""From the bottom: a folder, or a module beside them, imports only itself and what lies in a line above its own."""
ABOVE_ITSELF = {
    "assembly/people.py": {"web"},  # a notice has a link to the page: of its address and its keys, not of the server
    "host/entry.py": {"cli"},  # where the program starts
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def ours(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path) if name.startswith("idlewatch."))
    return {part[1] for part in parts if (PACKAGE / part[1]).is_dir() or (PACKAGE / f"{part[1]}.py").exists()}


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_core_is_pure(module: str) -> None:
    path = PACKAGE / module
    assert ours(path) <= PURE[module]
    assert not imports(path) & (CLOCKS | {"os", "pathlib", "subprocess", "structlog"})


@pytest.mark.slow
def test_only_settings_touches_the_environment() -> None:
    touching = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "os.environ" in ast.unparse(ast.parse(path.read_text())) or "os.getenv" in path.read_text()
    }
    assert touching <= {"settings/sources.py", "hold.py"}


def test_imports_lead_down() -> None:
    """So no circle of folders can begin: what is below can be read, tested and changed without what is above."""
    rank = {name: height for height, layer in enumerate(LAYERS) for name in layer.split()}
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        own = place.parts[0].removesuffix(".py")
        if not own.startswith("__"):
            up = {name for name in ours(path) - {own} if rank[name] >= rank[own]}
            assert up <= ABOVE_ITSELF.get(str(place), set()), place


def test_edges_never_import_each_other() -> None:
    edges = {"signals", "providers", "snapshot", "notify"}
    for path in PACKAGE.rglob("*.py"):
        edge = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if edge in edges:
            assert not (ours(path) & edges) - {edge}, path


def test_the_kernel_reader_knows_no_signal() -> None:
    assert all(ours(path) <= {"kernel", "errors"} for path in (PACKAGE / "kernel").glob("*.py"))


@pytest.mark.slow
def test_a_tasks_child_loads_neither_a_signal_nor_what_only_the_daemon_or_a_person_needs() -> None:
    """A Pod's life has a dozen of them, each beside the user's work."""
    heavy = ("httpx", "psutil", "pynvml", "pydantic_settings", "idlewatch.signals.making", "idlewatch.gpu")
    code = f"import sys, idlewatch.work; print(*({set(heavy)} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.slow
def test_the_command_line_loads_rich_only_to_draw_and_can_then(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from idlewatch.children.interpreter import load_log_without_rich; load_log_without_rich()\n"
        "import idlewatch.cli, idlewatch.work\n"
        "assert 'structlog' in sys.modules; assert 'rich' not in sys.modules\n"
        "import rich.console; rich.console.Console().print('drawn')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert capfd.readouterr().out == "drawn\n"


def test_every_signal_that_is_named_can_be_made() -> None:
    assert list(MAKERS) == list(SIGNALS)
