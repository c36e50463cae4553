"""Judges which key there is, what the API answered to it, what that proves, and the way to the API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from idlewatch.doctor.here import Here
from idlewatch.doctor.lines import Group, Line, Lines, Standing
from idlewatch.doctor.looking import Seen
from idlewatch.history.status import mapping, number
from idlewatch.model import Json
from idlewatch.pod.keys import INJECTED, OWN, FoundKey
from idlewatch.stopping.notes import Answer, answer_in, at_words, was_turned_down

_SAY = Lines(Group.KEY)
CLOCK_WARNING_S = 60.0
"""Time stamps of others are compared with this clock."""
CLOCK_BROKEN_S = 3600.0
"""Certificates are valid between two instants; one that was just issued is refused by a clock that is behind."""
_OTHER_KEY = (
    "make a key in RunPod's console (Settings, API Keys, Restricted, Read/Write on Pods), and start the daemon here "
    "with it in IDLEWATCH_RUNPOD_API_KEY; for later Pods keep it as a RunPod secret and set "
    "IDLEWATCH_RUNPOD_API_KEY={{ RUNPOD_SECRET_name }} in the template (an edit of a Pod that runs wipes its disk)"
)


def key_lines(here: Here, api: Seen, network: Seen, volume: Seen) -> Iterator[Line]:
    """The keys, what lies on the way, the answers, and the stop itself."""
    if not here.is_pod:
        return
    yield from _keys(here)
    stop = stop_line(here, mapping(volume.said.get("note")), refused=_all_refused(api))
    if here.refusal is None:
        yield from _way(network)
        yield from _answers(api, seen_to_stop=stop.standing is Standing.OK)
    yield stop


def _keys(here: Here) -> Iterator[Line]:
    if not here.keys and here.refusal is None:
        where = ", ".join(source.name for source in here.loaded.sources)
        yield _SAY.broken("key", f"no API key: neither {OWN} nor {INJECTED} is in {where}", _NO_KEY)
    for key in here.keys:
        yield _key(key)


_SEE_THE_WAY = "see the lines above on the way there; then run this again"
_NO_KEY = f"run this as root, who can read /proc/1/environ; if it stays so, {_OTHER_KEY}"


def _key(key: FoundKey) -> Line:
    name = f"key:{key.name}"
    if key.odd:
        text = f"{key.name} from {key.source} has characters that no key has: it would not even be sent"
        return _SAY.broken(name, text, "set it again, without quotes, blanks or line ends inside")
    whose = "yours" if key.name == OWN else "the one that RunPod put into this Pod"
    return _SAY.ok(name, f"{key.name} from {key.source}: {whose}, {len(key.secret)} characters")


def _answered(api: Seen) -> list[Mapping[str, Json]]:
    listed = api.said.get("answers")
    return [mapping(answer) for answer in listed] if isinstance(listed, list) else []


def _all_refused(api: Seen) -> bool:
    """Whether every key was turned away, for good, by every way of asking."""
    answers = _answered(api)
    return bool(answers) and not any(answer.get("read") or answer.get("passing") for answer in answers)


def _answers(api: Seen, *, seen_to_stop: bool) -> Iterator[Line]:
    if api.said.get("not_asked"):
        return
    answers = _answered(api)
    if not answers:
        yield _SAY.broken("api", f"RunPod's API could not be asked: {api.missing}", _SEE_THE_WAY)
        return
    read = any(answer.get("read") for answer in answers)
    for answer in answers:
        yield _answer(answer, read=read, seen_to_stop=seen_to_stop)


def _answer(answer: Mapping[str, Json], *, read: bool, seen_to_stop: bool) -> Line:
    """One that reads proves reading; where none does, a stop is likely to be refused, too, though it need not be."""
    rung = f"{answer.get('api')} with {answer.get('key')}"
    name, said = f"api:{rung}", str(answer.get("text"))
    if answer.get("read"):
        return _SAY.ok(name, f"{rung} answered {said}: reading this Pod is proven, stopping it is not")
    if read:
        text = f"{rung} did not let it be read ({said}); a stop goes on to the next way"
        return _SAY.warning(name, text, "none is needed as long as another way works")
    if answer.get("passing"):
        return _SAY.broken(name, f"{rung} can't be asked now: {said}", _SEE_THE_WAY)
    if seen_to_stop:
        text = f"{rung} refused to let it be read ({said}), though a stop by this key was seen"
        return _SAY.warning(name, text, "none is needed: there are keys that may stop a Pod and not read it")
    text = f"{rung} refused: {said}; most likely it would refuse a stop, too"
    return _SAY.broken(name, text, "another key in IDLEWATCH_RUNPOD_API_KEY, see below")


def stop_line(here: Here, note: Mapping[str, Json], *, refused: bool = False) -> Line:
    """
    Whether a stop by these keys was seen.

    The note is written before a stop is asked for, with the marks of the keys, and the answer is added. Only an
    accepted one proves it, that another start of the container followed, and only where each key that it was asked
    with is still among those of now. `refused`: no key may even read this Pod.
    """
    if here.refusal is not None:
        return _SAY.broken("stop", "no stop would be asked for", "see the first line")
    if not here.keys:
        return _SAY.broken("stop", "no stop can be asked for without a key", "see the key, above")
    drill = "`idlewatch stop` proves it once; `idlewatch doctor --drill` does all before it"
    if not note and refused:
        text = "no stop of this Pod was seen yet, and no key may even read it: most likely it can't be stopped"
        return _SAY.unproven("stop", text, f"{_OTHER_KEY}; {drill}")
    if not note:
        return _SAY.unproven("stop", "no stop of this Pod was seen yet: that it may be read proves nothing", drill)
    if note.get("from_outside"):
        text = f"the last end of this Pod, at {at_words(note)}, came from outside"
        return _SAY.unproven("stop", f"{text}; no stop by idlewatch was seen", drill)
    return _asked(here, note, drill)


def _asked(here: Here, note: Mapping[str, Json], drill: str) -> Line:
    """What came of the stop that idlewatch asked for."""
    asked = f"one was asked for at {at_words(note)} ({note.get('reason')})"
    with_keys = note.get("keys")
    asked_with = {str(mark) for mark in with_keys} if isinstance(with_keys, list) else set()
    now = {key.mark for key in here.keys}
    if was_turned_down(note):
        return _turned_down(note, asked, drill, others=not now <= asked_with)
    if note.get("boot_key") == here.pod.boot_key:
        return _SAY.broken("stop", f"STOP NOT CONFIRMED: {asked}, and this is still the same start", _OTHER_KEY)
    if answer_in(note) is not Answer.ACCEPTED:
        text = f"{asked}, and this later start followed it, but RunPod's answer is not known"
        return _SAY.unproven("stop", text, drill)
    if asked_with and asked_with <= now:
        return _SAY.ok("stop", f"seen: {asked}, with the keys of now, and this later start followed it")
    text = f"{asked}, and this later start followed it, but it was not, or not only, asked for with the keys of now"
    return _SAY.unproven("stop", text, drill)


def _turned_down(note: Mapping[str, Json], asked: str, drill: str, *, others: bool) -> Line:
    """`others`: there is a key now that this stop was not asked for with."""
    for_good = answer_in(note) is Answer.REFUSED
    text = f"{asked}, and it {'was refused' if for_good else 'failed'}: {note.get('answer_text')}"
    if for_good and not others:
        return _SAY.broken("stop", text, f"see that answer; where the key lacks the right, {_OTHER_KEY}")
    return _SAY.unproven("stop", f"{text}; no stop by the keys of now was seen" if others else text, drill)


def _way(network: Seen) -> Iterator[Line]:
    said = network.said
    if not said:
        yield _SAY.warning("way", f"the way to the API could not be looked at: {network.missing}", "try again")
        return
    yield _trust(mapping(said.get("trust")), https=bool(said.get("https")))
    names = mapping(said.get("names"))
    for host, told in names.items():
        if isinstance(told, str):
            text = f"the name {host} can't be looked up: {told}"
            yield _SAY.broken("names", text, "look at /etc/resolv.conf, and whether this machine has a network")
    if network.hung:
        yield _SAY.broken("way", f"the way to the API hangs: {network.missing}", "look at the network of this machine")
    elif not any(isinstance(told, str) for told in names.values()):
        yield _SAY.ok("names", f"name lookup works: {', '.join(names)}")
        yield _clock(said)


def _trust(trust: Mapping[str, Json], *, https: bool) -> Line:
    named, path, certificates = trust.get("named"), trust.get("path"), int(number(trust.get("certificates")))
    unset = f"take {named} out of this Pod's variables" if named else "`pip install --force-reinstall certifi`"
    remedy = f"{unset}, or install ca-certificates (and set SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt)"
    whose = f"{named}={path}" if named else f"certifi's bundle {path}"
    if trust.get("error") or (not certificates and not _folder(named)):
        there = "is not there" if not trust.get("there") else "holds no certificate that can be used"
        uses = "" if https else "; the address set now needs none"
        return _SAY.broken("certificates", f"no certificate authority is known: {whose} {there}{uses}", remedy)
    if not trust.get("there"):
        text = f"{whose} is not there, so certifi's {certificates} certificate authorities are used in its place"
        return _SAY.warning("certificates", text, remedy)
    return _SAY.ok("certificates", f"{whose}: {certificates or 'a folder of'} certificate authorities")


def _folder(named: Json) -> bool:
    """Certificates in a folder are read one by one when they are needed, and counted as none before."""
    return named == "SSL_CERT_DIR"


def _clock(said: Mapping[str, Json]) -> Line:
    ahead = said.get("clock")
    if not isinstance(ahead, int | float):
        text = f"this clock could not be compared with the API's: {said.get('clock_error')}"
        return _SAY.warning("clock", text, "compare `date -u` with a clock that you trust")
    which = "ahead of" if ahead > 0 else "behind"
    text = f"this clock is {abs(ahead):.0f} s {which} the API's"
    if abs(ahead) <= CLOCK_WARNING_S:
        return _SAY.ok("clock", text if abs(ahead) >= 1.0 else "this clock agrees with the API's")
    remedy = "have the host's clock set; a container can't set it"
    return (_SAY.broken if abs(ahead) > CLOCK_BROKEN_S else _SAY.warning)("clock", text, remedy)
