"""`aarlab campaign check`: what would stop a campaign, and what it may cost.

It asks no network but the store of blobs, where one is set.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from shutil import disk_usage
from typing import Literal, NamedTuple

from pydantic import FiniteFloat

from aarlab.agents.directions import DIRECTIONS
from aarlab.agents.prices import has_table, price_of
from aarlab.agents.providers import lacks
from aarlab.agents.settings import any_set
from aarlab.agents.specs import LanguageSpec
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.building import builds, bytes_needed
from aarlab.campaign.building import lacking as lacking_builds
from aarlab.campaign.executing import executor_faults, lacking, variables_given
from aarlab.campaign.reading import SpecText, nearest
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.students import devices_of, n_cuda
from aarlab.campaign.webhook import receiver_of
from aarlab.core.errors import AarlabError, Fault, NotFound
from aarlab.core.extras import missing
from aarlab.core.isolation import is_isolated
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import NO_PGR
from aarlab.core.problem import ProblemFacts
from aarlab.core.wire import Wire
from aarlab.executors.known import executor_class
from aarlab.problems.known import PROBLEMS
from aarlab.sandbox.probe import probe
from aarlab.testbed.methods import REGISTRY
from aarlab.testbed.tasks.task import has_clear_gap, load_info
from aarlab.testbed.tasks.train_task import student_settings

Gravity = Literal["error", "to do", "note"]
ASSUMED = {
    "turns of a language model in an hour": 60.0,
    "share of `context_tokens` that a turn reads": 0.5,
    "share of that read from the cache": 0.9,
    "tokens that a turn writes": 800.0,
    "share of the time that the device works": 0.5,
}


class Remark(NamedTuple):
    """A finding about a spec; `place` is the path of the field within the spec.

    `error`: the spec is wrong. `to do`: this machine lacks something.
    """

    gravity: Gravity
    text: str
    place: tuple[str | int, ...] = ()


class Estimate(Wire):
    """None: no limit says so. `most` follows from the limits, `expected` from ASSUMED.

    `reruns` are verifications at the end, `asked_reruns` those that AARs may ask for; `certify` are
    the last ones, of the best-ranked method of each task.
    """

    aars: int
    baselines: int
    replicates: int
    reruns: int
    ablations: int
    asked_reruns: int | None = 0
    certify: int = 0
    most_submissions: int | None
    most_dollars: FiniteFloat | None
    most_research_hours: FiniteFloat | None
    most_wall_hours: FiniteFloat | None
    expected_dollars: FiniteFloat | None
    expected_dollars_per_hour: FiniteFloat
    devices: int | None = None


def remarks(
    spec: CampaignSpec, root: DataRoot, buildable: Callable[[str], bool]
) -> Iterator[Remark]:
    """Yield what keeps a spec from running on this machine, and notes.

    `buildable` returns whether `aarlab task build` knows a task of that name.
    """
    root = replace(root, pinned=spec.versions)
    yield from _built_first(spec, root)
    first = {one.task for one in builds(spec)}
    for name, tasks in (("tasks", spec.tasks), ("held_out", spec.held_out)):
        for number, task in enumerate(tasks):
            if task not in first or (root.public_task(task) / "task.json").exists():
                yield from _task(task, root, buildable, (name, number))
    yield from _problem(spec, root)
    for number, aar in enumerate(spec.aars):
        yield from _aar(spec, aar, ("aars", number))
    yield from _models(spec)
    yield from _budgets(spec)
    yield from _memory(spec)
    yield from _devices(spec, root)
    yield from _verifiers(spec, root)
    yield from _disk(spec, root)
    try:
        probe(spec.isolation)
    except AarlabError as error:
        yield Remark("to do", str(error), ("isolation",))
    yield from _executor(spec)
    yield from _store()
    if spec.notify is not None:
        try:
            receiver_of(spec)
        except AarlabError as error:
            yield Remark("to do", str(error), ("notify",))


def faults(
    spec: CampaignSpec, text: SpecText, root: DataRoot, buildable: Callable[[str], bool]
) -> list[Fault]:
    """List everything that keeps a valid spec from running here, by line; empty if it can run."""
    found = remarks(spec, root, buildable)
    return [
        Fault(text.line(remark.place), f"{remark.gravity}: {remark.text}")
        for remark in found
        if remark.gravity != "note"
    ]


def _store() -> Iterator[Remark]:
    if missing("server"):  # said elsewhere
        return
    from aarlab.store.blobs import Folder  # of the extra `server`
    from aarlab.store.direct import check_store
    from aarlab.store.settings import StoreSettings

    try:
        settings = StoreSettings()
        if settings.blobs is not None or settings.blobs_direct:
            check_store(Folder(settings.blobs or "."), settings.blobs_direct)
    except AarlabError as error:
        yield Remark("to do", f"blobs: {error}")


def _executor(spec: CampaignSpec) -> Iterator[Remark]:
    where, name = ("executor",), spec.executor.name
    if found := executor_faults(spec.executor, SpecText(None)):
        yield from (Remark("error", fault.message, where) for fault in found)
        return
    try:
        missing = lacking(spec.executor)
    except AarlabError as error:
        missing = [str(error)]
    for text in missing:
        yield Remark("to do", f"executor {name}: {text}", where)
    if name != "local":
        yield Remark("note", f"AARs run by {name}: {executor_class(name).separation}", where)


def _built_first(spec: CampaignSpec, root: DataRoot) -> Iterator[Remark]:
    missing = list(lacking_builds(spec, root))
    yield from (Remark("to do", text, ("build",)) for text in missing)
    if spec.build is not None and not missing:
        for one in builds(spec):
            seeds = spec.build.baseline_seeds
            text = f"task {one.task} is built from {one.folder}, {seeds} seeds of each baseline"
            yield Remark("note", text, ("build",))
        if not builds(spec):
            text = f"no task is named NAME-{spec.build.setting}, so `build` builds nothing"
            yield Remark("error", text, ("build",))


def _devices(spec: CampaignSpec, root: DataRoot) -> Iterator[Remark]:
    """Yield where students train. On other machines, `campaign check --node` looks."""
    wanted = spec.student_server
    if wanted is None:
        if spec.build is not None or any(_trains_model(root, task) for task in spec.tasks):
            text = "students train the model, and without `student_server` they do so on a CPU"
            yield Remark("note", f"{text}, each in a sandbox", ("tasks",))
        return
    place = ("student_server",)
    if spec.executor.name != "local":
        n = spec.executor.gpus or 0
        if wanted.device == "cuda" and not n:
            text = f"device: cuda, but `executor.gpus` asks {spec.executor.name} for none"
            yield Remark("error", text, place)
        elif wanted.device == "cuda" and n < spec.executor.devices_per_pod:
            text = f"`devices_per_pod` is {spec.executor.devices_per_pod}, but `gpus` is {n} a pod"
            yield Remark("error", text, ("executor", "gpus"))
        yield Remark("note", f"each pod has student servers on its node, {n} GPUs", place)
        return
    there = 0 if wanted.device == "cpu" else n_cuda()
    if wanted.device == "cuda" and not there:
        yield Remark("to do", "device: cuda, but torch finds no CUDA device here", place)
        return
    try:
        names = devices_of(wanted, lambda: there)
    except AarlabError as error:
        yield Remark("to do", str(error), place)
        return
    shown = "the CPU" if not there else f"{len(names)} of {there} CUDA devices"
    yield Remark("note", f"students train on {shown}, for {_n_team(spec)} AARs", place)


def _verifiers(spec: CampaignSpec, root: DataRoot) -> Iterator[Remark]:
    """Yield where re-runs are done, and what their pods do not ask for."""
    wanted, trains = spec.executor.verifiers, any(_trains_model(root, t) for t in spec.tasks)
    place = ("executor", "verifiers")
    if wanted is None:
        if trains and spec.executor.name != "local":
            text = "re-runs of students that train the model are done on this machine: for its"
            yield Remark("note", f"{text} nodes' devices give `verifiers: N`", ("executor",))
        return
    if spec.student_server is not None and spec.student_server.device == "cuda":
        if spec.executor.name != "local" and not wanted.gpus:
            text = f"`student_server` has device: cuda, but `verifiers` ask {spec.executor.name}"
            yield Remark("error", f"{text} for none: give `gpus`", (*place, "gpus"))
    elif trains and not wanted.gpus:
        text = "re-runs of students that train the model are done on CPUs: `verifiers` have no gpus"
        yield Remark("note", text, place)
    where = "this machine" if spec.executor.name == "local" else f"nodes of {spec.executor.name}"
    at_once = max(spec.verify.parallel, wanted.gpus or 0)
    text = f"re-runs are done by {wanted.pods} pods on {where}, up to {at_once} at once in each"
    yield Remark("note", text, place)


def _trains_model(root: DataRoot, task: str) -> bool:
    try:
        return student_settings(load_info(root.public_task(task))).adapter is not None
    except AarlabError:
        return False


def _disk(spec: CampaignSpec, root: DataRoot) -> Iterator[Remark]:
    place = next(p for p in (root.path, *root.path.parents) if p.exists())
    free_gb, needed_gb = disk_usage(place).free / 1e9, bytes_needed(spec, root) / 1e9
    least_gb = needed_gb + spec.alerts.free_disk_gb
    if free_gb < least_gb:
        text = f"{place} has {free_gb:.0f} GB free: weights need {needed_gb:.0f} GB, and below"
        text += f" {spec.alerts.free_disk_gb:g} GB there are alerts"
        yield Remark("to do" if free_gb < needed_gb else "note", text, ("alerts",))


def _n_team(spec: CampaignSpec) -> int:
    return sum(aar.role == "aar" for aar in spec.aars)


def _task(
    task: str, root: DataRoot, buildable: Callable[[str], bool], place: tuple[str | int, ...]
) -> Iterator[Remark]:
    folders = (root.public_task(task) / "task.json", root.vault_task(task) / "truth")
    if all(path.exists() for path in folders):
        if (reason := without_pgr(root, task)) is not None:
            yield Remark("error", reason, place)
        return
    if task in (root.pinned or {}):
        yield Remark("to do", root.missing(task), place)
        return
    if buildable(task):
        how = f"aarlab task build {task}"
    else:
        how = f"aarlab task import FOLDER{nearest(task, root.task_names())}"
    yield Remark("to do", f"task {task} is not in {root.path}: {how}", place)


def _problem(spec: CampaignSpec, root: DataRoot) -> Iterator[Remark]:
    """Yield what the research problem of the tasks rules out; tasks that are not built are passed.

    All tasks of a campaign are of one problem: its figures are ranked and reported together.
    """
    facts = dict[str, ProblemFacts]()
    for task in (*spec.tasks, *spec.held_out):
        with suppress(AarlabError):  # said of the task itself
            facts[task] = load_info(root.public_task(task)).problem
    names = sorted({one.name for one in facts.values()})
    if len(names) > 1:
        said = ", ".join(f"{task} ({one.name})" for task, one in facts.items())
        yield Remark("error", f"tasks of several research problems: {said}", ("tasks",))
    for name in names:
        if name not in PROBLEMS:
            yield Remark("to do", PROBLEMS.unknown(name), ("tasks",))
    without = next((one for one in facts.values() if not one.weak_labels), None)
    if without is None:
        return
    for number, aar in enumerate(spec.aars):
        if aar.researcher in ("random", "evolutionary") or aar.recipes:
            text = (
                f"{aar.name}: {without.title} has no weak labels, from which recipes are made; "
                "use researcher `fixed` with `methods`, `language` or `external`"
            )
            yield Remark("error", text, ("aars", number))


def without_pgr(root: DataRoot, task: str) -> str | None:
    """Return why a campaign on this task could not rank any method, or None if it can."""
    try:
        info = load_info(root.public_task(task))
    except AarlabError as error:
        return str(error)
    if has_clear_gap(info):
        return None
    return (
        f"task {task}: gap: not clear. {NO_PGR}. A campaign ranks by PGR and is refused here; "
        f"aarlab method verify and aarlab testbed run --task {task} give accuracies"
    )


def _aar(spec: CampaignSpec, aar: AarSpec, place: tuple[str | int, ...]) -> Iterator[Remark]:
    for number, method in enumerate(aar.methods):
        if method not in REGISTRY:
            near = nearest(method, REGISTRY.names()) or " (aarlab method list)"
            where = (*place, "methods", number)
            yield Remark("error", f"{aar.name}: no method {method!r}{near}", where)
    if aar.researcher in ("random", "evolutionary") and aar.direction not in DIRECTIONS:
        known, near = ", ".join(DIRECTIONS), nearest(aar.direction, list(DIRECTIONS))
        text = f"{aar.name}: no direction {aar.direction!r}; there are {known}{near}"
        yield Remark("error", text, (*place, "direction"))
    if is_claude_code(spec, aar):
        if not is_isolated(spec.isolation):
            text = f"{aar.name}: claude-code needs `isolation: bubblewrap`: outside it sees the key"
            yield Remark("error", text, place)
        for text in claude_code_lacks(aar.name, variables_given(spec.executor)):
            yield Remark("to do", text, (*place, "external"))


def claude_code_lacks(name: str, given: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield what a machine lacks for an AAR of Claude Code; `given` are variables that jobs get."""
    if find_spec("claude_agent_sdk") is None:
        yield f"{name} needs the package claude-agent-sdk: pip install 'aarlab[claude-code]'"
    if "ANTHROPIC_API_KEY" not in given and not any_set(["ANTHROPIC_API_KEY"]):
        yield f"ANTHROPIC_API_KEY is not set: {name} (claude-code) needs it"


