"""What is secret is shown nowhere: not by what shows settings, and not because somebody else's words hold it."""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st

from idlewatch import assembly, logs
from idlewatch.cli import main
from idlewatch.errors import SettingsError, SignalError, TaskError
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.pod.assembled import assembled
from idlewatch.redact import MASK, SHORTEST, Redactor, is_secret_name, secrets_of_address, shown_address
from idlewatch.settings import (
    Loaded,
    Settings,
    Source,
    daemon_source,
    known_secrets,
    load,
    secret_variables,
    settings_record,
    verb_sources,
)
from idlewatch.signals.redacted import RedactedSignal
from idlewatch.watching.daemon import judge, read
from idlewatch.work.questions import answer_of, ask_prometheus, judged_result
from tests.test_questions import prometheus, until_answered

PASSWORD = "correct-horse-7"
SNAPSHOT_KEY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
ADDRESS = f"http://ann:{PASSWORD}@prometheus.example:9090/tenant?token=tok-987654"


def told(**variables: str) -> Loaded:
    return load([Source(name="environment", variables=variables)])


# ------------------------------------------------------------------------------------------------------ redaction

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="*"), max_size=30)
SECRETS = st.lists(PLAIN, max_size=4)


@given(SECRETS, st.lists(PLAIN, max_size=6), st.data())
def test_no_secret_is_left_whole_wherever_it_stands(secrets: list[str], words: list[str], data: st.DataObject) -> None:
    pieces = [data.draw(st.sampled_from([*words, *secrets])) for _ in range(5)] if words or secrets else []
    cleaned = Redactor(secrets).clean("".join(pieces))
    assert not [secret for secret in secrets if len(secret) >= SHORTEST and secret in cleaned]


@given(SECRETS, PLAIN)
def test_text_without_a_secret_stays_as_it_is_and_cleaning_twice_changes_nothing(secrets: list[str], text: str) -> None:
    redactor = Redactor(secrets)
    cleaned = redactor.clean(text)
    assert redactor.clean(cleaned) == cleaned
    if not any(char in text for secret in secrets for char in secret):
        assert cleaned == text


@given(PLAIN, PLAIN, st.text("abc", min_size=SHORTEST, max_size=12))
def test_what_stands_around_a_secret_is_kept(before: str, after: str, secret: str) -> None:
    assume(not set("abc") & set(before + after))
    assert Redactor([secret]).clean(f"{before}{secret}{after}") == f"{before}{MASK}{after}"


def test_secrets_that_overlap_leave_nothing_of_either() -> None:
    assert Redactor(["abcdef", "defghi"]).clean("<abcdefghi>") == f"<{MASK}>"
    assert Redactor(["abcdef", "abcdefgh"]).clean("<abcdefgh>") == f"<{MASK}>"


def test_a_secret_is_found_as_json_and_as_an_address_write_it_and_a_short_one_is_left() -> None:
    clean = Redactor(['pa"ss/wörd', "a%2Fbcdef", "true"]).clean
    assert json.loads(clean(json.dumps({"said": 'pa"ss/wörd'}))) == {"said": MASK}
    assert clean("?t=pa%22ss%2Fw%C3%B6rd&u=a/bcdef") == f"?t={MASK}&u={MASK}"
    assert clean("true") == "true"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://prometheus.example:9090", "http://prometheus.example:9090"),
        ("http://prometheus.example:9090/", "http://prometheus.example:9090"),
        (ADDRESS, f"http://{MASK}@prometheus.example:9090/{MASK}"),
        ("https://hc-ping.com/6f1c7c1e-0000-4bd1-8d26-5fd3f3b0a001", f"https://hc-ping.com/{MASK}"),
        ("http://h?token=x", f"http://h/{MASK}"),
        ("http://[fe80::1]:9090", "http://[fe80::1]:9090"),
        ("http://ann:12/secret@host", MASK),
        ("http://ann:a/b@host", MASK),
        ("rpa_0123456789", MASK),
        ("", MASK),
    ],
)
def test_of_an_address_only_where_it_leads_is_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown


@given(st.text(), st.text(), st.text())
def test_no_user_info_path_or_query_is_ever_shown(user: str, path: str, query: str) -> None:
    shown = shown_address(f"http://{user}@host/{path}?{query}")
    assert shown == MASK or set(shown.replace(MASK, "").replace("http://", "")) <= set("@host/")


