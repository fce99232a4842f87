"""Does a preset call just that a failure which is one?  Samples with one member that is another."""

import copy
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from build import NOW
from presets import at_work, told

from relay.event import Trust
from relay.source import Incoming
from relay.unpack import unpack

GONE: Final = "\0gone"
"""Instead of a value: the member is not there."""

ROWS: Final[list[tuple[str, str, str, Any, str]]] = [
    ("airbyte", "a sync failed", "data.success", None, ""),
    ("airbyte", "a sync failed", "data.success", "false", ""),
    ("airbyte", "a sync failed", "data.jobId", GONE, ""),
    ("airbyte", "a sync failed", "data", {"success": False}, ""),
    ("airbyte", "a sync failed", "data.errorType", "config_error", "failed"),
    ("alertmanager", "a group, one alert of it resolved", "alerts.0.status", "Firing", ""),
    ("alertmanager", "a group, one alert of it resolved", "alerts.0.status", "resolved", "recovered"),
    ("alertmanager", "a group, one alert of it resolved", "alerts.0.labels.alertname", "InfoInhibitor", ""),
    ("alertmanager", "a group, one alert of it resolved", "status", "resolved", "failed"),
    ("alertmanager", "the alert that always fires", "alerts.0.status", "resolved", ""),
    ("apify", "a run failed", "eventType", "ACTOR.RUN.ABORTED", ""),
    ("apify", "a run failed", "eventType", "ACTOR.RUN.CREATED", ""),
    ("apify", "a run failed", "eventType", "ACTOR.RUN.TIMED_OUT", "failed"),
    ("apify", "a run failed", "eventType", "ACTOR.BUILD.FAILED", "failed"),
    ("apify", "a run failed", "eventType", "TEST", ""),
    ("apify", "it succeeded", "resource.status", "FAILED", "recovered"),
    ("databricks", "a job failed", "event_type", "jobs.on_start", ""),
    ("databricks", "a job failed", "event_type", "jobs.on_streaming_backlog_exceeded", ""),
    ("databricks", "a job failed", "event_type", None, ""),
    ("databricks", "a task failed", "event_type", "jobs.on_success", "recovered"),
    ("datadog", "a monitor triggers", "transition", "Renotify", ""),
    ("datadog", "a monitor triggers", "transition", "Re-Warn", ""),
    ("datadog", "a monitor triggers", "transition", "$ALERT_TRANSITION", ""),
    ("datadog", "a monitor triggers", "transition", "", ""),
    ("datadog", "a monitor triggers", "transition", "No Data", "failed"),
    ("datadog", "it recovers", "transition", "Re-Triggered", "failed"),
    ("dbt-cloud", "a run succeeded", "data.runStatus", "Cancelled", ""),
    ("dbt-cloud", "a run succeeded", "data.runStatus", None, ""),
    ("dbt-cloud", "a run succeeded", "eventType", "job.run.started", ""),
    ("dbt-cloud", "a run started", "data.runStatus", "Success", ""),
    ("dbt-cloud", "a run started", "eventType", "job.run.errored", "failed"),
    ("docflow", "a task failed", "status", "processing", ""),
    ("docflow", "a task failed", "status", GONE, ""),
    ("eventgrid", "the write succeeded", "0.eventType", "Microsoft.Resources.ResourceWriteCancel", ""),
    ("eventgrid", "the write succ", "0.eventType", "Microsoft.Resources.ResourceDeleteFailure", "failed"),
    ("eventgrid", "the write succeeded", "0.eventType", "Microsoft.Storage.BlobDeleted", ""),
    ("fivetran", "a sync failed", "event", "sync_start", ""),
    ("fivetran", "a sync failed", "event", "status", ""),
    ("fivetran", "a sync failed", "event", "test_event", ""),
    ("fivetran", "a sync failed", "data.status", "CANCELED", ""),
    ("fivetran", "a sync failed", "data.status", "NO_STATUS", ""),
    ("fivetran", "a sync failed", "data.status", "FAILURE", "failed"),
    ("fivetran", "a sync failed", "data", GONE, ""),
    ("fivetran", "a sync succeeded", "event", "connection_successful", ""),
    ("fivetran", "a sync succeeded", "event", "dbt_run_failed", "failed"),
    ("fivetran", "a sync failed", "event", "dbt_run_succeeded", "recovered"),
    ("flatfile", "a job failed, by the forwarder", "topic", "job:updated", ""),
    ("flatfile", "a job failed, by the forwarder", "topic", "job:created", ""),
    ("flatfile", "a job failed, by the forwarder", "payload.isPart", GONE, "failed"),
    ("flatfile", "a job failed, by the forwarder", "payload.isPart", True, ""),
    ("flatfile", "a job completed, raw", "payload.isPart", True, ""),
    ("flatfile", "a job completed, raw", "topic", "job:parts-completed", ""),
    ("gocardless", "a batch", "events.0.action", "submitted", ""),
    ("gocardless", "a batch", "events.0.action", "late_failure_settled", ""),
    ("gocardless", "a batch", "events.0.details.will_attempt_retry", True, ""),
    ("gocardless", "a batch", "events.0.details.will_attempt_retry", GONE, "failed"),
    ("gocardless", "a batch", "events.0.resource_type", "payouts", ""),
    ("gocardless", "a batch", "events.0.resource_type", "refunds", "failed"),
    ("gocardless", "a batch", "events.0.action", "paid_out", "recovered"),
    ("grafana", "an alert fires", "alerts.0.status", "pending", ""),
    ("grafana", "an alert fires", "status", "resolved", "failed"),
    ("grafana", "an alert fires", "alerts.0.labels.alertname", "DatasourceError", "failed"),
    ("opsgenie", "an alert is created", "action", "Acknowledge", ""),
    ("opsgenie", "an alert is created", "action", "AddNote", ""),
    ("opsgenie", "an alert is created", "alert", GONE, ""),
    ("opsgenie", "it is closed", "action", "Delete", ""),
    ("pubsub", "a build failed", "message.attributes.status", "QUEUED", ""),
    ("pubsub", "a build failed", "message.attributes.status", "CANCELLED", ""),
    ("pubsub", "a build failed", "message.attributes.status", "TIMEOUT", "failed"),
    ("pubsub", "a build failed", "message.attributes.buildId", GONE, ""),
    ("pubsub", "a build failed", "message.attributes", GONE, ""),
    ("sendgrid", "delivered", "0.event", "deferred", ""),
    ("sendgrid", "delivered", "0.event", "processed", ""),
    ("sendgrid", "delivered", "0.event", "spamreport", ""),
    ("sendgrid", "delivered", "0.event", "dropped", "failed"),
    ("sns", "a CloudWatch alarm", "Type", "SubscriptionConfirmation", ""),
    ("sns", "a CloudWatch alarm", "Message", '{"AlarmName":"a","NewStateValue":"INSUFFICIENT_DATA"}', ""),
    ("sns", "a CloudWatch alarm", "Message", '{"NewStateValue":"OK","OldStateValue":"ALARM"}', ""),
    ("trigger-dev", "a run failed", "type", "alert.run.started", ""),
    ("trigger-dev", "a run failed", "type", "alert.error", "failed"),
    ("trigger-dev", "a deployment succeeded", "type", "alert.deployment.failed", "failed"),
    ("writer", "a file failed", "type", "file.created", ""),
    ("writer", "a file failed", "type", None, ""),
    ("xpkg", "a package failed", "status", "removed", ""),
    ("xpkg", "a package failed", "status", "aborted", "failed"),
    ("xpkg", "a package failed", "status", "failed_manifest_exists", "failed"),
    ("xpkg", "a package failed", "status", "failed", ""),
]
"""A preset, how a sample's name begins, a member, its other value, and what the first event tells then."""


