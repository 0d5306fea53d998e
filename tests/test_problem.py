import pytest

from raynas.problem import InvalidProblem, Problem


def test_a_plain_dict_is_a_problem():
    problem = Problem.of(
        {
            "task": "image_classification",
            "dataset": "digits",
            "input_shape": (1, 8, 8),
            "num_classes": 10,
            "objectives": ["accuracy", "params:min"],
            "constraints": {"max_params": 1e6, "target_device": "mobile"},
        }
    )
    assert problem.target_device == "mobile"
    assert [str(c) for c in problem.constraints] == ["max_params=1e+06"]
    assert [str(o) for o in problem.objectives] == ["accuracy:max", "params:min"]
    assert Problem.of(problem.to_dict()) == problem


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objectives": ["efficiency"]}, "objectives: expected an objective such as accuracy:max"),
        ({"objectives": []}, "objectives: expected a list such as"),
        ({"objectives": ["accuracy", "accuracy:max"]}, "each objective once"),
        ({"objectives": ["test_accuracy:max"]}, "must not see the test split: take 'accuracy'"),
        ({"constraints": {"max_params": "many"}}, "max_params: expected a number; got 'many'"),
        ({"constraints": {"params": 3}}, "params: expected a name such as max_params"),
        ({"constraints": 3}, "constraints: expected a mapping"),
        ({"num_classes": 1}, "num_classes: .*greater than or equal to 2; got 1"),
        ({"input_shape": (8, 8)}, r"expected \(channels, height, width\)"),
        ({"input_shape": (1, 8, 0)}, "input_shape.2: .*greater than 0"),
        ({"target_device": "toaster"}, "target_device: .*'cpu', 'cuda' or 'mobile'"),
        ({"datasett": "digits"}, "datasett: not a field of a problem. Expected one of task"),
        (
            {"target_device": "cpu", "constraints": {"target_device": "cuda"}},
            "target_device is given twice",
        ),
    ],
)
def test_every_wrong_field_is_named(fields, message):
    with pytest.raises(InvalidProblem, match=message):
        Problem.of(fields)


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(InvalidProblem) as caught:
        Problem.of({"num_classes": 0, "objectives": ["x"], "foo": 1})
    assert len(str(caught.value).splitlines()) == 3


def test_what_is_no_problem():
    with pytest.raises(InvalidProblem, match="or a dict with its keys; got int"):
        Problem.of(3)