def is_claude_code(spec: CampaignSpec, aar: AarSpec) -> bool:
    """Return whether the AAR is Claude Code in its sandbox."""
    external = spec.external_of(aar)
    return external is not None and external.agent == "claude-code"


def _models(spec: CampaignSpec) -> Iterator[Remark]:
    """Yield what each model lacks and its price, at the place where the model is first named."""
    named: dict[str, tuple[str | int, ...]] = {}
    said: set[str] = set()
    wrong: set[str] = set()
    given = variables_given(spec.executor)
    for number, aar in enumerate(spec.aars):
        language, external = spec.language_of(aar), spec.external_of(aar)
        if language is not None:
            place = _place_of_model(spec, number, aar, language)
            named.setdefault(language.model, place)
            for lack in lacks(language.model, language.base_url, language.model_args, given):
                if lack.in_spec:
                    wrong.add(language.model)
                if lack.text not in said:
                    yield Remark("error" if lack.in_spec else "to do", lack.text, place)
                said.add(lack.text)
        elif external is not None and external.model:
            named.setdefault(external.model, ("aars", number, "external", "model"))
    for model in sorted(set(named) - wrong):
        try:
            price = price_of(model, spec.prices)
        except NotFound as error:
            yield Remark("error" if has_table() else "to do", str(error), named[model])
        else:
            rates = f"${price.input:g} in, ${price.output:g} out per million tokens"
            yield Remark("note", f"{model}: {rates}, {price.dated}", named[model])


