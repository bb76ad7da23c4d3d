"""Settings: every mistake gets one sentence that names the parameter, what was found and what would be right."""

from typing import Any

import pytest
from pydantic import ValidationError

from lddr.errors import InputError
from lddr.models import ModelConfig
from lddr.settings import Settings
from lddr.training import FitConfig


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rat": 1.0}, "There is no parameter 'learning_rat': did you mean 'learning_rate'?"),
        ({"steps": "many"}, "Parameter 'steps' is 'many': input should be a valid integer."),
        ({"steps": 3.5}, "Parameter 'steps' is 3.5: input should be a valid integer."),
        ({"steps": 0}, "Parameter 'steps' is 0: input should be greater than or equal to 1."),
        ({"mirror": 1}, "Parameter 'mirror' is 1: input should be a valid boolean."),
        ({"mirror": "yes"}, "Parameter 'mirror' is 'yes': input should be a valid boolean."),
        ({"learning_rate": "1e-3"}, "Parameter 'learning_rate' is '1e-3': input should be a valid number."),
        ({"learning_rate": 0.0}, "Parameter 'learning_rate' is 0.0: input should be greater than 0."),
        ({"smoothness": float("inf")}, "Parameter 'smoothness' is inf: input should be a finite number."),
        ({"augmentation": 1.5}, "Parameter 'augmentation' is 1.5: input should be less than or equal to 1."),
        ({"schedule": "line"}, "Parameter 'schedule' is 'line': input should be 'cosine', 'paper' or 'released_none'."),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        FitConfig.check(values)
    assert str(error.value) == sentence


def test_an_unknown_name_far_from_all_others_lists_them() -> None:
    with pytest.raises(InputError) as error:
        ModelConfig.check({"zzz": 1})
    known = ", ".join(sorted(ModelConfig.model_fields))
    assert str(error.value) == f"There is no parameter 'zzz': the known ones are {known}."


def test_several_mistakes_are_all_named() -> None:
    with pytest.raises(
        InputError, match=r"'network' is 'unet': .*\. .*'cascades' is 0: .*\. There is no parameter 'widt'"
    ):
        ModelConfig.check({"widt": 8, "network": "unet", "cascades": 0})


@pytest.mark.parametrize("size", [[64, 64], [64, 64, 64, 64], [64, 64, "a"], 64])
def test_a_size_is_three_whole_numbers(size: Any) -> None:
    with pytest.raises(InputError, match="Parameter 'size"):
        ModelConfig.check({"size": size})


def test_right_values_are_kept_as_they_are() -> None:
    config = FitConfig.check({"steps": 7, "learning_rate": 1, "schedule": "paper"})
    assert (config.steps, config.learning_rate, config.schedule) == (7, 1, "paper")
    assert config.batch == FitConfig().batch
    assert FitConfig.check(config.model_dump()) == config


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        FitConfig().steps = 5


def test_no_name_means_two_things() -> None:
    """`Settings` inherits both sets; a name in both would silently take the meaning of one."""
    assert not FitConfig.model_fields.keys() & ModelConfig.model_fields.keys()


def test_a_notebook_s_names_are_checked_and_split_up() -> None:
    namespace = {"steps": 7, "width": 8, "dataset": "hippocampus", "_hidden": 1, "Path": object, "UPPER": 3}
    settings = Settings.from_notebook(namespace)
    assert settings.fit_config == FitConfig(steps=7)
    assert settings.cascade_config == ModelConfig(width=8)
    with pytest.raises(InputError, match="'stepps': did you mean 'steps'"):
        Settings.from_notebook({"stepps": 7})
