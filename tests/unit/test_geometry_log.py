"""The fields of an alignment run's geometry, against a slow computation from the whole matrix ΔW."""

import json

import pytest
import torch
from transformers import TrainerState

from readwrite_edit import BasisChoice, choose_targets, collect_statistics, find_pathways
from readwrite_edit.adapter import low_rank_update
from readwrite_edit.adapter.install import build_adapter, lora_layer
from readwrite_edit.align import geometry_detail
from readwrite_edit.align.geometry_detail import curve_counts, direction_count
from readwrite_edit.align.geometry_log import GeometryLog
from readwrite_edit.align.recorder import RunRecorder
from readwrite_edit.geometry import eigh_descending
from readwrite_edit.models.unembedding import model_prediction_basis
from tests.tiny_models import TINY, tiny_tokenizer

TEXTS = ["the cat sat on a mat and the dog ran to a red house by the old river"] * 12
ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
K, RANK = 5, 4


class Bench:
    """A tiny model with a random adapter, and its geometry log."""

    def __init__(self, name, arm, roles=ROLES):
        model = TINY[name]()
        self.pathways = find_pathways(model)
        present = [role for role in roles if role in self.pathways.roles]
        projections = self.pathways.select(present)
        self.statistics = collect_statistics(model, tiny_tokenizer(), TEXTS, modules=present, tokens=160, max_length=64)
        self.targets = choose_targets(self.statistics, projections, BasisChoice(arm=arm, rank=RANK))
        self.model = build_adapter(model, self.targets)
        self.log = GeometryLog(self.model, self.pathways, self.targets, self.statistics, None, K)

    def train(self):
        """Random weights where training would write."""
        torch.manual_seed(1)
        for target in self.targets:
            layer = lora_layer(self.model, target)
            for module in (layer.lora_B, *([layer.lora_A] if target.basis is None else [])):
                module["default"].weight.data.normal_(std=0.1)

    def dense(self, target, projection):
        """ΔW of one projection as a whole."""
        factors = low_rank_update(self.model, target)
        delta = factors.B.detach().double() @ factors.A.detach().double()
        if projection.rows is None:
            return delta
        return torch.cat([delta[start:stop] for start, stop in projection.rows])


def expected(bench, target, projection):
    """The same fields by singular values, eigenvectors and sums over the whole ΔW."""
    delta, d_head = bench.dense(target, projection), bench.pathways.d_head
    total = delta.square().sum()
    second_moment = bench.statistics.second_moment(projection.site)
    values, vectors = eigh_descending(second_moment)
    counts = curve_counts(projection.d_in, K)
    found = {
        "read_curve": [float((delta @ vectors[:, :k]).square().sum() / total) for k in counts],
        "read_energy_curve": [float(values[:k].sum() / values.sum()) for k in counts],
        "singular_values": torch.linalg.svdvals(delta)[:RANK].tolist(),
    }
    if projection.role in ("o_proj", "down_proj"):
        basis = model_prediction_basis(bench.model, bench.pathways, projection.d_out)
        counts = curve_counts(projection.d_out, K)
        found["write_curve"] = [float((basis[:, :k].T @ delta).square().sum() / total) for k in counts]
    if projection.role != "down_proj":
        parts = delta.split(d_head, dim=1 if projection.role == "o_proj" else 0)
        found["head_norms"] = [float(part.norm()) for part in parts]
    return found


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("arm", ["principal", "lora"])
def test_the_fields_are_those_of_the_whole_matrix(name, arm):
    bench = Bench(name, arm)
    bench.train()
    rows = {(row["layer"], row["module"]): row for row in bench.log.rows()}
    assert {module for _, module in rows} == set(ROLES) & set(bench.pathways.roles)
    for target in bench.targets:
        for projection in target.projections:
            row = rows[projection.layer, projection.role]
            wanted = expected(bench, target, projection)
            for field, values in wanted.items():
                assert row[field] == pytest.approx(values, rel=6e-5, abs=1e-9), (projection, field)
            assert all(row[field] is None for field in ("write_curve", "head_norms") if field not in wanted)
            at_k = row["read_curve"][row["read_curve_k"].index(row["k"])]
            assert at_k == pytest.approx(row["read_fraction"], rel=6e-5) and row["read_curve"][-1] == pytest.approx(1)
            assert sum(value**2 for value in row["singular_values"]) == pytest.approx(row["norm"] ** 2, rel=2e-4)


def test_a_zero_update_has_none_of_them_and_is_json(tmp_path):
    rows = Bench("llama", "principal", ("q_proj", "o_proj")).log.rows()
    absent = ("read_curve", "write_curve", "singular_values", "head_norms")
    assert all(row[field] is None for row in rows for field in absent)
    assert all(len(row["read_energy_curve"]) == len(row["read_curve_k"]) for row in rows)
    json.dumps(rows, allow_nan=False)


def test_wide_sides_keep_fewer_directions_and_end_at_d():
    assert curve_counts(576, 16) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 576]
    assert curve_counts(4096, 24) == [1, 2, 4, 8, 16, 24, 32, 64, 128, 256, 4096]
    assert curve_counts(48, 400) == [1, 2, 4, 8, 16, 32, 48]
    assert [direction_count(d, 16) for d in (48, 1024, 1025)] == [48, 1024, 256]
    assert direction_count(4096, 300) == 300


def test_beyond_the_kept_directions_a_curve_ends_at_one(monkeypatch):
    monkeypatch.setattr(geometry_detail, "_ALL_UP_TO", 10)
    monkeypatch.setattr(geometry_detail, "_ELSE", 8)
    bench = Bench("llama", "lora", ("q_proj", "o_proj"))
    bench.train()
    for row in bench.log.rows():
        assert row["read_curve_k"] == [1, 2, 4, 5, 8, 48] and row["read_curve"][-1] == 1.0 > row["read_curve"][-2]
        assert row["read_energy_curve"][-1] == 1.0


@pytest.mark.parametrize(("matrices", "detailed"), [(2300, list(range(12))), (4600, [0, 2, 4, 6, 8, 10, 11])])
def test_a_large_run_details_fewer_snapshots_but_the_last(matrices, detailed):
    class Log:
        def __init__(self):
            self.matrices, self.asked = matrices, []

        def rows(self, *, detailed):
            self.asked.append(detailed)
            return []

    class Writer:
        def log_geometry(self, step, rows):
            assert rows == []

    log = Log()
    recorder = RunRecorder(Writer(), log, (), every=2, beta=0.1, interrupted=lambda: False)
    for step in range(0, 23, 2):
        recorder._log_geometry(TrainerState(global_step=step, max_steps=22))
    assert [number for number, asked in enumerate(log.asked) if asked] == detailed
