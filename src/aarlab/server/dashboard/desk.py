"""What the dashboard's routes share: the platform and what was read before."""

import asyncio
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from aarlab.core.problem import ProblemFacts
from aarlab.server.dashboard.background import ExactScores, Families
from aarlab.server.dashboard.log_check import LogCheck
from aarlab.server.dashboard.memory import Memory
from aarlab.server.dashboard.run_files import has_ended
from aarlab.server.dashboard.shares import Shares
from aarlab.server.dashboard.transcripts import Indexes
from aarlab.server.platform import Platform
from aarlab.server.tasks import development_tasks, problem_of


class Desk:
    """State that the dashboard's routes share. There is one per server process."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.memory = Memory()
        self.shares = Shares(platform)
        self.exact = ExactScores(platform, self.memory)
        self.families = Families(platform, self.memory)
        self.log_check = LogCheck(platform)
        self.transcripts = Indexes(platform.settings.run_dir)

    def tasks(self, operator: bool) -> list[str]:
        """Return the development tasks, and for the operator the held-out ones after them."""
        shown = development_tasks(self.platform)
        if operator:
            shown += [task for task in self.platform.scorer.tasks() if task not in shown]
        return shown

    @cached_property
    def problem(self) -> ProblemFacts:
        """Return the research problem, which all tasks of a campaign share."""
        return problem_of(self.platform)

    async def shows_figures(self, operator: bool) -> bool:
        """Return whether a viewer sees figures and ranks of verified methods.

        The operator always does. A share link, which may reach an AAR, does so from the end of the
        campaign on: before that such a figure is feedback on hidden rows (core.feedback).
        """
        return operator or await asyncio.to_thread(has_ended, self.platform.settings.run_dir)


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


DeskDep = Annotated[Desk, Depends(desk_of)]
