"""
A Pod or a template with idlewatch, to be pasted: docs/template.md, rendered from the program's own settings.

`python -m idlewatch.host.template > docs/template.md` writes it. The fields are those of RunPod's REST v2
(`CreatePodRequest`, `CreateTemplateRequest` of its OpenAPI file, 2026-08-20), of the GraphQL input that runpodctl 2.7.2
sends (internal/api/graphql.go, `CreatePodGQLInput`), and of its options (cmd/pod/create.go).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from idlewatch.durations import written_duration
from idlewatch.host import archive, tree
from idlewatch.model import Json
from idlewatch.settings import Mode, Settings, variable

VOLUME = "/workspace"
STOCK, OWN = "runpod/pytorch:1.0.7-cu1281-torch280-ubuntu2404", "YOU/pytorch-guarded"
GPU, NETWORK_VOLUME = "NVIDIA GeForce RTX 4090", "YOUR_NETWORK_VOLUME"
PORTS = ("8888/http", "22/tcp")
_DISK_GB, _VOLUME_GB = 50, 50
_KEY = "{{ RUNPOD_SECRET_idlewatch }}"
_COMMAND = "/start.sh"

_PAGE = """\
# A template, to paste

<!-- Written by `python -m idlewatch.host.template > docs/template.md`; a test holds it to the program. -->

Console → Templates → New Template. In an existing Pod `idlewatch install` prints the same line, for what is there;
set on a Pod itself instead of its template, RunPod resets that Pod and wipes its disk at once.

**Container Image**: your own with idlewatch in it, see the [Dockerfile](../Dockerfile), and no start command. Or a
stock image, such as `{stock}`, with this **Container Start Command**, in one line. It finds idlewatch on the volume
once `idlewatch install` has been run in one Pod that has it:

```
{line}
```

**Volume Mount Path**: `{volume}`. Without a volume nothing can be saved, and a stock image starts without idlewatch.

**Environment Variables**:

```
{variables}
```

The first is a secret of yours (console → Secrets): leave it out where [the Pod's own key](runpod.md#the-key) may stop
it. With `IDLEWATCH_MODE=observe` nothing is stopped and nothing brought back: take that line out once `idlewatch why`
convinces you. [All settings](settings.md).

## By program

A Pod on a network volume, through REST v2: `POST https://api.runpod.io/v2/pods`, with your key as `Authorization:
Bearer …` and a `User-Agent` (without one the edge answers 403). For a template, `POST /v2/templates` with the same
`name`, `image`, `args`, `disk`, `env` and `ports`.

```json
{rest}
```

Through GraphQL, which RunPod wants to end early in 2027, as the input of `podFindAndDeployOnDemand`:

```json
{graphql}
```

With `runpodctl` (2.x), from an image of your own; `--volume-in-gb` is 0 unless you say otherwise, and then there is
no volume:

```
{runpodctl}
```

A stop time of RunPod's own, as a second line of defence: `--stop-after`, [see there](runpod.md#second-line-of-defence).
"""


def environment() -> dict[str, str]:
    """The variables of the template, in order."""
    defaults = Settings.model_fields
    return {
        variable("runpod_api_key"): _KEY,
        variable("mode"): Mode.OBSERVE.value,
        variable("idle_after"): written_duration(defaults["idle_after"].default.total_seconds()),
    }


def start_command() -> str:
    """The container start command of a stock image."""
    return archive.start_line(Path(VOLUME) / archive.ON_VOLUME, _COMMAND)


def own_command() -> list[str]:
    """What an image of one's own starts."""
    return [f"{tree.PLACE}/bin/idlewatch", "exec", "--", _COMMAND]


def rest_body() -> dict[str, Json]:
    """The body of `POST /v2/pods`."""
    return {
        "name": "guarded",
        "image": STOCK,
        "args": start_command(),
        "env": dict(environment()),
        "gpu": {"id": GPU, "count": 1},
        "disk": _DISK_GB,
        "ports": [*PORTS],
        "mounts": {"network": [{"volumeId": NETWORK_VOLUME, "path": VOLUME}]},
        "startSsh": True,
        "startJupyter": True,
    }


def graphql_input() -> dict[str, Json]:
    """The input of `podFindAndDeployOnDemand`."""
    return {
        "name": "guarded",
        "imageName": STOCK,
        "dockerArgs": start_command(),
        "env": [{"key": name, "value": value} for name, value in environment().items()],
        "gpuTypeId": GPU,
        "gpuCount": 1,
        "cloudType": "SECURE",
        "containerDiskInGb": _DISK_GB,
        "networkVolumeId": NETWORK_VOLUME,
        "volumeMountPath": VOLUME,
        "ports": ",".join(PORTS),
        "startSsh": True,
    }


def runpodctl() -> list[str]:
    """The words of a `runpodctl pod create`."""
    options: Mapping[str, object] = {
        "name": "guarded",
        "image": OWN,
        "gpu-id": GPU,
        "container-disk-in-gb": _DISK_GB,
        "volume-in-gb": _VOLUME_GB,
        "volume-mount-path": VOLUME,
        "ports": ",".join(PORTS),
        "env": json.dumps(environment()),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["runpodctl", "pod", "create", *words]


def rendered() -> str:
    """The whole page."""
    words = runpodctl()
    options = [shlex.join(words[at : at + 2]) for at in range(3, len(words), 2)]
    return _PAGE.format(
        stock=STOCK,
        line=start_command(),
        volume=VOLUME,
        variables="\n".join(f"{name}={value}" for name, value in environment().items()),
        rest=json.dumps(rest_body(), indent=2),
        graphql=json.dumps(graphql_input(), indent=2),
        runpodctl=" \\\n    ".join([" ".join(words[:3]), *options]),
    )


if __name__ == "__main__":
    sys.stdout.write(rendered())