def test_the_secrets_of_an_address_are_its_password_and_what_looks_like_a_key_but_no_host_and_no_word() -> None:
    found = secrets_of_address(ADDRESS)
    assert {PASSWORD, "tok-987654", ADDRESS} <= found
    assert base64.b64encode(f"ann:{PASSWORD}".encode()).decode() in found
    assert not found & {"prometheus.example", "9090", "tenant", "http"}
    hook = secrets_of_address("https://hooks.slack.com/services/T024BE7LD/B024BE7LE/x0x1y2z3")
    assert {"T024BE7LD", "B024BE7LE", "x0x1y2z3"} <= hook
    assert "services" not in hook
    assert "TokenA123456" in secrets_of_address("slack://TokenA123456/b")
    assert secrets_of_address("http://prometheus-eu-1.example:9090") == set()


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("WANDB_API_KEY", True),
        ("RUNPOD_SECRET_db", True),
        ("MYSQL_PASSWORD", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("RUNPOD_POD_ID", False),
        ("KEYBOARD", False),
        ("PATH", False),
    ],
)
def test_a_variable_is_secret_by_its_name(name: str, secret: bool) -> None:  # noqa: FBT001
    assert is_secret_name(name) is secret


def test_all_that_the_sources_hold_of_secrets_is_known() -> None:
    environment = {
        "IDLEWATCH_PROMETHEUS_URL": ADDRESS,
        "IDLEWATCH_NOTIFY": "https://hooks.example/T024BE7LD, mailto://ann:mail-pw-1@example.org",
        "HF_TOKEN": "hf_1",
        "DATABASE_URL": "postgres://bob:db-pw-1@db/x",
        "MAX_TOKEN": "4096123",
        "SSH_KEY": "/root/.ssh/id",
    }
    pod = {"RUNPOD_API_KEY": "rpa_1", "JUPYTER_PASSWORD": "123456"}
    known = known_secrets([Source(name="environment", variables=environment), Source(name="pid1", variables=pod)])
    assert {PASSWORD, "T024BE7LD", "mail-pw-1", "hf_1", "db-pw-1", "rpa_1", "123456"} <= known
    assert not known & {"4096123", "/root/.ssh/id"}


# ------------------------------------------------------------------------------------------------------- settings


def all_secret() -> dict[str, str]:
    """Every secret setting set to something with PASSWORD in it, but for the key, which is none then."""
    addresses = {"IDLEWATCH_PROMETHEUS_URL", "IDLEWATCH_HEARTBEAT_URL"}
    given = {name: ADDRESS if name in addresses else f"x-{PASSWORD}" for name in secret_variables()}
    notify = f"https://hooks.example/{PASSWORD}"
    return given | {"IDLEWATCH_PROMQL": "up", "IDLEWATCH_SNAPSHOT_KEY": SNAPSHOT_KEY, "IDLEWATCH_NOTIFY": notify}


def test_the_secret_settings_are_these() -> None:
    names = ["HEARTBEAT_URL", "JUPYTER_TOKEN", "NOTIFY", "PROMETHEUS_URL", "RUNPOD_API_KEY", "SNAPSHOT_KEY"]
    assert sorted(secret_variables()) == [f"IDLEWATCH_{name}" for name in names]


def test_no_secret_setting_stands_in_a_repr_in_what_is_written_down_or_in_what_is_shown() -> None:
    loaded = told(**all_secret())
    rows = [loaded.shown(field) for field in Settings.model_fields]
    everything = repr(loaded) + str(loaded.settings) + str(settings_record(loaded)) + str(rows)
    assert PASSWORD not in everything
    assert SNAPSHOT_KEY not in everything
    assert "tok-987654" not in everything
    assert loaded.shown("notify") == "set (hidden)"
    assert loaded.shown("prometheus_url") == f"http://{MASK}@prometheus.example:9090/{MASK}"
    assert [told().shown(field) for field in ("notify", "heartbeat_url", "runpod_api_key")] == ["not set"] * 3
    assert loaded.settings.prometheus_url.get_secret_value() == ADDRESS


@pytest.mark.parametrize("extra", [(), ("--json",)])
def test_the_settings_verb_tells_no_secret(
    extra: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in {**all_secret(), "IDLEWATCH_STATE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert main(["settings", *extra]) == 0
    out = "".join(capsys.readouterr())
    assert "prometheus.example:9090" in out
    assert PASSWORD not in out
    assert SNAPSHOT_KEY not in out
    assert "tok-987654" not in out


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("IDLEWATCH_PROMETHEUS_URL", f"ftp://ann:{PASSWORD}@h", "write http://host:port"),
        ("IDLEWATCH_HEARTBEAT_URL", f"http://ann:12/{PASSWORD}@host", "%2F"),
        ("IDLEWATCH_HEARTBEAT_URL", f"http://ann:{PASSWORD} @host", "write http://host:port"),
        ("IDLEWATCH_RUNPOD_API_URL", f"https://ann:{PASSWORD}@proxy.example/v2", "IDLEWATCH_RUNPOD_API_KEY"),
        ("IDLEWATCH_RUNPOD_GRAPHQL_URL", f"https://api.runpod.io/graphql?api_key={PASSWORD}", "RUNPOD_API_KEY"),
    ],
)
def test_an_address_that_is_refused_is_not_told(name: str, value: str, says: str) -> None:
    variables = {name: value, "IDLEWATCH_PROMQL": "up", "IDLEWATCH_PROMETHEUS_URL": "http://p:9090"} | {name: value}
    with pytest.raises(SettingsError, match=says) as refused:
        told(**variables)
    assert name in str(refused.value)
    assert PASSWORD not in str(refused.value)