def changed(body: bytes, place: str, value: Any) -> bytes:
    """Return a JSON body whose member at a dotted *place* is another one."""
    data = copy.deepcopy(orjson.loads(body))
    *way, last = [int(step) if step.isdecimal() else step for step in place.split(".")]
    here = data
    for step in way:
        here = here[step]
    if value == GONE:
        del here[last]
    else:
        here[last] = value
    return orjson.dumps(data)


@pytest.mark.parametrize(("name", "begin", "place", "value", "tells"), ROWS)
def test_only_a_failure_is_one(
    tmp_path: Path, name: str, begin: str, place: str, value: Any, tells: str
) -> None:
    """What has begun, waits, was cancelled or says nothing of its end neither failed nor recovered."""
    (sample,) = [one for one in told(name).samples if one.name.startswith(begin)]
    headers = {key: (said,) for key, said in sample.headers.items()}
    shown = Incoming(headers=headers, body=changed(sample.body, place, value))

    event = unpack(at_work(tmp_path, name, 0).source, shown, Trust.VERIFIED, NOW)[0]

    assert not event.flaw
    assert tells == event.tells


def test_a_task_has_a_case_of_its_own(tmp_path: Path) -> None:
    """Databricks: one task that is well says nothing of the others of its run."""
    at = at_work(tmp_path, "databricks", 0)
    found = {}
    for sample in told("databricks").samples:
        (event,) = unpack(at.source, Incoming(headers={}, body=sample.body), Trust.VERIFIED, NOW)
        found[sample.name] = event.resource

    assert found["a job failed"] == found["a job succeeded"]
    assert found["a job failed"] != found["a task failed"]
