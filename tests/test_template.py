"""What is to be pasted into a template: names that the program knows, fields that RunPod's API takes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import jsonschema
import pytest

from idlewatch.errors import SettingsError
from idlewatch.host import advice, archive, template
from idlewatch.host.install import Plan
from idlewatch.host.machine import Kind, Machine
from idlewatch.settings import Mode, Restore, Source, load

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "idlewatch/demo/runpod_openapi.json").read_text())
CREATE_POD = {
    "allOf": [
        {"$ref": "#/components/schemas/ContainerConfig"},
        {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "cloud": {"$ref": "#/components/schemas/Cloud"},
                "gpu": {"$ref": "#/components/schemas/GpuConfig"},
                "mounts": {"$ref": "#/components/schemas/Mounts"},
                "startJupyter": {"type": "boolean"},
                "startSsh": {"type": "boolean"},
            },
        },
    ],
    "unevaluatedProperties": False,
    "components": SCHEMA["components"],
}
"""RunPod's `CreatePodRequest` as far as it is used (its OpenAPI file of REST v2, 2026-08-20)."""
GRAPHQL = {
    *("cloudType", "containerDiskInGb", "dataCenterId", "env", "gpuCount", "gpuTypeId", "imageName", "name", "ports"),
    *("startSsh", "supportPublicIp", "templateId", "volumeInGb", "volumeMountPath", "networkVolumeId", "dockerArgs"),
    *("minCudaVersion", "containerRegistryAuthId", "countryCode", "stopAfter", "terminateAfter", "compliance"),
}
"""runpodctl 2.7.2, `CreatePodGQLInput`."""
RUNPODCTL = {
    *("--name", "--template-id", "--image", "--compute-type", "--gpu-id", "--gpu-count", "--volume-in-gb", "--ports"),
    *("--container-disk-in-gb", "--volume-mount-path", "--env", "--cloud-type", "--data-center-ids", "--ssh"),
    *("--network-volume-id", "--docker-args", "--stop-after", "--terminate-after"),
}
"""runpodctl 2.7.2, cmd/pod/create.go."""


def test_the_page_is_what_the_program_says() -> None:
    assert (ROOT / "docs/template.md").read_text() == template.rendered()


def test_the_program_takes_every_variable_as_it_is_meant() -> None:
    told = load([Source(name="environment", variables={"RUNPOD_POD_ID": "p1", **template.environment()})])
    assert told.settings.mode is Mode.OBSERVE
    assert told.settings.restore is Restore.AUTO
    assert told.settings.idle_after == type(told.settings).model_fields["idle_after"].default
    wrong = {f"{name}X": value for name, value in template.environment().items()}
    with pytest.raises(SettingsError):
        load([Source(name="environment", variables=wrong)])


def test_the_start_command_is_the_one_that_install_prints(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/cmdline").write_bytes(b"/sbin/docker-init\0--\0/start.sh\0")
    machine = Machine(root=tmp_path, proc=tmp_path)
    said = advice.after_install(Plan(machine=machine, kind=Kind.POD, volume=Path(template.VOLUME)))
    assert template.start_command() in said
    shell, option, script = shlex.split(template.start_command())
    assert (shell, option) == ("bash", "-c")
    assert script.endswith("exec /start.sh")
    assert str(Path(template.VOLUME) / archive.ON_VOLUME) in script


def test_an_image_of_one_s_own_starts_what_the_dockerfile_says() -> None:
    assert f"CMD {json.dumps(template.own_command())}\n" in (ROOT / "Dockerfile").read_text()
    assert f"ARG BASE={template.STOCK}\n" in (ROOT / "Dockerfile").read_text()


def test_rest_takes_the_body() -> None:
    body = template.rest_body()
    jsonschema.Draft202012Validator(CREATE_POD).validate(body)
    for wrong in ({"dockerArgs": "x"}, {"mounts": {"volume": 1}}, {"env": [{"key": "a", "value": "b"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(CREATE_POD).validate(body | wrong)
    assert body["args"] == template.start_command()
    assert body["env"] == template.environment()


def test_graphql_and_runpodctl_know_every_field() -> None:
    given = template.graphql_input()
    assert set(given) <= GRAPHQL
    assert given["env"] == [{"key": name, "value": value} for name, value in template.environment().items()]
    words = template.runpodctl()
    assert set(words[3::2]) <= RUNPODCTL
    assert json.loads(words[words.index("--env") + 1]) == template.environment()


def test_what_is_shown_for_a_shell_is_one_command() -> None:
    fence = template.rendered().split("```\nrunpodctl ")[1].split("```")[0]
    assert shlex.split(f"runpodctl {fence}".replace("\\\n", "")) == template.runpodctl()