def _place_of_model(
    spec: CampaignSpec, number: int, aar: AarSpec, language: LanguageSpec
) -> tuple[str | int, ...]:
    """Return the place in the spec that names the model: the campaign, the arm or the AAR."""
    if spec.language is not None and language.model == spec.language.model:
        return ("language", "model")
    for index, arm in enumerate(spec.arms):
        if aar.arm == arm.label and aar.name.startswith(f"{arm.label}-r"):
            return ("arms", index, "language", "model")
    return ("aars", number, "language", "model")


def _budgets(spec: CampaignSpec) -> Iterator[Remark]:
    paid = [m for m in spec.models if _price_known(m, spec) and price_of(m, spec.prices).output > 0]
    capped = spec.campaign_limits.dollars is not None or all(
        spec.limits_of(aar).dollars is not None for aar in spec.aars if aar.role == "aar"
    )
    if paid and not capped:
        text = "paid models and no cap in dollars: set limits.dollars or campaign_limits.dollars"
        yield Remark("error", text, ("limits",))
    for number, aar in enumerate(spec.aars):
        limits = spec.limits_of(aar)
        if aar.role == "aar" and not limits.model_dump(exclude_none=True, exclude={"methods"}):
            text = f"{aar.name} has no limit of any kind: it would never end"
            yield Remark("error", text, ("aars", number))
        elif spec.joins_by_itself(aar) and limits.hours is None:
            text = f"{aar.name} has no limit of hours: the campaign waits until it is stopped"
            yield Remark("note", text, ("aars", number))


