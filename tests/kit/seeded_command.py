"""The real `aarlab` command, whose campaigns are served with verification seeds that do not change.

Run as a script, with the arguments of `aarlab`. See `seeded_server`.
"""

from seeded_server import seeded_argv

from aarlab.campaign import runner
from aarlab.cli.main import app

if __name__ == "__main__":
    plain = runner.server_argv
    runner.server_argv = lambda *given, **named: seeded_argv(plain(*given, **named))
    app()
