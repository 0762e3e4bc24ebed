"""Settings of a file under a training of another kind than it was written for."""

from __future__ import annotations

import dataclasses

from athanor.trainer.formats.parameters import Imported, rates_are_for_another_kind, settings_for
from athanor.trainer.settings import AdapterSettings, Settings

FILE = Imported("A file", (("adapter.kind", "loha"), ("adapter.rank", 8), ("adapter.dropout", 0.1), ("train.epochs", 3), ("train.rate", 1e-3)), ())


def test_what_a_file_says_for_another_kind_is_put_back_and_told():
    given = FILE.applied_to(Settings())
    assert settings_for("lora", given) == (given, ())
    for kind, title in (("embedding", "an embedding"), ("checkpoint", "a whole model")):
        kept, notes = settings_for(kind, given)
        assert kept.adapter == AdapterSettings() and kept.train.epochs == 3
        assert notes == (
            f"The file's adapter.kind = loha, adapter.rank = 8 and adapter.dropout = 0.1 do nothing for {title}.",
            f"The file's train.rate = 0.001 is for another kind of training: for {title} the training node's own count.",
        )


def test_it_is_told_where_the_widgets_count_more_as_well():
    kept, notes = settings_for("embedding", FILE.applied_to(Settings(), over_widgets=False))
    assert kept.adapter == AdapterSettings() and len(notes) == 1 and "adapter.dropout" in notes[0]


def test_what_was_set_by_hand_or_is_varied_stays_to_be_refused():
    by_hand = dataclasses.replace(Settings(), adapter=AdapterSettings(dropout=0.2))
    assert settings_for("embedding", by_hand) == (by_hand, ())
    varied = dataclasses.replace(FILE.applied_to(Settings()), varied=("adapter.dropout",))
    kept, _ = settings_for("embedding", varied)
    assert kept.adapter == AdapterSettings(dropout=0.1)


def test_files_of_embeddings_and_whole_models_under_a_lora():
    told = Imported(
        "A run", (("embedding.num_vectors", 2), ("embedding.keep_norm", True), ("checkpoint.weights", "bf16"), ("prior.hold_weight", 1.0)), ()
    )
    kept, (note,) = settings_for("lora", told.applied_to(Settings()))
    assert kept.embedding.keep_norm and kept.embedding.num_vectors == 4 and kept.prior.hold_weight == 1 and kept.checkpoint.weights == "fp32"
    assert note == "The file's embedding.num_vectors = 2 and checkpoint.weights = bf16 do nothing for a LoRA."
    _, (note,) = settings_for("embedding", told.applied_to(Settings()))
    assert note == "The file's checkpoint.weights = bf16 and prior.hold_weight = 1.0 do nothing for an embedding."


def test_rates_of_an_embedding_or_a_whole_model_do_not_suit_a_lora():
    """An embedding's run keeps a rate of 0 for the U-Net, so that a LoRA with its settings would leave that as it is."""
    for section, setting in (("embedding", ("embedding.num_vectors", 2)), ("checkpoint", ("checkpoint.weights", "bf16"))):
        run = Imported("A run", (setting, ("train.rate", 0.0), ("train.epochs", 3)), ())
        _, notes = settings_for("lora", run.applied_to(Settings()))
        assert any("train.rate = 0.0 is for another kind of training: for a LoRA the training node's own count" in note for note in notes), section
    assert rates_are_for_another_kind("checkpoint", ["embedding.num_vectors", "train.rate"])
    assert not rates_are_for_another_kind("lora", ["adapter.rank", "embedding.keep_norm", "train.rate"])
    assert not rates_are_for_another_kind("lora", ["train.rate"]) and not rates_are_for_another_kind("checkpoint", ["checkpoint.weights"])
