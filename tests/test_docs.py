"""
The documentation against the program: commands, settings, links, and what is generated.

Every command line that README.md and docs/ show is taken by the real parser; nothing of it is run.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from idlewatch import arguments
from idlewatch.deciding import policy
from idlewatch.durations import written_duration
from idlewatch.errors import SettingsError
from idlewatch.gpu.judge import GROWTH_MIB
from idlewatch.settings import Settings, Source, load, variable
from idlewatch.settings.files import file_variables
from idlewatch.show.settings_page import GROUPS, grouped, rendered
from idlewatch.signals.gpu_proof import LOOK_AFTER_S
from idlewatch.signals.host_window import HostLimits
from idlewatch.signals.jupyter_judge import CPU_SHARE
from idlewatch.signals.people_flow import BURST_BYTES
from idlewatch.signals.people_flow import FLOOR_BYTES_PER_S as PERSON_BYTES_PER_S
from idlewatch.signals.transfers_judge import FLOOR_BYTES_PER_S

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md"))]
HISTORY = {"CHANGELOG.md"}
"""What it tells of may be no more."""

SETTINGS = {variable(field) for field in Settings.model_fields}
SENT = {f"IDLEWATCH_{name}" for name in ("STAGE", "REASON", "CAUSE", "SNAPSHOT", "DEADLINE_S", "DRILL")}
"""What idlewatch sets for the programs that it starts."""
FOR_TESTS = {f"IDLEWATCH_TEST_{name}" for name in ("SEEDS", "CRASHES", "HOSTILE")}


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


# ---------------------------------------------------------------- commands

VERBS = set(arguments.parser_of_all().get_default("verbs"))
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_PARTS = re.compile(r"\s(?:&&|\|\||[;|&])(?:\s|$)|\s#.*$|;\s")
_WORD_OF_OURS = re.compile(r"(?:^|[\s(`\"'/=])idlewatch (?P<rest>[a-z-].*)$")


def code_of(text: str) -> Iterator[str]:
    """Every line of code: in fences, in indented blocks, between backticks."""
    for fence in _FENCE.findall(text):
        yield from fence.splitlines()[1:-1]
    rest = _FENCE.sub("", text)
    yield from (line for line in rest.splitlines() if line.startswith("    "))
    yield from (" ".join(inline.split()) for inline in _INLINE.findall(rest))


def commands_of(text: str) -> Iterator[list[str]]:
    """The words after `idlewatch` of each command line; what is optional in brackets is given, an ellipsis is not."""
    for line in code_of(text):
        for part in _PARTS.split(re.sub(r"(--\w+) \| --\w+", r"\1", line)):  # one of two
            match = _WORD_OF_OURS.search(part.rstrip(" ;"))
            if match and match["rest"].split()[0] != "VERB":
                yield _words(match["rest"])
    for cell in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE):  # a table of verbs
        yield from (words for code in re.findall(r"`([^`]+)`", cell) if (words := _words(code))[0] in VERBS)


def _words(rest: str) -> list[str]:
    rest = re.sub(r"\s>+\s*\S+.*$", "", rest)
    rest = rest.replace("[", " ").replace("]", " ").replace("…", "")
    return [word for word in shlex.split(rest) if word != "..."]


_EXAMPLES = {"N": "5", "PID": "5", "PORT": "9000", "DURATION": "2h", "PRICE": "1.59"}
"""Names in capitals that stand for a number."""


def parsed(words: list[str]) -> str | None:
    """What the parser says against a command line; None where it takes it. A verb alone may just be named."""
    if len(words) == 1 and words[0] in VERBS:
        return None
    said = io.StringIO()
    given = [_EXAMPLES.get(word, word) for word in words]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            arguments.parsed(given)
        except SystemExit as ended:
            return said.getvalue() if ended.code else None
    return None


@pytest.mark.parametrize("name", names(PAGES))
def test_every_command_in_the_documentation_is_one(name: str) -> None:
    wrong = {" ".join(words): why for words in commands_of(text_of(name)) if (why := parsed(words)) is not None}
    assert not wrong


def test_a_command_that_does_not_exist_is_found() -> None:
    text = "Run `idlewatch status --jsno`, then\n\n```\nidlewatch nohold 2h   # keep it\nidlewatch hold 2h\n```\n"
    found = list(commands_of(text))
    assert found == [["nohold", "2h"], ["hold", "2h"], ["status", "--jsno"]]
    assert [parsed(words) is None for words in found] == [False, True, False]


def test_every_verb_is_told_of() -> None:
    told = " ".join(" ".join(code_of(text_of(name))) for name in names(PAGES) if name not in HISTORY)
    assert set(re.findall(r"[a-z]+", told)) >= VERBS


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("name", names([page for page in PAGES if page.name not in HISTORY]))
def test_every_variable_in_the_documentation_exists(name: str) -> None:
    told = {word.rstrip("_") for word in re.findall(r"IDLEWATCH_[A-Z_]*[A-Z]", text_of(name))}
    assert told <= SETTINGS | file_variables() | SENT | FOR_TESTS


@pytest.mark.parametrize("name", names(PAGES))
def test_every_value_in_the_documentation_can_be_set(name: str) -> None:
    """`IDLEWATCH_IDLE_AFTER=20m`, and not `20 minutes`; placeholders in capitals stand for something."""
    wrong = {}
    for line in code_of(text_of(name)):
        for field, value in _values(line):
            try:
                load([Source(name="docs", variables={variable(field): value, **_BESIDE.get(field, {})})])
            except SettingsError as error:
                wrong[f"{field}={value}"] = str(error)
    assert not wrong


_BESIDE = {
    "promql": {"IDLEWATCH_PROMETHEUS_URL": "http://prometheus.example:9090"},
    "prometheus_url": {"IDLEWATCH_PROMQL": "up"},
}
"""What goes with a setting that can't stand alone."""


