"""The speed benchmarks' harness: statistics, and the checks that maps are equal."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import caption as speed


def test_median_and_quartiles() -> None:
    assert speed.summary([5, 1, 3, 2, 4]) == (3, 2, 4)
    assert speed.summary([7.0]) == (7.0, 7.0, 7.0)


def test_unequal_maps_are_refused() -> None:
    reference = torch.tensor([[[0.0, 2.0], [4.0, 1.0]]])
    speed.check_equal("same", reference + 4e-5, reference)
    for wrong in (reference + 4e-3, reference * float("nan")):
        with pytest.raises(AssertionError, match="wrong: its maps differ"):
            speed.check_equal("wrong", wrong, reference)
    with pytest.raises(ValueError, match="expected"):
        speed.check_equal("shape", reference[0], reference)


def test_contenders_run_in_turn() -> None:
    order = list[str]()
    samples = speed.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.01
    )
    assert order == ["a", "b"] * (len(order) // 2)
    assert len(samples["a"]) == len(samples["b"]) == 30


def test_one_image_is_encoded_whatever_the_number_of_words() -> None:
    for words in (1, 4):
        case = speed.Case("small", "stage4", words, 64, 50)
        assert speed.encoder_rows(case, case.vlcam) == 1
        assert speed.encoder_rows(case, case.vlcam_guided) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # captum warns on every guided call
def test_the_other_libraries_agree_on_a_small_network() -> None:
    pytest.importorskip("captum")
    pytest.importorskip("torchcam")
    pytest.importorskip("pytorch_grad_cam")
    case = speed.Case("small", "stage4", 3, 64, 50)
    speed.check_case(case)
    assert speed.encoder_rows(case, case.captum_naive) == 3
    assert speed.encoder_rows(case, case.torchcam_expert) == 1
