"""Writes a campaign into MLflow, in a tracking server or a SQLite file in a local folder.

The campaign is a parent run, each AAR a nested run. Curves of figures over submissions have the
number of the submission as their step. `NAME_by_minute` has the same figures over the campaign's
research time in minutes, since a step of MLflow is a whole number.

A campaign that is written again updates its runs. MLflow's stores in a database keep a point with
the same name, value, time and step once.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from aarlab.core.errors import Unreachable
from aarlab.report.tracking import Destination, Exporter, Tracked, Tracking, csv_of

KEY = "aarlab.key"
DATABASE = "mlflow.db"
MOST_METRICS = 1000  # in one call
MOST_CHARACTERS = 500  # of a parameter


def send(tracking: Tracking, to: Destination) -> str:
    """Write the campaign. Raises Unreachable where MLflow does not take it."""
    uri, artifacts = to.where, None
    if "://" not in uri:
        folder = Path(uri).absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{folder / DATABASE}", (folder / "artifacts").as_uri()
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(to.project)
        if found is None:
            experiment = client.create_experiment(to.project, artifact_location=artifacts)
        else:
            experiment = found.experiment_id
        parent = _write(client, experiment, tracking.campaign, tracking)
        for aar in tracking.aars:
            _write(client, experiment, aar, tracking, parent)
        for name, table in tracking.tables.items():
            client.log_text(parent, csv_of(table), f"{name}.csv")
        client.log_dict(parent, {"events": list(tracking.events)}, "events.json")
    except (MlflowException, SQLAlchemyError) as error:
        raise Unreachable(f"MLflow at {uri} did not take the campaign: {error}") from error
    return f"experiment {to.project} at {uri}: mlflow ui --backend-store-uri {uri}"


def _write(
    client: MlflowClient, experiment: str, one: Tracked, tracking: Tracking, parent: str = ""
) -> str:
    """Write one run, again if it exists. Return its id."""
    known = client.search_runs([experiment], f"tags.`{KEY}` = '{one.key}'", max_results=1)
    run: str
    if known:
        run = known[0].info.run_id
    else:
        tags = {KEY: one.key, **({"mlflow.parentRunId": parent} if parent else {})}
        made = client.create_run(
            experiment, start_time=_ms(one.began), tags=tags, run_name=one.name
        )
        run = made.info.run_id
    metrics = list(_metrics(one, tracking))
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])
    changing = {name: value for name, value in one.params.items() if value}
    set_before = known[0].data.params if known else {}
    client.log_batch(
        run,
        params=[
            Param(name, value[:MOST_CHARACTERS])
            for name, value in changing.items()
            if name not in set_before
        ],
        tags=[
            RunTag(f"aarlab.{name}", value[:MOST_CHARACTERS]) for name, value in changing.items()
        ],
    )
    if tracking.ended:
        client.set_terminated(run, end_time=_ms(tracking.until))
    return run


def _metrics(one: Tracked, tracking: Tracking) -> Iterator[Metric]:
    for row in one.rows:
        hours = {"research_hours": row.research_hours, "own_research_hours": row.own_hours}
        for name, value in {**row.figures, **hours}.items():
            yield Metric(name, value, _ms(row.at), row.step)
        for name, value in row.figures.items():
            minute = round(row.research_hours * 60)
            yield Metric(f"{name}_by_minute", value, _ms(row.at), minute)
    for name, value in one.totals.items():
        yield Metric(name, value, _ms(tracking.until), len(one.rows))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


EXPORTER = Exporter("mlflow", send, "mlflow")
