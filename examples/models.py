"""Which model the examples ask: the one that the environment names, or none."""

import os
from collections.abc import Mapping

from holdfast.agents import OpenAIAgent


def model_from_environment(prefix: str, environment: Mapping[str, str] = os.environ) -> OpenAIAgent | None:
    """Returns the model that PREFIX_URL, PREFIX_MODEL and, if set, PREFIX_TOKEN name; None without PREFIX_URL."""
    url = environment.get(f"{prefix}_URL")
    if not url:
        return None
    model = environment.get(f"{prefix}_MODEL")
    if not model:
        raise ValueError(f"{prefix}_URL is set, {prefix}_MODEL is not: which model is to be asked?")
    token = f"{prefix}_TOKEN"
    return OpenAIAgent(url, model, token if environment.get(token) else None, options={"temperature": 0})