def written_down(state_dir: Path, **variables: str) -> None:
    record = settings_record(told(**variables))
    (state_dir / "settings.json").write_text(json.dumps(record))


def test_a_verb_knows_that_the_daemon_has_a_secret_and_not_which(tmp_path: Path) -> None:
    written_down(tmp_path, **all_secret())
    assert PASSWORD not in (tmp_path / "settings.json").read_text()
    shell = Source(name="environment", variables={"IDLEWATCH_STATE_DIR": str(tmp_path)})
    loaded = load(verb_sources([shell, Source(name="pid1", variables={})]))
    assert loaded.shown("runpod_api_key") == loaded.shown("notify") == "set (hidden)"
    assert not loaded.settings.runpod_api_key
    assert loaded.origins["notify"] == str(tmp_path / "settings.json")
    assert loaded.shown("prometheus_url") == f"http://{MASK}@prometheus.example:9090/{MASK}"
    with pytest.raises(TaskError, match="whole address"):
        ask_prometheus(loaded.settings.prometheus_url.get_secret_value(), "up", 1)


def test_a_verb_takes_the_whole_address_from_the_pod_where_it_is_the_one_that_the_daemon_has(tmp_path: Path) -> None:
    written_down(tmp_path, **all_secret())
    shell = Source(name="environment", variables={"IDLEWATCH_STATE_DIR": str(tmp_path)})
    for pods, found in ((ADDRESS, ADDRESS), ("http://other:1", str(told(**all_secret()).settings.prometheus_url))):
        pod = Source(name="pid1", variables={"IDLEWATCH_PROMETHEUS_URL": pods})
        assert load(verb_sources([shell, pod])).settings.prometheus_url.get_secret_value() == found


def test_a_settings_file_that_is_none_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"variables": {}, "origins": 3}')
    assert daemon_source(tmp_path).variables == {}
    assert daemon_source(tmp_path).withheld == frozenset()


# -------------------------------------------------------------------------------------------- what others say


def hide(text: str) -> str:
    return Redactor([PASSWORD]).clean(text)


@pytest.mark.parametrize("out", [f"the key is {PASSWORD}", json.dumps({"activity": "quiet", "reason": PASSWORD})])
def test_a_command_cannot_tell_a_secret_in_its_answer(out: str) -> None:
    reason = str(answer_of(1, out, hide)["reason"])
    assert MASK in reason
    assert PASSWORD not in reason


@pytest.mark.parametrize("out", [f"no key {PASSWORD}", json.dumps({"activity": "unknown", "reason": PASSWORD})])
def test_a_command_cannot_tell_a_secret_in_its_error(out: str) -> None:
    with pytest.raises(TaskError) as failed:
        answer_of(3, out, hide)
    assert MASK in str(failed.value)


def test_a_secret_that_the_cut_to_length_divides_is_hidden_before() -> None:
    reason = str(answer_of(0, "x" * 190 + PASSWORD, hide)["reason"])
    assert PASSWORD[:4] not in reason
    row: Json = {"metric": {"__name__": "up", "job": "x" * 180 + PASSWORD}, "value": [1.0, "2"]}
    said = judged_result({"status": "success", "data": {"resultType": "vector", "result": [row]}}, hide)
    assert PASSWORD[:4] not in str(said["reason"])


def test_what_prometheus_says_of_an_error_is_without_secrets() -> None:
    with pytest.raises(TaskError) as refused:
        judged_result({"status": "error", "error": f"user ann:{PASSWORD} may not"}, hide)
    assert str(refused.value) == f"Prometheus refuses the query: user ann:{MASK} may not"


