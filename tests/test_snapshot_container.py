"""The promise itself, in a real container: what `loss` finds, and a container that is as it was after a stop."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers import PACKAGES, Docker, debian_tree, docker_in, downloaded, needs_containers, with_our_code

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600), needs_containers]

IMAGE = "idlewatch-test-base"
MADE_BY_DOCKER = {"etc", ".dockerenv", "dev", "proc", "sys", "workspace", "opt", "opt/idlewatch", "opt/site"} | {
    *("usr", "usr/sbin", "usr/sbin/docker-init", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"),
    *("var", "opt/packages"),
}
"""Folders and files in the upper layer because of the mounts; a fresh container of the image has them, too."""
APT = ("build-essential", "git", "ffmpeg", "gdb")
PIP = ("numpy", "scipy", "pandas", "pyarrow", "numba", "matplotlib", "scikit-learn", "polars", "jaxlib", "duckdb")
AT_LEAST_BYTES = 1_000_000_000
"""Of packages that `apt-get` and `pip` install in the container, where nothing may be had again over a network."""
LEFT_OUT = (
    *("tmp/", "run/", "var/tmp/", "var/cache/apt/archives/", "var/lib/apt/lists/", "root/.cache/pip/"),
    *("etc/ld.so.cache/", "etc/mtab/", "var/idlewatch/"),
)
"""What the rules leave out, with all below it."""
IN_IMAGE = r"""
set -e
mkdir -p opt/fixture/dir/sub opt/fixture/gone/deep opt/fixture/links opt/fixture/moved/x
for name in plain append truncate same-size mode owner times attr cap rename link-me delete retype; do
    echo "image's $name" >opt/fixture/$name
done
echo a >opt/fixture/dir/a; echo b >opt/fixture/dir/sub/b; echo g >opt/fixture/gone/deep/g
echo m >opt/fixture/moved/x/m
echo pair >opt/fixture/links/one; ln opt/fixture/links/one opt/fixture/links/two; ln -s plain opt/fixture/symlink
mkdir -p opt/many; cd opt/many
for i in $(seq 1 200); do mkdir d$i; for j in $(seq 1 50); do echo $i >d$i/$j; done; done
"""
WORK = r"""
set -e
cd /opt/fixture
echo more >>append; : >truncate
before=$(stat -c %y same-size); printf "IMAGE'S same-size\n" >same-size; touch -d "$before" same-size
chmod 4711 mode; chown 1234:5678 owner; touch -d 2001-01-01 times; setfattr -n user.mark -v yes attr
cp /bin/true tool; setcap cap_net_raw+ep tool; setcap cap_net_raw+ep cap
mv rename renamed; ln link-me linked; rm delete; rm retype; mkdir retype; echo in >retype/in
rm -r dir; mkdir dir; echo new >dir/new; rm -r gone; mv moved moved-on
ln -sf elsewhere symlink; echo two >links/two; mkdir empty; mkfifo fifo; mknod device c 1 3
truncate -s 10G sparse; printf end | dd of=sparse bs=1 seek=5000000000 conv=notrunc status=none
printf x >"$(printf 'name-\351\377')"; printf x >"new
line"; ln -s "$(printf 'to-\351')" "$(printf 'link-\351')"
cat plain >/dev/null; dd if=/dev/null of=plain conv=notrunc status=none
mkdir -p /root/.ssh /root/.cache/pip; echo key >/root/.ssh/authorized_keys; chmod 700 /root/.ssh
echo hist >/root/.bash_history
echo cached >/root/.cache/pip/wheel; echo scratch >/tmp/scratch; echo pid >/root/server.pid
cp -a /opt/site/rich /opt/site/rich-*.dist-info /usr/local/lib/python3.11/dist-packages/
mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/bin
printf '#!/bin/sh\necho works\n' >/tmp/deb/usr/bin/own-tool
chmod 755 /tmp/deb/usr/bin/own-tool
printf 'Package: own-tool\nVersion: 1.2\nArchitecture: all\nMaintainer: a\nDescription: d\n' \
    >/tmp/deb/DEBIAN/control
