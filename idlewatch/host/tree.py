"""
The tool as one folder that needs nothing else: an environment of its own in /opt/idlewatch.

Copied from the one that runs `install`, whatever put it there (pip, pipx, uv): its packages, and the interpreter where
that is none of the image's. It stays when the user's environment changes, and packs into one archive.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import idlewatch
from idlewatch import __version__, version
from idlewatch.errors import Refused

PLACE = "/opt/idlewatch"
LINK = "/usr/local/bin/idlewatch"
WHOLE = ".whole"
"""Written last: a folder without it is half of one."""
_OF_THE_IMAGE = (Path("/usr"), Path("/opt"))
"""Where an interpreter lies that comes with the image, and so is there after a stop."""
_LEFT_OUT = ("__pycache__", "*.a", "*.pyc", "test", "tests", "idlelib", "tkinter", "ensurepip", "config-*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SCRIPTS = {
    "idlewatch": "import sys\nfrom idlewatch.host.entry import main\nsys.exit(main())\n",
    "idlewatch-beside": "import sys\nfrom idlewatch.host.beside import main\nsys.exit(main())\n",
}


def distributions(name: str = "idlewatch") -> dict[str, Distribution]:
    """A package and all that it needs, as far as it is here. Raises Refused where one can't be copied."""
    found: dict[str, Distribution] = {}
    names = [name]
    while names:
        wanted = names.pop()
        if wanted in found:
            continue
        try:
            found[wanted] = distribution(wanted)
        except PackageNotFoundError:
            continue  # needed elsewhere: another Python, another system
        if found[wanted].files is None:
            raise Refused(f"{wanted} was not installed by pip, and can't be copied; install with pip, pipx or uv")
        # of idlewatch itself also what its extras need: whoever has installed them wants the page, or mail
        needs = [need for need in found[wanted].requires or () if "extra ==" not in need or wanted == name]
        names += [match[0].lower() for need in needs if (match := _NAME.match(need))]
    return found


def lay_here(place: Path) -> None:
    """Make the folder from the environment that runs this."""
    interpreter, carried = interpreter_here()
    lay(place, interpreter, carried=carried)


def lay(place: Path, interpreter: Path, *, carried: bool) -> None:
    """
    Make the folder anew and put it in the place of an older one; `carried`: with the interpreter.

    A daemon that runs from the older one goes on until it is started again. Raises OSError and Refused.
    """
    new, old = place.with_name(f"{place.name}.new"), place.with_name(f"{place.name}.old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    _fill(new, interpreter, carried=carried)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def runs_from(place: Path) -> bool:
    """Whether this very program runs from the folder: it can't be laid anew from itself, and need not be."""
    return Path(sys.prefix).resolve() == place.resolve()


def interpreter_here() -> tuple[Path, bool]:
    """The interpreter below this environment, and whether it must be carried: it is none of the image's."""
    prefix = Path(sys.base_prefix).resolve()
    named = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = Path(PLACE) in prefix.parents
    carried = own or not any(place == prefix or place in prefix.parents for place in _OF_THE_IMAGE)
    return (named if named.exists() else Path(sys.executable).resolve()), carried


def _fill(folder: Path, interpreter: Path, *, carried: bool) -> None:
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / python / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    if carried:
        _carry(interpreter.parent.parent, folder / "python")
        (folder / "bin" / "python").symlink_to(f"../python/bin/{interpreter.name}")
        home = f"{PLACE}/python/bin"
    else:
        (folder / "bin" / "python").symlink_to(interpreter)
        home = str(interpreter.parent)
    settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {sys.version.split()[0]}\n"
    (folder / "pyvenv.cfg").write_text(settings)
    _copy_packages(packages)
    for name, text in _SCRIPTS.items():
        script = folder / "bin" / name
        script.write_text(f"#!{PLACE}/bin/python -I\n{text}")
        script.chmod(0o755)
    (folder / WHOLE).write_text(f"{__version__}\n")


def _copy_packages(into: Path) -> None:
    source = Path(idlewatch.__file__).parent
    shutil.copytree(source, into / "idlewatch", ignore=shutil.ignore_patterns("__pycache__"))
    made_of = version.commit()
    if made_of:
        (into / "idlewatch" / version.COMMIT_FILE).write_text(f"{made_of}\n")
    for found in distributions().values():
        for relative, path in _files(found):
            target = into / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _files(found: Distribution) -> Iterator[tuple[str, Path]]:
    """Everything of a package that lies beside its modules; scripts and what an editable install leaves do not."""
    for file in found.files or ():
        parts = file.parts
        apart = parts[0] in ("..", "/", "idlewatch") or "__pycache__" in parts or file.suffix == ".pth"
        path = Path(str(file.locate()))
        if not apart and file.name != "direct_url.json" and path.is_file():
            yield str(file), path


def _carry(prefix: Path, into: Path) -> None:
    """An interpreter without what only its builders need, and without its own packages."""
    ignored = shutil.ignore_patterns(*_LEFT_OUT, "site-packages")
    for name in ("bin", "lib"):
        target = into / name
        target.mkdir(parents=True)
        for entry in (prefix / name).iterdir():
            if not entry.name.startswith(("python", "libpython")) or entry.name.endswith(("-config", ".a")):
                continue
            if entry.is_dir():
                shutil.copytree(entry, target / entry.name, symlinks=True, ignore=ignored)
            else:
                shutil.copy2(entry, target / entry.name, follow_symlinks=False)
