"""The platform's server with verification seeds that do not change from one test run to the next.

Every re-run gets the same seeds, whatever the order of requests, so that a test which asserts a
figure of a verified method passes or fails alike each time. Run as a script, with the arguments of
`python -m aarlab.server`.
"""

import sys

FIRST_SEED = 1000


def fixed_seeds(n_seeds: int) -> list[int]:
    return list(range(FIRST_SEED, FIRST_SEED + n_seeds))


def seeded_argv(argv: list[str]) -> list[str]:
    """The command of a server with this script in the place of the module."""
    at = argv.index("-m")
    assert argv[at + 1] == "aarlab.server", argv
    return [*argv[:at], __file__, *argv[at + 2 :]]


if __name__ == "__main__":
    from aarlab.server.__main__ import main
    from aarlab.store import verifications

    verifications.draw_seeds = fixed_seeds
    sys.exit(main())