dpkg-deb --build /tmp/deb /tmp/own-tool.deb >/dev/null; dpkg -i /tmp/own-tool.deb >/dev/null
dpkg --purge attr >/dev/null
"""
INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet --yes --no-install-recommends install /opt/packages/*.deb </dev/null >/tmp/apt.log 2>&1 \
    || { tail /tmp/apt.log; exit 1; }
PYTHONPATH= PYTHONDONTWRITEBYTECODE= python3 -m pip --quiet install --break-system-packages --root-user-action=ignore \
    --no-index --find-links /opt/packages {pip} </dev/null
du -sxB1 --exclude=/opt/fixture / | cut -f1
"""
USE = r"""
set -e
export PYTHONPATH=
python3 - <<'END'
import duckdb, jaxlib, matplotlib, numba, numpy, pandas, polars, pyarrow, scipy.linalg, sklearn.linear_model
assert scipy.linalg.solve(numpy.eye(3) * 2, numpy.ones(3)).tolist() == [0.5] * 3
assert pyarrow.Table.from_pandas(pandas.DataFrame({"a": [1, 2]})).num_rows == 2
assert duckdb.sql("select 6 * 7").fetchall() == [(42,)] and polars.Series([1, 2]).sum() == 3
END
echo 'int main(void) { return 0; }' >/tmp/c.c; cc -o /tmp/c /tmp/c.c; /tmp/c
git --version >/dev/null; ffmpeg -version >/dev/null; gdb --version >/dev/null
apt-get check >/dev/null; test -z "$(dpkg --audit)"
dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sort
apt-mark showmanual | sort
python3 -m pip list --format=freeze
"""
DELETED = {
    *("opt/fixture/rename", "opt/fixture/delete", "opt/fixture/dir/a", "opt/fixture/dir/sub", "opt/fixture/gone"),
    "opt/fixture/moved",
}


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A daemon with one image: Debian, Python with pip, and what the work changes; beside it packages to install."""
    folder = tmp_path_factory.mktemp("docker")
    tree = debian_tree(folder, f"{PACKAGES},python3-pip")
    downloaded(tree, folder / "packages", apt=APT, pip=PIP)
    with docker_in(folder) as docker:
        docker.load(tree, IMAGE)
        made = docker("run", "-d", "--network", "none", IMAGE, "sh", "-c", IN_IMAGE).strip()
        assert docker("wait", made).strip() == "0", docker("logs", made)
        docker("commit", made, IMAGE)
        docker("rm", made)
        yield docker
    for name in ("data", "packages", "tree"):  # some gigabytes
        shutil.rmtree(folder / name)


class Pod:
    """A container of the image with a volume, as RunPod would start it."""

    def __init__(self, docker: Docker, volume: Path) -> None:
        site = Path(sysconfig.get_path("purelib"))
        self._docker = docker
        packages = f"{docker.folder}/packages:/opt/packages:ro"
        options = ("--init", "--network", "none", "-v", f"{volume}:/workspace", "-v", packages, *with_our_code(site))
        self.name = docker("run", "-d", *options, IMAGE, "sleep", "infinity").strip()

    def sh(self, script: str) -> str:
        return self._docker("exec", "-i", self.name, "bash", text=script)

    def verb(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.sh(f"cd / && python3 -m tests.snapshot_pod {name}"))
        return answer

    def upper(self) -> tuple[set[str], set[str]]:
        """Return the paths in the upper layer, and those that are marked as deleted there."""
        top = self._docker.upper_dir(self.name)
        there: set[str] = set()
        gone: set[str] = set()
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                path = os.path.relpath(f"{folder}/{name}", top)
                status = os.lstat(f"{folder}/{name}")
                whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
                (gone if whiteout else there).add(path)
        return there, gone

    def diff(self) -> dict[str, str]:
        """Return what `docker diff` says: path to A, C or D."""
        lines = self._docker("diff", self.name).splitlines()
        return {line[3:]: line[0] for line in lines if line[1:3] == " /"}

    def remove(self) -> None:
        self._docker("rm", "-f", self.name)


def test_the_container_is_as_it_was(docker: Docker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pod = Pod(docker, tmp_path)
    fresh = pod.verb("note")
    idle = pod.verb("scan")
    assert (idle["deleted"], idle["altered"], set(idle["entries"]) - MADE_BY_DOCKER) == ([], [], set())
    before_bytes = int(pod.sh("du -sxB1 --exclude=/opt/fixture / | cut -f1"))
    pod.sh(WORK)
    installed_bytes = int(pod.sh(INSTALL.replace("{pip}", " ".join(PIP))).split()[-1]) - before_bytes
    assert installed_bytes > AT_LEAST_BYTES
    used = pod.sh(USE)
    found = pod.verb("scan")
    there, gone = pod.upper()
    entries = set(found["entries"])
    expected = {path for path in there if not is_left_out(path)} - MADE_BY_DOCKER
    assert {path for path in expected - entries if not path.endswith(".pid")} == set()
    assert set(found["deleted"]) >= DELETED
    packages = {path for path in found["deleted"] if not path.startswith("opt/")}
    assert "usr/bin/getfattr" in packages
    with capsys.disabled():
        _print_table(pod.diff(), there, gone, entries, set(found["deleted"]))
        say(f"installed: {installed_bytes / 1e9:.2f} GB; scanned in {found['took_s']:.1f} s")

    pod.sh("(while :; do echo x; sleep 0.01; done >>/root/growing) >/dev/null 2>&1 & echo $! >/tmp/writer; sleep 0.2")
    snapshot = pod.verb("save")
    pod.sh("kill $(cat /tmp/writer)")
    assert "root/growing" in (*snapshot["changing"], *snapshot["changed_after"])
    before = pod.verb("state")
    pod.remove()

    again = Pod(docker, tmp_path)
    assert again.verb("note")["image"] == fresh["image"]
    report = again.verb("restore")
    assert (report["conflicts"], report["in_the_way"], report["kept_newer"]) == ({}, {}, [])
    after = again.verb("state")
    differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    differing = {path for path in differing if not is_left_out(path)}
    allowed = {"root/growing", "root/server.pid", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf"}
    allowed |= {"etc", "var", "root/.cache"}  # their times, by what is made anew in them
    allowed |= {"var/cache/ldconfig", "var/cache/ldconfig/aux-cache"}  # the linker's cache is made anew
    assert differing - allowed == set(), {path: (before.get(path), after.get(path)) for path in differing - allowed}
    assert again.sh("own-tool && dpkg-query -W -f '${Status}' own-tool").split("\n")[0] == "works"
    assert "installed" in again.sh("dpkg-query -W -f '${Status}' own-tool")
    assert again.sh("dpkg --audit; PYTHONPATH= python3 -c 'import rich.text; print(rich.__file__)'").startswith(
        "/usr/local"
    )
    assert "cap_net_raw" in again.sh("getcap /opt/fixture/tool")
    assert int(again.sh("stat -c %b /opt/fixture/sparse")) < 1000
    assert again.sh(USE) == used, "the same packages, as apt, dpkg and pip tell them, and they work"
    with capsys.disabled():
        took = f"saved in {snapshot['took_s']:.0f} s, restored in {report['took_s']:.0f} s"
        say(f"{took}: {snapshot['total_bytes'] / 1e9:.2f} GB, {snapshot['files']} files, {len(after)} paths compared")
    second = again.verb("save")
    assert set(second["deleted"]) == set(snapshot["deleted"])


def is_left_out(path: str) -> bool:
    return f"{path}/".startswith(LEFT_OUT)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_table(diff: dict[str, str], there: set[str], gone: set[str], entries: set[str], deleted: set[str]) -> None:
    """Print how the two ways of asking compare with what the upper layer really holds."""
    told = {path.lstrip("/") for path, how in diff.items() if how != "D"}
    told_gone = {path.lstrip("/") for path, how in diff.items() if how == "D"}
    own = {path for path in there if is_left_out(path) or path.endswith(".pid")}
    say(f"\n{'':14}{'upper layer':>12}{'docker diff':>12}{'idlewatch':>12}")
    say(f"{'entries':14}{len(there):12}{len(told):12}{len(entries):12}")
    say(f"{'deleted':14}{len(gone):12}{len(told_gone):12}{len(deleted):12}")
    say(f"{'missed':14}{'':12}{len(there - told):12}{len(there - entries - own - MADE_BY_DOCKER):12}")
    say(f"{'extra':14}{'':12}{len(told - there):12}{len(entries - there):12}")
    say(f"missed by docker diff: {sorted(there - told)[:12]}")
    say(f"missed by idlewatch: {sorted(there - entries - own - MADE_BY_DOCKER)[:12]}")
    say(f"more than the upper layer holds: {sorted(entries - there)[:12]}")
