"""Stage decide: the gate's decision on the evidence, put on record before anything is built."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import PipelineConfig
from tasks.gate import force, judge
from tasks.manifests import Evidence
from tasks.records import DecisionRecord, record_of, write_record
from tasks.uses import count_use


def decide_on(
    config: PipelineConfig, evidence: Evidence, forced: str | None = None
) -> DecisionRecord:
    """Return the record of the decision, which also lies under the Ekiben home.

    The use of the test set is counted first. `forced` is the reason to release the model even if
    the gate does not pass it.

    Raises:
        GateError: if the evidence contradicts itself; no reason releases such a model.
    """
    if evidence.leakage is not None:
        uses = count_use(evidence.leakage.test_set, evidence.model, config.name)
        evidence = evidence.model_copy(update={"uses": uses})
    decision = judge(config.gate, evidence)
    if forced is not None:
        decision = force(decision, forced)
    record = record_of(config.name, config.gate, evidence, decision)
    write_record(record)
    return record


decide = task(name="decide", task_run_name="decide", cache_policy=NO_CACHE)(decide_on)
