"""
A stand-in for RunPod's base image, as a folder: a small Debian whose `/start.sh` takes the same steps for real.

The steps and their order are those of github.com/runpod/containers at 6990d37 (2026-07-29), container-template/start.sh
and official-templates/base/Dockerfile: nginx before Jupyter, sshd with the owner's key, uv, a `python`, pip that may
change the system's packages, and two hooks under `set -e`.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from tests.debian import debian, said

PACKAGES = "python3,python3-pip,python3-venv,procps,nginx-light,openssh-server,openssh-client,supervisor"
START = r"""#!/bin/bash
set -e
service nginx start
if [[ -f /pre_start.sh ]]; then bash /pre_start.sh; fi
if [[ $PUBLIC_KEY ]]; then
    mkdir -p ~/.ssh
    echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys
    chmod 700 -R ~/.ssh
    ssh-keygen -A
    service ssh start
fi
if [[ $JUPYTER_PASSWORD ]]; then
    mkdir -p /workspace
    cd /
    nohup python -m jupyter lab --allow-root --no-browser --port=8888 --ip=127.0.0.1 \
        --IdentityProvider.token="$JUPYTER_PASSWORD" --ServerApp.preferred_dir=/workspace &> /jupyter.log &
    sleep 2
    kill -0 $!
fi
printenv | grep -E '^[A-Z_][A-Z0-9_]*=' | grep -v '^PUBLIC_KEY' |
    sed -E 's/^([^=]*)=(.*)$/export \1="\2"/' > /etc/rp_environment
grep -q 'source /etc/rp_environment' ~/.bashrc || echo 'source /etc/rp_environment' >> ~/.bashrc
if [[ -f /post_start.sh ]]; then bash /post_start.sh; fi
echo "the services are up"
sleep infinity
"""
NGINX = """
events { worker_connections 256; }
http { server { listen 127.0.0.1:8889; location / { proxy_pass http://127.0.0.1:8888; } } }
"""
JUPYTER_PASSWORD = "test-password"
SERVICES = f"""
import socket, urllib.request
with socket.create_connection(("127.0.0.1", 22), 5) as sshd:
    assert sshd.recv(7) == b"SSH-2.0"
known = {{"Authorization": "token {JUPYTER_PASSWORD}"}}
asked = urllib.request.Request("http://127.0.0.1:8889/api/kernels", headers=known)
assert urllib.request.urlopen(asked, timeout=5).read() == b"[]"
"""
"""Run inside: sshd greets, and Jupyter answers through nginx."""


def runpod_image(folder: Path) -> Path:
    """Make the tree; needs root, a Debian mirror and the registry."""
    tree = debian(folder, PACKAGES)
    (tree / "start.sh").write_text(START)
    (tree / "start.sh").chmod(0o755)
    (tree / "etc/nginx/nginx.conf").write_text(NGINX)
    (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    _pip(tree, folder / "jupyter", "jupyterlab")
    _uv(tree, folder / "uv")
    return tree


def _pip(tree: Path, wheels: Path, package: str) -> None:
    """Install a package into the image's own Python, in versions that it takes."""
    version = said(["chroot", str(tree), "python3", "-c", "import platform; print(platform.python_version())"]).strip()
    fitting = ["--only-binary", ":all:", "--python-version", version]
    said([sys.executable, "-m", "pip", "download", "--quiet", *fitting, "--dest", str(wheels), package])
    inside = tree / "wheels-of-the-image"
    wheels.rename(inside)
    options = ["--quiet", "--break-system-packages", "--no-index", "--find-links", f"/{inside.name}"]
    said(["chroot", str(tree), "pip", "install", *options, package])
    for wheel in inside.iterdir():
        wheel.unlink()
    inside.rmdir()


def _uv(tree: Path, wheels: Path) -> None:
    """Only the two programs, as RunPod copies them out of uv's own image."""
    said([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), "uv"])
    with zipfile.ZipFile(next(wheels.glob("uv-*.whl"))) as packed:
        for name in [name for name in packed.namelist() if name.endswith(("/scripts/uv", "/scripts/uvx"))]:
            program = tree / "usr/bin" / Path(name).name
            program.write_bytes(packed.read(name))
            program.chmod(0o755)
