"""Commands of an AAR that hold a device: what they see, what is booked, and who waits.

No card is here: the node is a copy of /dev/zero.
"""

import os
import stat
import threading
from functools import partial
from pathlib import Path

import language_kit as kit
import pytest
from language_kit import Bench
from platform_kit import wait_for

from aarlab.agents.config import AarConfig
from aarlab.agents.language import loop
from aarlab.agents.specs import LanguageSpec
from aarlab.campaign.spec import CampaignSpec
from aarlab.sandbox.devices import Machine, found
from aarlab.sandbox.leases import Leases
from aarlab.sandbox.settings import Visible

SEE = "ls /dev/nvidia* 2>/dev/null || echo none"


@pytest.fixture
def leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leases:
    """The leases of a machine with one card, number 1."""
    dev, locks = tmp_path / "dev", tmp_path / "locks"
    dev.mkdir()
    try:
        os.mknod(dev / "nvidia1", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make device nodes")
    (dev / "nvidia1").chmod(0o666)
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(locks))
    machine = Machine(dev, tmp_path / "proc", tmp_path / "sys")
    monkeypatch.setattr(loop, "found", partial(found, machine=machine))
    return Leases(locks)


def config_of(desk: Bench, name: str) -> AarConfig:
    config = desk.config(LanguageSpec(model="mockllm/model"), name)
    return config.model_copy(update={"sandbox_devices": True})


def test_a_command_holds_a_device_and_pays_for_that_alone(desk: Bench, leases: Leases) -> None:
    config, give = config_of(desk, "holds"), threading.Event()
    moves = kit.script(
        kit.calls(("bash", {"command": f"{SEE}; sleep 0.5", "device": True})),
        kit.calls(("python", {"code": "print(open('/dev/nvidia1','rb').read(2))", "device": True})),
    )

    def another() -> None:
        machine = Machine(leases.folder.parent / "dev", Path("/none"), Path("/none"))
        there = found(Visible(None), machine)
        with leases.lease("another", "foreground", there, lambda: False):
            give.wait()

    holder = threading.Thread(target=another)
    holder.start()
    wait_for(lambda: (leases.folder / "nvidia-1.lock").exists(), 60)
    done: list[object] = []
    living = threading.Thread(target=lambda: done.append(kit.live(config, kit.mock_spec(moves))))
    living.start()
    try:
        queue = leases.folder / "leases"
        wait_for(lambda: len(list(queue.glob("*.turn"))) == 2, 60)
        threading.Event().wait(2.0)  # a wait that would show if it were booked
    finally:
        give.set()
        holder.join()
        living.join()
    seen, read = kit.results(config)[:2]
    assert seen.strip() == "/dev/nvidia1" and "\\x00\\x00" in read
    with desk.running.operator() as operator:
        [record] = [aar for aar in operator.export().aars if aar.name == "holds"]
    assert record.spend["device_s"] == pytest.approx(leases.used_s("holds")), "its wait is free"


def test_a_command_that_does_not_ask_sees_none(desk: Bench, leases: Leases) -> None:
    config = config_of(desk, "plain")
    kit.live(config, kit.mock_spec(kit.script(kit.calls(("bash", {"command": SEE})))))
    assert kit.results(config)[0].strip() == "none" and leases.folder.exists() is False


def test_a_background_command_holds_a_device(desk: Bench, leases: Leases) -> None:
    config = config_of(desk, "behind")
    moves = kit.script(
        kit.calls(("start_background", {"command": SEE, "device": True})),
        kit.calls(("wait", {"seconds": 60.0})),
        kit.calls(("poll_background", {"id": "b1"})),
    )
    kit.live(config, kit.mock_spec(moves))
    assert "/dev/nvidia1" in kit.results(config)[2]
    assert leases.used_s("behind") > 0.0


def test_only_aars_that_may_have_devices_are_offered_them(desk: Bench, leases: Leases) -> None:
    for name, may in (("with", True), ("without", False)):
        config = config_of(desk, name).model_copy(update={"sandbox_devices": may})
        with kit.aar(config, kit.mock_spec(kit.script())) as made:
            asks = [t.name for t in made.caller.infos if "device" in t.parameters.properties]
        assert asks == (["bash", "python", "start_background"] if may else [])


def test_a_machine_without_a_device_says_so(desk: Bench, leases: Leases, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = config_of(desk, "none-there")
    call = ("bash", {"command": SEE, "device": True})
    kit.live(config, kit.mock_spec(kit.script(kit.calls(call))))
    assert "no device on this machine" in kit.results(config)[0]


def test_what_a_spec_may_ask_of_devices() -> None:
    def spec(**more: object) -> dict[str, object]:
        aar = {"name": "ada", "researcher": "language", "direction": "elicitation"}
        given = {"name": "toy", "tasks": ["gauss"], "aars": [aar], "sandbox_devices": True}
        return {**given, "language": {"model": "anthropic/x"}, **more}

    assert CampaignSpec.model_validate(spec()).sandbox_devices
    control = [{"name": "rowan", "researcher": "random", "direction": "elicitation"}]
    for more, why in (
        ({"student_server": {}}, "a student server has its device alone"),
        ({"isolation": "process"}, "needs `isolation: bubblewrap`"),
        ({"aars": control}, "for AARs of researcher `language`"),
    ):
        with pytest.raises(ValueError, match=why):
            CampaignSpec.model_validate(spec(**more))
