"""How the platform knows an AAR's supervisor, the process that the campaign started for it.

Its key goes with each of its requests, beside the AAR's token, and never into a sandbox. It is
derived from the operator's token, so that no one stores it.
"""

import hashlib
import hmac

SUPERVISOR_HEADER = "X-Aarlab-Supervisor"


def supervisor_key(operator_token: str, aar: str) -> str:
    made = hmac.new(operator_token.encode(), f"supervisor of {aar}".encode(), hashlib.sha256)
    return f"sup_{made.hexdigest()}"
