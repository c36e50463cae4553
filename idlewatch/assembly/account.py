"""Who runs this Pod, with the keys that may stop it."""

from __future__ import annotations

from idlewatch.errors import SettingsError
from idlewatch.model import Provider
from idlewatch.pod.assembled import Assembly


def provider(here: Assembly) -> Provider:
    """Who runs the Pod. Raises SettingsError where nobody is known."""
    from idlewatch.providers import PROVIDERS
    from idlewatch.providers.runpod import ApiKey

    settings, loaded = here.loaded.settings, here.loaded
    name = "runpod" if settings.provider == "auto" else settings.provider
    if name not in PROVIDERS:
        raise SettingsError([f"IDLEWATCH_PROVIDER: no provider {name!r}; there are: {', '.join(PROVIDERS)}"])
    own, injected = settings.runpod_api_key, loaded.pod_variable("RUNPOD_API_KEY")
    keys = [ApiKey(name="IDLEWATCH_RUNPOD_API_KEY", secret=own.get_secret_value())] if own else []
    if injected:
        keys.append(ApiKey(name="RUNPOD_API_KEY", secret=injected[0]))
    return PROVIDERS[name](
        identity=here.pod,
        environment=loaded.pod_variables(),
        keys=keys,
        rest_url=settings.runpod_api_url,
        graphql_url=settings.runpod_graphql_url,
    )