def _memory(spec: CampaignSpec) -> Iterator[Remark]:
    here_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    if (most_mb := spec.most_memory_mb) > here_mb:
        yield Remark(
            "note",
            f"a trial may use {most_mb:,} MB, and this machine has {here_mb:,}: the "
            "system may end it before its limit does",
        )


def _price_known(model: str, spec: CampaignSpec) -> bool:
    try:
        price_of(model, spec.prices)
    except NotFound:
        return False
    return True


def estimate(spec: CampaignSpec) -> Estimate:
    """Estimate the cost and duration of a campaign, for both the CLI and the dashboard.

    Raises NotFound if a model has no price.
    """
    team = [aar for aar in spec.aars if aar.role == "aar"]
    limits = [spec.limits_of(aar) for aar in team]
    hours = [each.hours for each in limits]
    per_hour = [_expected_per_hour(spec, aar) for aar in team]
    dollars = [each.dollars if rate else 0.0 for each, rate in zip(limits, per_hour, strict=True)]
    most = _least(_total(dollars), spec.campaign_limits.dollars)
    research = _least(_total(hours), spec.campaign_limits.hours)
    rate = sum(per_hour) / len(team) if team else 0.0
    expected = None if research is None else _least(research * rate, most)
    if not rate:
        expected = 0.0
    submissions = _total([spec.limits_of(aar).submissions for aar in spec.aars])
    fixed = sum(len(aar.fixed) for aar in spec.aars)
    teams, tasks = len({(aar.arm, aar.replicate) for aar in team}), len(spec.tasks)
    chosen, elsewhere = spec.verify.top * tasks * teams + fixed, len(spec.held_out)
    if (best := spec.verify.held_out_top) is None:
        reruns = chosen * (tasks + elsewhere)
    else:  # with the best hand-tuned baseline
        reruns = chosen * tasks + (best + 1) * tasks * elsewhere
    return Estimate(
        aars=len(team),
        baselines=fixed,
        replicates=teams,
        reruns=reruns,
        ablations=len(spec.verify.ablations) * spec.verify.ablate_top,
        asked_reruns=_asked_reruns(spec, team),
        certify=tasks if spec.verify.certify else 0,
        most_submissions=None if submissions is None else int(submissions),
        most_dollars=most,
        most_research_hours=research,
        most_wall_hours=None if None in hours else max((h for h in hours if h), default=0.0),
        expected_dollars=expected,
        expected_dollars_per_hour=rate,
        devices=_rented(spec),
    )


