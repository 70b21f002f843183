"""How the platform recognises an AAR's supervisor, the process that the campaign started for it.

The supervisor sends its key with each request, in addition to the AAR's token. The key never enters
a sandbox. It is derived from the operator's token, so that it is not stored anywhere.

One life at a time: the platform counts the lives of each AAR's supervisor. A supervisor sends the
number of its own with each request, and is refused once a newer one has begun.
"""

import hashlib
import hmac
from collections.abc import Iterable

SUPERVISOR_HEADER = "X-Aarlab-Supervisor"
LIFE_HEADER = "Aarlab-Life"
SUPERSEDED = 75  # exit code (EX_TEMPFAIL) of an AAR or a pod of which a newer process has begun


def pod_key(operator_token: str, aars: Iterable[str]) -> str:
    """Return the key of a pod, which asks what is wanted of these AARs and says that they live."""
    named = "\n".join(sorted(aars))
    made = hmac.new(operator_token.encode(), f"pod of {named}".encode(), hashlib.sha256)
    return f"pod_{made.hexdigest()}"


def verifier_key(operator_token: str, pod: str) -> str:
    """Return the key of a verification pod, which opens the routes of `/v1/verifier` as that pod.

    It is neither an AAR's nor the operator's token.
    """
    made = hmac.new(operator_token.encode(), f"verifier {pod}".encode(), hashlib.sha256)
    return f"ver_{made.hexdigest()}"


def supervisor_key(operator_token: str, aar: str) -> str:
    made = hmac.new(operator_token.encode(), f"supervisor of {aar}".encode(), hashlib.sha256)
    return f"sup_{made.hexdigest()}"
