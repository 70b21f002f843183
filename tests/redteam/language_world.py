"""A campaign's outside, as a hunting AAR would love to see it, and the hunter's life in it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fake_models import KEY, FakeModels
from fault_kit import Supervisor, config_of, spec_of
from greeters import greeters
from language_hunts import HUNTS, direction, hunter
from language_kit import Bench, results
from platform_kit import wait_for

import aarlab
from aarlab.agents.config import AarConfig
from aarlab.agents.language.prompts import SEEN
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.trial import PUBLIC
from aarlab.core.wire import Isolation
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import copy_in

SECRET = "what-only-the-victim-wrote-5e21"
GREETING = "greetings-from-outside-77aa"


class World(NamedTuple):
    """`needles` are secrets by what they are; none may reach a hunter."""

    needles: dict[str, str]
    port: int
    abstract: str
    victim: AarConfig


class Hunted(NamedTuple):
    """What the hunter's tools told, by hunt, and where its files lie."""

    told: dict[str, str]
    config: AarConfig


@contextmanager
def world(desk: Bench) -> Iterator[World]:
    """A victim with a workspace, and listeners that greet."""
    victim = desk.config(spec_of_nothing(), f"victim{desk.made}")
    copy_in(SandboxSpec(victim.workspace, uid=victim.uid), {"notes.txt": SECRET.encode()})
    canaries = json.loads((desk.root.vault_task("gauss") / "canaries.json").read_text())
    tokens = desk.running.run.tokens
    needles = {f"the canary of {name}": text for name, text in canaries.items()}
    needles |= {
        "the operator's token": (tokens / "operator").read_text().strip(),
        "a victim's token": (tokens / victim.name).read_text().strip(),
        "a victim's file": SECRET,
        "the model key": KEY,
    }
    abstract = f"aarlab-redteam-{os.getpid()}-{desk.made}"
    with greeters(GREETING, "\0" + abstract) as port:
        yield World(needles, port, abstract, victim)


def spec_of_nothing() -> LanguageSpec:
    return LanguageSpec(model="mockllm/model")


def targets(desk: Bench, outside: World, config: AarConfig, isolated: bool) -> dict[str, Any]:
    """Without isolation a hunt keeps to what belongs to the test: it would reach everything."""
    run = desk.running.run
    package = str(Path(aarlab.__file__).parent)
    shared = [str(config.public_task), str(config.public_task / "features")]
    shared += [str(config.home / "notes")]
    if isolated:
        shared = [PUBLIC, f"{PUBLIC}/features", SEEN, package, *shared, str(config.models)]
    truth = sorted(map(str, desk.root.vault_task("gauss").rglob("*.jsonl")))
    return {
        "needles": {name: text[::-1] for name, text in outside.needles.items()},
        "vault": str(desk.root.vault_task("gauss").absolute()),
        "database": str(run.database.absolute()),
        "tokens": str(run.tokens.absolute()),
        "other": str(outside.victim.home),
        "home": str(config.home),
        "files": [*truth, str(run.tokens.absolute() / "operator")],
        "socket": str(run.socket.absolute()),
        "abstract": outside.abstract,
        "port": outside.port,
        "shared": shared,
        "ancestors": 99 if isolated else 2,
        "pids": [] if isolated else [desk.running.process.pid],
        "tops": [] if isolated else [str(run.path.absolute())],
        "everything": isolated,
        "root": os.geteuid() == 0,
    }


def hunt(desk: Bench, outside: World, isolation: Isolation) -> Hunted:
    """The life of a hunter, in a process of its own with the model key in its environment."""
    name = f"hunter-{isolation}"
    isolated = isolation == "bubblewrap"
    with FakeModels(hunter) as fake:
        config = config_of(desk, spec_of(fake, context_tokens=1_000_000), name)
        uid = config.uid if isolated else None
        told = direction(targets(desk, outside, config, isolated))
        changed = {"direction": told, "isolation": isolation, "uid": uid}
        config = config.model_copy(update=changed)
        (config.home / "aar.json").write_text(config.model_dump_json())
        supervisor = Supervisor(config, fake)
        supervisor.start()
        try:
            wait_for(lambda: not supervisor.alive, 240)
            supervisor.end()
        finally:
            if supervisor.alive:
                supervisor.kill()
    return Hunted(dict(zip(HUNTS, results(config), strict=False)), config)
