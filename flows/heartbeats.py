"""Heartbeats: an automation of Prefect's server marks as Crashed what gives no sign of life."""

from datetime import timedelta

AUTOMATION = "ekiben: a run without a sign of life"
_MISSED = 3


async def register() -> None:
    """Have Prefect's server mark as Crashed each run of the line that misses three heartbeats.

    It sees what nobody on the run's machine is left to see, minutes later than they would: a
    heartbeat comes every PREFECT_FLOWS_HEARTBEAT_FREQUENCY seconds. A run that ends, or that is to
    start again, tells so by an event of its state's name.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.settings import get_current_settings

    from flows.pipeline import STATE_NAMES

    heartbeat = "prefect.flow-run.heartbeat"
    others = (
        "Completed",
        "Failed",
        "Crashed",
        "Cancelled",
        "Cancelling",
        "AwaitingRetry",
        "Paused",
    )
    told = [f"prefect.flow-run.{name}" for name in (*others, *STATE_NAMES.values())]
    within = timedelta(seconds=_MISSED * (get_current_settings().flows.heartbeat_frequency or 180))
    automation = AutomationCore(
        name=AUTOMATION,
        description="Made by `ekiben deploy` and `ekiben doctor`.",
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *told},
            for_each={"prefect.resource.id"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": "ekiben"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"gave no sign of life for {within.total_seconds():.0f} s: its machine is down "
                "or cut off, or it was killed and nothing of Ekiben was left there to see it",
            )
        ],
    )
    async with get_client() as client:
        if not await client.read_automations_by_name(AUTOMATION):
            await client.create_automation(automation)
