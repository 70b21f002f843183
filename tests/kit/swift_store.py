"""A real S3 store for tests: OpenStack Swift, its four servers in one process, on one folder.

`python swift_store.py FOLDER` serves until it is killed and writes its port to FOLDER/port. It
checks signatures, their age, and what a request says of its body, as Amazon's store does.
"""

import os
import subprocess
import sys
import time
from array import array
from pathlib import Path

import pytest

KEY, SECRET = "test:tester", "a-secret-of-the-bucket"
PROXY = """
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:slo]
use = egg:swift#slo
"""


class SwiftStore:
    """A store of its own process, up between `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0

    def start(self) -> None:
        pytest.importorskip("swift")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__, str(self.folder)],
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 60
        while not (self.folder / "port").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text()[-3000:])
            time.sleep(0.05)
        self.port = int((self.folder / "port").read_text())

    @property
    def variables(self) -> dict[str, str]:
        """What leads there, for all that reads the variables of S3."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(folder: Path) -> None:
    import eventlet

    eventlet.monkey_patch()
    from eventlet import wsgi
    from swift.account.server import AccountController
    from swift.common import utils
    from swift.common.ring import RingData
    from swift.common.wsgi import loadapp
    from swift.container.server import ContainerController
    from swift.obj.server import ObjectController

    utils.HASH_PATH_SUFFIX = b"tests"
    eventlet.hubs.use_hub("poll")
    own = {"devices": str(folder), "mount_check": "false", "swift_dir": str(folder)}
    own |= {"log_name": "swift", "fallocate_reserve": "0", "disable_fallocate": "true"}
    (folder / "sda1" / "tmp").mkdir(parents=True)
    kinds = {
        "account": AccountController,
        "container": ContainerController,
        "object": ObjectController,
    }
    for kind, controller in kinds.items():
        end = eventlet.listen(("127.0.0.1", 0))
        port = end.getsockname()[1]
        device = {
            "id": 0,
            "zone": 0,
            "region": 1,
            "device": "sda1",
            "ip": "127.0.0.1",
            "port": port,
        }
        device |= {"replication_ip": "127.0.0.1", "replication_port": port, "weight": 1.0}
        RingData([array("H", [0])], [device], 32).save(str(folder / f"{kind}.ring.gz"))
        eventlet.spawn(wsgi.server, end, controller(own), log_output=False)
    conf = folder / "proxy.conf"
    conf.write_text(PROXY.format(folder=folder, secret=SECRET))
    front = eventlet.listen(("127.0.0.1", 0))
    app = loadapp(str(conf), global_conf={"log_name": "proxy"})
    (folder / "port.new").write_text(str(front.getsockname()[1]))
    os.rename(folder / "port.new", folder / "port")
    wsgi.server(front, app, log_output=False)


if __name__ == "__main__":
    serve(Path(sys.argv[1]).absolute())