def test_a_password_and_a_token_of_an_address_reach_the_server_and_no_error() -> None:
    with prometheus(b"<html>", status=502) as (url, asked):
        address = url.replace("http://", f"http://ann:{PASSWORD}@") + "/tenant?token=tok-987654"
        with pytest.raises(TaskError, match="answers 502") as failed:
            ask_prometheus(address, "up", 5)
    assert asked == ["/tenant/api/v1/query?token=tok-987654&query=up"]
    for text in (PASSWORD, "tok-987654", "tenant"):
        assert text not in str(failed.value)


@pytest.mark.parametrize("address", [f"http://ann:{PASSWORD}@127.0.0.1:1", f"http://ann:{PASSWORD}@h\x01:1"])
def test_an_address_that_cannot_be_asked_is_told_without_its_password(address: str) -> None:
    with pytest.raises(TaskError, match="can't be asked") as failed:
        ask_prometheus(address, "up", 5)
    assert PASSWORD not in str(failed.value)


class Talkative:
    """A signal of an owner's who tells everything."""

    name, refines = "talkative", True
    raises: Exception | None = None
    judges: Exception | None = None

    def read(self, now_s: float) -> Reading:
        if self.raises:
            raise self.raises
        return Reading(signal=self.name, at_s=now_s, facts={"said": [{PASSWORD: f"<{PASSWORD}>"}], "n": 3})

    def judge(self, reading: Reading) -> Finding:
        if self.judges:
            raise self.judges
        reason = f"{reading.facts['said']} {PASSWORD}"
        return Finding(signal=self.name, activity=Activity.QUIET, reason=reason, notice=PASSWORD)

    def close(self) -> None: ...


def make(_pod: object) -> Talkative:
    return Talkative()


def test_nothing_that_a_signal_says_holds_a_secret() -> None:
    talkative = Talkative()
    signal = RedactedSignal(talkative, hide, facts_too=True)
    reading = read(signal, 1.0)
    assert reading.facts == {"said": [{MASK: f"<{MASK}>"}], "n": 3}
    finding = judge(signal, reading)
    assert (PASSWORD in finding.reason, finding.notice) == (False, MASK)
    talkative.raises = SignalError(f"no {PASSWORD}")
    assert read(signal, 1.0).error == f"no {MASK}"
    talkative.raises, talkative.judges = OSError(PASSWORD), KeyError(PASSWORD)
    assert read(signal, 1.0).error == f"OSError: {MASK}"
    assert PASSWORD not in judge(signal, reading).reason


def test_what_tells_no_secret_is_raised_as_it_is_and_our_own_facts_are_left_as_they_are() -> None:
    talkative = Talkative()
    signal = RedactedSignal(talkative, hide)
    assert PASSWORD in str(read(signal, 1.0).facts)
    talkative.raises, talkative.judges = OSError("gone"), KeyError("rate")
    assert read(signal, 1.0).error == "OSError: gone"
    assert judge(signal, Reading(signal="talkative", at_s=1.0)).reason == "can't be judged: KeyError: 'rate'"


def test_the_daemon_hears_others_without_secrets_and_its_ground_signals_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "talkative_signals", sys.modules[__name__])
    variables = {"HF_TOKEN": PASSWORD, "IDLEWATCH_EXTRA_SIGNALS": "talkative_signals:make", "IDLEWATCH_COMMAND": "true"}
    made = {one.name: one for one in assembly.signals(assembled(told(**variables)))}
    assert [name for name, one in made.items() if not isinstance(one, RedactedSignal)] == ["gpu", "host"]
    own = made["talkative"]
    assert PASSWORD not in str(read(own, 1.0)) + str(judge(own, read(own, 1.0)))


@pytest.mark.slow
def test_a_key_that_the_owners_command_echoes_reaches_neither_reading_nor_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", PASSWORD)  # the Pod's own programs get that one, and may say it
    told_variables = {"IDLEWATCH_COMMAND": "echo key=$RUNPOD_API_KEY", "IDLEWATCH_SIGNALS": "command"}
    (signal,) = assembly.signals(assembled(told(**told_variables)))
    try:
        finding = until_answered(signal)
        assert finding.reason == f"key={MASK}"
        assert PASSWORD not in str(read(signal, finding.seen_to_s))
    finally:
        signal.close()


# -------------------------------------------------------------------------------------------------------- the log


@pytest.fixture
def usual_log() -> Iterator[None]:
    """Puts the log back as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("usual_log")
def test_a_secret_that_comes_as_far_as_the_log_is_masked_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_RUNPOD_API_KEY", PASSWORD)
    logs.set_up(least=logging.INFO)
    structlog.get_logger().info("happened", text=f"said {PASSWORD}", error=OSError(PASSWORD), pod="abc")
    said = json.loads(capsys.readouterr().err)
    assert (said["text"], said["pod"]) == (f"said {MASK}", "abc")
    assert MASK in said["error"]
