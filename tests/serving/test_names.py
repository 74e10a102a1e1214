"""Names of labels and models in what the server hands out besides answers: metrics."""

import pytest

from moderation.inference.classifier import TextResult
from tests.attack_table import Attack
from tests.hostile_names import SHOWN

pytest.importorskip("prometheus_client")


@pytest.mark.hostile("metrics: hostile names")
def test_a_label_is_a_value_of_the_metrics_whatever_it_is_called(attack: Attack) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from moderation.serving.metrics import Metrics

    metrics = Metrics()
    names = (*SHOWN, 'quote"', "back\\slash", 'a"} 1', "\\n")
    metrics.texts([TextResult(dict.fromkeys(names, 0.5), tuple(names), 1, "m")], 0)
    metrics.started(names[0], names[1], names[2])
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    flagged = {sample.labels["label"]: sample.value for sample in families["moderation_flagged"].samples}
    assert set(flagged) == set(names)
    (info,) = families["moderation_model_info"].samples
    assert info.labels == {"name": names[0], "version": names[1], "backend": names[2]}
    attack.tried(len(names))
