"""Keeps keys and tokens out of transcripts, logs and error messages.

Covered: the values that this process knows, and text that looks like a provider's key, even where
the provider has put asterisks in its middle.
Not covered: a secret that is split or encoded on its way.
"""

import re
from collections.abc import Callable, Iterable

LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|xai|gsk|hf|r8)[-_][A-Za-z0-9_*-]{16,}|\bAIza[A-Za-z0-9_-]{30,}|Bearer\s+\S{8,}"
)
SHORTEST = 8
HIDDEN = "[secret]"


def cleaner(secrets: Iterable[str | None]) -> Callable[[str], str]:
    known = sorted({one for one in secrets if one and len(one) >= SHORTEST}, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in known:
            text = text.replace(secret, HIDDEN)
        return LOOKS_SECRET.sub(HIDDEN, text)

    return clean
