"""A Gaussian task and what its parts look like to a method."""

import numpy as np
from gaussian_task import STRONG, WEAK, make_task

from aarlab.testbed.students.options import HeadOptions, TeacherOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.teacher import TeacherRows, fit_teacher
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.train_task import TrainTask

OPTIONS = BuildOptions(
    pair="gauss",
    weak_layer=WEAK,
    strong_layer=STRONG,
    teacher=TeacherOptions(head=HeadOptions(hidden=0, lr=0.01, epochs=20)),
    student=HeadOptions(hidden=16, lr=0.01, epochs=10),
    n_public=3,
    n_fresh=2,
    n_weak=5,
    ceiling_seeds=4,
)


class World:
    """A task, its sources, and what its parts look like to a method."""

    def __init__(self, kind, zero_shot=0.6):
        self.data, self.source = make_task(kind, zero_shot=zero_shot)
        train = self.data.splits["train"]
        teacher = self.data.splits["teacher"]
        rows = TeacherRows(
            self.source.states(teacher.examples, WEAK),
            teacher.targets_N,
            tuple(e.group for e in teacher.examples),
        )
        weak_states_NAD = self.source.states(train.examples, WEAK)
        teachers = [fit_teacher(rows, OPTIONS.teacher, seed) for seed in range(3)]
        labels_SN = np.stack([teacher.predict_proba(weak_states_NAD) for teacher in teachers])
        self.teacher, self.weak_N = teachers[0], labels_SN[0]
        self.task = TrainTask(
            name="gauss",
            kind=kind,
            inputs=train.examples,
            weak_labels_N=self.weak_N.astype(np.float64),
            groups=tuple(e.group for e in train.examples),
            split_sizes={"train": len(train.examples)},
            teacher_labels_SN=labels_SN.astype(np.float64),
        )
        self.truth_N = train.targets_N

    def factory(self):
        return StudentFactory(self.source, STRONG, OPTIONS.student)

    def accuracy(self, predictor, split="search"):
        rows = self.data.splits[split]
        return float(((predictor.predict_proba(rows.examples) > 0.5) == rows.targets_N).mean())
