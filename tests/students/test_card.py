"""Nine clients of a server on one device: on a card as on a CPU, which runs the same code."""

import threading

import numpy as np
import pytest
from student_kit import admitted, served
from tiny_task import word_rows

from aarlab.students.client import Client
from aarlab.students.grants import Grant, Limits
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.compute import choose
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.students.options import AdapterOptions, HeadOptions
from aarlab.testbed.tasks.train_task import StudentSettings

N_CLIENTS, ROWS, TARGETS = 9, *word_rows(24, "train")
TRAINING = HeadOptions(hidden=0, epochs=4, lr=2e-2, weight_decay=0.0, batch=8)
SETTINGS = StudentSettings(3, TRAINING, AdapterOptions(kind="lora", rank=4, readout="labels"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    return request.param


def server_of(tiny, folder, device, dtype):
    compute = choose(device, dtype)
    model = LanguageModel.load(tiny, 1, compute=compute)
    cache = FeatureCache([], compute.model_id(model.record), None, lambda: model)
    return served(folder, {"tiny": cache}, device=device)


def opened(folder, name):
    grant = Grant.of(name, ROWS, SETTINGS, "tiny", limits=Limits(sessions=2))
    return Client.open(folder / "s", admitted(folder, grant))


def predicted(client):
    return client.students.new().fit(client.rows, TARGETS).predict_proba(client.rows)


def test_nine_clients_at_once_get_what_one_gets_alone(tiny, tmp_path, device):
    with server_of(tiny, tmp_path, device, "float32") as server:
        with opened(tmp_path, "alone") as client:
            alone = predicted(client)
            assert client.info()["device"] == device
        clients = [opened(tmp_path, f"c{n}") for n in range(N_CLIENTS)]
        found = [None] * N_CLIENTS

        def work(n):
            found[n] = predicted(clients[n])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = [client.usage()["device_s"] for client in clients]
        assert min(used) > 0 and server.queue.look() == (None, [])
        for client in clients:
            client.close()
    for probs in found:  # on a card sums may be taken in another order
        np.testing.assert_allclose(probs, alone, atol=0.0 if device == "cpu" else 1e-3)


def test_bf16_students_answer_as_float32_students_do(tiny, tmp_path, device):
    answers = []
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        folder.mkdir()
        with server_of(tiny, folder, device, dtype), opened(folder, "one") as client:
            answers.append(predicted(client))
    exact, rounded = answers
    assert np.corrcoef(exact, rounded)[0, 1] > 0.95
    assert ((exact > 0.5) == (rounded > 0.5)).mean() > 0.9
