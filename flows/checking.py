"""The first third of the line alone, without Prefect: what `ekiben check` does."""

import logging

from configs.schema import PipelineConfig
from flows.summary import summary
from tasks.auditing import find_label_errors
from tasks.cases import read_cases
from tasks.comparing import compare_with_champion, profile_dataset
from tasks.duplicates import find_duplicates
from tasks.ingest import read_dataset
from tasks.reporting import Run, write_report
from tasks.splitting import split_rows
from tasks.validation import require_valid, validate_dataset

log = logging.getLogger("ekiben")


def check_data(config: PipelineConfig) -> Run:
    """Read, validate and split the data, write the data report and return what was made.

    Raises:
        EkibenError: if the data cannot be read or is not valid; the report is written all the same
            where validation came to an end.
    """
    read_cases(config)
    dataset = read_dataset(config.data)
    log.info("%s", summary(dataset))
    validation = validate_dataset(config, dataset)
    log.info("%s", summary(validation))
    duplicates = change = suspects = split = None
    if validation.passed:
        duplicates = find_duplicates(config, dataset, validation)
        log.info("%s", summary(duplicates))
        change = compare_with_champion(config, profile_dataset(dataset, duplicates))
        if change is not None:
            log.info("%s", summary(change))
        suspects = find_label_errors(config, dataset, duplicates)
        log.info("%s", summary(suspects))
        split = split_rows(config, dataset, duplicates, suspects)
        log.info("%s", summary(split))
    run = Run(config, dataset, validation, duplicates, change, suspects, split)
    log.info("report: %s", write_report(run))
    require_valid(validation)
    return run
