"""What the doctor makes of what it saw: one healthy Pod, and in each row one thing that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from idlewatch.doctor.examine import judged
from idlewatch.doctor.here import Here, child_environment, schemes
from idlewatch.doctor.lines import Line, Standing, works
from idlewatch.doctor.looking import Seen
from idlewatch.history.status import mapping
from idlewatch.model import FIRST_READING, Json, PodIdentity
from idlewatch.pod.keys import found_keys, marks
from idlewatch.settings import Loaded, Source, load
from idlewatch.show.doctor import report_json, report_lines, summary

OK, WARNING, UNPROVEN, BROKEN = Standing.OK, Standing.WARNING, Standing.UNPROVEN, Standing.BROKEN
KEY = "rpa_a_key_of_a_test"
VARIABLES = {"RUNPOD_POD_ID": "abc", "RUNPOD_API_KEY": KEY}
STATUS: dict[str, Json] = {
    "pod_id": "abc",
    "mode": "stop",
    "phase": "watching",
    "signals": {
        "gpu": {"activity": "quiet", "reason": "1 GPU at 0 %"},
        "host": {"activity": "quiet", "reason": "CPU 0.1 %"},
        "jupyter": {"activity": "absent", "reason": "no server"},
    },
}
GPU: dict[str, Json] = {
    "expected": 1,
    "driver": "570.1",
    "gpus": [{"name": "A100", "mig": False, "not_readable": [], "instances": 0}],
}


def loaded(**variables: str) -> Loaded:
    return load([Source(name="environment", variables=VARIABLES | variables)])


def pod(**changes: Any) -> Here:
    told = changes.get("loaded", loaded())
    base = Here(
        loaded=told,
        pod=PodIdentity(pod_id="abc", source="environment", started_s=0.0, boot_key="abc@now"),
        refusal=None,
        keys=tuple(found_keys(told)),
        watched={"gpu": False, "host": False, "jupyter": True},
        status=STATUS,
        running=True,
        age_s=2.0,
        daemon_told=True,
        daemon_own_key=False,
        differing=(),
        differs_because=None,
        drill=None,
        gpu=GPU,
    )
    return replace(base, **changes)


def healthy() -> dict[str, Seen]:
    answer: dict[str, Json] = {"api": "REST v2", "key": "RUNPOD_API_KEY", "read": True, "text": "RUNNING"}
    facts: dict[str, Json] = {"status": "RUNNING", "usd_per_hour": 1.59, "volume_path": "/workspace"}
    said: dict[str, dict[str, Json]] = {
        "machine": {
            "cgroup": {"version": 2, "cpu": True, "disk": True, "memory": True},
            "terminals": ["pts/0"],
            "login": True,
            "systemd": False,
            "unit": None,
            "enabled": False,
            "starts": ["/post_start.sh"],
            "wiped": [],
            "daemon_pid": 812,
            "namespace": "own",
            "processes": 20,
            "others": 3,
            "hidden": False,
        },
        "api": {"answers": [answer], "pod": facts, "lock_known": True, "forbids": None},
        "network": {
            "https": True,
            "trust": {"named": None, "path": "/c.pem", "there": True, "error": None, "certificates": 140},
            "names": {"api.runpod.io": 2},
            "clock": 0.4,
        },
        "volume": {
            "needless": False,
            "volume": "/workspace",
            "there": True,
            "point": "/workspace",
            "fs_type": "xfs",
            "read_only": False,
            "writable": True,
            "free_bytes": 10e9,
            "snapshots": 1,
            "newest": "20261124T100000Z-ab",
            "newest_at": "2026-11-24T10:00:00+00:00",
            "note": None,
            "drill": {"at": "2026-11-23T10:00:00+00:00", "snapshot": None},
        },
        "loss": {"bytes": 2e9, "files": 900, "unreadable": 0, "errors": []},
    }
    return {name: Seen(said=one) for name, one in said.items()}


def changed(look: str, path: str, value: Json) -> dict[str, Seen]:
    """The healthy Pod with one thing changed; `path` names it with dots."""
    seen = healthy()
    said: Any = seen[look].said
    *above, last = path.split(".")
    for part in above:
        said = said[int(part)] if part.isdecimal() else said[part]
    said[last] = value
    return seen


def line(lines: list[Line], name: str) -> Line:
    found = [one for one in lines if one.name == name]
    assert len(found) == 1, f"{name}: {[one.name for one in lines]}"
    return found[0]


def test_a_healthy_pod_has_nothing_but_ok_and_an_unproven_stop() -> None:
    lines = judged(pod(), healthy())
    assert {one.name: one.standing for one in lines if one.standing is not OK} == {"stop": UNPROVEN}
    assert works(lines)
    assert all((one.remedy is None) == (one.standing is OK) for one in lines)
    assert "unproven until one was seen" in summary(lines)


SEEN_ROWS: list[tuple[str, str, str, Json, Standing, str]] = [
    # line, look, what is changed, to what, its standing then, a word of its text
    ("state", "api", "forbids", "this Pod is locked; unlock it", BROKEN, "locked"),
    ("state", "api", "forbids", "this Pod belongs to an Instant Cluster; stop that", BROKEN, "Instant Cluster"),
    ("state", "api", "lock_known", False, WARNING, "only REST v2 tells"),
    ("certificates", "network", "trust.error", "FileNotFoundError", BROKEN, "no certificate authority"),
    ("certificates", "network", "trust.certificates", 0, BROKEN, "no certificate authority"),
    (
        "certificates",
        "network",
        "trust.there",
        False,
        WARNING,
        "certifi's 140 certificate authorities are used in its place",
    ),
    ("names", "network", "names.x", "Name unknown", BROKEN, "Name unknown"),
    ("clock", "network", "clock", 90.0, WARNING, "90 s ahead of"),
    ("clock", "network", "clock", -7200.0, BROKEN, "7200 s behind"),
    ("clock", "network", "clock", None, WARNING, "could not be compared"),
    ("cgroup", "machine", "cgroup.disk", False, WARNING, "but not disk"),
    ("cgroup", "machine", "cgroup", {"version": None}, WARNING, "summed over the visible processes"),
    ("cgroup", "machine", "cgroup", {"error": "no mountinfo"}, WARNING, "no mountinfo"),
    ("processes", "machine", "hidden", True, WARNING, "hidepid"),
    ("processes", "machine", "namespace", "host", OK, "the machine's own PID namespace"),
    ("volume", "volume", "volume", None, BROKEN, "kept up, idle or not"),
    ("volume", "volume", "there", False, BROKEN, "is no folder"),
    ("volume", "volume", "needless", True, OK, "keeps its disk"),
    ("volume", "volume", "fs_type", "fuse", OK, "network volume"),
    ("writable", "volume", "read_only", True, BROKEN, "read-only"),
    ("writable", "volume", "writable", False, BROKEN, "can't be written"),
    ("room", "volume", "free_bytes", 1.0e9, BROKEN, "too little"),
    ("room", "volume", "free_bytes", 1.5e9, WARNING, "packs well"),
    ("room", "loss", "unreadable", 2, BROKEN, "can't be read"),
    ("snapshots", "volume", "snapshots_error", "no right", WARNING, "no right"),
    ("snapshots", "volume", "snapshots", 0, OK, "nothing was saved"),
    ("drill", "volume", "drill", None, UNPROVEN, "never drilled"),
    ("hooks", "volume", "hooks", ["before-save/10-x"], OK, "before-save/10-x"),
    ("hooks", "volume", "hooks_refused", ["before-save/10-x would not run"], WARNING, "would not run"),
    ("hooks", "volume", "hooks_missing", ["before-save/10-x.required"], BROKEN, "is required"),
    ("terminals", "machine", "terminals", [], WARNING, "nobody would hear"),
    ("login", "machine", "login", None, WARNING, "a login shows nothing"),
    ("starter", "machine", "starts", [], WARNING, "started by hand"),
    ("starter", "machine", "wiped", ["/post_start.sh"], WARNING, "a stop wipes that"),
]


@pytest.mark.parametrize(("name", "look", "path", "value", "standing", "says"), SEEN_ROWS)
def test_each_thing_that_is_seen_changes_its_own_line(
    name: str, look: str, path: str, value: Json, standing: Standing, says: str
) -> None:
    found = line(judged(pod(), changed(look, path, value)), name)
    assert found.standing is standing, found
    assert says in found.text


def with_signal(name: str, activity: str, reason: str) -> Mapping[str, Json]:
    signals = STATUS["signals"]
    assert isinstance(signals, dict)
    return {**STATUS, "signals": {**signals, name: {"activity": activity, "reason": reason}}}


DIFFERENT = (("IDLEWATCH_IDLE_AFTER", "1h", "30m"),)
WORKER = "this is a Serverless worker (RUNPOD_ENDPOINT_ID is set), which RunPod scales; set the endpoint's idle timeout"
MIG: dict[str, Json] = {"expected": 1, "gpus": [{"name": "A100", "mig": True, "instances": 2, "not_readable": []}]}
HERE_ROWS: list[tuple[str, dict[str, Any], Standing, str]] = [
    ("kind", {"refusal": WORKER}, BROKEN, "Serverless worker"),
    ("stop", {"refusal": WORKER}, BROKEN, "no stop would be asked for"),
    ("key", {"keys": ()}, BROKEN, "no API key"),
    ("stop", {"keys": ()}, BROKEN, "without a key"),
    ("key:RUNPOD_API_KEY", {"loaded": loaded(RUNPOD_API_KEY="rpa with blank")}, BROKEN, "characters that no key has"),
    ("id", {"status": {**STATUS, "pod_id": "other"}}, BROKEN, "two Pods"),
    ("environment", {"differing": DIFFERENT}, WARNING, "IDLEWATCH_IDLE_AFTER is 1h here and 30m in the daemon"),
    ("environment", {"differs_because": "IDLEWATCH_X: no"}, WARNING, "IDLEWATCH_X"),
    ("environment", {"daemon_told": False}, OK, "variables come from this shell"),
    ("environment", {"daemon_told": False, "unreadable": "/s/settings.json"}, UNPROVEN, "can't read /s/settings.json"),
    ("user", {"root": False}, UNPROVEN, "you are not root"),
    (
        "environment",
        {"loaded": loaded(IDLEWATCH_RUNPOD_API_KEY="rpa_mine")},
        WARNING,
        "IDLEWATCH_RUNPOD_API_KEY is set here and not in the daemon",
    ),
    (
        "hours",
        {"loaded": loaded(IDLEWATCH_WORKING_HOURS="Mon-Fri 09:00-18:00")},
        OK,
        "working hours are Mon-Fri 09:00-18:00 UTC: in them the warning comes after 2h of quiet",
    ),
    ("signal:gpu", {"status": with_signal("gpu", "unknown", "NVML is gone")}, BROKEN, "kept up and billed"),
    ("signal:jupyter", {"status": with_signal("jupyter", "unknown", "refused")}, WARNING, "jupyter is blind: refused"),
    ("ignored", {"loaded": loaded(IDLEWATCH_IGNORE="jupyter")}, WARNING, "left out by IDLEWATCH_IGNORE: jupyter"),
    ("driver", {"gpu": {**GPU, "expected": 2}}, BROKEN, "1 of 2 GPUs"),
    ("driver", {"gpu": MIG}, WARNING, "MIG, 2 instances"),
    ("daemon", {"status": None, "running": False}, BROKEN, "runs as process 812 but does not tick"),
    ("mode", {"status": {**STATUS, "mode": "observe"}}, WARNING, "only observes"),
    ("channels", {"channels": ("https", "slack")}, OK, "2 channels would be told: https, slack"),
]


@pytest.mark.parametrize(("name", "changes", "standing", "says"), HERE_ROWS)
def test_each_thing_that_is_told_changes_its_own_line(
    name: str, changes: dict[str, Any], standing: Standing, says: str
) -> None:
    found = line(judged(pod(**changes), healthy()), name)
    assert found.standing is standing, found
    assert says in found.text


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (None, "no daemon has watched here"),
        ({**STATUS, "ended": True}, "was asked to end"),
        (STATUS, "is not running, last looked 1h"),
        ({"problems": ["IDLEWATCH_X: there is no such setting"]}, "IDLEWATCH_X"),
    ],
)
def test_a_daemon_that_does_not_run_guards_nothing(status: dict[str, Json] | None, says: str) -> None:
    seen = changed("machine", "daemon_pid", None)
    found = line(judged(pod(status=status, running=False, age_s=3600.0), seen), "daemon")
    assert found.standing is BROKEN
    assert says in found.text


@pytest.mark.parametrize(
    ("seen", "standing", "says"),
    [
        (Seen(said={"unsendable": None}), OK, "1 channel would be told: slak"),
        (Seen(said={"unsendable": "IDLEWATCH_NOTIFY: slak://…: no"}), BROKEN, "IDLEWATCH_NOTIFY: slak://…: no"),
        (Seen(missing="no answer within 30 s"), UNPROVEN, "whether slak can be told: no answer within 30 s"),
    ],
)
def test_a_channel_that_can_not_be_sent_to_is_no_channel(seen: Seen, standing: Standing, says: str) -> None:
    found = line(judged(pod(channels=("slak",)), healthy() | {"channels": seen}), "channels")
    assert (found.standing, found.text) == (standing, says)


def answers(*told: tuple[str, bool, str, bool]) -> dict[str, Seen]:
    """API, whether it let the Pod be read, what it said, and whether that may pass."""
    rows: list[Json] = [
        {"api": api, "key": "RUNPOD_API_KEY", "read": read, "text": text, "passing": passing}
        for api, read, text, passing in told
    ]
    return healthy() | {"api": Seen(said={"answers": rows, "pod": None})}


def test_what_the_api_answered_is_told_way_by_way_with_what_it_proves() -> None:
    lines = judged(pod(), answers(("REST v2", False, "403 Forbidden", False), ("GraphQL", True, "RUNNING", False)))
    refused, read = (line(lines, f"api:{api} with RUNPOD_API_KEY") for api in ("REST v2", "GraphQL"))
    assert (refused.standing, read.standing) == (WARNING, OK)
    assert "goes on to the next way" in refused.text
    assert "reading this Pod is proven, stopping it is not" in read.text


def test_a_key_that_is_refused_everywhere_will_not_work_unless_it_was_seen_to_stop() -> None:
    refused = answers(("REST v2", False, "403 Forbidden", False), ("GraphQL", False, "Unauthorized", False))
    found = line(judged(pod(), refused), "api:REST v2 with RUNPOD_API_KEY")
    assert found.standing is BROKEN
    assert "IDLEWATCH_RUNPOD_API_KEY" in str(found.remedy)
    stopped = note(keys=[*marks(loaded())])
    found = line(judged(pod(), refused | {"volume": stopped}), "api:REST v2 with RUNPOD_API_KEY")
    assert found.standing is WARNING
    assert "a stop by this key was seen" in found.text


def test_an_api_that_does_not_answer_says_so() -> None:
    found = line(judged(pod(), answers(("REST v2", False, "no whole answer", True))), "api:REST v2 with RUNPOD_API_KEY")
    assert found.standing is BROKEN
    assert "can't be asked now: no whole answer" in found.text


def note(**changes: Json) -> Seen:
    kept: dict[str, Json] = {
        "at": "2026-11-22T10:00:00+00:00",
        "reason": "quiet",
        "boot_key": "abc@before",
        "keys": None,
        "answer": "accepted",
    }
    return changed("volume", "note", kept | changes)["volume"]


@pytest.mark.parametrize(
    ("kept", "standing", "says"),
    [
        ({}, UNPROVEN, "was not, or not only, asked for with the keys of now"),
        ({"keys": [*marks(loaded())]}, OK, "seen: one was asked for at 2026-11-22 10:00 UTC (quiet)"),
        ({"keys": [*marks(loaded()), "0123456789ab"]}, UNPROVEN, "not only"),
        ({"keys": [*marks(loaded())], "boot_key": "abc@now"}, BROKEN, "STOP NOT CONFIRMED"),
        ({"keys": [*marks(loaded())], "from_outside": True}, UNPROVEN, "came from outside"),
        ({"keys": [*marks(loaded())], "answer": "unknown"}, UNPROVEN, "answer is not known"),
        ({"keys": [*marks(loaded())], "answer": None}, UNPROVEN, "answer is not known"),
        ({"keys": [*marks(loaded())], "answer": "failed", "answer_text": "503"}, UNPROVEN, "and it failed: 503"),
        ({"keys": [*marks(loaded())], "answer": "refused", "answer_text": "401"}, BROKEN, "and it was refused: 401"),
        ({"keys": ["0123456789ab"], "answer": "refused"}, UNPROVEN, "no stop by the keys of now was seen"),
    ],
)
def test_only_a_later_start_after_a_stop_with_the_keys_of_now_proves_the_stop(
    kept: dict[str, Json], standing: Standing, says: str
) -> None:
    found = line(judged(pod(), healthy() | {"volume": note(**kept)}), "stop")
    assert found.standing is standing
    assert says in found.text


def test_no_key_is_in_any_line_nor_in_a_repr() -> None:
    told = loaded(IDLEWATCH_RUNPOD_API_KEY="rpa_mine_of_a_test")
    here = pod(loaded=told)
    text = repr(here) + "\n".join(report_lines(judged(here, healthy()), 80))
    assert KEY not in text
    assert "rpa_mine_of_a_test" not in text
    assert all(mark not in (KEY, "rpa_mine_of_a_test") for mark in marks(told))


def test_what_a_stop_would_wipe_is_not_said_to_have_failed_where_it_was_not_looked_at() -> None:
    seen = {name: one for name, one in healthy().items() if name != "loss"}
    room = next(line for line in judged(pod(refusal="not here"), seen) if line.name == "room")
    assert (room.standing, "was not measured" in room.text) == (OK, True)


@pytest.mark.parametrize("name", ["machine", "api", "network", "volume", "loss"])
def test_what_hung_is_said_and_the_rest_is_judged_all_the_same(name: str) -> None:
    hung = Seen(missing="no answer within 30 s (at the door)", hung=True)
    lines = judged(pod(), healthy() | {name: hung})
    assert sum("no answer within 30 s (at the door)" in one.text for one in lines) == 1
    assert line(lines, "daemon").standing is OK


def test_a_volume_that_was_not_even_looked_at_is_not_said_to_hang() -> None:
    late = Seen(missing="not begun within 30 s: this machine is very busy", hung=True, began=False)
    found = line(judged(pod(), healthy() | {"volume": late}), "volume")
    assert (found.standing, "hangs" in found.text) == (UNPROVEN, False)


def test_signals_are_judged_by_an_own_look_where_no_daemon_watches() -> None:
    said: dict[str, Json] = {"signals": {"host": {"activity": "active", "reason": "CPU 40 %"}}, "at": "reading gpu"}
    seen = healthy() | {"signals": Seen(said=said, missing="no answer within 45 s (reading gpu)", hung=True)}
    lines = judged(pod(running=False), seen)
    assert line(lines, "signal:host").text == "host sees, active: CPU 40 %"
    assert line(lines, "signal:gpu").standing is BROKEN
    assert "reading gpu" in line(lines, "signal:gpu").text


def test_without_a_volume_what_would_be_lost_and_where_runpod_mounts_one_are_told() -> None:
    seen = changed("volume", "volume", None)
    said: Any = seen["volume"].said
    said |= {"why_none": "no volume is mounted", "folders": ["/workspace"], "mounted": ["/data"]}
    found = line(judged(pod(), seen), "volume")
    assert "/workspace is only a folder on this Pod's disk" in found.text
    assert "2.0 GB in 900 files" in found.text
    assert "IDLEWATCH_VOLUME=/workspace" not in str(found.remedy), "a folder on the disk saves nothing"
    assert "wipes this Pod's disk at once, so copy your work away first" in str(found.remedy)
    said["mounted"] = ["/data", "/workspace"]
    found = line(judged(pod(), seen), "volume")
    assert found.remedy == "RunPod mounts one at /workspace: set IDLEWATCH_VOLUME=/workspace"
    lenient = pod(loaded=loaded(IDLEWATCH_ON_SAVE_FAILURE="stop"))
    assert line(judged(lenient, seen), "volume").standing is WARNING


def test_children_are_given_what_a_shell_over_ssh_lacks_and_nothing_else() -> None:
    sources = [
        Source(name="environment", variables={"PATH": "/bin", "IDLEWATCH_IDLE_AFTER": "1h", "SSL_CERT_FILE": ""}),
        Source(name="/run/idlewatch/settings.json", variables={"IDLEWATCH_IDLE_AFTER": "30m"}),
        Source(name="/proc/1/environ", variables={**VARIABLES, "PATH": "/no", "HF_TOKEN": "x", "SSL_CERT_FILE": "/c"}),
    ]
    expected = {"PATH": "/bin", "IDLEWATCH_IDLE_AFTER": "1h", "SSL_CERT_FILE": "/c", **VARIABLES}
    assert child_environment(sources) == expected


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (None, ()),
        ("", ()),
        ("https://hooks.example/SECRET", ("https",)),
        ("slack://A/B/C, ntfy://topic  https://x/?u=http://y", ("slack", "ntfy", "https")),
    ],
)
def test_of_a_channel_only_the_scheme_is_told(written: str | None, told: tuple[str, ...]) -> None:
    assert schemes(written) == told


def test_the_report_for_programs_and_for_people() -> None:
    lines = judged(pod(), changed("volume", "writable", False))
    said = report_json(lines, at="2026-11-24T10:00:00+00:00", took_s=3.14159, pod_id="abc", hung=["loss"], drill=None)
    assert (said["format"], said["works"], said["took_s"], said["hung"]) == (1, False, 3.1, ["loss"])
    first: Any = said["lines"]
    assert set(first[0]) == {"group", "name", "standing", "text", "remedy"}
    text = list(report_lines(lines, 80))
    assert max(map(len, text)) <= 80
    assert any(row.startswith("  will not work  /workspace can't be written") for row in text)
    assert text[-1].startswith(f"1 of {len(lines)} will not work: writable")


def test_a_pod_that_the_api_calls_stopped_while_it_runs_is_no_ok() -> None:
    seen = healthy()
    api = dict(seen["api"].said)
    api["pod"] = {"status": "EXITED", "usd_per_hour": 1.59, "volume_path": "/workspace"}
    state = next(one for one in judged(pod(), seen | {"api": Seen(said=api)}) if one.name == "state")
    assert (state.standing, "EXITED" in state.text) == (WARNING, True)


@pytest.mark.parametrize("variables", [{}, {"RUNPOD_POD_ID": "abc", "RUNPOD_ENDPOINT_ID": "e1"}])
def test_where_nothing_is_ever_stopped_that_is_the_one_thing_that_will_not_work(variables: dict[str, str]) -> None:
    told = load([Source(name="environment", variables=variables)])
    here = pod(loaded=told, refusal="this is no Pod; do nothing", is_pod=False, running=False, status=None, keys=())
    seen = {name: one for name, one in healthy().items() if name in ("machine", "volume")}
    seen["signals"] = Seen(said={"signals": STATUS["signals"]})
    lines = judged(here, seen)
    assert [one.name for one in lines if one.standing is not OK] == ["kind"]
    assert "nothing has to be saved" in line(lines, "volume").text
    assert line(lines, "signal:host").standing is OK


def test_another_user_than_root_is_told_what_that_user_can_not_see_and_not_that_it_is_broken() -> None:
    here = pod(root=False, daemon_told=False, unreadable="/run/idlewatch/settings.json")
    seen = changed("volume", "writable", False)
    seen["loss"] = Seen(said={"bytes": 1.0, "files": 1, "unreadable": 7, "errors": ["root/x: not permitted"]})
    lines = judged(here, seen)
    unproven = {one.name for one in lines if one.standing is UNPROVEN}
    assert {"user", "environment", "writable", "room"} <= unproven
    assert works(lines)
    unseen = pod(root=False, running=False, status=None, unreadable="/run/idlewatch")
    nobody = changed("machine", "daemon_pid", None)
    assert line(judged(unseen, nobody), "daemon").standing is UNPROVEN
    assert line(judged(pod(running=False, status=None), nobody), "daemon").standing is BROKEN


def test_a_signal_that_has_just_begun_to_look_is_nothing_to_mend() -> None:
    young: dict[str, Json] = {"activity": "unknown", "reason": FIRST_READING}
    signals = {**dict(mapping(STATUS["signals"])), "host": young}
    found = line(judged(pod(status={**STATUS, "signals": signals}), healthy()), "signal:host")
    assert (found.standing, found.remedy) == (UNPROVEN, "run this again in a minute")


def test_what_keeps_the_api_from_being_asked_stands_before_what_it_was_asked() -> None:
    names = [one.name for one in judged(pod(), healthy())]
    assert names.index("certificates") < names.index("api:REST v2 with RUNPOD_API_KEY") < names.index("stop")


def test_a_key_that_may_not_even_read_is_no_stop_whose_reading_proves_nothing() -> None:
    found = line(judged(pod(), answers(("REST v2", False, "401", False))), "stop")
    assert found.standing is UNPROVEN
    assert "no key may even read it" in found.text
    assert "IDLEWATCH_RUNPOD_API_KEY" in str(found.remedy)
