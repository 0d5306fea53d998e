"""The three listings of the explainable-NAS article, as a user types them, on digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import raynas as enas

pytestmark = pytest.mark.slow
SMALL = {"trials": 8, "epochs": 4}  # what the listings leave to the time that they have


@pytest.fixture(scope="module")
def my_dataset():
    images, labels = load_digits(return_X_y=True)
    return (images[:500].reshape(-1, 1, 8, 8) * 16).astype(np.uint8), labels[:500]


@pytest.fixture
def problem(my_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the runs go
    return {
        "task": "image_classification",
        "dataset": my_dataset,
        "input_shape": (1, 8, 8),
        "num_classes": 10,
        "constraints": {"max_params": 5e6, "target_device": "mobile"},
    }


def test_listing_1_search_and_explanations(problem, capsys):
    given = {"explanation_level": "detailed", "time_budget_hours": 0.1}
    result = enas.search(problem, **given, **SMALL)
    architecture, performance = result.architecture, result.performance
    print(f"Architecture: {architecture}")
    print(f"Performance: {performance}")
    for layer_idx, explanation in enumerate(result.explanations):
        print(f"Layer {layer_idx}: {explanation}")
    print(result.get_architecture_report())
    print(result.get_design_principles_learned())
    said = capsys.readouterr().out
    assert "Architecture: layered{" in said
    assert "Layer 0:" in said
    assert 0 <= performance["accuracy"] <= 1


def test_listing_2_feedback(problem):
    result = enas.search(
        problem,
        allow_feedback=True,
        explanation_level="standard",
        time_budget_hours=0.1,
        **SMALL,
    )
    before = result.performance["accuracy"]
    feedback = {
        "layer_1": {
            "comment": "This layer needs a larger receptive field",
            "suggestion": {"kernel_size": 7},
        },
        "constraint_update": {"prioritize": "accuracy_over_size"},
    }
    refined = result.continue_with_feedback(feedback, trials=6)
    assert refined.path == result.path, "it is the same run"
    assert len(refined.trials) > len(result.trials)
    assert refined.architecture["layer1.kernel_size"] == 7
    whole = refined.trials[refined.trials["status"] == "finished"]
    assert whole["m.accuracy"].max() >= before
    page = (refined.path / "report.html").read_text()
    assert "What your feedback did" in page
    assert "This layer needs a larger receptive field" in page


def test_listing_3_a_collaborative_session(problem, capsys):
    short = {"trials": 6, "feedback": "at least 4 layers", "epochs": 2, "driver": "local"}
    with enas.CollaborativeDesignSession(problem, **short) as session:
        initial_design = session.get_initial_proposal()
        print(initial_design)
        session.provide_feedback("Need more efficiency for edge deployment")
        refined_design = session.get_refined_proposal()
        session.modify_layer(3, {"type": "depthwise_separable_conv"})
        final_model = session.finalize()
    import torch

    assert initial_design.design["num_layers"] >= 4
    assert refined_design.trial != initial_design.trial or refined_design.readings
    with torch.no_grad():
        assert final_model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert session.design["layer3.type"] == "separable_conv"
    assert "full trainings read test accuracy" in session.final()
    assert session.history["move"].tolist()[1:4] == ["proposal", "feedback", "proposal"]
    assert "The design that was agreed on" in (session.path / "report.html").read_text()
