"""
An address in object storage, and what opens it. Light: the library is imported where bytes go over the network.

obstore (PyPI) speaks S3, Google Cloud Storage and Azure with one interface, signs and retries, and is one small wheel
where the clouds' own libraries are three large ones; B2, R2 and MinIO speak S3.
"""

from __future__ import annotations

import importlib.util
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from idlewatch.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SCHEMES: Final = ("s3", "gs", "az")
SECRETS: Final = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_SECRET",
)
"""Variables of one line that may lie in a file instead, as the settings' own; Google's key is a file of its own."""
VARIABLES: Final = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_SERVER_SIDE_ENCRYPTION",
        "AWS_SSE_KMS_KEY_ID",
        "AWS_CHECKSUM_ALGORITHM",
    ),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_CLIENT_ID",
        "AZURE_CLIENT_SECRET",
        "AZURE_TENANT_ID",
    ),
}
"""By scheme, what is handed to obstore, under the names that it knows (its pages S3Config, GCSConfig, AzureConfig)."""
_NEEDED: Final = {
    "s3": (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),),
    "gs": (("GOOGLE_SERVICE_ACCOUNT_KEY",), ("GOOGLE_APPLICATION_CREDENTIALS",), ("GOOGLE_SERVICE_ACCOUNT",)),
    "az": (
        ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_SAS_TOKEN"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"),
    ),
}
_GOOGLE_KEY: Final = "GOOGLE_SERVICE_ACCOUNT_KEY"
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_ENDPOINT")
_REQUEST_WITHIN: Final = "120s"
_CONNECT_WITHIN: Final = "10s"
_RETRIES: Final = 8
"""Of one request, after a failure that may pass: half a minute of waiting in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Where snapshots lie in object storage."""

    url: str
    """`s3://bucket/prefix`; no secret is in it."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """The variables of its scheme, as far as they are known here. Secrets among them, so they are in no repr."""
    lock: Path | None = None
    """A file of this machine: a Pod's saves take turns by its lock, for object storage has none."""
    retries: int = _RETRIES

    def __str__(self) -> str:
        return self.url

    @property
    def scheme(self) -> str:
        """`s3`, `gs` or `az`."""
        return self.url.partition(":")[0]

    def missing(self) -> str | None:
        """What it can't be opened without, in words; None: nothing, as far as can be told without asking anybody."""
        if importlib.util.find_spec("obstore") is None:
            return f"{self.url} needs a library: pip install '.[objects]' in a checkout of idlewatch"
        ways = _NEEDED[self.scheme]
        if any(all(self.options.get(name) for name in way) for way in ways):
            return None
        told = ", or ".join(" and ".join(way) for way in ways)
        return f"{self.url} can't be opened without {told}"

    def names(self) -> list[str]:
        """What all names below it begin with, up to the next `/`: the Pods that saved there. Raises SnapshotError."""
        store = self.connected()
        import obstore
        from obstore.exceptions import BaseError

        try:
            return [str(name).rstrip("/") for name in obstore.list_with_delimiter(store)["common_prefixes"]]
        except (BaseError, OSError):
            raise SnapshotError(f"{self.url} can't be listed") from None

    def connected(self, below: str = "") -> Any:
        """An obstore store of what lies below a name. Raises SnapshotError."""
        if why := self.missing():
            raise SnapshotError(why)
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        config: dict[str, Any] = {name.lower(): value for name, value in self.options.items()}
        if self.scheme == "s3":  # one by one: not every service that speaks S3 deletes many at once
            config["disable_bulk_delete"] = True
        plain = any(self.options.get(name, "").startswith("http://") for name in _ENDPOINTS)
        settings: dict[str, Any] = {
            "config": config,
            "client_options": {"timeout": _REQUEST_WITHIN, "connect_timeout": _CONNECT_WITHIN, "allow_http": plain},
            "retry_config": {"max_retries": self.retries},
        }
        try:
            return from_url(f"{self.url}/{below}".rstrip("/"), **settings)
        except (BaseError, OSError, ValueError):  # its text may hold what was handed over
            raise SnapshotError(f"{self.url} can't be opened: a variable of {self.scheme}:// is wrong") from None

    def secrets(self) -> Iterator[str]:
        """What must be in no text; the id of a key, too, which services repeat in their errors."""
        yield from (self.options[name] for name in (*SECRETS, "AWS_ACCESS_KEY_ID", _GOOGLE_KEY) if name in self.options)
        with suppress(ValueError, AttributeError):
            parts = json.loads(self.options.get(_GOOGLE_KEY, "")).items()
            yield from (value for name, value in parts if name.startswith("private_key") and isinstance(value, str))


def object_address(text: str) -> str:
    """Return an address without its last slash. Raises ValueError in words, for whoever set it."""
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ValueError("this is no place for snapshots; write volume, s3://BUCKET/PREFIX, gs://… or az://CONTAINER/…")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(
            f"write {parts.scheme}://BUCKET/PREFIX, and nothing else before the /; keys belong in variables"
        )
    names = parts.path.strip("/").split("/")
    if parts.query or parts.fragment or (parts.path.strip("/") and not all(map(_BUCKET.fullmatch, names))):
        raise ValueError("behind the bucket only names of letters, digits, - _ . may stand, with / between them")
    return f"{parts.scheme}://{parts.netloc}" + "".join(f"/{name}" for name in names if name)
