"""The idea behind each snapshot of an export: read from the repository, classified, not run."""

import base64
from collections import defaultdict

from aarlab.core.ideas import Idea
from aarlab.core.wire import CampaignExport
from aarlab.store.repository import SnapshotRepo
from aarlab.testbed.ideas import idea_of

MAX_POSTS = 5


def ideas_of(repo: SnapshotRepo, export: CampaignExport) -> list[Idea]:
    """Return the ideas of an export's snapshots.

    Blocks: one read of the repository per snapshot. What its author posted first about a snapshot
    counts as text. Later posts, and those of others, do not move it.
    """
    posts: dict[str, list[str]] = defaultdict(list)
    snapshot_of = {s.id: s.snapshot for s in export.submissions if s.snapshot}
    authors = {s.id: s.aar for s in export.snapshots}
    for finding in export.findings:
        about = finding.snapshot or snapshot_of.get(finding.submission or "") or ""
        mine = authors.get(about) == finding.author
        if mine and len(posts[about]) < MAX_POSTS:
            posts[about].append(f"{finding.title} {finding.text}")
    found = []
    for snapshot in export.snapshots:
        files = {f.path: base64.b64decode(f.content_b64) for f in repo.read(snapshot.id)}
        texts = [snapshot.message, *posts[snapshot.id]]
        found.append(idea_of(snapshot.id, files, snapshot.name, texts))
    return found
