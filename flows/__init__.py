"""The line as a Prefect flow, its deployments, and the command line."""

from tasks.quiet import switch_off_telemetry

switch_off_telemetry()
