"""The stages of the line: one module a stage, plain functions with one thin Prefect task each."""
