"""The text of metrics: what is whole is read exactly, everything else is an error in words and never half a page."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlewatch.errors import SignalError
from idlewatch.servers.page import LIMIT_BYTES, Page, parse

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy."""

PAGE = b"""\
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a \\"b\\" \\\\ {,} = #"} 8.128902e+06
vllm:prompt_tokens_total{engine="1",model_name="c",} 1.0 1395066363000

# a comment
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running   2
\tempty_labels { } +.5e1
"""


def test_names_labels_escapes_exponents_and_stamps() -> None:
    page = parse(PAGE)
    assert page.total("vllm:prompt_tokens_total") == 8_128_903
    assert page.total("vllm:num_requests_running") == 2
    assert page.total("empty_labels") == 5
    assert page.total("vllm:nothing") is None
    assert page.samples["vllm_prompt_tokens_total"][0].labels() == {"engine": "0", "model_name": 'a "b" \\ {,} = #'}


@pytest.mark.parametrize("asked", ["vllm:request_success", "vllm_request_success_total", "vllm:request_success_total"])
@pytest.mark.parametrize(
    "shown", [b"vllm:request_success_total", b"vllm_request_success_total", b"vllm_request_success"]
)
def test_builds_differ_in_the_colon_and_in_total(asked: str, shown: bytes) -> None:
    assert parse(shown + b" 3\n").total(asked) == 3


def test_a_family_that_is_declared_and_has_no_sample_has_counted_nothing() -> None:
    page = parse(b"# TYPE sglang:num_requests_total counter\n# TYPE sglang:x counter\n")
    assert page.total("sglang:num_requests_total") == 0
    assert page.total("sglang:x_total") == 0
    assert page.total("sglang:y") is None


def test_openmetrics_with_its_end_exemplars_and_quoted_names() -> None:
    page = parse(
        b"# TYPE foo counter\n# UNIT foo seconds\n"
        b'foo_total{a="1"} 17.0 1520879607.789 # {id="x y"} 0.67 1520879607\n'
        b'{"my.requests", route="/v1"} 4\n{"alone"} 1\n# EOF\n'
    )
    assert page.total("foo") == 17
    assert page.total("my.requests") == 4
    assert page.samples["my.requests"][0].labels() == {"route": "/v1"}
    assert page.total("alone") == 1


def test_a_page_that_comes_as_one_json_string() -> None:
    assert parse(json.dumps(PAGE.decode()).encode()).total("vllm:num_requests_running") == 2


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "inf", "nan"])
def test_a_sum_that_is_no_number_is_an_error(value: str) -> None:
    page = parse(f'x_total{{a="1"}} {value}\nx_total{{a="2"}} 1\ny 1\n'.encode())
    assert page.total("y") == 1
    with pytest.raises(SignalError, match="x_total is no number"):
        page.total("x_total")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<html><body>Not found</body></html>\n", "line 1 of its metrics is no metric"),
        (b"x 1\nx{a=1} 2\n", "line 2 of"),
        (b'x{a="1} 2\n', "line 1 of"),
        (b"x 1_000\n", "line 1 of"),
        (b"x 0x10\n", "line 1 of"),
        (b"x\n", "line 1 of"),
        (b"x 1 2 3\n", "line 1 of"),
        (b"1x 1\n", "line 1 of"),
        (b'x{a="1"b="2"} 2\n', "line 1 of"),
        (b"requests_total 12", "end in the middle of a line"),
        (b"x 1\n# EOF\nx 2\n", "go on after their end in line 2"),
        (b"\xff\xfe\x00\n", "are no text"),
        (b'"a string that does not end\n', "are no text"),
        (b"x" * (LIMIT_BYTES + 1), "more than 4194304 bytes"),
        (b"\n" * 200_001, "more than 200000 lines"),
        (b'x{a="' + b"y" * 70_000 + b'"} 1\n', "line 1 of"),
    ],
)
def test_garbage_is_an_error_in_words(text: bytes, words: str) -> None:
    with pytest.raises(SignalError, match=words) as raised:
        parse(text)
    assert "html" not in str(raised.value)


@pytest.mark.parametrize("long", [b"x%sy\n", b"x{%s!} 1\n", b'{"a"%s!\n', b'x{a="b"%s!} 1\n', b"x 1%sy\n"])
def test_no_text_is_slow_to_refuse(long: bytes) -> None:
    """Minutes, where white space can be divided in many ways; then the test's own time limit ends it."""
    with pytest.raises(SignalError, match="line 1 of"):
        parse((long % (b" " * 65_000)) + long % (b" ,\t" * 20_000))


@patient
@given(st.binary(max_size=300))
def test_any_bytes_are_a_page_or_an_error_in_words(body: bytes) -> None:
    try:
        page = parse(body)
    except SignalError:
        return
    assert isinstance(page, Page)


_VALUES = st.floats(allow_nan=False, allow_infinity=False, width=32)
_LABEL_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
_SAMPLES = st.tuples(
    st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]*", fullmatch=True),
    st.dictionaries(_LABEL_NAMES, _TEXTS, max_size=4),
    _VALUES,
)


def written(name: str, labels: dict[str, str], value: float) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inside = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value!r}\n" if labels else f"{name} {value!r}\n"


@pytest.mark.slow
@patient
@given(st.lists(_SAMPLES, max_size=8))
def test_what_is_written_by_the_rules_is_read_back(samples: list[tuple[str, dict[str, str], float]]) -> None:
    page = parse("".join(written(*each) for each in samples).encode())
    expected: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in samples:
        expected.setdefault(name.replace(":", "_"), []).append((labels, value))
    assert {n: [(s.labels(), s.value) for s in found] for n, found in page.samples.items()} == expected
    for name, found in expected.items():
        assert page.total(name) == math.fsum(value for _, value in found)


@pytest.mark.slow
@patient
@given(st.lists(_SAMPLES, min_size=1, max_size=4), st.data())
def test_a_page_that_was_cut_is_never_read_as_smaller_figures(
    samples: list[tuple[str, dict[str, str], float]], data: st.DataObject
) -> None:
    text = "".join(written(*each) for each in samples).encode()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        page = parse(cut)
    except SignalError:
        return
    whole = parse(text)
    for name, found in page.samples.items():
        assert found == whole.samples[name][: len(found)]