def _values(line: str) -> Iterator[tuple[str, str]]:
    for name, value in re.findall(r"IDLEWATCH_([A-Z_]+)=(\"[^\"]*\"|'[^']*'|[^\s`]+)", line):
        bare = value.strip("\"'").rstrip(";,")
        if bare and not re.search(r"[A-Z]{4,}|…|\.\.\.", bare) and name.lower() in Settings.model_fields:
            yield name.lower(), bare


def test_the_page_of_the_settings_is_up_to_date() -> None:
    written = (DOCS / "settings.md").read_text()
    assert written == rendered(), "python -m idlewatch.show.settings_page > docs/settings.md"


def test_every_setting_is_on_the_page_once() -> None:
    told = re.findall(r"^\| `(IDLEWATCH_\w+)` \|", rendered(), re.MULTILINE)
    assert sorted(told) == sorted(SETTINGS)


def test_a_new_setting_stands_with_the_one_before_it() -> None:
    groups = grouped(["mode", "volume", "vault", "notify"])
    assert groups["Saving"][-1] == "vault"
    assert all("vault" not in names for title, names in groups.items() if title != "Saving")


def test_no_group_names_a_setting_that_is_none() -> None:
    assert {name for fields in GROUPS.values() for name in fields} <= set(Settings.model_fields)


# ---------------------------------------------------------------- what the program says, and its picture


def source() -> str:
    """All of the program's text, string pieces of neighbouring lines joined."""
    whole = "\n".join(path.read_text() for path in sorted((ROOT / "idlewatch").rglob("*.py")))
    return re.sub(r'"\n\s*f?"', "", whole)


def quotes_of(text: str) -> Iterator[str]:
    """What a page quotes in bold code, in the pieces between its ellipses."""
    for bold in re.findall(r"\*\*([^*]+)\*\*", text):
        for code in re.findall(r"`([^`]+)`", bold):
            yield from (piece.strip(" :;,") for piece in code.split("…"))


def test_what_the_questions_quote_is_what_the_program_says() -> None:
    program = source()
    quoted = [piece for piece in quotes_of(text_of("docs/faq.md")) if len(piece) > 3 and "--" not in piece]
    assert len(quoted) > 15
    assert [piece for piece in quoted if piece not in program] == []


def test_the_picture_is_the_one_of_the_policy() -> None:
    doc = (ROOT / "idlewatch/deciding/policy.py").read_text().split('"""')[1]
    picture = doc[doc.index("                      quiet for") : doc.index("CANCEL comes from")].rstrip()
    assert picture in text_of("docs/deciding.md")


@pytest.mark.parametrize("name", names(PAGES))
def test_python_in_the_documentation_compiles_and_imports_what_is_there(name: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```$", text_of(name), re.MULTILINE | re.DOTALL):
        tree = ast.parse(block.replace("step in ...:", "step in []:"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("idlewatch"):
                assert {alias.name for alias in node.names} <= defined_in(str(node.module)), node.module


def defined_in(module: str) -> set[str]:
    """The names that a module of ours defines; it is read and not imported, as it may need what is not installed."""
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_the_limits_that_the_signals_page_tells_are_those_of_the_judges() -> None:
    host, page = HostLimits(), text_of("docs/signals.md")
    assert f"CPU {host.cpu_cores:.1%}".replace("%", " %") in page
    assert f"network {host.network_bytes_per_s / 1e3:.0f} KB/s, disk {host.disk_bytes_per_s / 1e6:.0f} MB/s" in page
    assert f"grew by {host.memory_mib:.0f} MiB" in page
    assert f"memory that grew by {GROWTH_MIB} MiB" in page
    assert f"{FLOOR_BYTES_PER_S / 1e3:.0f} KB/s over ten minutes" in page
    assert f"one burst of {BURST_BYTES / 1e3:.0f} KB, or {PERSON_BYTES_PER_S:.0f} B/s above" in page
    assert f"more than {CPU_SHARE:.0%} of a core".replace("%", " %") in page
    assert f"{LOOK_AFTER_S / 60:.0f} minutes later who has a GPU open" in page


def test_the_back_off_that_the_page_tells_is_the_policys() -> None:
    told = text_of("docs/deciding.md")
    for steps in (policy._SAVE_BACK_OFF_S, policy._REFUSED_BACK_OFF_S, policy._TRANSIENT_BACK_OFF_S):
        assert ", ".join(written_duration(step) for step in steps).replace("1d", "24h") in told


# ---------------------------------------------------------------- links

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors_of(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    without_code = _FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"`", "", heading)).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("name", names(PAGES))
def test_every_link_leads_somewhere(name: str) -> None:
    page, broken = ROOT / name, []
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert not broken


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(page.read_text()) if "://" not in link)
        left += [target for link in links if link and (target := (page.parent / link).resolve()).is_file()]
    assert {*DOCS.glob("*.md")} <= reached


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150