def _rented(spec: CampaignSpec) -> int | None:
    """Return how many devices AARs and verification pods hold; None where a machine decides."""
    of_aars, pods = n_devices(spec), spec.executor.verifiers
    if pods is None or spec.executor.name == "local":
        return of_aars
    return (of_aars or 0) + pods.pods * (pods.gpus or 0)


def _asked_reruns(spec: CampaignSpec, team: list[AarSpec]) -> int | None:
    """Return how many re-runs AARs may ask for; each method is re-run on every task."""
    asking = [aar for aar in team if aar.researcher in ("language", "external")]
    methods = _total([spec.limits_of(aar).methods for aar in asking])
    return None if methods is None else int(methods) * len(spec.tasks)


def n_devices(spec: CampaignSpec) -> int | None:
    """Return how many devices the AARs have together; None where the machine decides."""
    if spec.executor.name != "local":
        n_jobs = math.ceil(_n_team(spec) / (spec.executor.aars_per_pod or 1))
        return (spec.executor.gpus or 0) * n_jobs
    if spec.student_server is None:
        return None
    return None if spec.student_server.devices == "all" else spec.student_server.devices


def estimate_rows(spec: CampaignSpec, found: Estimate) -> list[tuple[str, str]]:
    """Return the estimate as rows of a label and an amount in words."""

    def shown(amount: float | None, unit: str = "") -> str:
        return "no limit" if amount is None else f"{unit}{amount:,.10g}"

    def most(amount: float | None, unit: str = "", of: str = "") -> str:
        return shown(amount) if amount is None else f"{shown(amount, unit)}{of} at most"

    free = not found.expected_dollars_per_hour
    cost = "nothing here has a price" if free else "calls and devices together"
    expected = found.expected_dollars
    return [
        ("AARs", f"{found.aars}, and {found.baselines} baselines"),
        ("submissions", most(found.most_submissions)),
        ("research hours", most(found.most_research_hours)),
        ("time", f"{most(found.most_wall_hours, of=' hours')}, then the re-runs"),
        (
            "re-runs",
            f"{found.reruns} of {spec.verify.seeds} seeds at most at the end"
            + (
                ""
                if found.asked_reruns == 0
                else f" and {shown(found.asked_reruns)} that AARs ask for"
            )
            + f", then {found.ablations} ablations"
            + (f" and {found.certify} on certify" if found.certify else ""),
        ),
        *_device_row(spec, found),
        ("dollars", f"{most(found.most_dollars, '$')}: {cost}"),
        (
            "expected",
            f"{shown(None if expected is None else round(expected, 2), '$')} "
            f"(${found.expected_dollars_per_hour:.2f} per AAR-hour)",
        ),
    ]


def _device_row(spec: CampaignSpec, found: Estimate) -> list[tuple[str, str]]:
    """Return what the devices cost where they are rented as long as AARs may work."""
    rate, hours = spec.device_dollars_per_hour, found.most_wall_hours
    if not found.devices or not rate or hours is None:
        return []
    cost = found.devices * rate * hours
    words = f"{found.devices} for {hours:g} hours at ${rate:g}: ${cost:,.0f} if rented throughout"
    return [("devices", words)]


def _expected_per_hour(spec: CampaignSpec, aar: AarSpec) -> float:
    turns, context, cached, written, busy = ASSUMED.values()
    if (devices := n_devices(spec)) is not None:  # AARs that share a device wait for each other
        busy = min(busy, devices / max(_n_team(spec), 1))
    device = busy * spec.device_dollars_per_hour
    language = spec.language_of(aar)
    external = spec.external_of(aar)
    if external is not None and external.model is not None:
        language = LanguageSpec(model=external.model)
    if language is None:
        return device
    read = context * language.context_tokens
    call = price_of(language.model, spec.prices).dollars(
        input_tokens=0,
        output_tokens=int(written),
        cache_read_tokens=int(read * cached),
        cache_write_tokens=int(read * (1 - cached)),
    )
    return device + turns * call


def _total(amounts: list[float | None] | list[int | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return None if len(known) < len(amounts) else float(sum(known))


def _least(*amounts: float | None) -> float | None:
    return min((amount for amount in amounts if amount is not None), default=None)
